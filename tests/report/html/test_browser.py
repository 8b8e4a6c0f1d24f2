"""Pages in a real browser: nothing on the console, nothing fetched, readable on a phone, in light and in dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lipcert.report.html import Shown, render_fragment, render_page
from lipcert.report.reading import Stored
from tests.helpers.browser import Browser, find_browser
from tests.helpers.displays import all_reports, bound_report, hostile_report

PHONE = 390
"""Pixels across."""

IMAGES = 4 + 3 + 6
"""Of a witness, a counterexample, and three outputs at their ends."""

CONTRAST = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const light = colour => {
    canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = e => {
    const colour = getComputedStyle(e).backgroundColor;
    return e.parentElement && colour === "rgba(0, 0, 0, 0)" ? behind(e.parentElement) : colour;
  };
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!own || e.closest("style, script")) continue;
    const style = getComputedStyle(e), drawn = e.namespaceURI.endsWith("svg") ? style.fill : style.color;
    const [a, b] = [light(drawn), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push(`${e.tagName} ${e.textContent.slice(0, 30)}: ${ratio}`);
  }
  return poor;
})()
"""
"""Text whose contrast is below 4.5 (WCAG 2.2, 1.4.3)."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path = find_browser()
    if path is None:
        pytest.skip("no chromium or chrome is on PATH")
    with Browser(path, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def page(folder: Path) -> Path:
    path = folder / "page.html"
    path.write_text(render_page([Shown(Stored(report)) for report in all_reports()]), encoding="utf-8")
    return path


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [PHONE, 1000])
def test_a_page_is_readable_and_silent(browser: Browser, tmp_path: Path, width: int, dark: bool) -> None:
    browser.open(page(tmp_path), width=width, dark=dark)
    assert browser.complaints() == []
    assert browser.requests() == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(CONTRAST) == []
    assert browser.evaluate("[...document.images].every(image => image.naturalWidth === 2)")
    assert browser.evaluate("document.images.length") == IMAGES
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background != "rgb(255, 255, 255)") == dark
    assert browser.screenshot().startswith(b"\x89PNG")


def test_every_image_and_table_has_a_name(browser: Browser, tmp_path: Path) -> None:
    """As a screen reader is told it."""
    browser.open(page(tmp_path))
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    named = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    roles = [role for role, name in named if role in ("image", "table", "region", "link")]
    assert roles.count("image") == IMAGES + 4  # charts
    assert roles.count("table") >= 10
    assert all(name for role, name in named if role in ("image", "table", "region", "link", "heading"))
    assert browser.evaluate("document.documentElement.lang") == "en"
    assert browser.evaluate("document.querySelectorAll('h1').length") == 1


def test_a_hostile_report_runs_nothing(browser: Browser, tmp_path: Path) -> None:
    """Not even in a notebook, where no policy of the page protects: the text is text."""
    for name, html in (
        ("page", render_page([Shown(Stored(hostile_report(), path="<img src=x onerror=alert(1)>"))])),
        ("fragment", f"<!DOCTYPE html><meta charset=utf-8>{render_fragment(hostile_report())}"),
    ):
        path = tmp_path / f"{name}.html"
        path.write_text(html, encoding="utf-8")
        browser.open(path)
        assert browser.complaints() == []
        assert browser.requests() == []
        assert browser.evaluate("document.scripts.length") == 0
        assert browser.evaluate("typeof window.owned") == "undefined"
        assert "<script>" in browser.evaluate("document.body.textContent")


def test_the_browser_sees_what_it_should(browser: Browser, tmp_path: Path) -> None:
    """Scripts that fail, files that are fetched, faint text: these tests can fail."""
    path = tmp_path / "bad.html"
    faint = '<body style="background: white"><p style="color: #ccc">faint</p>'
    path.write_text(f'{faint}<img src="missing.png"><script>nothing()</script>')
    browser.open(path)
    assert any("nothing" in text for text in browser.complaints())
    assert [Path(url).name for url in browser.requests()] == ["missing.png"]
    assert len(browser.evaluate(CONTRAST)) == 1


def test_a_page_may_not_fetch(browser: Browser, tmp_path: Path) -> None:
    """Even if something were injected: its policy forbids that."""
    path = tmp_path / "page.html"
    injected = '<img src="http://127.0.0.1:9/x.png"><script>window.owned = 1</script></main>'
    path.write_text(render_page([Shown(Stored(bound_report()))]).replace("</main>", injected), encoding="utf-8")
    browser.open(path)
    assert browser.complaints()
    assert browser.evaluate("typeof window.owned") == "undefined"
