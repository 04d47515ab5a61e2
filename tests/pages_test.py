import html as html_library
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ser_jax.pages import figure, html, markdown, numbers
from ser_jax.pages.blocks import (
    Bullets,
    Code,
    Figure,
    Heading,
    Html,
    Link,
    Listing,
    Strong,
    Table,
)
from tests import browser as browsers

SCRIPT = """</script><script>alert(1)</script><img src=x onerror="alert('2')">"""
NASTY = [
    SCRIPT,
    "a|b *c* _d_ __e__ `f` ``g`` ~~h~~ $x^2$ \\ # i & &amp; <b>",
    "[link](javascript:alert(1)) ![image](x.png) [a][b] [c]: http://d [1](e) [1]: f",
    "# first\n- second\r\n\n    third\u2028fourth",
    b"\xff.wav".decode("utf-8", "surrogateescape"),
]


def one_of_each(text):
    return [
        Heading(text),
        (text, " ", Strong(text), " ", Code(text), " ", Link(text, "a b.md")),
        Bullets([text, (Strong("x"), " ", text)]),
        Table([text, Strong("n")], [[text, text], [Code(text)]], caption=f"Table of {text}"),
        Figure("a.png", text),
    ]


def shown(text):
    """The text a reader sees of some HTML, its white space collapsed."""
    parts = re.findall(r'(?<=alt=")[^"]*|(?<=>)[^<]*', text)
    return " ".join(html_library.unescape(" ".join(parts)).split())


def test_blocks_have_a_form_in_markdown():
    blocks = [
        Heading("A & B"),
        ("of ", Strong("three"), Code("x.py"), Link("page", "a b/c.md")),
        Bullets(["one", ("two", Strong("!"))]),
        Table(["", "b", "c"], [["1", Strong("2"), "3"], ["4"]], "caption", text_columns=2),
        Figure("a.png", "a picture"),
        Listing("run --me\nand wait"),
        Html("<form>"),
    ]
    assert markdown.document("Title", blocks) == (
        "# Title\n\n## A &amp; B\n\nof **three**`x.py`[page](a%20b/c.md)\n\n- one\n- two**!**\n\n"
        "|  | b | c |\n| --- | --- | ---: |\n| 1 | **2** | 3 |\n| 4 |  |  |\n\n"
        "![a picture](a.png)\n\n```\nrun --me\nand wait\n```\n"
    )


def test_blocks_have_a_form_in_html():
    blocks = [
        "before",
        Heading("A & B, 2"),
        ("of ", Strong("three"), Code("x.py"), Link("page", "a&b.md")),
        Heading("To reproduce"),
        Bullets(["one", ("two", Strong("!"))]),
        Listing("run <me>\nand wait"),
        Html("<form></form>"),
    ]
    text = html.document("Title", blocks, ["a.js"])
    assert "<title>Title</title>" in text and '<script src="a.js" defer></script>' in text
    body = """\
<p>before</p>
<nav aria-label="On this page"><ul class="contents"><li><a href="#a-b-2">A &amp; B, 2</a></li>\
<li><a href="#to-reproduce">To reproduce</a></li></ul></nav>
<section aria-labelledby="a-b-2">
<h2 id="a-b-2">A &amp; B, 2</h2>
<p>of <strong>three</strong><code>x.py</code><a href="a&amp;b.md">page</a></p>
</section>
<section aria-labelledby="to-reproduce">
<h2 id="to-reproduce">To reproduce</h2>
<ul><li>one</li><li>two<strong>!</strong></li></ul>
<pre tabindex="0"><code>run &lt;me&gt;
and wait</code></pre>
<form></form>
</section>
"""
    assert body in text
    assert "<nav" not in html.document("Title", ["no headings"])


def test_tables_align_numbers_and_may_be_empty_or_without_heads():
    full = html.render(Table(["a", "b"], [["1", "2"], ["3"]], "scores"))
    assert "<caption>scores</caption>" in full and 'aria-label="scores"' in full
    assert '<th scope="col">a</th><th scope="col" class="number">b</th>' in full
    assert '<tr><th scope="row">1</th><td class="number">2</td></tr>' in full
    assert '<tr><th scope="row">3</th><td class="number"></td></tr>' in full
    facts = html.render(Table(["", ""], [["corpus", "CREMA-D"]], text_columns=2))
    assert "<thead>" not in facts and "<td>CREMA-D</td>" in facts
    empty = Table(["a", "b"], [])
    assert markdown.render(empty) == "| a | b |\n| --- | ---: |"
    assert html.render(empty).count("<tr>") == 1


@pytest.mark.parametrize("text", NASTY)
def test_markdown_shows_names_verbatim(text):
    """As a CommonMark parser with tables reads it."""
    markdown_it = pytest.importorskip("markdown_it", reason="comes with Flax's dependency rich")
    parser = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"])
    page = parser.render(markdown.document(text, one_of_each(text)))
    name = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    assert shown(page).count(name) == 13
    tags = set(re.findall(r"<(\w+)", page))
    assert tags <= set("h1 h2 p strong code a ul li table thead tbody tr th td img".split())
    assert re.findall(r'(?:href|src)="([^"]*)"', page) == ["a%20b.md", "a.png"]
    assert page.count("<tr>") == 3 and page.count("<li>") == 2 and page.count("<td") == 4


@pytest.mark.parametrize("text", NASTY)
def test_html_shows_names_verbatim(text):
    page = html.document(text, one_of_each(text))
    name = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    body = page[page.index("<body>") :]
    assert shown(body).count(name) == 15
    assert "<script" not in page and "<b>" not in page
    assert len(re.findall("<img", page)) == 1
    page.encode("utf-8")


def a_page(folder):
    parts = [*one_of_each(SCRIPT), html.data("clips", [SCRIPT, {"a": 1}])]
    return html.write(folder, SCRIPT, parts)


def test_data_for_scripts_cannot_end_its_element(tmp_path):
    text = a_page(tmp_path).read_text()
    assert text.count("<script") == 1 and "onerror=" + '"' not in text
    value = re.search(r'id="clips">(.*?)</script>', text)[1]
    assert json.loads(value) == [SCRIPT, {"a": 1}]


def test_a_page_opens_from_disk_with_its_style_and_passes_axe(browser, tmp_path):
    index = a_page(tmp_path)
    figure.save(figure.new_figure(1, 1), tmp_path / "a.png")
    for size in (browsers.WIDE, browsers.NARROW):
        with browsers.opened(browser, index, size) as page:
            assert page.inner_text("h1") == " ".join(SCRIPT.split())
            assert page.eval_on_selector("table", "t => getComputedStyle(t).borderCollapse") == (
                "collapse"
            )
            assert browsers.violations(page) == [] and browsers.overflow(page) <= 0


def test_numbers_and_intervals_as_text():
    assert numbers.percent(0.523) == "52.3 %" and numbers.percent(0.43, ".4g") == "43 %"
    assert numbers.percent(None) == ""
    assert numbers.mean_sd(0.523, 0.014) == "52.3 ± 1.4" and numbers.mean_sd(0.523) == "52.3"
    assert numbers.mean_sd(1.25, 0.5, ".3f", 1) == "1.250 ± 0.500"
    assert numbers.span(0.501, 0.542) == "50.1–54.2"
    assert numbers.limits(0.501, 0.542) == " [50.1, 54.2]" and numbers.limits(None, None) == ""
    assert numbers.limits(-0.01, 0.02, "+.1f") == " [−1.0, +2.0]"
    assert numbers.points(0.012) == "+1.2" and numbers.points(-0.012) == "−1.2"
    assert numbers.mean_sd(-0.1) == "−10.0" and numbers.percent(-0.5) == "−50.0 %"


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense"])
def test_figures_need_no_backend_of_the_environment(tmp_path, backend):
    program = (
        "import sys; from pathlib import Path; from ser_jax.pages import figure\n"
        "with figure.style():\n"
        "    sheet = figure.new_figure(2, 2)\n"
        "    sheet.add_subplot().plot([1, 2])\n"
        "    figure.save(sheet, Path(sys.argv[1]))\n"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a.png"],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "MPLBACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "a.png").stat().st_size > 1000
