"""A small computed corpus that a model can learn: WAV files under CREMA-D's names.

The clips are babble from data_prep.synthetic.voice. They contain no speech and have no listeners'
votes, and a result on them says nothing about emotion in people.
"""

import functools
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep import workers
from data_prep.corpora import crema_d
from data_prep.corpora.synthetic import MARKER
from data_prep.synthetic import voice
from ser_jax.common import files
from ser_jax.common.concurrency import map_ahead
from ser_jax.common.errors import UserError

VERSION = 1  # raise it when a seed gives other clips than before
FIRST_ACTOR = 1001
MAX_SPEAKERS = 999
AUDIO = "AudioWAV"
ACTORS = "VideoDemographics.csv"
UNFINISHED = ".unfinished_synthetic"  # hidden, so that readers skip it

# CREMA-D's sentence codes; the syllables are unrelated to its sentences.
SENTENCES = {
    "DFA": "do fa ke la",
    "IEO": "li be do na su",
    "IOM": "mo li ta we no",
    "ITH": "ti ko ba su le",
    "ITS": "ni se da mu po",
    "IWL": "wa lo ki fe ma",
    "IWW": "we bu li so ta",
    "MTI": "ma ti do ne ku",
    "TAI": "ta fi lo ba me",
    "TIE": "te sa ni ko bu",
    "TSI": "tu si wa ke",
    "WSI": "wo sa pi nu de",
}

NOTICE = """\
This folder holds a synthetic corpus. Nothing in it is the speech of a person.

Every clip was computed: a pulse train and noise, shaped by resonators, babble made-up syllables.
The names follow CREMA-D so that the same tools read them, but no actor of CREMA-D, no recording and
no listener had a part in it; the ages and sexes in VideoDemographics.csv are made up as well.
The emotions are settings of a table. A result on these clips says that a program works, and
nothing about emotion in human voices.

Made by data_prep.synthetic from:
"""


def write_corpus(
    root: Path,
    *,
    n_speakers: int,
    n_sentences: int,
    seed: int,
    sampling_rate: int = 16000,
    jobs: int | None = None,
) -> None:
    """Write n_speakers × n_sentences × 6 clips, unless `root` already holds this corpus.

    The files do not depend on `jobs`, and a speaker's clips do not depend on n_speakers. An
    interrupted write leaves a hidden folder only, and the next call starts again.

    Args:
      root: the folder of the corpus, created if it is missing.
      n_speakers: 1 to 999, numbered from 1001; men and women alternate.
      n_sentences: 1 to 12.
      seed: of all random draws, 0 or more.
      sampling_rate: Hz, 8000 to 48000.
      jobs: the number of processes; None means one per processor.

    Raises:
      UserError: an argument is out of range, or `root` holds something else or cannot be written.
    """
    _check(n_speakers, "speakers", 1, MAX_SPEAKERS)
    _check(n_sentences, "sentences", 1, len(SENTENCES))
    _check(seed, "seed", 0, 2**32 - 1)
    _check(sampling_rate, "sampling rate", 8000, 48000)
    jobs = workers.n_processors() if jobs is None else jobs
    _check(jobs, "jobs", 1, 1024)
    parameters = json.dumps(
        {
            "version": VERSION,
            "n_speakers": n_speakers,
            "n_sentences": n_sentences,
            "seed": seed,
            "sampling_rate": sampling_rate,
        }
    )
    with files.locked(root), files.explain_full_disk(root):
        if _is_finished(root, parameters):
            return
        work = root / UNFINISHED
        if work.exists():
            shutil.rmtree(work)
        (work / AUDIO).mkdir(parents=True)
        write_speaker = functools.partial(
            _write_speaker, work / AUDIO, n_sentences, seed, sampling_rate
        )
        speakers = _map(write_speaker, n_speakers, jobs)
        for _ in tqdm(speakers, "babbling", n_speakers, unit="voice", disable=None):
            pass
        files.write_text(work / ACTORS, _actors_table(n_speakers, seed))
        files.write_text(work / MARKER, f"{NOTICE}{parameters}\n")
        # The clips come last, so that they are never in `root` without the marker.
        for name in (MARKER, ACTORS, AUDIO):
            os.replace(work / name, root / name)
        work.rmdir()


def _check(value: int, name: str, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UserError(f"{name} is {value}; choose a number from {low} to {high}.")


def _is_finished(root: Path, parameters: str) -> bool:
    """Return whether `root` holds the corpus with these parameters; refuse anything else."""
    marker = root / MARKER
    if marker.is_file():
        if marker.read_text(encoding="utf-8").splitlines()[-1:] != [parameters]:
            raise UserError(
                f"{root} holds a synthetic corpus with other parameters (see {marker.name}); "
                "choose another folder, or delete this one."
            )
        return (root / AUDIO).is_dir()
    others = sorted(p.name for p in root.iterdir() if p.name != UNFINISHED)
    if others:
        raise UserError(
            f"{root} holds other files, such as {others[0]}; choose an empty or new folder for the "
            "synthetic corpus."
        )
    return False


def _map(function: Callable[[int], None], n: int, jobs: int) -> Iterator[None]:
    """Call function(0), …, function(n - 1) in `jobs` processes."""
    if min(jobs, n) == 1:
        yield from map(function, range(n))
        return
    with workers.process_pool(min(jobs, n)) as pool:
        yield from map_ahead(function, range(n), ahead=n, executor=pool)


def _make_speaker(seed: int, index: int) -> voice.Speaker:
    # SeedSequence ignores trailing zeros, so each key ends in a non-zero number.
    return voice.make_speaker(index, np.random.default_rng([seed, index, 1]))


def _write_speaker(
    folder: Path, n_sentences: int, seed: int, sampling_rate: int, index: int
) -> None:
    import soundfile

    speaker = _make_speaker(seed, index)
    for row, (sentence, syllables) in enumerate(list(SENTENCES.items())[:n_sentences]):
        for column, emotion in enumerate(crema_d.EMOTIONS):
            rng = np.random.default_rng([seed, index, row, column, 2])
            waveform_S = voice.speak(syllables, emotion, speaker, rng, sampling_rate)
            samples_S, wav = np.round(waveform_S * 32767).astype(np.int16), io.BytesIO()
            soundfile.write(wav, samples_S, sampling_rate, format="WAV", subtype="PCM_16")
            # Not by libsndfile, whose errors do not say that a disk is full.
            (folder / f"{FIRST_ACTOR + index}_{sentence}_{emotion}_XX.wav").write_bytes(
                wav.getbuffer()
            )


def _actors_table(n_speakers: int, seed: int) -> str:
    """Return CREMA-D's table of actors as CSV, with age and sex only."""
    rows = ["ActorID,Age,Sex,Race,Ethnicity"]
    for index in range(n_speakers):
        speaker = _make_speaker(seed, index)
        rows.append(f"{FIRST_ACTOR + index},{speaker.age},{speaker.sex},,")
    return "\n".join(rows) + "\n"
