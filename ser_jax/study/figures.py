"""The study's pictures: every model's accuracy, and what each change does."""

from collections.abc import Sequence
from typing import Any

from ser_jax.pages import figure
from ser_jax.pages.figure import BLUE, GREY, VERMILION
from ser_jax.pages.numbers import points
from ser_jax.study import intervals
from ser_jax.study.claims import CONFIRMED, METRIC, NOT_CONFIRMED, REPORTED, UNDECIDED, verdict
from ser_jax.study.effects import Effect
from ser_jax.study.intervals import Estimate
from ser_jax.study.runs import SEEN, SENTENCES, StudyRun

GREEN = "#009E73"
# (colour, mark); any other protocol is one of unseen speakers.
LOOKS = {SEEN: (BLUE, "o"), SENTENCES: (GREEN, "D")}
UNSEEN = (VERMILION, "s")
VERDICTS = {CONFIRMED: BLUE, NOT_CONFIRMED: VERMILION, UNDECIDED: GREY}  # above, below, around 0


def table1(entries: Sequence[StudyRun]) -> Any:
    """A figure: accuracies with limits, beside the report's and the listeners'.

    Args:
      entries: with results, one a model and protocol.
    """
    import matplotlib

    models = sorted({entry.model for entry in entries})
    protocols = list(dict.fromkeys(entry.protocol for entry in entries))
    with matplotlib.rc_context(figure.STYLE):
        sheet = figure.new_figure(8, 1.8 + 0.8 * len(models), layout="constrained")
        axes = sheet.subplots()
        for entry in entries:
            colour, mark = LOOKS.get(entry.protocol, UNSEEN)
            place = protocols.index(entry.protocol) - (len(protocols) - 1) / 2
            row = models.index(entry.model) + 0.22 * place
            number = intervals.values(entry.run)[METRIC]
            label = f"test speakers {entry.speakers} ({entry.protocol})"
            _draw(axes, number, row, color=colour, marker=mark, label=label)
            reported = REPORTED.get(entry.config.model.name)
            if entry.protocol == SEEN and reported:
                style = {"color": "black", "marker": "x", "markersize": 8, "linestyle": ""}
                axes.plot(reported, row, **style, label="the report: seen, CREMA-D")
        human = next((e.run.results["human"] for e in entries if "human" in e.run.results), None)
        if human:
            axes.axvline(human[METRIC], color=GREY, linestyle=":", label="listeners, each rating")
        axes.set_yticks(range(len(models)), models)
        axes.set_ylim(len(models) - 0.5, -0.5)
        low, high = axes.get_xlim()
        axes.set_xlim(max(0.0, low), min(1.0, high))
        axes.set_xlabel("accuracy; bars: 95 % over test speakers and trainings")
        figure.percent_axis(axes.xaxis)
        _legend(sheet, axes)
        sheet.suptitle(f"Every model on {entries[0].run.results['corpus']}", fontweight="bold")
    return sheet


def effects(found: Sequence[Effect]) -> Any:
    """A figure: the difference that each change makes, with limits, by question.

    Args:
      found: as the study has them; those without numbers are left out.
    """
    import matplotlib

    rows: list[Effect | str] = []  # a question, then its effects
    for effect in found:
        if effect.numbers and effect.question not in rows:
            rows.append(effect.question)
        rows += [effect] if effect.numbers else []
    with matplotlib.rc_context(figure.STYLE):
        sheet = figure.new_figure(9, 1.2 + 0.29 * len(rows), layout="constrained")
        axes = sheet.subplots()
        names = [r if isinstance(r, str) else f"{r.change} · {r.run.protocol}" for r in rows]
        axes.set_yticks(range(len(rows)), names)
        for row, (effect, tick) in enumerate(zip(rows, axes.get_yticklabels(), strict=True)):
            if isinstance(effect, str):
                tick.set_fontweight("bold")
                continue
            number = effect.numbers[METRIC]
            _draw(axes, number, row, color=VERDICTS[verdict(number.low, number.high)], marker="o")
        axes.axvline(0, color="black", linewidth=1)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel("points of accuracy; bars: 95 %")
        axes.xaxis.set_major_formatter(lambda value, _: points(value, "+.4g") if value else "0")
        sheet.suptitle("What each change does (grey: undecided)", fontweight="bold")
    return sheet


def _draw(axes: Any, number: Estimate, row: float, **style: Any) -> None:
    """A mark with its limits; without limits, a hollow one."""
    if number.low is None:
        axes.plot(number.value, row, linestyle="", markerfacecolor="white", markersize=7, **style)
        return
    reach = [[number.value - number.low], [number.high - number.value]]
    axes.errorbar(number.value, row, xerr=reach, capsize=3, markersize=7, linestyle="", **style)


def _legend(sheet: Any, axes: Any) -> None:
    """Each label once, below."""
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    sheet.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=2, frameon=False
    )
