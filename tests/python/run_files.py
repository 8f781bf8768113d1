"""The files of run folders, and what of them equal runs have in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# What differs between equal runs: times, durations and memory.
MEASURED = {
    *("seconds", "seconds_eval", "seconds_by_part", "profile"),
    *("peak_memory_bytes", "process_peak_memory_bytes"),
}


def files_of(folder: Path) -> dict[str, bytes]:
    """All files of a folder by their paths in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def comparable_files(folder: Path) -> dict[str, bytes]:
    """The files of a finished run without what is measured, and without its checkpoint and its manifest.

    The manifest has hashes of files with times.
    """
    found = {}
    for name, content in files_of(folder).items():
        if name.startswith("checkpoint/") or name in ("manifest.json", "report.html"):
            continue
        if name in ("result.json", "curves.jsonl"):
            values = [json.loads(line) for line in content.splitlines()] if name == "curves.jsonl" else None
            content = json.dumps(_unmeasured(json.loads(content) if values is None else values)).encode()
        found[name] = content
    return found


def _unmeasured(value: Any) -> Any:
    if isinstance(value, list):
        return [_unmeasured(each) for each in value]
    if isinstance(value, dict):
        return {key: _unmeasured(each) for key, each in value.items() if key not in MEASURED}
    return value
