import ast
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from ser_jax import metrics, plots, report
from ser_jax.errors import UserError

LABELS = """anger disgust fear happiness neutral sadness surprise calm boredom contempt excitement
    frustration""".split()


def some_epochs(n_epochs):
    scores = {
        f"{part}/{name}": 0.4
        for part in ("train", "val")
        for name in ("accuracy", "macro_f1", "uar")
    }
    return [
        {
            "epoch": epoch,
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


def some_results(labels=LABELS[:6], **changes):
    n = len(labels)
    confusion = np.random.default_rng(n).integers(0, 1000, (n, n)) + 2000 * np.eye(n, dtype=int)
    return {
        "model": "cnn2d",
        "protocol": "tfds",
        "corpus": "CREMA-D",
        "unseen_speakers": True,
        "n_train": 5144,
        "n_train_examples": 20576,
        "n_val": 738,
        "n_test": int(confusion.sum()),
        "labels": list(labels),
        **metrics.summary(confusion, labels),
        "best_epoch": 1,
        "replicas": [{"seed": 17, "fold": 0, "accuracy": 0.5, "uar": 0.4}],
        **changes,
    }


def fill(workdir, epochs=None, results=None):
    epochs, results = epochs or some_epochs(3), results or some_results()
    lines = "".join(json.dumps(row) + "\n" for row in epochs)
    (workdir / "metrics.jsonl").write_text(lines)
    (workdir / "results.json").write_text(json.dumps(results))


def page(**changes):
    return report.page(some_epochs(3), some_results(**changes))


def cells(text, first):
    """The cells of the page's table row that begins with `first`."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def overlapping(figure):
    """Pairs of texts that lie on each other. Slanted ones are left to the eye."""
    figure.canvas.draw()
    seen = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text()]
    boxes = {}
    for axes in figure.axes:  # matplotlib keeps ticks that lie outside the axes, unseen
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


def test_writes_two_pictures_and_a_page_that_shows_them(tmp_path):
    fill(tmp_path)
    path = report.write(tmp_path)
    assert path == tmp_path / "report" / "report.md"
    assert {p.name for p in path.parent.iterdir()} == {"report.md", "curves.png", "confusion.png"}
    for name in ("curves.png", "confusion.png"):
        assert (path.parent / name).read_bytes().startswith(b"\x89PNG")
        assert f"({name})" in path.read_text()


@pytest.mark.parametrize("n_classes", [2, 3, 6, 8, 12])
def test_confusion_is_legible(n_classes):
    assert not overlapping(plots.confusion(some_results(LABELS[:n_classes])))


@pytest.mark.parametrize("n_epochs", [1, 2, 13, 200])
def test_curves_are_legible(n_epochs):
    results = some_results(best_epoch=n_epochs)
    assert not overlapping(plots.curves(some_epochs(n_epochs), results))


@pytest.mark.parametrize("decades", [1, 3, 4, 5, 9])
def test_learning_rates_of_many_decades_are_legible(decades):
    epochs = [row | {"learning_rate": 10.0 ** -row["epoch"]} for row in some_epochs(decades)]
    assert not overlapping(plots.curves(epochs, some_results()))


def test_long_names_are_wrapped_or_cut():
    labels = ["a", "one-word-that-goes-on-and-on"]
    figure = plots.confusion(some_results(labels, corpus=20 * "a long name "))
    figure.canvas.draw()
    assert figure.axes[0].get_yticklabels()[1].get_text() == "one-word-that-goes-on…"
    title = figure.axes[0].title.get_window_extent()
    assert title.width < 5.5 * figure.dpi


def test_confusion_shows_rows_as_shares_with_counts_and_recall():
    results = some_results(["a", "b"], confusion=[[30, 10], [1, 3]], n_test=44)
    figure = plots.confusion(results)
    texts = [t.get_text() for t in figure.findobj(Text)]
    for text in ("75 %", "30", "25 %", "10", "75.0 % of 40", "75.0 % of 4"):
        assert text in texts
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), [[0.75, 0.25], [0.25, 0.75]])
    title = figure.axes[0].get_title()
    for text in ("cnn2d on CREMA-D", "tfds", "unseen", "44 test clips", "accuracy", "UAR"):
        assert text in title


def test_a_class_without_test_clips_and_a_run_that_diverged_are_drawn(tmp_path, recwarn):
    epochs = some_epochs(3)
    epochs[1] |= {"train/loss": float("nan"), "val/loss": None}
    results = some_results(["a", "b"], confusion=[[3, 1], [0, 0]], n_test=4)
    fill(tmp_path, epochs, results)
    report.write(tmp_path)
    assert "no clips" in [t.get_text() for t in plots.confusion(results).findobj(Text)]
    assert not recwarn.list


def test_names_are_drawn_as_they_stand():
    figure = plots.confusion(some_results(["$x^2$", r"$\frac{$"]))
    figure.canvas.draw()
    assert "$x^2$" in [t.get_text() for t in figure.axes[0].get_xticklabels()]


def test_best_epoch_is_marked_in_every_panel():
    figure = plots.curves(some_epochs(5), some_results(best_epoch=4))
    for axes in figure.axes:
        assert [4, 4] in [list(line.get_xdata()) for line in axes.lines]
    assert "best epoch: 4" in [t.get_text() for t in figure.legends[0].get_texts()]
    assert figure.axes[3].get_yscale() == "log"


def test_headline_puts_the_model_beside_guessing():
    text = page(
        labels=["a", "b"], confusion=[[15, 5], [10, 30]], accuracy=0.75, uar=0.75,
        macro_f1=0.7368, weighted_f1=0.7,
    )  # fmt: skip
    assert cells(text, "accuracy") == ["accuracy", "**75.0 %**", "50.0 %", "66.7 %"]
    assert cells(text, "UAR") == ["UAR", "**75.0 %**", "50.0 %", "50.0 %"]
    assert cells(text, "macro-F1")[:2] == ["macro-F1", "**73.7 %**"]
    assert "listeners" not in text


def test_listeners_stand_beside_the_model():
    human = metrics.human([[3, 1], [2, 2], [1, 3]], [0, 1, 1])
    text = page(labels=["a", "b"], **metrics.summary([[3, 1], [2, 4]], ["a", "b"]), human=human)
    assert cells(text, "accuracy")[-2:] == ["66.7 %", "83.3 %"]
    assert cells(text, "a") == ["a", "4", "60.0 %", "75.0 %", "66.7 %", "75.0 %"]
    assert "12 ratings of 3 clips" in text


def test_page_says_whether_the_test_speakers_were_in_training():
    assert "none was heard in training" in page(unseen_speakers=True)
    assert "**were heard in training too**" in page(unseen_speakers=False)


def test_page_tells_sizes_and_how_to_reproduce():
    text = page()
    for words in ("5,144 clips, 20,576 examples", "738 clips", "1 of 3", "seed was 17", "0.125"):
        assert words in text
    assert "--config=configs/cnn2d.py " in text
    assert "--config=configs/cnn2d.py:librosa,demo " in page(config="cnn2d-librosa-demo")
    assert "Replicas" not in text


def test_replicas_have_mean_and_standard_deviation():
    replicas = [
        {"seed": seed, "fold": 1, "accuracy": a, "uar": 0.5} for seed, a in ((3, 0.4), (4, 0.6))
    ]
    text = page(replicas=replicas)
    assert cells(text, "4") == ["4", "1", "60.0 %", "50.0 %"]
    assert cells(text, "**mean ± sd**")[2:] == ["50.0 ± 14.1 %", "50.0 ± 0.0 %"]
    assert "seeds were 3, 4" in text


def test_names_cannot_break_the_page():
    name = "a|b <script> *c* _d_ [e](f) `g` & \n# h"
    text = page(**metrics.summary([[1, 0], [0, 1]], [name, "x"]), labels=[name, "x"], corpus=name)
    shown = r"a\|b &lt;script&gt; \*c\* \_d\_ \[e\](f) \`g\` &amp; \# h"
    assert text.startswith(f"# cnn2d on {shown}\n")
    assert f"| {shown} | 1 |" in text
    assert "<script>" not in text
    assert "configs/x____rm_.py:rf " in page(model="x\n```rm -rf")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metrics.jsonl", None, "metrics.jsonl does not exist; run --mode=train"),
        ("metrics.jsonl", "", "metrics.jsonl holds no epoch; run --mode=train"),
        ("metrics.jsonl", '{"epoch": 1', "metrics.jsonl, line 1, is damaged"),
        ("metrics.jsonl", "[1]", "metrics.jsonl, line 1, is damaged"),
        ("metrics.jsonl", '{"epoch": 1}', "metrics.jsonl, line 1, lacks 'train/loss'"),
        ("results.json", None, "results.json does not exist; run --mode=evaluate"),
        ("results.json", "{", "results.json is not the JSON of an evaluation"),
        ("results.json", "[]", "results.json is not the JSON of an evaluation"),
        ("results.json", '{"model": 1}', "results.json lacks 'accuracy'; run --mode=evaluate"),
        ("results.json", json.dumps(some_results(confusion=[[1]])), "6 labels"),
    ],
)
def test_bad_files_are_named_with_the_remedy(tmp_path, name, text, message):
    fill(tmp_path)
    (tmp_path / name).unlink()
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        report.write(tmp_path)
    assert not (tmp_path / "report").exists()


def test_of_a_repeated_epoch_the_last_counts(tmp_path):
    fill(tmp_path, some_epochs(2) + [some_epochs(2)[1] | {"train/l2": 9.0}])
    epochs = report.read_epochs(tmp_path / "metrics.jsonl")
    assert [row["train/l2"] for row in epochs] == [0.125, 9.0]


def test_matplotlib_is_imported_by_this_module_only_and_lazily():
    for path in Path(report.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text())
        body = tree.body if path.name == "plots.py" else ast.walk(tree)
        names = [
            name
            for node in body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in [getattr(node, "module", "") or "", *(alias.name for alias in node.names)]
        ]
        assert not [n for n in names if n.startswith("matplotlib")], path.name
