"""A config → the folder of its records, built if they are missing or stale."""

from pathlib import Path

from ml_collections import ConfigDict

from data_prep import augment, corpora, records, synthetic
from ser_jax.errors import UserError
from ser_jax.features import FeatureSpec


def prepare(config: ConfigDict) -> Path:
    """Finds the records that the config describes, or builds them.

    Where the audio is gone but records of these settings are there, those are used.

    Raises:
      UserError: no corpus, or none of its clips can be used.
    """
    spec = FeatureSpec(**config.features)
    augmentation = augment.Augmentation(**config.augmentation)
    records_dir, root = Path(config.records_dir), Path(config.corpus.root)
    if config.corpus.name == "synthetic":
        synthetic.write(root, **config.corpus.made)
    if not root.exists() and config.corpus.name in corpora.READERS:
        settings = records.settings(spec, augmentation, config.records_dtype)
        found = records.find(settings, config.corpus.name, records_dir)
        print(f"{root} is not there; using the records {found}.")
        return found
    tables = Path(config.corpus.tables_dir) if config.corpus.tables_dir else None
    if tables and not tables.is_dir():
        raise UserError(f"corpus.tables_dir={tables} is no folder; correct or clear it.")
    corpus = corpora.read(
        config.corpus.name,
        root,
        emotions=config.corpus.emotions,
        tables_dir=tables,
        drop_defects=config.corpus.drop_defects,
    )
    if corpus.ignored:
        print(f"{len(corpus.ignored)} audio files are no clips, such as {corpus.ignored[0]}.")
    recipe = records.Recipe(corpus, spec, augmentation, config.records_dtype)
    folder = records.build(recipe, records_dir)
    print(f"Records: {folder}")
    return folder
