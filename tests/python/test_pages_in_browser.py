"""Every page in a browser at three widths, light and dark: it fits, can be read, and nothing is reported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, browser, program
from page_folder import write_pages

pytestmark = pytest.mark.skipif(program() is None, reason="no Chromium on this machine")

WIDTHS = (390, 768, 1280)
SMALLEST_TEXT = 12
# The contrast of WCAG AA: of text, and of text that is large (24 pixels, or bold and 18.7).
CONTRAST, LARGE_CONTRAST = 4.5, 3.0

FAULTS = """(() => {
  const faults = [];
  const wide = document.documentElement.scrollWidth - innerWidth;
  if (wide > 0) faults.push(`the page is ${wide} pixels wider than the window`);
  const rgb = (text) => {
    const parts = (text.match(/[\\d.]+/g) || []).map(Number);
    return parts.length < 3 ? null : [parts[0], parts[1], parts[2], parts.length > 3 ? parts[3] : 1];
  };
  const over = (top, below) => [0, 1, 2].map((k) => top[k] * top[3] + below[k] * (1 - top[3]));
  const light = (colour) => {
    const [r, g, b] = colour.map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) {
      const found = rgb(getComputedStyle(each).backgroundColor);
      if (found && found[3] > 0) layers.push(found);
    }
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text || !element.checkVisibility() || ["STYLE", "TITLE"].includes(element.tagName)) continue;
    const style = getComputedStyle(element), drawn = element instanceof SVGElement;
    const matrix = drawn ? element.getScreenCTM() : null;
    const scale = matrix ? Math.hypot(matrix.a, matrix.b) : 1;
    const size = parseFloat(style.fontSize) * scale;
    if (size < SMALLEST - 0.05) faults.push(`${size.toFixed(1)} pixels: ${text.slice(0, 40)}`);
    const colour = rgb(drawn ? style.fill : style.color);
    if (!colour) continue;
    const opacity = drawn ? parseFloat(style.fillOpacity) * parseFloat(style.opacity) : 1;
    const below = ground(element), above = over([...colour.slice(0, 3), colour[3] * opacity], below);
    const [low, high] = [light(above), light(below)].sort((a, b) => a - b);
    const large = size >= 24 || (size >= 18.66 && parseInt(style.fontWeight) >= 700);
    const contrast = (high + 0.05) / (low + 0.05);
    const needed = large ? LARGE : NORMAL;
    if (contrast < needed) faults.push(`contrast ${contrast.toFixed(2)}: ${text.slice(0, 40)}`);
  }
  return faults;
})()"""
for name, value in (("SMALLEST", SMALLEST_TEXT), ("LARGE", LARGE_CONTRAST), ("NORMAL", CONTRAST)):
    FAULTS = FAULTS.replace(name, str(value))


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_pages(tmp_path_factory.mktemp("pages"))


def faults(tab: Browser, page: Path) -> dict[str, list[str]]:
    """Width and colours of the window -> what is wrong with the page there."""
    found = {}
    for width in WIDTHS:
        for dark in (False, True):
            tab.open(page, width, dark=dark)
            # Folded sections are opened, because their contents must be readable too.
            tab.value("document.querySelectorAll('details').forEach((each) => each.open = true)")
            wrong = [*tab.value(FAULTS), *tab.log]
            if wrong:
                found[f"{width} {'dark' if dark else 'light'}"] = sorted(set(wrong))
    return found


def test_every_page_fits_and_can_be_read(tab: Browser, pages: dict[str, Path]) -> None:
    assert {name: wrong for name, page in pages.items() if (wrong := faults(tab, page))} == {}


def test_the_checks_find_what_they_look_for(tab: Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<!DOCTYPE html><body><p style='font-size: 9px'>small</p><p style='color: #bbb'>pale</p>"
        "<div style='width: 3000px'>wide</div><svg viewBox='0 0 10 10' width='10'><text font-size='4'>tiny"
        "</text></svg><script>console.error('loud')</script></body>",
        "utf-8",
    )
    wrong = " | ".join(faults(tab, page)["390 light"])
    for each in (
        "9.0 pixels: small",
        "contrast 1.92: pale",
        "wider than the window",
        "4.0 pixels: tiny",
        "loud",
    ):
        assert each in wrong


def test_figures_have_one_size_of_text_whatever_their_number_of_panels(
    tab: Browser, pages: dict[str, Path]
) -> None:
    sizes = """[...document.querySelectorAll('svg text')].map((each) =>
        Math.round(10 * parseFloat(getComputedStyle(each).fontSize) * each.getScreenCTM().a) / 10)"""
    found = set()
    for page in pages.values():
        tab.open(page, 1280)
        found |= set(tab.value(sizes))
    assert len(found) == 1


def test_a_page_prints(tab: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    tab.open(pages["run"], 1280, dark=True)
    tab.pdf(tmp_path / "run.pdf")
    assert (tmp_path / "run.pdf").read_bytes().startswith(b"%PDF")
