"""Headless Chromium, and the checks that every page must pass."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

WIDE, NARROW = (1280, 900), (360, 740)


@contextlib.contextmanager
def chromium() -> Iterator[object]:
    """A Playwright browser; skips the test where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    quiet = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
    with sync_api.sync_playwright() as playwright:
        options = [*quiet.split(), "--disable-sync", "--no-first-run", "--disable-quic"]
        options.append("--autoplay-policy=no-user-gesture-required")
        browser = playwright.chromium.launch(executable_path=program, args=options)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(browser, index: Path, size: tuple[int, int] = WIDE) -> Iterator[object]:
    """Open a page from disk; at the end, check that no script failed and no network was used."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    page, complaints = context.new_page(), []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on(
        "request",
        lambda r: None if r.url.startswith(("file:", "blob:")) else complaints.append(r.url),
    )
    page.goto(index.as_uri())
    try:
        yield page
    finally:
        context.close()
    assert not complaints, complaints


def violations(page) -> list[str]:
    """Violations found by axe-core: contrast, names, roles, alt texts, keyboard."""
    from axe_playwright_python.sync_playwright import Axe

    # The pages' Content-Security-Policy would block the preloading of style sheets.
    violations = Axe().run(page, options={"preload": False}).response["violations"]
    return [f"{v['id']}: {v['help']} ({v['nodes'][0]['html'][:200]})" for v in violations]


def load_pictures(page) -> None:
    """Load all pictures, also those out of sight; fail if one is broken or has no alt text."""
    page.evaluate(
        """async () => {
            for (const picture of document.images) {
                if (!picture.alt) throw new Error(`${picture.src} has no alt text`);
                picture.loading = "eager";
                await picture.decode();
            }
        }"""
    )


def overflow(page) -> int:
    """How many pixels a page is wider than its window."""
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def played(page, selector: str = "audio") -> tuple[float, float]:
    """Start a player; return (duration, seconds played). A busy machine starts it late."""
    return tuple(
        page.eval_on_selector(
            selector,
            """async audio => {
                audio.muted = true;
                await audio.play();
                for (let i = 0; i < 50 && audio.currentTime <= 0.1; i++) {
                    await new Promise(resolve => setTimeout(resolve, 100));
                }
                return [audio.duration, audio.currentTime];
            }""",
        )
    )
