"""A config → the folder of its records, which are built if they are missing or stale."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from data_prep import corpora
from data_prep.augmentation.views import Augmentation
from data_prep.records import beam, build, recipe
from data_prep.synthetic.corpus import write_corpus
from ser_jax.audio.decoder import FOREIGN_SUFFIXES
from ser_jax.audio.files import foreign_note
from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.features import FeatureSpec

N_NAMED = 3  # of the files that are odd in the same way


def prepare(
    config: ConfigDict,
    beam_runner: str = "",
    beam_options: Sequence[str] = (),
    check: Callable[[corpora.Corpus], None] | None = None,
) -> Path:
    """Find or build the records that a config describes, and return their folder.

    Without the audio, records that were built with the same settings are used.

    Args:
      config: see configs/default.py.
      beam_runner: the Apache Beam runner to build with, see data_prep.records.beam; "" builds in
        local processes.
      beam_options: of the runner, as "name=value".
      check: called with the corpus before its audio is read; what it raises ends the preparation.

    Raises:
      UserError: there is no corpus, or none of its clips can be used.
    """
    if beam_options and not beam_runner:
        raise UserError("--beam_options belong to a --beam_runner, such as DirectRunner; set one.")
    beam_config = beam.configure(beam_runner, beam_options) if beam_runner else None
    features, augmentation = feature_spec(config), Augmentation(**config.augmentation)
    name, root = config.corpus.name, Path(config.corpus.root)
    records_dir = Path(config.records_dir)

    if name == "synthetic":
        write_corpus(root, **config.corpus.made)
    if name in corpora.CORPORA and not root.exists():
        settings = recipe.settings(features, augmentation, config.records_dtype)
        folder = build.find(
            settings,
            name,
            records_dir,
            emotions=config.corpus.emotions,
            drop_defects=config.corpus.drop_defects,
            label_map=config.corpus.label_map,
        )
        print(f"{root} does not exist; using the records in {folder}.")
        _describe(folder, config)
        return folder

    corpus = read_corpus(config)
    if check:
        check(corpus)
    foreign = [p for p in corpus.ignored if p.suffix.lower() in FOREIGN_SUFFIXES]
    others = [p for p in corpus.ignored if p not in foreign]
    if others:
        print(
            f"Ignoring {len(others)} audio files that are not clips of {corpus.title}, "
            f"such as {others[0]}."
        )
    if foreign:
        print(foreign_note(foreign))
    encoder = Path(config.encoder.path) if features.encoder else None
    records_recipe = recipe.Recipe(corpus, features, augmentation, config.records_dtype, encoder)
    folder = build.build(records_recipe, records_dir, beam_config)
    print(f"Records: {folder}")
    _describe(folder, config)
    return folder


def _describe(folder: Path, config: ConfigDict) -> None:
    """Say which files of the records are odd, and which libraries computed them, if not these."""
    path = folder / "metadata.json"
    metadata = files.read_json(path, remedy=f"delete {folder} to have it built again")
    if noted := metadata.get("noted"):  # earlier versions have noted nothing
        print("NOTE: files that are not as they should be are used as far as they go:")
        for kind in sorted({kind for kinds in noted.values() for kind in kinds}):
            paths = [path for path, kinds in noted.items() if kind in kinds]
            more = f", and {len(paths) - N_NAMED:,} more" if len(paths) > N_NAMED else ""
            print(f"  {kind}: {', '.join(paths[:N_NAMED])}{more}")
        name, root = config.corpus.name, shlex.quote(config.corpus.root)
        print(f"python -m data_prep.verify --corpus={name} --root={root} shows them with remedies.")
    if others := recipe.other_libraries(metadata["settings"]):
        print(f"They were computed with {others}.")


def feature_spec(config: ConfigDict) -> FeatureSpec:
    """Return the definition of the features, with the encoder where they are its embedding.

    Raises:
      UserError: settings do not fit together, or there is no encoder.
    """
    if "embedding" not in config.features.planes:
        return FeatureSpec(**config.features)
    from ser_jax.encoders import loading  # loads JAX

    path, kept = Path(config.encoder.path), {**config.encoder}
    del kept["path"]
    kept["sampling_rate"] = config.features.sampling_rate
    return FeatureSpec(**config.features, encoder=loading.describe(path, **kept))


def read_corpus(config: ConfigDict) -> corpora.Corpus:
    """Read the clips that a config describes.

    Raises:
      UserError: a folder is missing, or there is nothing usable in it.
    """
    tables_dir = Path(config.corpus.tables_dir) if config.corpus.tables_dir else None
    if tables_dir and not tables_dir.is_dir():
        raise UserError(f"corpus.tables_dir={tables_dir} is not a folder; correct it or clear it.")
    return corpora.read(
        config.corpus.name,
        Path(config.corpus.root),
        emotions=config.corpus.emotions,
        tables_dir=tables_dir,
        drop_defects=config.corpus.drop_defects,
        label_map=config.corpus.label_map,
    )


def recordings(config: ConfigDict) -> dict[str, corpora.Utterance] | None:
    """Return {id: clip} for the clips that a config describes; None without the audio."""
    if not Path(config.corpus.root).exists():
        return None
    return {utterance.id: utterance for utterance in read_corpus(config).utterances}
