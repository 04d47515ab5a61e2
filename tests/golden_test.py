"""Records have the values that belong to RECORDS_VERSION.

python -m tests.golden_test      # after raising RECORDS_VERSION: store the new values
"""

import wave
from pathlib import Path

import numpy as np
import pytest

from data_prep import corpora
from data_prep.augmentation.views import ORIGINAL, Augmentation
from data_prep.corpora import Utterance
from data_prep.records import examples
from data_prep.records.recipe import RECORDS_VERSION, Recipe
from ser_jax.features import FeatureSpec

GOLDEN = Path(__file__).parent / "data" / "golden.npz"
SPECS = {
    "default": FeatureSpec(),
    "librosa": FeatureSpec(
        pre_emphasis=0.0, frame_length=2048, hop_length=512, n_fft=2048, window="hann", n_mels=128
    ),
}
ADVICE = (
    "the values of records have changed. If that is intended, raise RECORDS_VERSION in "
    "data_prep/records/recipe.py and store the new values: python -m tests.golden_test"
)


def write_clip(path: Path) -> Path:
    """Write a rising sawtooth followed by silence, in integers: the same bytes on every machine."""
    n = np.arange(18_000, dtype=np.int64)
    phase = (n * 180 + n * n // 400) % 22_050
    samples = np.where(n < 15_000, phase - 11_025, 0).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 22_050, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


def values(folder: Path) -> dict[str, np.ndarray]:
    """Return every eighth frame of each plane and view, as read from the serialised records."""
    clip = Utterance("clip", write_clip(folder / "clip.wav"), "calm", "someone")
    corpus = corpora.Corpus("csv", "clips", ("calm",), (clip,))
    arrays = {"version": np.array(RECORDS_VERSION)}
    for name, spec in SPECS.items():
        recipe = Recipe(corpus, spec, Augmentation())
        fields, views = examples.schema(recipe), (ORIGINAL, *recipe.augmentation.views)
        records, _ = examples.serialise(recipe, fields, views, [clip])
        for view, _, record in records:
            for plane, x_TxF in fields.deserialize_example_np(record)["planes"].items():
                arrays[f"{name}/{view}/{plane}"] = x_TxF[::8]
    return arrays


def test_values_change_only_with_the_version(tmp_path):
    arrays = values(tmp_path)
    with np.load(GOLDEN) as stored:
        golden = dict(stored)
    assert arrays.keys() == golden.keys(), ADVICE
    assert arrays["version"] == golden["version"], (
        "store the new values: python -m tests.golden_test"
    )
    for name, x_TxF in golden.items():
        # Processors differ in the last digits, far less than any change of the computation.
        np.testing.assert_allclose(arrays[name], x_TxF, rtol=1e-3, atol=2e-3, err_msg=ADVICE)


@pytest.mark.parametrize("change", [{"pre_emphasis": 0.9699}, {"f_max": 7999.0}])
def test_small_change_is_detected(tmp_path, monkeypatch, change):
    monkeypatch.setitem(SPECS, "default", FeatureSpec(**change))
    with pytest.raises(AssertionError, match="raise RECORDS_VERSION"):
        test_values_change_only_with_the_version(tmp_path)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        np.savez_compressed(GOLDEN, **values(Path(folder)))
