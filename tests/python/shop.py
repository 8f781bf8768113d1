"""A tiny shop on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np

PRODUCTS = ("tent", "lamp", "mug", "knife", "rope")
KINDS = ("red", "blue", "green", "large", "small", "light")


def write_shop(folder: Path) -> Path:
    """Write 30 items with titles, the last one cold, and 150 sessions with one kind of product each."""
    folder.mkdir(exist_ok=True)
    titles = [f"{kind} {product}" for product in PRODUCTS for kind in KINDS]
    rows = "".join(f"i{number},{title}\n" for number, title in enumerate(titles))
    (folder / "items.csv").write_text("item_id,title\n" + rows, "utf-8")
    rng = np.random.default_rng(7)
    first = 0
    for split, sessions in (("train", 110), ("valid", 20), ("test", 20)):
        lines = ["session_id,item_id,timestamp"]
        for session in range(first, first + sessions):
            product = rng.integers(len(PRODUCTS))
            members = len(KINDS) - (split == "train" and product == len(PRODUCTS) - 1)
            picks = product * len(KINDS) + rng.choice(members, size=rng.integers(2, 5), replace=False)
            lines += [f"s{session},i{item},{100 * session + place}" for place, item in enumerate(picks)]
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n", "utf-8")
        first += sessions
    return folder
