"""The corpus that data_prep.synthetic writes: CREMA-D's file names, no human voice."""

from data_prep.corpora import crema_d
from data_prep.corpora.corpus import CorpusSpec

MARKER = "SYNTHETIC.txt"  # in every synthetic corpus, so that none passes for speech

SPEC = CorpusSpec(
    name="synthetic",
    title="synthetic voices (not speech)",
    reader=crema_d.read,
    labels=crema_d.SPEC.labels,
    licence="The corpus is computed by a program and contains no human voice; it is not known to "
    "be under any licence of its own.",
    source="python -m data_prep.synthetic --root={root}",
)
