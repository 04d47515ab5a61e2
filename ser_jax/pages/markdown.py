"""Pages as Markdown."""

import html
import re
import urllib.parse
from collections.abc import Iterable

from ser_jax.pages import blocks
from ser_jax.pages.blocks import Block, Text


def document(title: str, parts: Iterable[Block]) -> str:
    """Return a whole page, `title` as its first heading."""
    rendered = map(render, [blocks.Heading(title, level=1), *parts])
    return "\n\n".join(text for text in rendered if text) + "\n"


def render(block: Block) -> str:
    """Return a block as Markdown, "" for HTML."""
    match block:
        case blocks.Heading(text, level):
            return f"{'#' * level} {inline(text)}"
        case blocks.Bullets(items):
            return "\n".join(f"- {inline(item)}" for item in items)
        case blocks.Listing(text):
            return f"```\n{text}\n```"
        case blocks.Figure(file, alt):
            return f"![{escape(alt)}]({_target(file)})"
        case blocks.Table():
            n_numbers = len(block.columns) - block.text_columns
            ruler = ["---"] * block.text_columns + ["---:"] * n_numbers
            lines = [block.columns, ruler, *block.filled()]
            return "\n".join(f"| {' | '.join(map(inline, line))} |" for line in lines)
        case blocks.Html():
            return ""
    return inline(block)


def inline(text: Text) -> str:
    """Return the Markdown inside a block."""
    match text:
        case tuple():
            return "".join(map(inline, text))
        case blocks.Strong(words):
            return f"**{escape(words)}**"
        case blocks.Code(words):
            # In backquotes no character can be escaped.
            return escape(words) if re.search("[`|]", words) else f"`{blocks.one_line(words)}`"
        case blocks.Link(words, target):
            return f"[{inline(words)}]({_target(target)})"
    return escape(text)


def escape(text: str) -> str:
    """Return Markdown that shows a plain text verbatim, in one line."""
    plain = html.escape(blocks.one_line(text), quote=False)
    # An interval such as [50.1, 54.2] stays legible: without "(", "[" or ":" it makes no link.
    return re.sub(
        r"(\[[-+\d., ]+\](?![(\[:]))|([\\`*_\[\]|~$#])",
        lambda match: match[1] or f"\\{match[2]}",
        plain,
    )


def _target(path: str) -> str:
    return urllib.parse.quote(path, safe="/:#?&=%")
