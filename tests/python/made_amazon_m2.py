"""Made-up data in the layout of Amazon-M2: three locales, texts in three languages, and its awkward rows.

    python tests/python/made_amazon_m2.py FOLDER [--sessions 3000] [--items 900] [--seed 0]

Sessions of a locale walk through sets of items that belong together, which their titles tell in part.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

COLUMNS = ("id", "locale", "title", "price", "brand", "color", "size", "model", "material", "author", "desc")
# A locale: its share of the sessions, how a price is printed, nouns, colours, and sentences of descriptions.
LOCALES: dict[str, tuple[float, str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "FR": (
        0.5,
        "{:.2f}",
        ("Tente", "Lampe", "Chaise pliante", "Théière", "Écharpe", "Clé à molette", "Poêle", "Sac à dos"),
        ("rouge", "bleu nuit", "vert", "noir", "doré"),
        ("Idéal pour l'été & les sorties.", "Fabriqué à la main, livré sous 48&nbsp;h.", "Lavable à 30°."),
    ),
    "ES": (
        0.3,
        "{:.1f}",
        ("Tienda", "Lámpara", "Silla plegable", "Tetera", "Bufanda", "Llave inglesa", "Sartén", "Mochila"),
        ("rojo", "azul", "verde", "negro", "dorado"),
        ("Ideal para el verano.", "Hecho a mano; envío en 48 h.", "Lavable a 30°."),
    ),
    "JP": (
        0.2,
        "{:.0f}",
        ("テント", "ランプ", "折りたたみ椅子", "急須", "マフラー", "レンチ", "フライパン", "リュック"),
        ("赤", "青", "緑", "黒", "金"),
        ("夏に最適です。", "手作り、48時間以内に発送。", "30度で洗えます。"),
    ),
}
# What Amazon prints where there is no price.
NO_PRICE = "40000000.07"


def write_amazon_m2(
    folder: Path, *, sessions: int = 300, items: int = 120, seed: int = 0, truth: bool = True
) -> Path:
    """Write training sessions, products, and the test sessions of both tasks with their next items.

    Args:
        folder: a new folder.
        sessions: training sessions of all locales.
        items: products of each locale; the first tenth of them are in all locales under the same ids.
        seed: of everything that is drawn.
        truth: whether the next items of test sessions are written.
    """
    rng = np.random.default_rng(seed)
    ids = {locale: _ids(locale, items) for locale in LOCALES}
    products = [row for locale in LOCALES for row in _products(locale, ids[locale], rng)]
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "products_train.csv", products, COLUMNS)
    train = _sessions(ids, sessions, rng)
    _write(folder / "sessions_train.csv", train, ("prev_items", "next_item", "locale"))
    for task, locales in (("task1", ("JP",)), ("task2", ("FR", "ES"))):
        test = [row for row in _sessions(ids, sessions // 5, rng) if row[2] in locales]
        rows = [(prev, locale) for prev, _, locale in test]
        _write(folder / f"sessions_test_{task}.csv", rows, ("prev_items", "locale"))
        if truth:
            answers = [(locale, item) for _, item, locale in test]
            _write(folder / f"gt_{task}.csv", answers, ("locale", "next_item"))
    return folder


def _write(path: Path, rows: list[tuple[str | None, ...]], columns: tuple[str, ...]) -> None:
    schema = dict.fromkeys(columns, pl.String)
    pl.DataFrame(rows, schema=schema, orient="row").write_csv(path)


def _ids(locale: str, items: int) -> list[str]:
    shared = items // 10
    return [f"B{0 if j < shared else 1 + list(LOCALES).index(locale)}{j:08d}" for j in range(items)]


def _products(locale: str, ids: list[str], rng: np.random.Generator) -> list[tuple[str | None, ...]]:
    _, price, nouns, colours, sentences = LOCALES[locale]
    rows: list[tuple[str | None, ...]] = []
    for number, id in enumerate(ids):
        noun, colour = nouns[number % len(nouns)], colours[rng.integers(len(colours))]
        title = (
            f'{noun} "{colour}" {number // len(nouns)}' if number % 17 == 0 else f"{noun} {colour} {number}"
        )
        cost = NO_PRICE if number % 5 == 0 else price.format(rng.gamma(2, 15))
        texts = rng.choice(sentences, 2, replace=False)
        desc = None if number % 3 == 0 else f"{noun} {colour}. " + " ".join(texts)
        desc = f"{desc} &#39;{noun}&#39;,\n{colour} " if desc and number % 7 == 0 else desc
        brand = None if number % 4 == 0 else f"Marque {number % 11}"
        size = "12 x 34 cm" if number % 6 == 0 else None
        rows.append((id, locale, title, cost, brand, colour, size, None, None, None, desc))
    return rows


def _sessions(ids: dict[str, list[str]], count: int, rng: np.random.Generator) -> list[tuple[str, str, str]]:
    locales = rng.choice(list(ids), count, p=[LOCALES[locale][0] for locale in ids])
    rows = []
    for locale in locales:
        own = ids[locale]
        length = 3 + min(int(rng.geometric(0.35)), 40)
        # A set is every eighth item, so that its titles begin alike; popular items are at its beginning.
        kind, size = int(rng.integers(8)), len(own) // 8
        places = (rng.zipf(1.4, length) + rng.integers(size)) % size
        items = [own[min(8 * int(place) + kind, len(own) - 1)] for place in places]
        if rng.random() < 0.1:
            items[0] = own[int(rng.integers(len(own)))]
        rows.append((str(np.array(items[:-1])), items[-1], str(locale)))
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sessions", type=int, default=3000)
    parser.add_argument("--items", type=int, default=900)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write_amazon_m2(given.folder, sessions=given.sessions, items=given.items, seed=given.seed)
