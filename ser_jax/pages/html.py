"""Pages as HTML, which people open from disk: text is escaped; one style sheet and plain scripts.

A page is a folder. It needs no network, and its Content-Security-Policy forbids it to use one.
"""

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ser_jax.common import files
from ser_jax.pages import blocks
from ser_jax.pages.blocks import Block, Text

STYLE = Path(__file__).parent / "assets" / "page.css"
# No inline script or style runs, whatever the name of a file or a label contains.
_POLICY = (
    "default-src 'none'; style-src 'self' file:; script-src 'self' file:; img-src 'self' file:; "
    "media-src 'self' file:"
)


def write(folder: Path, title: str, parts: Sequence[Block], scripts: Sequence[Path] = ()) -> Path:
    """Write index.html, its style sheet and its scripts; return the page's path."""
    for asset in (STYLE, *scripts):
        files.write_text(folder / asset.name, asset.read_text(encoding="utf-8"))
    files.write_text(folder / "index.html", document(title, parts, [path.name for path in scripts]))
    return folder / "index.html"


def document(title: str, parts: Sequence[Block], scripts: Sequence[str] = ()) -> str:
    """Return a whole page: what precedes the first heading, links to the sections, the sections.

    Each heading of level 2 begins a section. Scripts are files beside the page.
    """
    sections: list[list[Block]] = [[]]
    for part in parts:
        if isinstance(part, blocks.Heading) and part.level == 2:
            sections.append([])
        sections[-1].append(part)
    first, *sections = sections
    links = "".join(
        f'<li><a href="#{_id(heading.text)}">{escape(heading.text)}</a></li>'
        for heading, *_ in sections
    )
    nav = f'<nav aria-label="On this page"><ul class="contents">{links}</ul></nav>' if links else ""
    loaded = "".join(f'<script src="{escape(name)}" defer></script>\n' for name in scripts)
    body = "\n".join([*map(render, first), nav, *map(_section, sections)])
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">
<title>{escape(title)}</title>
<link rel="stylesheet" href="{STYLE.name}">
{loaded}</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header><h1>{escape(title)}</h1></header>
<main id="main" tabindex="-1">
{body}
</main>
</body>
</html>
"""


def _section(parts: Sequence[Block]) -> str:
    body = "\n".join(map(render, parts))
    return f'<section aria-labelledby="{_id(parts[0].text)}">\n{body}\n</section>'


def _id(heading: str) -> str:
    """Return what links to a heading aim at, such as "to-reproduce"."""
    return "-".join(re.findall(r"[^\W_]+", heading.lower()))


def render(block: Block) -> str:
    """Return a block as HTML."""
    match block:
        case blocks.Heading(text, level):
            return f'<h{level} id="{_id(text)}">{escape(text)}</h{level}>'
        case blocks.Bullets(items):
            return f"<ul>{''.join(f'<li>{inline(item)}</li>' for item in items)}</ul>"
        case blocks.Listing(text):
            return f'<pre tabindex="0"><code>{html.escape(text)}</code></pre>'
        case blocks.Figure(file, alt):
            return f'<figure><img src="{escape(file)}" alt="{escape(alt)}" loading="lazy"></figure>'
        case blocks.Table():
            return _table(block)
        case blocks.Html(text):
            return text
    return f"<p>{inline(block)}</p>"


def _table(table: blocks.Table) -> str:
    """Return a table that scrolls by itself where the window is narrow."""
    kinds = ["" if i < table.text_columns else ' class="number"' for i in range(len(table.columns))]
    heads = "".join(
        f'<th scope="col"{kind}>{inline(column)}</th>' if column else "<td></td>"
        for kind, column in zip(kinds, table.columns, strict=True)
    )
    head = f"<thead><tr>{heads}</tr></thead>\n" if any(table.columns) else ""
    rows = []
    for first, *others in table.filled():
        cells = "".join(
            f"<td{kind}>{inline(text)}</td>" for kind, text in zip(kinds[1:], others, strict=True)
        )
        rows.append(f'<tr><th scope="row">{inline(first)}</th>{cells}</tr>\n')
    caption = escape(table.caption)
    return (
        f'<div class="scroll" role="region" aria-label="{caption}" tabindex="0"><table>\n'
        f"<caption>{caption}</caption>\n{head}<tbody>\n{''.join(rows)}</tbody></table></div>"
    )


def inline(text: Text) -> str:
    """Return the HTML inside a block."""
    match text:
        case tuple():
            return "".join(map(inline, text))
        case blocks.Strong(words):
            return f"<strong>{escape(words)}</strong>"
        case blocks.Code(words):
            return f"<code>{escape(words)}</code>"
        case blocks.Link(words, target):
            return f'<a href="{escape(target)}">{inline(words)}</a>'
    return escape(text)


def escape(text: Any) -> str:
    """Return a plain text as HTML, in one line, also for a quoted attribute."""
    return html.escape(blocks.one_line(text))


def data(name: str, value: Any) -> blocks.Html:
    """Return a JSON value that a script finds by its id; no text in it can end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return blocks.Html(f'<script type="application/json" id="{escape(name)}">{text}</script>')
