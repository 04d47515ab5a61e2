"""What all tests share."""

import importlib
import os
import tempfile
from pathlib import Path

# Before JAX is imported: tests run on the CPU, whatever the machine has.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
# The one CPU shows itself as eight devices; a run takes one of them unless told otherwise.
_DEVICES = "--xla_force_host_platform_device_count=8"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DEVICES}".strip()
# The tests train the same small networks again and again, here and in processes of their own.
_CACHE = tempfile.TemporaryDirectory(prefix="ser_jax_tests_")
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import pytest  # noqa: E402

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """Real audio that lies beside the checkout on the project's own machines."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real recordings are not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def made_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six made voices, two sentences, six emotions: 72 clips."""
    from data_prep import synthetic

    root = tmp_path_factory.mktemp("corpus") / "synthetic"
    synthetic.write(root, n_speakers=6, n_sentences=2, seed=0, jobs=1)
    return root


@pytest.fixture(scope="session")
def records_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests' records go; what one test has prepared the next one finds."""
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="session")
def tiny(made_corpus: Path, records_dir: Path):
    """The shipped configs, shrunk to seconds; the key tree is the real one."""

    def get_config(model: str = "cnn2d", variant: str = "demo"):
        config = importlib.import_module(f"configs.{model}").get_config(variant)
        config.corpus.root = str(made_corpus)
        config.corpus.made.update(n_speakers=6, n_sentences=2)
        config.records_dir = str(records_dir)
        config.features.n_mels = 32
        config.features.n_mfcc = 16
        config.augmentation.views = ("noise",)
        config.split.n_folds = 3
        config.model.widths = (8,) * len(config.model.widths)
        config.model.dense = 16
        config.train.epochs = 3
        config.train.batch_size = 16
        config.evaluate.batch_size = 16
        return config.lock()

    return get_config


@pytest.fixture(scope="session")
def tiny_records(tiny) -> Path:
    """The folder of the records that `tiny` describes."""
    from data_prep.prepare import prepare

    return prepare(tiny())


@pytest.fixture(scope="session")
def flags(made_corpus, records_dir):
    """What shrinks configs/cnn2d.py:demo to seconds, as `tiny` does."""
    return (
        "--config=configs/cnn2d.py:demo",
        f"--config.corpus.root={made_corpus}",
        "--config.corpus.made.n_speakers=6",
        "--config.corpus.made.n_sentences=2",
        f"--config.records_dir={records_dir}",
        "--config.features.n_mels=32",
        "--config.features.n_mfcc=16",
        "--config.augmentation.views=('noise',)",
        "--config.split.n_folds=3",
        "--config.model.widths=(8,8,8,8)",
        "--config.model.dense=16",
        "--config.train.epochs=3",
        "--config.train.batch_size=16",
        "--config.evaluate.batch_size=16",
    )
