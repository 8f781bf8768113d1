"""The pages of the documentation site in Chromium; `make docs` runs this with the folder of the site."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, browser, program
from test_pages_in_browser import FAULTS, WIDTHS

SITE = Path(os.environ.get("ALTERREC_SITE", "no site")).resolve()
PAGES = sorted(
    path.relative_to(SITE).as_posix()
    for path in SITE.rglob("*.html")
    if not path.relative_to(SITE).parts[0].startswith("_")
)

pytestmark = pytest.mark.skipif(not program(), reason="no Chromium")


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_and_can_be_read(page: str, tab: Browser) -> None:
    """Nothing sticks out, no text is below 12 px, contrasts are those of AA, and the console is silent."""
    for width in WIDTHS:
        for dark in (False, True):
            tab.open(SITE / page, width, dark=dark)
            assert [*tab.value(FAULTS), *tab.log] == [], f"{width} px, {'dark' if dark else 'light'}"
