"""The page of `alps dashboard` in a tab of a browser."""

import json
import time
from pathlib import Path

from browser import Tab

SECTIONS = (
    "tradeoff",
    "curves",
    "heads",
    "overlap",
    "differences",
    "parallel",
    "compare",
    "details",
)
ROWS = "[...document.querySelectorAll('#table tbody tr')].map(r => r.dataset.key)"


def show(tab: Tab, page: Path, address: str = "", **window) -> None:
    tab.open("about:blank")
    tab.open(page.as_uri() + address, **window)
    tab.wait_for("document.documentElement.dataset.ready === 'all'")


def draw(tab: Tab, section: str) -> None:
    """Scrolls to a section and waits for what it shows."""
    tab.evaluate(f"document.getElementById('{section}').scrollIntoView()")
    done = f"document.querySelector('#{section} :is(.main-svg, .empty, table)')"
    assert tab.wait_for(f"!!{done}"), section
    time.sleep(0.3)


def write(tab: Tab, text: str) -> None:
    tab.evaluate(
        f"(q => {{ q.value = {json.dumps(text)}; q.dispatchEvent(new Event('input')) }})"
        "(document.getElementById('query'))"
    )
