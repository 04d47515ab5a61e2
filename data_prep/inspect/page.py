"""The page of an inspection: index.html."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.inspect import counts, distributions
from data_prep.inspect.measure import QUANTITIES
from data_prep.verify.findings import remedy
from ser_jax.pages import html
from ser_jax.pages.blocks import Block, Heading, Html, Table

SCRIPT = Path(__file__).parent / "assets" / "inspect.js"
MAX_FINDINGS = 5  # per kind; inspect.json has all
ALL_CLIPS = Html(
    '<form id="clips-filter" aria-label="Filter the table"></form>\n'
    '<p id="clips-count" role="status"></p>\n'
    '<div class="scroll" role="region" aria-label="Table of all clips" tabindex="0">'
    '<table id="clips"><caption>Choose a heading to sort by it.</caption></table></div>\n'
    '<p><button type="button" id="clips-previous">Previous</button> '
    '<button type="button" id="clips-next">Next</button></p>'
)


def write(folder: Path, contents: Mapping[str, Any]) -> None:
    """Write index.html, its charts and its script to `folder`, from inspect.json's contents."""
    clips = contents["clips"]
    parts = [
        _summary(clips),
        Heading("Counts"),
        *counts.blocks(folder, clips, contents["labels"]),
        Heading("Distributions"),
        *distributions.blocks(folder, clips),
        Heading("Findings"),
        *_findings(contents["verify"], len(contents["unreadable"])),
        Heading("Listen"),
        *_sample(contents["sample"]),
        Heading("All clips"),
        ALL_CLIPS,
        html.data("inspection", _data_of_script(contents)),
    ]
    html.write(folder, f"{contents['corpus']}: corpus overview", parts, [SCRIPT])


def _summary(clips: Sequence[Mapping[str, Any]]) -> str:
    hours = sum(clip["seconds"] or 0 for clip in clips) / 3600
    speakers, emotions = (len({clip[key] for clip in clips}) for key in ("speaker", "emotion"))
    return f"{len(clips):,} clips, {hours:.2f} hours, {speakers} speakers, {emotions} emotions."


def _findings(verification: Mapping[str, Any], n_unreadable: int) -> list[Block]:
    parts: list[Block] = list(verification["facts"])
    for title, key in (
        ("Wrong", "wrong"),
        ("Known: published like this", "known"),
        ("Worth knowing", "noted"),
    ):
        by_kind: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for finding in verification[key]:
            by_kind[finding["kind"]].append(finding)
        rows = []
        for kind, findings in by_kind.items():
            texts = [" = ".join(f["files"]) or f["detail"] for f in findings[:MAX_FINDINGS]]
            if len(findings) > MAX_FINDINGS:
                texts.append(f"and {len(findings) - MAX_FINDINGS:,} more in inspect.json")
            action = remedy(kind, verification["corpus"], verification["root"])
            rows.append([kind, f"{len(findings):,}", ", ".join(texts), action])
        if rows:
            parts.append(Table(["kind", "count", "files", "remedy"], rows, title, text_columns=4))
    if not (verification["wrong"] or verification["known"] or verification["noted"]):
        parts.append("Nothing is wrong: checksums, decoding, silence and copies were checked.")
    if n_unreadable:
        clips = "1 clip" if n_unreadable == 1 else f"{n_unreadable:,} clips"
        parts.append(f"{clips} could not be decoded and measured.")
    return parts


def _sample(cards: Sequence[Mapping[str, Any]]) -> list[Block]:
    emotions, speakers = len({c["emotion"] for c in cards}), len({c["speaker"] for c in cards})
    return [
        f"{len(cards)} clips of {emotions} emotions and {speakers} speakers, drawn at "
        "random, each with its augmented views as used in training. The audio is what the "
        "features are computed from: one channel at the features' sampling rate.",
        Html(
            '<form id="sample-filter" aria-label="Choose clips to listen to"></form>\n'
            '<p id="sample-count" role="status"></p>\n<ul id="sample" class="sample"></ul>\n'
            "<noscript><p>The players and the table of clips need JavaScript.</p></noscript>"
        ),
    ]


def _data_of_script(contents: Mapping[str, Any]) -> dict[str, Any]:
    """Return what inspect.js shows: the cards of the sample, and one row per clip."""
    clips, quantities = contents["clips"], QUANTITIES.items()
    attributes = list(clips[0]["attributes"])
    return {
        "sample": contents["sample"],
        "labels": contents["labels"],
        "voted": contents["voted"],
        "columns": [
            *(["id", ""], ["emotion", ""], ["speaker", ""]),
            *([name.replace("_", " "), ""] for name in attributes),
            *([quantity.title.lower(), quantity.unit] for _, quantity in quantities),
        ],
        "digits": [quantity.digits for _, quantity in quantities],
        "rows": [
            [
                *(clip["id"], clip["emotion"], clip["speaker"]),
                *(clip["attributes"][name] for name in attributes),
                *(None if clip[k] is None else q.shown(clip[k]) for k, q in quantities),
            ]
            for clip in clips
        ],
    }
