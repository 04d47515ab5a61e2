import ast
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

import ser_jax
from ser_jax.common.errors import UserError
from ser_jax.evaluate import finished_run
from ser_jax.metrics import classification, listeners
from ser_jax.pages import markdown
from ser_jax.report import content, run_report, wording
from ser_jax.report.figures import breakdown, confusion, reliability, training

RATE = "optimizer.learning_rate"
LABELS = """anger disgust fear happiness neutral sadness surprise calm boredom contempt excitement
    frustration""".split()


def some_epochs(n_epochs, replica=0):
    scores = {
        f"{part}/{name}": 0.4 + 0.01 * replica
        for part in ("train", "val")
        for name in ("accuracy", "macro_f1", "uar")
    }
    return [
        {
            "epoch": epoch,
            "replica": replica,
            "train/loss": 2.0 / epoch,
            "train/l2": 0.125,
            "val/loss": 1.5,
            **scores,
            "learning_rate": 1e-3 * 0.5 ** (5 * epoch // n_epochs),
            "seconds": 3.2,
            "examples_per_second": 1600.0,
        }
        for epoch in range(1, n_epochs + 1)
    ]


def some_groups(values, over="speakers", human=0.4):
    return [
        {
            "value": value,
            "n": 100 + i,
            "n_speakers": 19 if over == "speakers" else 1,
            "accuracy": 0.3 + 0.4 * i / len(values),
            "low": 0.2 + 0.4 * i / len(values),
            "high": 0.4 + 0.4 * i / len(values),
            "interval_over": over,
            "human": human,
        }
        for i, value in enumerate(values)
    ]


def spread(values):
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "sd": sd}


def some_results(labels=LABELS[:6], seeds=(17,), folds=(0,), rates=(), actors=5, **changes):
    """One replica per seed, fold and rate; of several rates the first is chosen."""
    n, random = len(labels), np.random.default_rng(0)
    replicas = []
    for rate, fold, seed in itertools.product(rates or [None], folds, seeds):
        counts = random.multinomial(300, (0.5 * np.eye(n) + 0.5 / n))
        replicas.append(
            {
                "replica": len(replicas),
                "seed": seed,
                "fold": fold,
                "setting": {"optimizer.learning_rate": rate} if rates else {},
                "chosen": rate == rates[0] if rates else True,
                "best_epoch": 1 + len(replicas) % 3,
                "val": 0.5 + 0.01 * len(replicas),
                "n_test": int(counts.sum()),
                **classification.summary(counts, labels),
            }
        )
    chosen = [r for r in replicas if r["chosen"]]
    confusion = np.sum([r["confusion"] for r in chosen], axis=0)
    means = {key: spread([r[key] for r in chosen]) for key in classification.HEADLINE}
    return {
        "config": "cnn2d",
        "model": "cnn2d",
        "input": "mfcc",
        "protocol": "tfds",
        "corpus": "CREMA-D",
        "unseen_speakers": True,
        "unseen_sentences": False,
        "n_train": 5144,
        "n_train_examples": 20576,
        "n_val": 738,
        "n_test": 300 * n * len(folds),
        "n_test_speakers": 19,
        "labels": list(labels),
        **classification.summary(confusion, labels),
        **{key: score["mean"] for key, score in means.items()},
        "intervals": {key: {**score, "low": 0.25, "high": 0.75} for key, score in means.items()},
        "best_epoch": 1,
        "monitor": "accuracy",
        "replicas": replicas,
        "settings": [
            {
                "setting": {"optimizer.learning_rate": rate} if rates else {},
                "chosen": i == 0,
                "n_replicas": len(chosen),
                **{
                    key: spread([r[key] for r in replicas if r["setting"].get(RATE) == rate])
                    for key in ("val", "accuracy", "uar")
                },
            }
            for i, rate in enumerate(rates or [None])
        ],
        "calibration": {
            "ece": 0.0625,
            "bins": [
                {"low": 0.0, "high": 0.5, "n": 0, "confidence": None, "accuracy": None},
                {"low": 0.5, "high": 1.0, "n": 100, "confidence": 0.75, "accuracy": 0.5},
            ],
        },
        "coverage": [{"coverage": k / 20, "accuracy": 1 - k / 40} for k in range(20, 0, -1)],
        "breakdown": {
            "emotion": some_groups(labels),
            "level": some_groups(["HI", "LO"]),
            "corner": some_groups(["all"]),
            "actor": some_groups([f"{1001 + i}" for i in range(actors)], "clips"),
        },
        **changes,
    }


def some_human(n_classes=6):
    votes = 1 + 5 * np.eye(n_classes, dtype=int)
    return listeners.agreement(votes, range(n_classes))


def fill(workdir, epochs=None, results=None):
    epochs, results = epochs or some_epochs(3), results or some_results()
    lines = "".join(json.dumps(row) + "\n" for row in epochs)
    (workdir / "metrics.jsonl").write_text(lines)
    (workdir / "results.json").write_text(json.dumps(results))


def epochs_of(results, n_epochs=3):
    """Every other replica stops one epoch early."""
    numbers = [r["replica"] for r in results["replicas"]]
    return {number: some_epochs(n_epochs - number % 2, number) for number in numbers}


def page_of(results):
    """report.md of these results."""
    blocks = content.blocks(epochs_of(results), results)
    return markdown.document(wording.titles(results)[0], blocks)


def page(**changes):
    return page_of(some_results(**changes))


def cells(text, first, after=""):
    """The cells of the first table row after `after` that begins with `first`."""
    lines = text[text.index(after) :].splitlines()
    line = next(line for line in lines if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def texts(figure):
    return [t.get_text() for t in figure.findobj(Text)]


def overlapping(figure):
    """Pairs of overlapping texts; rotated ones are not checked."""
    figure.canvas.draw()
    seen = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text()]
    boxes = {}
    for axes in figure.axes:  # matplotlib keeps invisible ticks outside the axes
        low, high = sorted(axes.get_xlim())
        seen = [
            t for t in seen if t not in axes.get_xticklabels() or low <= t.get_position()[0] <= high
        ]
        low, high = sorted(axes.get_ylim())
        seen = [
            t for t in seen if t not in axes.get_yticklabels() or low <= t.get_position()[1] <= high
        ]
    boxes = [(t.get_text(), t.get_window_extent()) for t in seen if not t.get_rotation() % 90]
    assert len(boxes) > 8
    return [(a, b) for (a, x), (b, y) in itertools.combinations(boxes, 2) if x.overlaps(y)]


def test_write_creates_figures_and_a_page_with_them(tmp_path):
    fill(tmp_path, results=some_results(human=some_human()))
    path = run_report.write(tmp_path)
    assert path == tmp_path / "report" / "index.html"
    path = path.with_name("report.md")
    names = {p.name for p in path.parent.glob("*.png")}
    assert names == {f"{n}.png" for n in "curves confusion human reliability breakdown".split()}
    for name in names:
        assert (path.parent / name).read_bytes().startswith(b"\x89PNG")
        assert f"({name})" in path.read_text()


def test_without_listeners_the_report_does_not_mention_them(tmp_path):
    values = {"emotion": LABELS[:6], "sex": ["female", "male"]}
    groups = {name: some_groups(value, human=None) for name, value in values.items()}
    results = some_results(breakdown=groups)
    fill(tmp_path, results=results)
    path = run_report.write(tmp_path).with_name("report.md")
    assert not (path.parent / "human.png").exists()
    assert "listen" not in path.read_text() and "perceived" not in path.read_text()
    assert "listen" not in "".join(texts(breakdown.draw(results)))


@pytest.mark.parametrize("n_classes", [2, 6, 8, 12])
def test_matrices_are_legible(n_classes):
    results = some_results(LABELS[:n_classes], seeds=(1, 2), human=some_human(n_classes))
    assert not overlapping(confusion.draw(results))
    assert not overlapping(confusion.draw_listeners(results))


@pytest.mark.parametrize("n_epochs", [1, 13, 200])
@pytest.mark.parametrize("seeds", [(17,), (17, 18, 19)])
def test_curves_are_legible(n_epochs, seeds):
    results = some_results(seeds=seeds)
    assert not overlapping(training.draw(epochs_of(results, n_epochs + 1), results))


@pytest.mark.parametrize("decades", [1, 4, 9])
def test_learning_rates_of_many_decades_are_legible(decades):
    epochs = [row | {"learning_rate": 10.0 ** -row["epoch"]} for row in some_epochs(decades)]
    assert not overlapping(training.draw({0: epochs}, some_results()))


@pytest.mark.parametrize("actors", [1, 19, 91])
@pytest.mark.parametrize("n_classes", [2, 12])
def test_breakdown_is_legible(actors, n_classes):
    results = some_results(LABELS[:n_classes], actors=actors)
    assert not overlapping(breakdown.draw(results))


def test_breakdown_draws_many_classes_and_a_single_one():
    many = some_results([f"class {i}" for i in range(20)], actors=1)
    assert not overlapping(breakdown.draw(many))
    one = some_results(breakdown={"emotion": some_groups(["anger"]), "actor": some_groups(["a"])})
    assert breakdown.draw(one).axes[0].get_title(loc="left") == "Emotion"


def test_reliability_is_legible():
    assert not overlapping(reliability.draw(some_results(seeds=(1, 2), folds=(0, 1))))


def test_long_names_are_wrapped_or_cut():
    labels = ["a", "one-word-that-goes-on-and-on"]
    results = some_results(labels, corpus=20 * "a long name ", human=some_human(2))
    for draw in (confusion.draw, confusion.draw_listeners, breakdown.draw):
        figure = draw(results)
        assert not overlapping(figure)
        assert figure.axes[0].get_yticklabels()[1].get_text() == "one-word-that-goes-on…"
    figure = confusion.draw(results)
    figure.canvas.draw()
    assert figure.axes[0].title.get_window_extent().width < 5.5 * figure.dpi


def test_confusion_shows_normalised_rows_counts_and_recall():
    results = some_results(["a", "b"], confusion=[[30, 10], [1, 3]], n_test=44)
    figure = confusion.draw(results)
    for text in ("75 %", "30", "25 %", "10", "75.0 % of 40", "75.0 % of 4"):
        assert text in texts(figure)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[0.75, 0.25], [0.25, 0.75]])
    title = figure.axes[0].get_title()
    for text in ("cnn2d on CREMA-D", "tfds", "unseen", "44 test clips", "accuracy", "UAR"):
        assert text in title


def test_listeners_confusion_has_the_models_scale():
    human = listeners.agreement([[3, 1], [0, 2]], [0, 1])
    results = some_results(["a", "b"], confusion=[[2, 2], [1, 3]], human=human)
    figure = confusion.draw_listeners(results)
    shares = [axes.images[0].get_array().tolist() for axes in figure.axes]
    assert shares == [[[0.75, 0.25], [0, 1]], [[0.5, 0.5], [0.25, 0.75]]]
    assert [axes.images[0].get_clim() for axes in figure.axes] == [(0, 1), (0, 1)]
    assert figure.axes[0].get_title().startswith("listeners\n6 ratings")


@pytest.mark.parametrize(
    ("replicas", "words"),
    [
        ({}, "1,800 test clips"),
        ({"seeds": (1, 2, 3)}, "1,800 test clips × 3 replicas"),
        ({"seeds": (1, 2), "rates": (1e-3, 1e-4)}, "1,800 test clips × 2 replicas"),
        ({"seeds": (1, 2, 3), "folds": (0, 1)}, "3,600 test clips, 6 replicas, 10,800 predictions"),
    ],
)
def test_clips_and_replicas_are_counted(replicas, words):
    assert wording.test_clips(some_results(**replicas)) == words


def test_every_figure_of_scores_says_how_much_was_tested():
    results = some_results(seeds=(1, 2, 3), human=some_human())
    for draw in (
        confusion.draw,
        confusion.draw_listeners,
        reliability.draw,
        breakdown.draw,
    ):
        assert "1,800 test clips × 3 replicas" in " ".join(texts(draw(results)))


def test_class_without_test_clips_and_diverged_run_are_drawn(tmp_path, recwarn):
    epochs = some_epochs(3)
    epochs[1] |= {"train/loss": float("nan"), "val/loss": None}
    results = some_results(["a", "b"], confusion=[[3, 1], [0, 0]], n_test=4)
    results["breakdown"]["emotion"] = some_groups(["a"])
    results["replicas"][0] |= {"best_epoch": 0, "val": None}
    fill(tmp_path, epochs, results)
    path = run_report.write(tmp_path).with_name("report.md")
    assert cells(path.read_text(), "b")[1] == "0"
    assert "no clips" in texts(confusion.draw(results))
    assert not recwarn.list


def test_names_are_drawn_verbatim():
    figure = confusion.draw(some_results(["$x^2$", r"$\frac{$"]))
    figure.canvas.draw()
    assert "$x^2$" in [t.get_text() for t in figure.axes[0].get_xticklabels()]


def test_best_epoch_is_marked_in_every_panel():
    results = some_results()
    results["replicas"][0]["best_epoch"] = 4
    figure = training.draw({0: some_epochs(5)}, results)
    for axes in figure.axes:
        assert [4, 4] in [list(line.get_xdata()) for line in axes.lines]
    assert "best epoch: 4" in [t.get_text() for t in figure.legends[0].get_texts()]
    assert figure.axes[3].get_yscale() == "log"


def test_curves_show_each_replica_and_the_mean_of_those_still_running():
    results = some_results(seeds=(17, 18, 19))
    figure = training.draw(epochs_of(results), results)
    lines = [line.get_ydata() for line in figure.axes[1].lines]
    *validation, mean, best = lines[4:]
    stopped = [0.41, 0.41, np.nan]
    np.testing.assert_allclose(validation, [[0.4] * 3, stopped, [0.42] * 3])
    np.testing.assert_allclose(mean, [0.41, 0.41, 0.41])
    np.testing.assert_allclose(best, [0.4, 0.41, 0.42])
    assert list(figure.axes[1].lines[-1].get_xdata()) == [1, 2, 3]
    legend = [t.get_text() for t in figure.legends[0].get_texts()]
    assert "mean of the replicas still running" in legend


def test_curves_of_a_sweep_are_those_of_the_chosen_setting():
    results = some_results(seeds=(1, 2), rates=(1e-3, 3e-4, 1e-4))
    figure = training.draw(epochs_of(results), results)
    assert len(figure.axes[3].lines) == 2 + 1  # learning rates, and the best epochs
    title = figure._suptitle.get_text()
    assert "2 of 6 replicas, chosen on validation: optimizer.learning_rate = 0.001" in title


def test_reliability_leaves_out_empty_bins():
    figure = reliability.draw(some_results())
    lines = figure.axes[0].lines
    assert (list(lines[1].get_xdata()), list(lines[1].get_ydata())) == ([0.75], [0.5])
    assert len(figure.axes[2].patches) == 1
    assert {"expected calibration error: 6.2 %", "at 50 % coverage: 75.0 %"} <= set(texts(figure))


def test_breakdown_marks_accuracy_interval_and_listeners():
    results = some_results(actors=91)
    results["breakdown"]["actor"].reverse()
    figure = breakdown.draw(results)
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert list(panels) == ["Emotion", "Level", "Actor, 91 sorted by accuracy"]
    level = panels["Level"]
    assert [list(line.get_xdata()) for line in level.lines[:2]] == [[0.3, 0.5], [0.4, 0.4]]
    assert level.lines[1].get_markerfacecolor() == "none"
    intervals = [line.get_segments()[0][:, 0] for line in level.collections]
    np.testing.assert_allclose(intervals, [[0.2, 0.4], [0.4, 0.6]])
    actors = panels["Actor, 91 sorted by accuracy"]
    assert np.all(np.diff(actors.lines[0].get_ydata()) > 0)
    assert len(actors.get_xticklabels()) == 0


def test_scores_are_shown_beside_chance_and_majority_class():
    results = some_results(["a", "b"], confusion=[[15, 5], [10, 30]])
    for key, mean in {"accuracy": 0.75, "uar": 0.75, "macro_f1": 0.7368}.items():
        results["intervals"][key] |= {"mean": mean, "low": mean - 0.125, "high": mean + 0.125}
    text = page_of(results)
    interval = "62.5–87.5 %"
    assert cells(text, "accuracy") == ["accuracy", "**75.0 %**", interval, "50.0 %", "66.7 %"]
    assert cells(text, "UAR") == ["UAR", "**75.0 %**", interval, "50.0 %", "50.0 %"]
    assert cells(text, "macro-F1")[:2] == ["macro-F1", "**73.7 %**"]


def test_listeners_are_shown_beside_the_model():
    human = listeners.agreement([[3, 1], [2, 2], [1, 3]], [0, 1, 1])
    text = page(
        labels=["a", "b"], **classification.summary([[3, 1], [2, 4]], ["a", "b"]), human=human
    )
    assert cells(text, "accuracy")[-2:] == ["66.7 %", "83.3 %"]
    a = ["a", "100", "60.0 %", "75.0 %", "20.0–40.0 %", "66.7 %", "75.0 %"]
    assert cells(text, "a") == a
    assert "12 ratings of 3 clips" in text


def test_perceived_emotion_is_shown_beside_the_intended():
    perceived = {"accuracy": 0.25, "uar": 0.125, "low": 0.2, "high": 0.3, "n_clips": 1799}
    row = cells(page(perceived=perceived), "perceived emotion")
    assert row == ["perceived emotion", "25.0 %", "20.0–30.0 %", "12.5 %", "1,799"]


def test_page_says_what_was_in_training():
    assert "| test speakers | unseen in training |" in page(unseen_speakers=True)
    assert "**seen in training**" in page(unseen_speakers=False)
    assert "test sentences" not in page()
    assert "| test sentences | unseen in training |" in page(unseen_sentences=True)
    titles = wording.titles(some_results(unseen_sentences=True))
    assert titles[1].endswith("test speakers and sentences unseen in training")


def test_page_gives_sizes_and_how_to_reproduce():
    text = page()
    for words in ("5,144 clips, 20,576 examples", "738 clips", "1 of 3", "seed was 17", "0.125"):
        assert words in text
    assert "The command was not recorded; the run's settings are in `config.json`" in text
    known = markdown.document("", content.blocks(epochs_of(some_results()), some_results(), "run"))
    assert "run --workdir=<new folder>" in known and "not recorded" not in known
    assert "## Replicas" not in text and "## Settings" not in text
    several = page(seeds=(3, 4), folds=(0, 1))
    assert "seeds were 3, 4" in several
    assert "5,144 clips, 20,576 examples with their augmented views (first fold)" in several


def test_page_says_what_was_aimed_at_unless_it_is_the_labels():
    for targets in (None, "labels", "whisper-tfds, at temperature 2"):
        results = some_results() | ({"targets": targets} if targets else {})
        text = markdown.document("", content.blocks(epochs_of(results), results, "run"))
        assert ("aimed at" in text) == ("| aimed at | whisper-tfds, at temperature 2 |" in text)
        assert ("aimed at" in text) == (targets not in (None, "labels"))


def test_page_says_what_the_interval_is():
    text = page()
    assert "One training" in text and "±" not in text
    assert "bootstrap over the 19 test speakers" in text and "somewhat too narrow" in text
    assert "too narrow" not in page(n_test_speakers=91)
    assert "bootstrap over the" not in page(n_test_speakers=1)
    assert "over 6 trainings, seeds 3, 4, 5 × folds 0, 1." in page(seeds=(3, 4, 5), folds=(0, 1))


def test_replicas_have_mean_and_standard_deviation():
    results = some_results(seeds=(3, 4))
    for replica, accuracy in zip(results["replicas"], (0.4, 0.6), strict=True):
        replica |= {"accuracy": accuracy, "uar": 0.5}
    for key, score in {"accuracy": spread([0.4, 0.6]), "uar": spread([0.5, 0.5])}.items():
        results["intervals"][key] |= score
    text = page_of(results)
    assert cells(text, "1") == ["1", "0", "4", "2", "51.0 %", "60.0 %", "50.0 %"]
    assert cells(text, "**mean ± sd**")[-2:] == ["50.0 ± 14.1 %", "50.0 ± 0.0 %"]
    assert cells(text, "accuracy")[1] == "**50.0 ± 14.1 %**"
    assert "seeds were 3, 4" in text and "1–2 of 3" in text


def test_sweep_is_a_table_of_settings():
    results = some_results(seeds=(3, 4), rates=(1e-3, 3e-4, 1e-4))
    results["settings"][2]["val"] = {"mean": None, "sd": None}  # one of its replicas diverged
    text = page_of(results)
    settings = [cells(text, rate, "## Settings") for rate in ("0.001", "0.0003", "0.0001")]
    assert [row[2] for row in settings] == ["50.5 ± 0.7 %", "52.5 ± 0.7 %", "not finite"]
    assert [row[-1] for row in settings] == ["**yes**", "", ""]
    assert "chosen by its mean on validation; the test clips had no part in it" in text
    assert "| chosen on validation | optimizer.learning\\_rate = 0.001 |" in text
    assert cells(text, "5", "## Replicas")[1:4] == ["0.0001", "0", "4"]
    assert "over 2 trainings, seeds 3, 4 × fold 0" in text


def test_a_monitored_loss_is_not_a_percentage():
    assert cells(page(seeds=(3, 4), monitor="loss"), "1")[4] == "0.510"


def test_breakdown_has_one_table_per_attribute():
    text = page(actors=91)
    assert cells(text, "HI") == ["HI", "100", "19", "30.0 %", "20.0–40.0 %", "40.0 %"]
    assert "| corner |" not in text
    assert "By actor, 91 groups: from 30.0 % (1001) to 69.6 % (1091), median 49.8 %" in text
    assert cells(page(actors=19), "1001")[4] == r"20.0–40.0 %\*"  # over clips


def test_calibration_is_a_sentence():
    text = " ".join(page().split())
    assert "calibration error is 6.2 %: with a mean confidence of 75.0 % and an accuracy" in text
    assert "of 50.0 %, the model is overconfident" in text
    assert "Of the most confident half of its predictions 75.0 % are correct" in text
    assert "of the most confident tenth 95.0 %" in text


def test_names_cannot_break_the_page():
    name = "a|b <script> *c* _d_ [e](f) `g` & \n# h"
    text = page(
        **classification.summary([[1, 0], [0, 1]], [name, "x"]), labels=[name, "x"], corpus=name
    )
    shown = r"a\|b &lt;script&gt; \*c\* \_d\_ \[e\](f) \`g\` &amp; \# h"
    assert text.startswith(f"# cnn2d on {shown}\n")
    assert f"| {shown} | 100 |" in text
    assert "<script>" not in text


# As written by versions without replicas.
NEW = "intervals monitor settings calibration coverage breakdown unseen_sentences".split()
OLD = json.dumps({key: value for key, value in some_results().items() if key not in NEW})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metrics.jsonl", None, "metrics.jsonl does not exist; run --mode=train"),
        ("metrics.jsonl", "", "metrics.jsonl holds no epoch; run --mode=train"),
        ("metrics.jsonl", '{"epoch": 1', "metrics.jsonl, line 1, is damaged"),
        ("metrics.jsonl", "[1]", "metrics.jsonl, line 1, is damaged"),
        ("metrics.jsonl", '{"epoch": 1}', "metrics.jsonl, line 1, lacks 'train/loss'"),
        ("results.json", None, "results.json does not exist; run --mode=evaluate"),
        ("results.json", "{", "results.json cannot be read .*; run --mode=evaluate"),
        ("results.json", "[]", "results.json is not the JSON of an evaluation"),
        ("results.json", '{"model": 1}', "results.json lacks 'accuracy'; run --mode=evaluate"),
        ("results.json", OLD, "results.json lacks 'breakdown'; run --mode=evaluate"),
        ("metrics.jsonl", json.dumps(some_epochs(1, 3)[0]), "no epoch of replica 0 of results"),
        ("results.json", json.dumps(some_results(confusion=[[1]])), "6 labels"),
    ],
)
def test_bad_files_are_named_with_the_remedy(tmp_path, name, text, message):
    fill(tmp_path)
    (tmp_path / name).unlink()
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        run_report.write(tmp_path)
    assert not (tmp_path / "report").exists()


def test_the_last_row_of_a_repeated_epoch_counts(tmp_path):
    fill(tmp_path, some_epochs(2) + [some_epochs(2)[1] | {"train/l2": 9.0}])
    epochs = finished_run.read_epochs(tmp_path / "metrics.jsonl")
    assert [row["train/l2"] for row in epochs[0]] == [0.125, 9.0]


def test_epochs_are_grouped_by_replica_and_old_rows_belong_to_the_first(tmp_path):
    old = [{k: v for k, v in row.items() if k != "replica"} for row in some_epochs(2)]
    fill(tmp_path, [some_epochs(2, 1)[1], *old, some_epochs(2, 1)[0]])
    epochs = finished_run.read_epochs(tmp_path / "metrics.jsonl")
    rows = {k: [(row["epoch"], row["val/accuracy"]) for row in v] for k, v in epochs.items()}
    assert rows == {0: [(1, 0.4), (2, 0.4)], 1: [(1, 0.4 + 0.01), (2, 0.4 + 0.01)]}


def test_matplotlib_is_imported_inside_functions_only():
    for path in Path(ser_jax.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [getattr(node, "module", "") or "", *(alias.name for alias in node.names)]
                assert not [n for n in names if n.startswith("matplotlib")], path
