"""The check of a released wheel, on what is installed here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_installed_package_passes_the_check_of_a_wheel() -> None:
    script = Path(__file__).with_name("wheel_smoke.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("the wheel works")
