"""A config → the folder of its records, built if they are missing or stale."""

from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from data_prep import corpora
from data_prep.augmentation import views
from data_prep.records import beam, build, recipe
from data_prep.synthetic.corpus import write_corpus
from ser_jax.common.errors import UserError
from ser_jax.features import FeatureSpec


def prepare(config: ConfigDict, beam_runner: str = "", beam_options: Sequence[str] = ()) -> Path:
    """Finds the records that the config describes, or builds them.

    Where the audio is gone but records of these settings are there, those are used.

    Args:
      config: see configs/default.py.
      beam_runner: builds as an Apache Beam pipeline; see data_prep.records.beam. "" builds here.
      beam_options: of that runner, as "name=value".

    Raises:
      UserError: no corpus, or none of its clips can be used.
    """
    if beam_options and not beam_runner:
        raise UserError("--beam_options belong to a --beam_runner, such as DirectRunner; name one.")
    download_config = beam.configure(beam_runner, beam_options) if beam_runner else None
    spec = FeatureSpec(**config.features)
    augmentation = views.Augmentation(**config.augmentation)
    records_dir, root = Path(config.records_dir), Path(config.corpus.root)
    if config.corpus.name == "synthetic":
        write_corpus(root, **config.corpus.made)
    if not root.exists() and config.corpus.name in corpora.CORPORA:
        settings = recipe.settings(spec, augmentation, config.records_dtype)
        found = build.find(settings, config.corpus.name, records_dir)
        print(f"{root} is not there; using the records {found}.")
        return found
    corpus = read_corpus(config)
    if corpus.ignored:
        print(f"{len(corpus.ignored)} audio files are no clips, such as {corpus.ignored[0]}.")
    wanted = recipe.Recipe(corpus, spec, augmentation, config.records_dtype)
    folder = build.build(wanted, records_dir, download_config)
    print(f"Records: {folder}")
    return folder


def read_corpus(config: ConfigDict) -> corpora.Corpus:
    """The clips that the config describes.

    Raises:
      UserError: no such folder, or nothing usable in it.
    """
    tables = Path(config.corpus.tables_dir) if config.corpus.tables_dir else None
    if tables and not tables.is_dir():
        raise UserError(f"corpus.tables_dir={tables} is no folder; correct or clear it.")
    return corpora.read(
        config.corpus.name,
        Path(config.corpus.root),
        emotions=config.corpus.emotions,
        tables_dir=tables,
        drop_defects=config.corpus.drop_defects,
    )


def recordings(config: ConfigDict) -> dict[str, corpora.Utterance] | None:
    """The clips that the config describes, by id; None where their audio is gone."""
    if not Path(config.corpus.root).exists():
        return None
    return {utterance.id: utterance for utterance in read_corpus(config).utterances}
