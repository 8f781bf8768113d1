"""Commands that are killed at random moments lose nothing; `make torture` kills 1,000 of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from kills import torture


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are forked and killed by signals")
def test_killed_at_random_moments_commands_lose_nothing(tmp_path: Path) -> None:
    report = torture(tmp_path, kills=10, seed=7)
    assert report.total >= 10
    assert [*report.lost, *report.different, *report.wrong] == [], str(report)
