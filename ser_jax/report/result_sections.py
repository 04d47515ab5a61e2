"""report.md's parts as HTML: every number and sentence is said once, in report_page."""

from collections.abc import Iterator
from typing import Any

from ser_jax.pages import html

# By part of report_page.parts; "{}" is the head of the table's first column.
CAPTIONS = {
    "headline": "Scores on the test clips",
    "facts": "The run",
    "perceived": "Accuracy by what counts as right",
    "per class": "Scores of each class",
    "breakdown": "Accuracy by {}",
    "settings": "Settings that were tried",
    "replicas": "The trainings",
}
# What the pictures show. Their numbers are in the page's tables, or in the file that is named.
ALTS = {
    "curves.png": "Curves over the epochs: loss, accuracy and macro-F1 of training and validation, "
    "and the learning rate; metrics.jsonl holds the numbers",
    "breakdown.png": "Accuracy with its interval, by class and by each attribute; the tables of "
    "this page hold the numbers",
    "reliability.png": "Accuracy against confidence, how often each confidence occurs, and "
    "accuracy of the clips of which the model is surest; results.json holds the numbers",
}


def render(part: str, text: str) -> tuple[str, list[str]]:
    """A part's heading as plain text ("" if it has none), and its blocks in HTML.

    Args:
      part: its name.
      text: its Markdown.
    """
    from markdown_it import MarkdownIt

    reader = MarkdownIt("js-default")  # lets no HTML through
    tokens = iter(reader.parse(text))
    title, blocks = "", []
    for token in tokens:
        if token.type == "heading_open":
            title = next(tokens).content
        elif token.type == "table_open":
            blocks.append(_table(reader, tokens, CAPTIONS[part]))
        elif token.type == "inline":
            picture = token.children[0] if token.children[0].type == "image" else None
            if picture:
                blocks.append(html.figure(picture.attrs["src"], ALTS[picture.attrs["src"]]))
            else:
                blocks.append(f"<p>{reader.renderInline(token.content)}</p>")
        elif token.type == "fence":
            code = html.escape(token.content)
            blocks.append(f'<pre tabindex="0"><code>{code}</code></pre>')
    return title, blocks


def _table(reader: Any, tokens: Iterator[Any], caption: str) -> str:
    """Reads to the table's end; right-aligned columns are numbers."""
    rows, n_numbers, first = [], 0, None
    for token in tokens:
        if token.type == "table_close":
            break
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "th_open":
            n_numbers += "right" in str(token.attrs.get("style"))
        elif token.type == "inline":
            rows[-1].append(reader.renderInline(token.content))
            first = first or token
    columns, *rows = rows
    caption = caption.replace("{}", "".join(child.content for child in first.children))
    return html.table(columns, rows, caption, text_columns=len(columns) - n_numbers)
