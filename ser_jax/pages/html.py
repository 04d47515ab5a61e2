"""Pages that people open from disk: HTML as text, escaped, with one style sheet and plain scripts.

A page is a folder. It asks no network, and its Content-Security-Policy forbids it to.
"""

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ser_jax.common import files

ASSETS = Path(__file__).parent / "assets"
STYLE = ASSETS / "page.css"
# No inline script or style runs, whatever a file's name or a label says.
_POLICY = (
    "default-src 'none'; style-src 'self' file:; script-src 'self' file:; img-src 'self' file:; "
    "media-src 'self' file:"
)


def escape(text: Any) -> str:
    """A name as it stands, in a text or in a quoted attribute: no markup, one line."""
    return html.escape(" ".join(_writable(str(text)).split()))


def _writable(text: str) -> str:
    """A file's name may be bytes that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def document(title: str, *body: str, scripts: Sequence[str] = ()) -> str:
    """A whole page.

    Args:
      title: plain text; also the page's first heading.
      body: HTML, part by part.
      scripts: files beside the page, run when it is read.
    """
    loaded = "".join(f'<script src="{escape(name)}" defer></script>\n' for name in scripts)
    inside = "\n".join(part for part in body if part)
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
{inside}
</main>
</body>
</html>
"""


def section(title: str, *body: str, name: str = "") -> str:
    """A part of a page under a heading; `title` is plain text, `name` what links aim at."""
    name = name or "-".join("".join(c if c.isalnum() else " " for c in title.lower()).split())
    inside = "\n".join(part for part in body if part)
    return (
        f'<section aria-labelledby="{escape(name)}">\n<h2 id="{escape(name)}">{escape(title)}</h2>'
        f"\n{inside}\n</section>"
    )


def contents(titles: Mapping[str, str]) -> str:
    """Links to sections: {name: title}."""
    links = "".join(
        f'<li><a href="#{escape(name)}">{escape(title)}</a></li>' for name, title in titles.items()
    )
    return f'<nav aria-label="On this page"><ul class="contents">{links}</ul></nav>'


def paragraph(text: str) -> str:
    """Plain text."""
    return f"<p>{html.escape(_writable(text))}</p>"


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str, *, text_columns: int = 1
) -> str:
    """A table that scrolls by itself where the window is narrow.

    Args:
      columns: heads, HTML; no row of heads if all are empty.
      rows: cells, HTML; the first heads its row.
      caption: plain text, which says what the table holds.
      text_columns: how many columns are text; the others are numbers, aligned to the right.
    """

    def classed(i: int) -> str:
        return "" if i < text_columns else ' class="number"'

    heads = [
        f'<th scope="col"{classed(i)}>{column}</th>' if column else "<td></td>"
        for i, column in enumerate(columns)
    ]
    head = f"<thead><tr>{''.join(heads)}</tr></thead>\n" if any(columns) else ""
    body = []
    for first, *others in rows:
        cells = "".join(f"<td{classed(i)}>{c}</td>" for i, c in enumerate(others, start=1))
        body.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    return (
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0"><table>\n'
        f"<caption>{escape(caption)}</caption>\n{head}<tbody>\n"
        + "\n".join(body)
        + "\n</tbody></table></div>"
    )


def figure(name: str, alt: str, caption: str = "") -> str:
    """A picture beside the page; `alt` says in plain text what it shows."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{escape(name)}" alt="{escape(alt)}" loading="lazy">{below}</figure>'


def data(name: str, value: Any) -> str:
    """A JSON value that a script finds by its id; no text in it can end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{escape(name)}">{text}</script>'


def write(folder: Path, page: str, scripts: Sequence[Path] = ()) -> Path:
    """Writes index.html, the style sheet and the scripts; returns the page's path."""
    for asset in (STYLE, *scripts):
        files.write_text(folder / asset.name, asset.read_text(encoding="utf-8"))
    files.write_text(folder / "index.html", page)
    return folder / "index.html"
