import json
import re

from ser_jax.pages import html
from tests import browser as browsers

NASTY = """</script><script>alert(1)</script><img src=x onerror="alert('2')">"""


def a_page(folder):
    body = html.section(
        "Numbers & names",
        html.paragraph(NASTY),
        html.table(["name", "n"], [[html.escape(NASTY), "1"]], caption=NASTY),
        html.data("clips", [NASTY, {"a": 1}]),
    )
    return html.write(folder, html.document(NASTY, body))


def test_what_names_say_is_shown_and_never_run(tmp_path):
    text = a_page(tmp_path).read_text()
    assert text.count("<script") == 1 and "onerror=" + '"' not in text and "<img" not in text
    value = re.search(r'id="clips">(.*?)</script>', text)[1]
    assert json.loads(value) == [NASTY, {"a": 1}]


def test_a_page_opens_from_disk_with_its_style_and_passes_axe(browser, tmp_path):
    index = a_page(tmp_path)
    for size in (browsers.WIDE, browsers.NARROW):
        with browsers.opened(browser, index, size) as page:
            assert page.inner_text("h1") == " ".join(NASTY.split())
            assert page.eval_on_selector("table", "t => getComputedStyle(t).borderCollapse") == (
                "collapse"
            )
            assert browsers.violations(page) == [] and browsers.overflow(page) <= 0
