"""The classical baseline: functionals of log-mel bands, an SVM or logistic regression.

    python launch.py --config=configs/svm.py
    python launch.py --config=configs/svm.py --config.input.kind=mfcc
    python launch.py --config=configs/svm.py --config.split.name=emosuperb5 --config.split.fold=all

Mean, sd and five percentiles of each band and of its deltas, over a clip's frames. scikit-learn
fits each classifier with each cost; the setting that is best on validation is the result. The
records are those of the other configs. No key of optimizer has an effect, nor has the seed.

Measured times and scores: docs/benchmarks.md.
"""

from ml_collections import ConfigDict

from configs import default, variants


def get_config(variant: str = "") -> ConfigDict:
    """Return the config; configs/variants.py lists the variants."""
    config = default.get_config()
    config.name = "svm"
    config.input.kind = "log_mel"
    config.input.views = ()  # each makes the SVM's kernel four times as large again
    config.train.epochs = 1  # a fit counts as an epoch

    model = config.model
    model.name = "classical"
    model.classifier = "svm"  # with an RBF kernel, for each pair of classes; or logistic
    # C of scikit-learn, the inverse weight of the penalty; of logistic, C times the number of
    # functionals, so that one range suits both.
    model.cost = 1.0
    config.replicas.sweep.model__classifier = ("svm", "logistic")
    config.replicas.sweep.model__cost = (1.0, 3.0, 10.0)
    return variants.apply(config, variant)
