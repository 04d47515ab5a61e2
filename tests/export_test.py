import dataclasses
import json
import subprocess
import sys
import types
import wave
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export

from ser_jax import features
from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.export import __main__, onnx, texts, writer
from ser_jax.features import FeatureSpec
from ser_jax.metrics import classification
from ser_jax.models import convolution, registry
from ser_jax.predict import exported_model, trained_model
from ser_jax.predict.predictor import Predictor
from ser_jax.train import checkpoints
from ser_jax.train.replicas import Replica
from ser_jax.train.state import Best, Normalisation, Weights

RATE = 8000


def make(name="cnn2d", kind="mfcc", n_replicas=2, corpus="crema_d", **settings):
    """Return a TrainedModel with weights that were drawn, not trained."""
    fields = {"widths": (4, 4, 4, 4) if name == "cnn2d" else (4, 4, 4), "dense": 8}
    spec = FeatureSpec(
        **{"sampling_rate": RATE, "frame_length": 200, "hop_length": 80, "n_fft": 256}
        | {"n_mels": 20, "n_mfcc": 12}
        | settings
    )
    labels, max_frames = ("anger", "joy", "sadness"), 60
    network = registry.build(name, len(labels), fields)
    planes = sum(spec.width(plane) for plane in features.INPUTS[kind])
    x_BxTxF = jnp.zeros((1, max_frames, planes))
    norm = Normalisation(jnp.full(planes, -20.0), jnp.full(planes, 15.0))
    weights, x = [], features.model_input(x_BxTxF, kind)
    init = jax.jit(lambda key: network.init(key, x, train=False))
    for seed in range(n_replicas):
        variables = init(jax.random.key(seed))
        # Larger logits, because all probabilities would be near one third.
        params = jax.tree.map(lambda w: w * (30 if w.shape[-1] == 3 else 1), variables["params"])
        weights.append(Weights(params, variables.get("batch_stats", {}), norm))
    return trained_model.TrainedModel(
        config={
            "records_dtype": "float32",
            "corpus": {"name": corpus},
            "model": {"name": name, **fields},
            "train": {"compute_dtype": "float32"},
            "input": {"kind": kind},
            "init_from": "",
        },
        corpus="some voices",
        labels=labels,
        spec=spec,
        kind=kind,
        min_frames=10,
        max_frames=max_frames,
        network=network,
        replicas=tuple(Replica(seed, 0) for seed in range(n_replicas)),
        numbers=tuple(range(n_replicas)),
        epochs=(1,) * n_replicas,
        weights=tuple(weights),
    )


def clips(lengths, n_samples):
    waveform_BxS = np.random.default_rng(0).uniform(-0.3, 0.3, (len(lengths), n_samples))
    return waveform_BxS.astype(np.float32), np.array(lengths, np.int32)


def expected(model, waveform_BxS, n_samples_B):
    x_BxTxF, n_frames_B = model.examples(waveform_BxS, n_samples_B)
    logits = jax.jit(model.logits)
    return np.stack([jax.nn.softmax(logits(w, x_BxTxF, n_frames_B)) for w in model.weights])


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture(scope="module")
def contents(model):
    return writer.members(model)


@pytest.fixture
def file(contents, tmp_path):
    writer.write(tmp_path / "emotion.zip", contents)
    return tmp_path / "emotion.zip"


@pytest.fixture(scope="module")
def workdir(model, tmp_path_factory):
    """A run's folder with the same model and plausible results of an evaluation."""
    folder = tmp_path_factory.mktemp("run")
    weights = jax.tree.map(lambda *leaves: jnp.stack(leaves), *model.weights)
    best = Best(weights.params, weights.batch_stats, jnp.zeros(2), jnp.ones(2, jnp.int32))
    metadata = {
        "config": model.config,
        "corpus": model.corpus,
        "licence": "Under ODbL 1.0.",
        "labels": list(model.labels),
        "features": dataclasses.asdict(model.spec),
        "min_frames": model.min_frames,
        "max_frames": model.max_frames,
        "replicas": [dataclasses.asdict(replica) for replica in model.replicas],
    }
    with checkpoints.Writer(folder, metadata) as saving:
        saving.save_best(types.SimpleNamespace(best=best, normalisation=weights.normalisation))
    uar = {"mean": 0.4321, "sd": 0.01, "low": 0.4, "high": 0.5}
    results = dict.fromkeys(writer._HEADLINE, "as it was") | dict.fromkeys(
        classification.HEADLINE, 0.5
    )
    results |= {"labels": list(model.labels), "intervals": {"uar": uar}, "breakdown": {}}
    results["replicas"] = [
        {"replica": number, "chosen": number < 2, "best_epoch": 1} for number in range(3)
    ]
    files.write_json(folder / "results.json", results)
    return folder


def test_any_number_of_clips_of_any_length_is_as_in_the_run(model, file):
    backend = exported_model.load(file)
    assert (backend.corpus, backend.labels) == ("some voices", model.labels)
    assert (backend.spec, backend.min_frames, backend.max_frames) == (model.spec, 10, 60)
    for lengths, n_samples in (([5000], 5000), ([1, 700, 9000, 4000, 4321], 9000)):
        batch = clips(lengths, n_samples)
        probability_RxBxC = backend(*batch)
        assert probability_RxBxC.shape == (2, len(lengths), 3)
        assert probability_RxBxC.dtype == np.float32
        np.testing.assert_allclose(probability_RxBxC, expected(model, *batch), atol=1e-6)
        assert np.ptp(probability_RxBxC, axis=0).max() > 0.1  # the replicas differ


@pytest.mark.parametrize(
    "model",
    [
        make("cnn1d", "vector", n_replicas=1, centered=False),
        make("paper", "log_mel", n_replicas=1, n_fft=200, top_db=0.0),
    ],
    ids=["vector", "log-mel"],
)
def test_every_network_and_input(model, tmp_path):
    writer.write(tmp_path / "x.zip", writer.members(model))
    batch = clips([150, 3000], 3100)  # the first is shorter than a frame
    np.testing.assert_allclose(
        exported_model.load(tmp_path / "x.zip")(*batch), expected(model, *batch), atol=1e-6
    )


def test_the_command_writes_what_predictor_opens(workdir, tmp_path, capsys):
    out = tmp_path / "new" / "emotion.zip"
    __main__.main([f"--workdir={workdir}", f"--out={out}"])
    assert "2 replicas" in capsys.readouterr().out
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    waveform_S = clips([20_000], 20_000)[0][0]
    by_export, by_run = (Predictor(path)(waveform_S, 16_000) for path in (out, workdir))
    np.testing.assert_allclose(by_export.probability_RxC, by_run.probability_RxC, atol=1e-6)
    assert by_export.labels == by_run.labels and by_export.emotion == by_run.emotion

    with zipfile.ZipFile(out) as archive:
        headline = json.loads(archive.read("results.json"))
        readme = archive.read("README.txt").decode()
        assert b"Under ODbL 1.0." in archive.read("LICENCE.txt")
        assert {info.date_time[0] for info in archive.infolist()} == {1980}
        assert archive.namelist() == sorted(archive.namelist())
    results = files.read_json(workdir / "results.json")
    assert headline == {key: results[key] for key in headline}
    assert "intervals" in headline and "breakdown" not in headline
    assert "0.432 (95 % over speakers: 0.400–0.500)" in " ".join(readme.split())

    first = out.read_bytes()
    __main__.main([f"--workdir={workdir}", f"--out={out}"])
    assert out.read_bytes() == first


def test_results_of_another_model_are_not_passed_on(workdir):
    model = trained_model.load(workdir)
    assert writer.headline(workdir, model)["labels"] == list(model.labels)
    for other in ({"labels": ("a", "b")}, {"epochs": (1, 2)}, {"numbers": (0, 7)}):
        with pytest.raises(UserError, match="does not belong to this trained model"):
            writer.headline(workdir, dataclasses.replace(model, **other))
    assert writer.headline(workdir / "nowhere", model) is None


def test_the_exported_program_uses_the_convolution_of_lax(model, contents, monkeypatch):
    monkeypatch.setattr(convolution, "MIN_OUTPUTS_IM2COL", 1)  # by default on this machine
    assert writer.program(model) == contents[exported_model.MODEL]


def test_the_program_in_the_readme_needs_only_jax_and_numpy(model, file, tmp_path):
    with zipfile.ZipFile(file) as archive:
        lines = archive.read("README.txt").decode().splitlines()
    start = lines.index("    import json, sys, wave, zipfile")
    code = "\n".join(line[4:] for line in lines[start : lines.index("", start)])
    code += "\nprint(*sys.modules, file=sys.stderr)"
    samples = np.round(clips([4000], 4000)[0][0] * 32768).astype("<i2")
    with wave.open(str(tmp_path / "clip.wav"), "wb") as out:
        out.setparams((1, 2, RATE, 0, "NONE", ""))
        out.writeframes(samples.tobytes())
    run = subprocess.run(
        [sys.executable, "-I", "-c", code, file, tmp_path / "clip.wav"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    probability_C = expected(model, samples[None] / np.float32(32768), np.array([4000]))[:, 0].mean(
        0
    )
    printed = dict(reversed(line.split()) for line in run.stdout.splitlines())
    assert {k: float(v) for k, v in printed.items()} == pytest.approx(
        dict(zip(model.labels, probability_C, strict=True)), abs=2e-6
    )
    loaded = {name.split(".")[0] for name in run.stderr.split()}
    assert not loaded & {"ser_jax", "flax", "orbax", "optax", "librosa"}


def test_opening_imports_no_training_library(file):
    code = (
        "import sys; from ser_jax.predictor import Predictor;"
        f"Predictor({str(file)!r}); print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in run.stdout.split()}
    assert not loaded & {
        "flax",
        "orbax",
        "optax",
        "librosa",
        "tensorflow_datasets",
        "ml_collections",
    }


def test_source_paths_are_not_exported(contents):
    exported = jax_export.deserialize(bytearray(contents["model.bin"]))
    assert ".py" not in exported.mlir_module()
    assert exported.platforms == ("cpu", "cuda", "tpu") and not exported.has_vjp()


def test_the_licence_note(tmp_path):
    def note(given="", terms="Under ODbL 1.0."):
        return texts.licence({"some voices": terms}, "", given)

    assert "some voices" in note() and "ODbL" in note()
    assert "not recorded" in note(terms="")
    (tmp_path / "mine.txt").write_text("As you like.\n")
    assert note(str(tmp_path / "mine.txt")) == note("As you like.") == "As you like.\n"
    assert note("words " * 200).startswith("words words")
    (tmp_path / "noise.txt").write_bytes(b"\xff\xfe\xfd")
    assert note("CC BY-SA 4.0 / ODbL 1.0, see example.org") != note()
    for wrong in (tmp_path / "none.txt", "docs/my licence.TXT", tmp_path / "noise.txt", " "):
        with pytest.raises(UserError, match="licence"):
            note(str(wrong))


def test_the_licence_note_has_the_corpora_of_all_trainings(model, workdir, tmp_path):
    def note(source):
        second = {"config": model.config | {"init_from": str(source)}, "corpus": "other voices"}
        second = dataclasses.replace(model, **second, licence="All rights reserved.")
        return writer.members(second)["LICENCE.txt"].decode()

    text = " ".join(note(workdir).split())
    assert "were trained on: other voices. All rights reserved. The training started" in text
    assert "weights that were trained on: some voices. Under ODbL 1.0." in text
    assert "another run, base;" in note(tmp_path / "base") and "/base" not in note("/x/base")


def test_trainings_that_failed_are_listed(model, tmp_path):
    failing = dataclasses.replace(model, failed=(Replica(7, 0),))
    writer.write(tmp_path / "emotion.zip", writer.members(failing))
    assert exported_model.load(tmp_path / "emotion.zip").failed == ("seed 7, fold 0",)
    with zipfile.ZipFile(tmp_path / "emotion.zip") as archive:
        readme = archive.read("README.txt").decode()
    assert "Left out, since the training failed: seed 7, fold 0." in " ".join(readme.split())


def test_write_errors_are_one_sentence_and_keep_the_old_file(workdir, tmp_path, file, monkeypatch):
    with pytest.raises(UserError, match="is a folder"):
        __main__.main([f"--workdir={workdir}", f"--out={tmp_path}"])
    before = file.read_bytes()
    with pytest.raises(UserError, match="no trained model"):
        __main__.main([f"--workdir={tmp_path}", f"--out={file}"])
    with monkeypatch.context() as patched, pytest.raises(OSError):
        patched.setattr(zipfile.ZipFile, "writestr", lambda *_: (_ for _ in ()).throw(OSError()))
        writer.write(file, {"a": b"b"})
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


def zipped(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def changed(contents, **fields):
    """Return the members with other fields in model.json and correct checksums."""
    manifest = json.loads(contents["model.json"]) | fields
    manifest["sha256"] = {
        name: exported_model.hashlib.sha256(data).hexdigest()
        for name, data in contents.items()
        if name != "model.json"
    }
    return contents | {"model.json": json.dumps(manifest).encode()}


def test_a_damaged_file_is_one_sentence(contents, file, tmp_path):
    def refused(path, why):
        with pytest.raises(UserError, match=why) as caught:
            exported_model.load(path)
        assert str(path) in str(caught.value)

    path = tmp_path / "wrong.zip"
    refused(path, "does not exist")
    refused(tmp_path, "is a folder")
    path.write_bytes(b"no zip")
    refused(path, "not a zip file")
    path.write_bytes(file.read_bytes()[:-1000])
    refused(path, "not a zip file")
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1  # a weight
    path.write_bytes(whole)
    refused(path, "damaged")
    refused(zipped(path, {"a.txt": b""}), "not an export of ser_jax")
    refused(zipped(path, contents | {"model.json": b"[" * 100_000}), "not JSON")
    refused(zipped(path, contents | {"model.json": b"[]"}), "not an export of ser_jax")
    refused(zipped(path, contents | {"LICENCE.txt": b"none"}), "checksum")
    refused(zipped(path, {k: v for k, v in contents.items() if k != "model.bin"}), "'model.bin'")
    refused(zipped(path, changed(contents | {"../x": b""})), "'../x'")
    refused(zipped(path, contents, zipfile.ZIP_DEFLATED), "compressed")
    refused(zipped(path, changed(contents, format_version=2)), "format version 2.* update")
    refused(zipped(path, changed(contents, labels=["one"])), "not the program")
    refused(zipped(path, changed(contents, max_frames="60")), "missing or wrong entries")
    refused(zipped(path, changed(contents, features={"hops": 1})), "missing or wrong entries")
    refused(zipped(path, changed(contents | {"model.bin": b"\0" * 64})), "cannot be read by JAX")
    program = jax_export.deserialize(bytearray(contents["model.bin"]))
    later = dataclasses.replace(program, mlir_module_serialized=b"of a later StableHLO").serialize()
    refused(zipped(path, changed(contents | {"model.bin": bytes(later)})), "cannot be read by JAX")


def test_a_program_that_calls_code_outside_xla_is_refused(contents, tmp_path):
    def function(waveform, n_samples):
        probability_BxC = jax.ffi.ffi_call("format_disk", like)(waveform[:, :3])
        return probability_BxC, jnp.stack([probability_BxC] * 2)

    b, s = jax_export.symbolic_shape("b, s", constraints=["s >= 3"])
    like = jax.ShapeDtypeStruct((b, 3), jnp.float32)
    exported = jax_export.export(
        jax.jit(function),
        disabled_checks=[jax_export.DisabledSafetyCheck.custom_call("format_disk")],
    )(jax.ShapeDtypeStruct((b, s), jnp.float32), jax.ShapeDtypeStruct((b,), jnp.int32))
    foreign = changed(contents | {"model.bin": bytes(exported.serialize())})
    with pytest.raises(UserError, match="outside XLA"):
        exported_model.load(zipped(tmp_path / "x.zip", foreign))


def test_onnx_gives_the_same_probabilities(model, tmp_path):
    pytest.importorskip("jax2onnx", reason="jax2onnx is missing; see requirements/onnx.txt")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is missing")
    contents = writer.members(model, onnx=True)
    writer.write(tmp_path / "x.zip", contents)
    exported_model.load(tmp_path / "x.zip")
    session = onnxruntime.InferenceSession(
        contents["model.onnx"], providers=["CPUExecutionProvider"]
    )
    n_samples = session.get_inputs()[0].shape[1]
    for lengths in ([n_samples], [1, n_samples // 2, 3000]):
        waveform_BxS, n_samples_B = clips(lengths, n_samples)
        [mean] = session.run(None, {"waveform": waveform_BxS, "n_samples": n_samples_B})
        each = expected(model, waveform_BxS, n_samples_B)
        np.testing.assert_allclose(mean, each.mean(0), atol=1e-4)


def test_onnx_is_compared_at_full_precision():
    pytest.importorskip("jax2onnx", reason="jax2onnx is missing; see requirements/onnx.txt")
    pytest.importorskip("onnxruntime", reason="onnxruntime is missing")

    def as_on_a_gpu(waveform_BxS, _):
        probability_BxC = jax.nn.softmax(waveform_BxS[:, :3])
        is_run = not isinstance(waveform_BxS, jax.core.Tracer)  # and not converted
        if is_run and jax.config.jax_default_matmul_precision != "highest":
            probability_BxC += 1.8e-4  # as TF32 may err
        return probability_BxC, probability_BxC[None]

    assert onnx.convert(as_on_a_gpu, 100)


def test_onnx_without_its_libraries_is_one_sentence(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="requirements/onnx.txt"):
        writer.members(model, onnx=True)
