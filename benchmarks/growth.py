"""What 1,000 to 1,000,000 utterances take: time an example and peak memory of every stage.

    python -m benchmarks.growth --utterances=1000,10000,100000,1000000
    python -m benchmarks.growth --utterances=1000,10000 --figure=docs/images/growth.png

Each stage of each size runs in a process of its own, whose peak of resident memory is told; see
benchmarks/growth_stages.py for what a stage is. Build, load and evaluate are timed from call to
return, compilation included, which is what a thousand utterances pay for; of an epoch's training
steps the median counts, all in memory or streamed from the records.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.growth_stages import STAGES, Cost
from data_prep import workers

Costs = dict[int, dict[str, Cost]]  # by utterances and stage


def cost_of(stage: str, n_utterances: int, folder: Path) -> Cost:
    """Runs a stage in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.growth_stages", f"--stage={stage}"]
    done = subprocess.run(  # noqa: S603 — our own program
        [*command, f"--utterances={n_utterances}", f"--folder={folder}"],
        text=True,
        capture_output=True,
    )
    if done.returncode:
        sys.exit(f"error: {stage} of {n_utterances} utterances failed:\n{done.stderr}")
    return Cost(**json.loads(done.stdout))


def measured(sizes: list[int]) -> Costs:
    """Measures all stages of all sizes and prints a table row as soon as it is known."""
    costs: Costs = {}
    for n_utterances in sizes:
        costs[n_utterances] = {}
        with tempfile.TemporaryDirectory() as folder:
            for stage in STAGES:
                cost = cost_of(stage, n_utterances, Path(folder))
                costs[n_utterances][stage] = cost
                print(
                    f"| {n_utterances:,} | {stage} | {cost.seconds:.3g} | "
                    f"{cost.us_an_example:.0f} | {cost.peak_mib:.0f} |",
                    flush=True,
                )
    return costs


def verdict(costs: Costs) -> str:
    """Streamed against in memory, and the largest size against the one before it."""
    lines = [
        f"{n:,} utterances: a streamed epoch takes "
        f"{stages['epoch, streamed'].seconds / stages['epoch'].seconds:.2f} of the time in memory."
        for n, stages in costs.items()
    ]
    if len(costs) > 1:
        before, last = sorted(costs)[-2:]
        for stage in STAGES:
            one, other = costs[before][stage], costs[last][stage]
            ratio = other.us_an_example / one.us_an_example
            more = 2**20 * (other.peak_mib - one.peak_mib) / (last - before)
            lines.append(
                f"{stage}: from {before:,} to {last:,} utterances an example takes {ratio:.2f} of "
                f"the time; each utterance more adds {more:,.0f} bytes to the peak."
            )
    return "\n".join(lines)


def draw(costs: Costs, path: Path) -> None:
    """Time an example and peak memory against the number of utterances, all axes logarithmic."""
    import matplotlib

    from ser_jax.pages import figure

    sizes = sorted(costs)
    with matplotlib.rc_context(figure.STYLE):
        sheet = figure.new_figure(9, 3.6, layout="constrained")
        left, right = sheet.subplots(1, 2)
        for number, stage in enumerate(STAGES):
            some = [costs[n][stage] for n in sizes]
            look = {"marker": "o^sDvP"[number], "color": f"C{number}", "label": stage}
            left.plot(sizes, [cost.us_an_example for cost in some], **look)
            right.plot(sizes, [cost.peak_mib for cost in some], **look)
        for axes, title in ((left, "µs an example"), (right, "peak memory, MiB")):
            axes.set(xscale="log", yscale="log", xlabel="utterances", title=title)
            axes.set_xticks(sizes)  # the style has no formulas, which powers of ten would be
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter("{x:,.0f}")
                axis.set_minor_formatter("")
            axes.tick_params(axis="x", rotation=20)
        sheet.legend(*right.get_legend_handles_labels(), loc="outside right", frameon=False)
        figure.save(sheet, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", default="1000,10000,100000,1000000")
    parser.add_argument("--figure", type=Path, help="a PNG to draw")
    options = parser.parse_args()
    print(
        f"26 frames × 8 MFCC, {workers.n_processors()} cores.\n\n"
        "| utterances | stage | seconds | µs an example | peak memory, MiB |\n"
        "| ---: | --- | ---: | ---: | ---: |"
    )
    costs = measured([int(n) for n in options.utterances.split(",")])
    print(f"\n{verdict(costs)}")
    if options.figure:
        draw(costs, options.figure)


if __name__ == "__main__":
    main()
