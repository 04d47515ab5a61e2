"""Records made by this code hold the values that records of its version have always held.

python -m tests.golden_test      # after raising RECORDS_VERSION: store the new values
"""

import wave
from pathlib import Path

import numpy as np
import pytest

from data_prep import corpora
from data_prep.augmentation import views as augmentation_views
from data_prep.corpora import Utterance
from data_prep.records import examples, recipe
from data_prep.records.recipe import Recipe
from ser_jax.features import FeatureSpec

GOLDEN = Path(__file__).parent / "data" / "golden.npz"
SPECS = {
    "default": FeatureSpec(),
    "librosa": FeatureSpec(
        pre_emphasis=0.0, frame_length=2048, hop_length=512, n_fft=2048, window="hann", n_mels=128
    ),
}
ADVICE = (
    "records of the same version would now hold other values. If the change is intended, raise "
    "RECORDS_VERSION in data_prep/recipe.py and store the new values: python -m tests.golden_test"
)


def write_clip(path: Path) -> Path:
    """A swept sawtooth with silence at its end, in integers: the same bytes on every machine."""
    n = np.arange(18_000, dtype=np.int64)
    phase = (n * 180 + n * n // 400) % 22_050
    samples = np.where(n < 15_000, phase - 11_025, 0).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 22_050, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


def values(folder: Path) -> dict[str, np.ndarray]:
    """Every eighth frame of all planes and views, from file to record."""
    clip = Utterance("clip", write_clip(folder / "clip.wav"), "calm", "someone")
    corpus = corpora.Corpus("csv", "clips", ("calm",), (clip,))
    found = {"version": np.array(recipe.RECORDS_VERSION)}
    for name, spec in SPECS.items():
        made = Recipe(corpus, spec, augmentation_views.Augmentation())
        views = (augmentation_views.ORIGINAL, *made.augmentation.views)
        for view, example in examples.make(made, views, [clip], {}):
            for plane, x_TxF in example["planes"].items():
                found[f"{name}/{view}/{plane}"] = x_TxF[::8]
    return found


def test_values_change_only_with_the_version(tmp_path):
    now = values(tmp_path)
    with np.load(GOLDEN) as stored:
        golden = dict(stored)
    assert now.keys() == golden.keys(), ADVICE
    assert now["version"] == golden["version"], "store the new values: python -m tests.golden_test"
    for name, x_TxF in golden.items():
        # Processors differ in the last digits, by far less than a change of meaning.
        np.testing.assert_allclose(now[name], x_TxF, rtol=1e-3, atol=2e-3, err_msg=ADVICE)


@pytest.mark.parametrize("change", [{"pre_emphasis": 0.9699}, {"f_max": 7999.0}])
def test_a_small_change_is_noticed(tmp_path, monkeypatch, change):
    monkeypatch.setitem(SPECS, "default", FeatureSpec(**change))
    with pytest.raises(AssertionError, match="raise RECORDS_VERSION"):
        test_values_change_only_with_the_version(tmp_path)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        np.savez_compressed(GOLDEN, **values(Path(folder)))
