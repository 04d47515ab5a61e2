"""Records: built once, reused, correct, and never left half built."""

import concurrent.futures
import dataclasses
import hashlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow_datasets as tfds
from features_test import librosa_features
from tensorflow_datasets.core import shuffle
from tensorflow_datasets.core.utils import shard_utils

from data_prep import corpora
from data_prep.augmentation import phase_vocoder
from data_prep.augmentation.views import ORIGINAL, VIEWS, Augmentation, augment
from data_prep.prepare import prepare
from data_prep.records import build, examples, pool
from data_prep.records.recipe import Recipe
from data_prep.records.sorting import Sorter
from ser_jax import features
from ser_jax.audio import waveform
from ser_jax.common.errors import UserError
from ser_jax.features import FeatureSpec

RATE = 16_000
SPEC = FeatureSpec(n_mels=16, n_mfcc=8)
AUGMENTATION = Augmentation(views=("noise",))
CODES = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 72862\n"


def tone(seconds: float, hz: float) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(int(RATE * seconds)) / RATE)


def recipe_of(root: Path, dtype: str = "float32") -> Recipe:
    return Recipe(corpora.read("crema_d", root), SPEC, AUGMENTATION, dtype)


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """{name: (time of modification, content)} of every file."""
    return {
        p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()
    }


def view(folder: Path, name: str) -> dict[str, dict]:
    rows = list(tfds.builder_from_directory(os.fspath(folder)).as_data_source(name))
    return {row["id"].decode(): row for row in rows}


def assert_same_features(rows: dict, other_rows: dict) -> None:
    assert rows.keys() == other_rows.keys()
    for clip_id, row in rows.items():
        for plane, x_TxF in row["planes"].items():
            np.testing.assert_array_equal(x_TxF, other_rows[clip_id]["planes"][plane])


@dataclasses.dataclass
class Workers:
    """Worker processes that take two clips at a time, and their memory maps."""

    number: int = 3
    maps: list[str] = dataclasses.field(default_factory=list)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        add = Sorter.add

        def add_and_read_maps(*args):
            children = multiprocessing.active_children()
            self.maps = [Path(f"/proc/{child.pid}/maps").read_text() for child in children]
            return add(*args)

        patch.setattr(os, "sched_getaffinity", lambda pid: set(range(self.number)))
        patch.setattr(pool, "CLIPS_PER_BATCH", 2)
        patch.setattr(Sorter, "add", add_and_read_maps)


@pytest.fixture(scope="module")
def tones(tmp_path_factory) -> Path:
    """Six short clips, and the votes of two listeners on one of them."""
    root = tmp_path_factory.mktemp("tones")
    for i, code in enumerate(CODES):
        soundfile.write(root / f"1001_DFA_{code}_XX.wav", tone(0.3 + 0.1 * i, 150 + 50 * i), RATE)
    (root / "VideoDemographics.csv").write_text("ActorID,Age,Sex\n1001,51,Male\n")
    (root / "tabulatedVotes.csv").write_text(
        '"",A,D,F,H,N,S,fileName\n100001,2,0,0,0,0,0,1001_DFA_ANG_XX\n'
    )
    return root


@pytest.fixture(scope="module")
def workers() -> Workers:
    return Workers()


@pytest.fixture(scope="module")
def built(tones, workers, tmp_path_factory) -> Path:
    """Records that no test changes."""
    with pytest.MonkeyPatch.context() as patch:
        workers.install(patch)
        return build.build(recipe_of(tones), tmp_path_factory.mktemp("records"))


def test_build_leaves_only_the_records(tones, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(temporary))
    folder = build.build(recipe_of(tones), tmp_path / "records")
    assert not list(temporary.iterdir())
    assert [path.name for path in folder.parent.iterdir()] == ["1.0.0"]
    assert all(path.is_file() for path in folder.iterdir())


def test_records_equal_the_corpus(tones, built):
    corpus = corpora.read("crema_d", tones)
    info = tfds.builder_from_directory(os.fspath(built)).info
    assert set(info.splits) == {"original", "noise"}
    assert tuple(info.features["label"].names) == corpus.labels
    assert info.metadata["corpus"] == "CREMA-D"
    assert "ODbL" in info.metadata["licence"]
    assert FeatureSpec(**info.metadata["settings"]["features"]) == SPEC
    rows = view(built, "original")
    assert rows.keys() == view(built, "noise").keys() == {u.id for u in corpus.utterances}
    for u in corpus.utterances:
        row, waveform_S = rows[u.id], waveform.load(u.path, RATE)
        assert corpus.labels[row["label"]] == u.emotion
        assert row["speaker"].decode() == u.speaker
        assert {k: v.decode() for k, v in row["attributes"].items()} == u.attributes
        assert tuple(row["votes"]) == u.votes
        assert row["n_frames"] == SPEC.n_frames(len(waveform_S)) == len(row["planes"]["mfcc"])
        assert row["audio_sha256"].decode() == hashlib.sha256(waveform_S.tobytes()).hexdigest()


def test_same_recipe_is_not_built_again(tones, built, tmp_path, monkeypatch):
    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", None)  # a build would fail
    before = contents(built)
    moved = shutil.copytree(tones, tmp_path / "moved")
    for root in (tones, moved):
        assert build.build(recipe_of(root), built.parents[2]) == built
    assert contents(built) == before


def change_label(recipe: Recipe) -> Recipe:
    first, *rest = recipe.corpus.utterances
    changed = (dataclasses.replace(first, emotion="fear"), *rest)
    corpus = dataclasses.replace(recipe.corpus, utterances=changed)
    return dataclasses.replace(recipe, corpus=corpus)


def change_byte(recipe: Recipe) -> Recipe:
    path = recipe.corpus.utterances[0].path
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return recipe


def change_votes(recipe: Recipe) -> Recipe:
    table = recipe.corpus.utterances[0].path.with_name("tabulatedVotes.csv")
    table.write_text(table.read_text().replace("100001,2", "100001,3"))
    return recipe_of(table.parent)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: dataclasses.replace(r, spec=dataclasses.replace(SPEC, hop_length=161)),
        lambda r: dataclasses.replace(r, spec=dataclasses.replace(SPEC, planes=("mfcc",))),
        lambda r: dataclasses.replace(r, augmentation=Augmentation(views=("pitch",))),
        lambda r: dataclasses.replace(r, augmentation=dataclasses.replace(AUGMENTATION, seed=1)),
        lambda r: dataclasses.replace(r, dtype="float16"),
        change_label,
        change_byte,
        change_votes,
    ],
    ids="hop planes views seed dtype label byte votes".split(),
)
def test_any_change_of_the_recipe_changes_the_fingerprint(tones, built, tmp_path, change):
    recipe = recipe_of(shutil.copytree(tones, tmp_path / "tones"))
    assert built.parent.name == f"crema_d-{recipe.fingerprint()}"
    assert change(recipe).fingerprint() != built.parent.name.split("-")[1]


def test_killed_worker_is_a_user_error(tones, tmp_path, monkeypatch):
    submit = concurrent.futures.ProcessPoolExecutor.submit

    def submit_exit(self, *_):
        return submit(self, os._exit, 1)

    monkeypatch.setattr(concurrent.futures.ProcessPoolExecutor, "submit", submit_exit)
    with pytest.raises(UserError, match="was killed, most likely because memory ran out"):
        build.build(recipe_of(tones), tmp_path)


@pytest.mark.parametrize("shard_size", [1000, 2**26])
def test_files_equal_those_of_tfds(tones, tmp_path, monkeypatch, shard_size):
    monkeypatch.setattr(shard_utils.ShardConfig, "min_shard_size", shard_size)
    folder = build.build(recipe_of(tones), tmp_path / "ours")

    def generate_examples(self, name):
        recipe = self.builder_config.recipe
        for _, example in examples.make(
            recipe, (name,), recipe.corpus.utterances, examples.Remarks()
        ):
            yield example["id"], example

    generate_splits = tfds.core.GeneratorBasedBuilder._generate_splits
    monkeypatch.setattr(build._Records, "_generate_splits", generate_splits)
    monkeypatch.setattr(build._Records, "_generate_examples", generate_examples)
    by_tfds = build.build(recipe_of(tones), tmp_path / "tfds")
    assert by_tfds.relative_to(tmp_path / "tfds") == folder.relative_to(tmp_path / "ours")
    ours, theirs = ({name: x for name, (_, x) in contents(f).items()} for f in (folder, by_tfds))
    assert ours == theirs
    assert len(list(folder.glob("*-noise.array_record-*"))) == (4 if shard_size == 1000 else 1)


def test_records_beyond_tfds_memory_limit_need_no_tensorflow(tones, tmp_path, monkeypatch):
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 1000)
    folder = build.build(recipe_of(tones), tmp_path)
    assert len(view(folder, "original")) == len(CODES)
    assert "tensorflow" not in sys.modules


def test_float16_records_are_rounded_float32_records(tones, built, monkeypatch):
    before = contents(built)
    Workers().install(monkeypatch)
    half = build.build(recipe_of(tones, "float16"), built.parents[2])
    assert half != built and contents(built) == before
    for name in ("original", "noise"):
        rounded = view(built, name)
        for row in rounded.values():
            row["planes"] = {plane: x.astype(np.float16) for plane, x in row["planes"].items()}
        rows = view(half, name)
        assert rows["1001_DFA_ANG_XX"]["planes"]["mfcc"].dtype == np.float16
        assert_same_features(rows, rounded)


def test_records_do_not_depend_on_the_number_of_processes(tones, built, tmp_path, monkeypatch):
    Workers(number=1).install(monkeypatch)
    by_one = build.build(recipe_of(tones), tmp_path)
    for name in ("original", "noise"):
        assert_same_features(view(by_one, name), view(built, name))


def test_each_clip_is_decoded_and_analysed_once_for_all_its_views(tones, monkeypatch):
    calls: list[str] = []

    def counted(function, name):
        return lambda *args, **options: calls.append(name) or function(*args, **options)

    monkeypatch.setattr(waveform, "load", counted(waveform.load, "decoded"))
    monkeypatch.setattr(phase_vocoder, "_stft", counted(phase_vocoder._stft, "analysed"))
    corpus = corpora.read("crema_d", tones)
    recipe = Recipe(corpus, SPEC, Augmentation())
    views = (ORIGINAL, *VIEWS)
    assert len(
        list(examples.make(recipe, views, corpus.utterances, examples.Remarks()))
    ) == 4 * len(CODES)
    assert calls == ["decoded", "analysed"] * len(CODES)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads /proc")
def test_workers_decode_and_never_load_jax(built, workers):
    assert len(workers.maps) == workers.number
    assert any("sndfile" in maps for maps in workers.maps)
    assert not any("jaxlib" in maps for maps in workers.maps)


def test_bad_clips_are_left_out_and_reported(tones, tmp_path, capsys):
    root = shutil.copytree(tones, tmp_path / "tones")
    wav = (root / "1001_DFA_ANG_XX.wav").read_bytes()
    soundfile.write(root / "whole.flac", tone(0.5, 200), RATE)
    flac = (root / "whole.flac").read_bytes()
    bad = {
        "1002_DFA_ANG_XX.wav": (POINTER, "is a Git LFS pointer"),
        "1002_DFA_DIS_XX.wav": (wav[:30], "cannot be decoded"),
        "1002_DFA_FEA_XX.flac": (flac[: len(flac) // 2], "cannot be decoded"),
        "1002_DFA_HAP_XX.wav": (b"", "cannot be decoded"),
        "1002_DFA_NEU_XX.wav": (wav[:44], "holds no samples"),
    }
    for name, (content, _) in bad.items():
        (root / name).write_bytes(content)
    bad["1002_DFA_SAD_XX.wav"] = (b"", "holds NaN or infinite samples")
    nan = np.array([0.1, np.nan, 0.2])
    soundfile.write(root / "1002_DFA_SAD_XX.wav", nan, RATE, subtype="FLOAT")

    folder = build.build(recipe_of(root), tmp_path / "records")

    output = capsys.readouterr().out
    assert "Prepared 6 clips. 6 were left out:" in output
    left_out = tfds.builder_from_directory(os.fspath(folder)).info.metadata["left_out"]
    assert left_out.keys() == {Path(name).stem for name in bad}
    for name, (_, reason) in bad.items():
        sentence = left_out[Path(name).stem]
        assert f"{root / name} {reason}" in sentence and sentence in output
    for name in ("original", "noise"):
        assert view(folder, name).keys() == {f"1001_DFA_{code}_XX" for code in CODES}


def test_odd_files_that_are_used_are_told_counted(tiny, tones, tmp_path, capsys):
    """At the build, and again where the records are used later."""
    root, config = shutil.copytree(tones, tmp_path / "the tones"), tiny()
    config.corpus.root, config.records_dir = str(root), str(tmp_path / "records")
    config.corpus.name = "crema_d"
    cut = [root / f"1001_DFA_{code}_XX.wav" for code in CODES[:4]]
    for path in cut:
        path.write_bytes(path.read_bytes()[:-1000])
    offset = root / "1002_DFA_ANG_XX.wav"
    soundfile.write(offset, 0.4 + 0.2 * tone(0.5, 200), RATE)
    silent = root / "1002_DFA_DIS_XX.wav"
    soundfile.write(silent, 0 * tone(0.5, 200), RATE)
    for _ in range(2):
        prepare(config)
        output = capsys.readouterr().out
        first = ", ".join(map(str, cut[:3]))
        lines = f"DC offset: {offset}", f"cut short: {first}, and 1 more", f"silent: {silent}"
        assert "\n  " + "\n  ".join(lines) + "\n" in output
        assert f"python -m data_prep.verify --corpus=crema_d --root='{root}' shows" in output


def test_corpus_without_a_usable_clip_is_a_user_error(tmp_path):
    for code in CODES:
        (tmp_path / f"1001_DFA_{code}_XX.wav").write_bytes(POINTER)
    recipe = recipe_of(tmp_path)
    with pytest.raises(UserError, match="no clip of CREMA-D can be used; .* run `git lfs pull`"):
        build.build(recipe, tmp_path / "records")
    with pytest.raises(UserError, match="holds no records"):
        build.find(recipe.settings(), "crema_d", tmp_path / "records")
    empty = dataclasses.replace(recipe.corpus, utterances=())
    with pytest.raises(UserError, match="no clip of CREMA-D can be used; the first: it lists none"):
        build.build(dataclasses.replace(recipe, corpus=empty), tmp_path / "records")


def test_file_as_records_dir_and_unknown_dtype_are_user_errors(tones, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file/feature_records"):
        build.build(recipe_of(tones), tmp_path / "file")
    with pytest.raises(UserError, match="records_dtype must be float32 or float16, not 'int8'"):
        recipe_of(tones, "int8")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_killed_build_leaves_no_records_and_no_process(tones, built, tmp_path):
    program = f"""
import multiprocessing, os, signal, sys
from pathlib import Path
sys.path.insert(0, {os.fspath(Path(__file__).parent)!r})
import conftest, records_test
from data_prep.records import build, sorting
add, calls = sorting.Sorter.add, []
def add_and_die(*args):
    calls.append(args)
    if len(calls) == 8:  # by now both views have records
        pids = [str(child.pid) for child in multiprocessing.active_children()]
        os.write(1, " ".join(pids).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    return add(*args)
sorting.Sorter.add = add_and_die
build.build(records_test.recipe_of(Path({os.fspath(tones)!r})), Path({os.fspath(tmp_path)!r}))
"""
    root = Path(__file__).parents[1]
    # Files, because subprocess.run would wait for a pipe as long as any worker holds it.
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        killed = subprocess.run(
            [sys.executable, "-c", program],
            cwd=root,
            env=os.environ | {"TMPDIR": os.fspath(tmp_path)},  # it leaves temporary files
            stdout=out,
            stderr=err,
        )
    assert killed.returncode == -signal.SIGKILL, (tmp_path / "err").read_text()
    *_, last = (tmp_path / "out").read_text().splitlines()
    pids = [int(pid) for pid in last.split()]
    assert pids
    for _ in range(300):
        if not any(map(is_running, pids)):
            break
        time.sleep(0.1)
    orphans = [pid for pid in pids if is_running(pid)]
    for pid in orphans:
        os.kill(pid, signal.SIGKILL)
    assert not orphans

    recipe = recipe_of(tones)
    with pytest.raises(UserError, match="holds no records"):
        build.find(recipe.settings(), "crema_d", tmp_path)
    leftovers = [p for p in tmp_path.rglob("*") if p.is_file() and "feature_records" in p.parts]
    assert leftovers and all("incomplete" in os.fspath(p) for p in leftovers)

    folder = build.build(recipe, tmp_path)
    assert folder.parent.name == built.parent.name
    assert [p.name for p in folder.parent.iterdir()] == ["1.0.0"]
    assert sorted(contents(folder)) == sorted(contents(built))
    assert view(folder, "noise").keys() == view(built, "noise").keys()


def test_interrupted_build_leaves_no_records(tones, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(Sorter, "add", interrupt)
    recipe = recipe_of(tones)
    with pytest.raises(KeyboardInterrupt):
        build.build(recipe, tmp_path)
    with pytest.raises(UserError, match="holds no records"):
        build.find(recipe.settings(), "crema_d", tmp_path)
    assert not multiprocessing.active_children()


def test_records_are_found_without_their_audio(tones, built, tmp_path):
    settings = recipe_of(tones).settings()
    folder = tmp_path / "feature_records" / built.parent.name
    with pytest.raises(UserError, match="holds no records of crema_d with these settings"):
        build.find(settings, "crema_d", tmp_path)
    shutil.copytree(built.parent, folder)
    assert build.find(settings, "crema_d", tmp_path) == folder / "1.0.0"
    for other in (recipe_of(tones, "float16").settings(), settings | {"code": "other"}):
        with pytest.raises(UserError, match="holds no records"):
            build.find(other, "crema_d", tmp_path)
    with pytest.raises(UserError, match="holds no records of ravdess"):
        build.find(settings, "ravdess", tmp_path)
    shutil.copytree(folder, folder.with_name("crema_d-0123456789ab"))
    with pytest.raises(UserError, match="holds 2 records.*set --config.corpus.root to the audio"):
        build.find(settings, "crema_d", tmp_path)


@pytest.mark.parametrize(
    ("selection", "others"),
    [
        ({}, [{"emotions": ("anger", "fear")}, {"label_map": ("fear=anger",)}]),
        ({"emotions": ("anger", "fear")}, [{}, {"emotions": ("anger", "sadness")}]),
        ({"drop_defects": True}, [{}]),
        ({"label_map": ("fear=anger",)}, [{}, {"label_map": ("fear=sadness",)}]),
    ],
)
def test_records_found_without_audio_are_what_the_config_selects(
    tones, tmp_path, selection, others
):
    root = shutil.copytree(tones, tmp_path / "audio")
    shutil.copy(root / "1001_DFA_SAD_XX.wav", root / "1076_MTI_SAD_XX.wav")  # a defect by its name
    recipe = Recipe(corpora.read("crema_d", root, **selection), SPEC, Augmentation(views=()))
    folder = build.build(recipe, tmp_path)
    settings = recipe.settings()
    assert build.find(settings, "crema_d", tmp_path, **selection) == folder
    if not selection.get("drop_defects"):
        others = [*others, selection | {"drop_defects": True}]
    if selection.get("emotions"):  # these leave the defect out too
        others.pop()
    for other in others:
        with pytest.raises(UserError, match="which are not what corpus.emotions, drop_defects"):
            build.find(settings, "crema_d", tmp_path, **other)


def test_selected_classes_of_a_table_are_not_taken_for_all(tones, tmp_path):
    rows = [f"1001_DFA_{code}_XX.wav,{code},anna" for code in CODES[:3]]
    table = tones / "own.csv"
    table.write_text("\n".join(["path,emotion,speaker", *rows]))
    corpus = corpora.read("csv", table, emotions=tuple(CODES[:2]))
    table.unlink()
    recipe = Recipe(corpus, SPEC, Augmentation(views=()))
    folder = build.build(recipe, tmp_path)
    assert build.find(recipe.settings(), "csv", tmp_path, emotions=CODES[:2]) == folder
    with pytest.raises(UserError, match="holds no records of csv with these settings, and others"):
        build.find(recipe.settings(), "csv", tmp_path)


def test_records_of_real_clips_equal_librosa_and_extract(shared_data, tmp_path):
    corpus = corpora.read("crema_d", shared_data / "crema_d")
    spec, augmentation = FeatureSpec(), Augmentation()
    folder = build.build(Recipe(corpus, spec, augmentation), tmp_path)
    tolerance = {"log_mel": 2e-3, "mfcc": 5e-3, "zero_crossing_rate": 1e-7, "energy": 1e-8}
    for name in (ORIGINAL, *VIEWS):
        rows = view(folder, name)
        assert len(rows) == len(corpus.utterances) == 16
        clips = []
        for u in corpus.utterances:
            waveform_S = waveform.load(u.path, RATE)
            clips.append(augment(augmentation, name, waveform_S, RATE, u.id))
        waveform_BxS = np.zeros((16, 6 * RATE), np.float32)
        for row, waveform_S in zip(waveform_BxS, clips, strict=True):
            row[: len(waveform_S)] = waveform_S
        planes = features.extract(spec, waveform_BxS, np.array([len(clip) for clip in clips]))
        ours = {plane: np.asarray(x_BxTxF) for plane, x_BxTxF in planes.items()}
        for i, u in enumerate(corpus.utterances):
            theirs = librosa_features(spec, clips[i])
            for plane, x_TxF in rows[u.id]["planes"].items():
                np.testing.assert_allclose(x_TxF, ours[plane][i, : len(x_TxF)], 1e-5, 1e-6)
                np.testing.assert_allclose(x_TxF, theirs[plane], 2e-5, tolerance[plane])


def test_records_of_segments_equal_those_of_cut_files_and_their_times_are_in_the_fingerprint(
    tmp_path,
):
    samples = tone(1.0, 200) + tone(1.0, 330)
    soundfile.write(tmp_path / "long.wav", samples, RATE)
    for name, part in (("a", samples[:8000]), ("b", samples[8000:])):
        soundfile.write(tmp_path / f"{name}.wav", part, RATE)
    header = "path,emotion,speaker,start,end\n"

    def recipe(rows: str) -> Recipe:
        (tmp_path / "corpus.csv").write_text(header + rows)
        return Recipe(corpora.read("csv", tmp_path), SPEC, AUGMENTATION)

    def originals(recipe: Recipe) -> list[dict]:
        remarks = examples.Remarks()
        made = examples.make(recipe, (ORIGINAL,), recipe.corpus.utterances, remarks)
        rows = [example for _, example in made]
        assert remarks == examples.Remarks()
        return rows

    segments = recipe("long.wav,joy,x,0,0.5\nlong.wav,sad,x,0.5,")
    whole = recipe("a.wav,joy,x,,\nb.wav,sad,x,,")
    pairs = list(zip(originals(segments), originals(whole), strict=True))
    assert [row["id"] for row, _ in pairs] == ["long@0-0.5", "long@0.5-end"]
    for row, other in pairs:
        for key in ("audio_sha256", "label", "n_frames"):
            assert row[key] == other[key]
    later = recipe("long.wav,joy,x,0,0.5\nlong.wav,sad,x,0.6,")
    assert later.fingerprint() != segments.fingerprint()
    (tmp_path / "corpus.csv").write_text("path,emotion,speaker\na.wav,joy,x\nb.wav,sad,x")
    plain = Recipe(corpora.read("csv", tmp_path), SPEC, AUGMENTATION)
    assert plain.fingerprint() == whole.fingerprint()


SCRIPT = """
import importlib, sys
from data_prep.prepare import prepare
config = importlib.import_module("configs.cnn2d").get_config("demo")
config.corpus.root, config.records_dir = sys.argv[1:]
config.corpus.made.update(n_speakers=6, n_sentences=2)
print("prepared", prepare(config.lock()))
"""


def test_script_without_a_main_guard_prepares_once(made_corpus, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    run = subprocess.run(
        [sys.executable, tmp_path / "script.py", made_corpus, tmp_path / "records"],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("prepared") == 1 and "Prepared 72 clips." in run.stdout
