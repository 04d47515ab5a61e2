"""An inspection as HTML: index.html of the folder that data_prep.inspect writes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep import corpora
from data_prep.inspect import counts
from data_prep.verify.findings import remedy
from ser_jax.pages import html
from ser_jax.pages.blocks import Block, Heading, Html, Paragraph, Table

SCRIPT = Path(__file__).parent / "assets" / "inspect.js"
MOST_FINDINGS = 5  # of a kind; inspect.json has all


def write(folder: Path, found: Mapping[str, Any]) -> None:
    """Writes index.html and the charts; `found` is what inspect.json holds."""
    blocks = [
        _summary(found),
        Heading("Counts"),
        *counts.counts(folder, found["clips"], found["labels"]),
        Heading("Distributions"),
        *counts.distributions(folder, found["clips"]),
        Heading("Findings"),
        *_findings(found["verify"], found["unreadable"]),
        Heading("Listen"),
        *_sample(found["sample"]),
        Heading("All clips"),
        _all_clips(),
        html.data("inspection", _for_script(found)),
    ]
    html.write(folder, f"{found['corpus']}: what is in it", blocks, [SCRIPT])


def _summary(found: Mapping[str, Any]) -> Paragraph:
    clips = found["clips"]
    hours = sum(clip["seconds"] or 0 for clip in clips) / 3600
    speakers = {clip["speaker"] for clip in clips}
    return Paragraph(
        f"{len(clips):,} clips, {hours:.2f} hours, {len(speakers)} speakers, "
        f"{len(found['labels'])} emotions."
    )


def _findings(report: Mapping[str, Any], unreadable: Mapping[str, str]) -> list[Block]:
    parts: list[Block] = list(map(Paragraph, report["facts"]))
    for title, key in (
        ("Wrong", "wrong"),
        ("Known: the corpus was published like this", "known"),
        ("Worth knowing", "noted"),
    ):
        by_kind: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for finding in report[key]:
            by_kind[finding["kind"]].append(finding)
        rows = []
        for kind, some in by_kind.items():
            shown = [" = ".join(f["files"]) or f["detail"] for f in some[:MOST_FINDINGS]]
            rest = len(some) - len(shown)
            more = [f"and {rest:,} more, all in inspect.json"] if rest > 0 else []
            todo = remedy(kind, report["corpus"], report["root"])
            rows.append([kind, f"{len(some):,}", ", ".join([*shown, *more]), todo])
        if rows:
            columns = ["what", "how many", "which", "what to do"]
            parts.append(Table(columns, rows, title, text_columns=4))
    if not (report["wrong"] or report["known"] or report["noted"]):
        parts.append(Paragraph("Nothing is wrong: checksums, decoding, silence, copies."))
    if unreadable:
        n = len(unreadable)
        what = "1 clip is" if n == 1 else f"{n:,} clips are"
        parts.append(Paragraph(f"{what} not measured, for the file cannot be decoded."))
    return parts


def _sample(cards: Sequence[Mapping[str, Any]]) -> list[Block]:
    emotions, speakers = len({c["emotion"] for c in cards}), len({c["speaker"] for c in cards})
    return [
        Paragraph(
            f"{len(cards)} clips of {emotions} emotions and {speakers} speakers, drawn by lot. "
            "Each stands beside its augmented views as training gets them: what is played is what "
            "the features are computed from, one channel at the features' sampling rate."
        ),
        Html(
            '<form id="sample-filter" aria-label="Choose clips to listen to"></form>\n'
            '<p id="sample-count" role="status"></p>\n<ul id="sample" class="sample"></ul>\n'
            "<noscript><p>The players and the table of clips need JavaScript.</p></noscript>"
        ),
    ]


def _all_clips() -> Html:
    return Html(
        '<form id="clips-filter" aria-label="Filter the table"></form>\n'
        '<p id="clips-count" role="status"></p>\n'
        '<div class="scroll" role="region" aria-label="Table of all clips" tabindex="0">'
        '<table id="clips"><caption>Choose a heading to sort by it.</caption></table></div>\n'
        '<p><button type="button" id="clips-previous">Previous</button> '
        '<button type="button" id="clips-next">Next</button></p>'
    )


def _for_script(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's script shows: the sample's cards, and a row a clip."""
    attributes = list(found["clips"][0]["attributes"])
    return {
        "sample": found["sample"],
        "labels": found["labels"],
        "voted": found["voted"],
        "columns": [
            *(["id", ""], ["emotion", ""], ["speaker", ""]),
            *([name.replace("_", " "), ""] for name in attributes),
            *([title.lower(), unit] for title, unit, _ in counts.MEASURES.values()),
        ],
        "digits": [digits for _, _, digits in counts.MEASURES.values()],
        "rows": [
            [
                *(clip["id"], clip["emotion"], clip["speaker"]),
                *(clip["attributes"][name] for name in attributes),
                *(_rounded(clip[key], *about[1:]) for key, about in counts.MEASURES.items()),
            ]
            for clip in found["clips"]
        ],
    }


def _rounded(value: float | None, unit: str, digits: int) -> float | None:
    """As the page shows it: shares as per cent, and no −0."""
    if value is None:
        return None
    return round(value * (100 if unit == "%" else 1), digits) + 0.0


def labels_of(corpus: corpora.Corpus) -> list[str]:
    """The emotions that occur, in the corpus's order."""
    there = {utterance.emotion for utterance in corpus.utterances}
    return [label for label in corpus.labels if label in there]
