"""A small corpus that is made, not fetched, and that a model can learn.

    python -m data_prep.synthetic --root=data/synthetic  # 720 clips, 31 MB, ten seconds

Real WAV files under CREMA-D's names, babbled by data_prep.synthetic_voice. Nothing in it is speech,
nobody was asked to listen to it, and a result on it says nothing about emotion in people.
"""

import concurrent.futures
import csv
import functools
import io
import json
import multiprocessing
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
from ser_jax.common.errors import UserError

VERSION = 1  # raise it when the same seed gives other clips
FIRST_ACTOR = 1001
MAX_SPEAKERS = 999
AUDIO = "AudioWAV"
ACTORS = "VideoDemographics.csv"
UNFINISHED = ".unfinished_synthetic"  # hidden, so that no reader takes it for a corpus

# CREMA-D's sentence codes; the syllables have nothing to do with its sentences.
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


def write(
    root: Path,
    *,
    n_speakers: int,
    n_sentences: int,
    seed: int,
    sampling_rate: int = 16000,
    jobs: int | None = None,
) -> None:
    """Writes n_speakers × n_sentences × 6 clips; the same corpus, if it is there, is left alone.

    The files depend on the other arguments, not on `jobs`, and a speaker's clips not on how many
    speakers there are. An interrupted write leaves a hidden folder, and the next call starts anew.

    Args:
      root: the corpus's own folder; made if it is missing.
      n_speakers: 1 to 999, named 1001 and so on; by turns a man and a woman.
      n_sentences: 1 to 12.
      seed: of all that is drawn, 0 or more.
      sampling_rate: Hz, 8000 to 48000.
      jobs: processes; None means one for each processor.

    Raises:
      UserError: an argument is out of range, `root` holds something else, or it cannot be written.
    """
    _check(n_speakers, "speakers", 1, MAX_SPEAKERS)
    _check(n_sentences, "sentences", 1, len(SENTENCES))
    _check(seed, "seed", 0, 2**32 - 1)
    _check(sampling_rate, "sampling rate", 8000, 48000)
    jobs = workers.n_processors() if jobs is None else jobs
    _check(jobs, "jobs", 1, 1024)
    made_from = json.dumps(
        {
            "version": VERSION,
            "n_speakers": n_speakers,
            "n_sentences": n_sentences,
            "seed": seed,
            "sampling_rate": sampling_rate,
        }
    )
    with files.locked(root):
        if _is_finished(root, made_from):
            return
        work = root / UNFINISHED
        if work.exists():
            shutil.rmtree(work)
        (work / AUDIO).mkdir(parents=True)
        write_speaker = functools.partial(
            _write_speaker, work / AUDIO, n_sentences, seed, sampling_rate
        )
        with tqdm(total=n_speakers, desc="babbling", unit="voice", disable=None) as progress:
            for _ in _map(write_speaker, n_speakers, jobs):
                progress.update()
        files.write_text(work / ACTORS, _actors_table(n_speakers, seed))
        files.write_text(work / MARKER, f"{NOTICE}{made_from}\n")
        # The clips come last: at no time do they lie in `root` without the marker.
        for name in (MARKER, ACTORS, AUDIO):
            os.replace(work / name, root / name)
        work.rmdir()


def _check(value: int, name: str, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UserError(f"{name} is {value}; choose a number from {low} to {high}.")


def _is_finished(root: Path, made_from: str) -> bool:
    """True for the same corpus, False where there is nothing yet.

    Raises:
      UserError: something else is there.
    """
    marker = root / MARKER
    if marker.is_file():
        if marker.read_text(encoding="utf-8").splitlines()[-1:] != [made_from]:
            raise UserError(
                f"{root} holds a synthetic corpus made otherwise (see {marker.name}); choose "
                "another folder, or delete this one yourself."
            )
        return (root / AUDIO).is_dir()
    strangers = sorted(p.name for p in root.iterdir() if p.name != UNFINISHED)
    if strangers:
        raise UserError(
            f"{root} holds other things ({strangers[0]} is one); choose an empty or a new folder "
            "for the synthetic corpus."
        )
    return False


def _map(function: Callable[[int], None], n: int, jobs: int) -> Iterator[None]:
    """function(0), …, function(n - 1) by so many processes."""
    if min(jobs, n) == 1:
        yield from map(function, range(n))
        return
    context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
    with concurrent.futures.ProcessPoolExecutor(
        min(jobs, n), context, initializer=workers.exit_with_parent
    ) as pool:
        try:
            yield from pool.map(function, range(n))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _make_speaker(seed: int, index: int) -> voice.Speaker:
    # SeedSequence ignores trailing zeros, so each key ends in a number that is not zero.
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
            soundfile.write(
                folder / f"{FIRST_ACTOR + index}_{sentence}_{emotion}_XX.wav",
                np.round(waveform_S * 32767).astype(np.int16),
                sampling_rate,
                subtype="PCM_16",
            )


def _actors_table(n_speakers: int, seed: int) -> str:
    """The table of CREMA-D's actors, with what a made voice can be said to have."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["ActorID", "Age", "Sex", "Race", "Ethnicity"])
    for index in range(n_speakers):
        speaker = _make_speaker(seed, index)
        table.writerow([FIRST_ACTOR + index, speaker.age, speaker.sex, "", ""])
    return text.getvalue()
