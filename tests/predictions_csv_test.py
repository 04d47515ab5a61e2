"""predictions.csv: probabilities survive to the last bit, and six-digit files still open."""

import numpy as np

from ser_jax.evaluate import predictions_csv
from ser_jax.metrics.predictions import Predictions

LABELS = ["anger", "calm", "joy"]


def predictions_of(probability_PxC: np.ndarray) -> Predictions:
    n = len(probability_PxC)
    return Predictions(
        replica_P=np.arange(n) % 2,
        clip_P=np.array([f'clip "{i // 2}", é' for i in range(n)]),
        speaker_P=np.array([f"s{i % 5}" for i in range(n)]),
        label_P=np.arange(n) % 3,
        probability_PxC=probability_PxC,
    )


def test_float32_round_trip_is_bit_identical(tmp_path):
    random = np.random.default_rng(0)
    probability_PxC = random.dirichlet(np.full(3, 0.05), 5000).astype(np.float32)
    probability_PxC[0] = [np.float32(1e-45), np.nextafter(np.float32(1), np.float32(0)), 0]
    probability_PxC[1] = [0.4, np.nextafter(np.float32(0.4), np.float32(1)), 0.2]
    written = predictions_of(probability_PxC)
    predictions_csv.write(tmp_path / "predictions.csv", written, LABELS)
    read = predictions_csv.read(tmp_path / "predictions.csv", LABELS)
    assert read.probability_PxC.dtype == np.float32
    np.testing.assert_array_equal(
        read.probability_PxC.view(np.uint32), probability_PxC.view(np.uint32)
    )
    for name in ("replica_P", "clip_P", "speaker_P", "label_P", "prediction_P"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name), name)


def test_six_digit_files_of_earlier_versions_keep_their_predictions(tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_text(
        "replica,id,speaker,true,predicted,anger,calm,joy\n"
        "0,tie,s0,anger,calm,0.400000,0.400000,0.199999\n"  # rounding made a tie
        "0,tie of all,s0,calm,joy,0.333333,0.333333,0.333333\n"
        "0,clear,s1,joy,anger,0.503949,0.496052,0.000000\n"
        "0,certain,s1,joy,joy,0.000000,0.000000,1.000000\n"
        "0,diverged,s1,joy,anger,nan,nan,nan\n"
    )
    read = predictions_csv.read(path, LABELS)
    assert [LABELS[i] for i in read.prediction_P] == ["calm", "joy", "anger", "joy", "anger"]
    np.testing.assert_allclose(read.probability_PxC[0], [0.4, 0.4, 0.199999], atol=1e-7)
    np.testing.assert_array_equal(read.probability_PxC[2], np.float32([0.503949, 0.496052, 0]))
    assert not read.probability_PxC[4].any()
