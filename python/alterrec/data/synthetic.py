"""The built-in catalogue: readable products and sessions with a planted ID signal and text signal.

Every item has a product type, which its text states, and belongs to a hidden set of items of other types
that are bought together, which its text does not state. A session moves from item to item by these steps:

* complement: another item of the same hidden set, from the popular half of the catalogue. Only sessions
  show this relation.
* substitute: an item of the same type, with preference for a shared brand, material or colour and for rare
  items. The text shows this relation; item ids hardly can, because the steps spread over too many pairs.
* popular: any item by popularity (Zipf).
* revisit: an earlier item of the session.

Rare items lead to a substitute more often than popular ones. Cold items appear after the training period and
are reached by substitute steps only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alterrec.data.dataset import SPLITS, Dataset, ItemText
from alterrec.errors import InputError
from alterrec.sessions import SessionStore
from alterrec.vocabulary import Vocabulary

STEPS = ("start", "complement", "substitute", "popular", "revisit")
START, COMPLEMENT, SUBSTITUTE, POPULAR, REVISIT = range(len(STEPS))

MAX_LENGTH = 12
SET_SIZE = 20
SUBSTITUTES = 48  # most similar items of the type that a substitute step can reach
COLD_SHARE = 0.015
COLD_PULL = 6.0  # factor by which a new item is chosen more often than a rare old one
FIRST_SECOND = 1_709_251_200  # 2024-03-01 00:00:00 UTC
DAYS = 60


class Department(NamedTuple):
    """The words that make up the products of one department."""

    code: str
    brands: tuple[str, ...]
    materials: tuple[str, ...]
    uses: tuple[str, ...]
    types: tuple[str, ...]


COLOURS = (
    "Forest Green", "Slate Grey", "Sky Blue", "Rust Red", "Sand", "Charcoal",
    "Cream", "Mustard", "Navy", "Terracotta", "Sage", "Plum",
)  # fmt: skip

CHARACTERS = (
    "sturdy", "light", "plain", "handsome", "compact", "generous",
    "quiet", "cheerful", "hard-wearing", "clever", "classic", "simple",
)  # fmt: skip

DEPARTMENTS = (
    Department(
        "CMP",
        ("Fernhill", "Northcairn", "Lakeside", "Tarn & Fell", "Wildgoose", "Bramble"),
        ("Canvas", "Ripstop", "Aluminium", "Merino", "Recycled Nylon", "Oilskin"),
        ("weekends by the lake", "wet hill walks", "nights outside", "long trails", "the back garden"),
        ("Tent", "Sleeping Bag", "Camp Kettle", "Head Torch", "Hammock", "Daypack"),
    ),
    Department(
        "KIT",
        ("Copperpan", "Hearth", "Oakleaf", "Marlow", "Saltbox", "Juniper"),
        ("Cast Iron", "Enamel", "Beechwood", "Stoneware", "Stainless Steel", "Copper"),
        ("slow Sunday cooking", "small kitchens", "baking with children", "big family dinners", "daily use"),
        ("Saucepan", "Mixing Bowl", "Chopping Board", "Teapot", "Bread Tin", "Pepper Mill"),
    ),
    Department(
        "GDN",
        ("Greenthumb", "Hollyhock", "Rowan", "Potting Shed", "Larkspur", "Old Orchard"),
        ("Ash Wood", "Galvanised Steel", "Clay", "Jute", "Bamboo", "Cedar"),
        ("raised beds", "balcony pots", "first seedlings", "roses and hedges", "a vegetable patch"),
        ("Trowel", "Watering Can", "Planter", "Bird Feeder", "Garden Bench", "Seed Tray"),
    ),
    Department(
        "LIV",
        ("Hygge House", "Linden", "Paper Moon", "Fireside", "Alder", "Cottonmill"),
        ("Linen", "Wool", "Rattan", "Velvet", "Oak", "Smoked Glass"),
        ("reading corners", "draughty hallways", "guest rooms", "winter evenings", "bare walls"),
        ("Cushion", "Throw Blanket", "Table Lamp", "Rug", "Picture Frame", "Storage Basket"),
    ),
    Department(
        "CYC",
        ("Velodale", "Spoke & Co", "Tailwind", "Cobbles", "Chainring", "Ridgeway"),
        ("Carbon", "Chromoly", "Waxed Cotton", "Leather", "Neoprene", "Polycarbonate"),
        ("the daily commute", "gravel tours", "night rides", "city errands", "the first hundred miles"),
        ("Pannier", "Bike Helmet", "Saddle", "Bike Light", "Cycling Gloves", "Floor Pump"),
    ),
    Department(
        "WRK",
        ("Ironvale", "Benchmark", "Sawyer", "Plumbline", "Anvil", "Tenon"),
        ("Hickory", "Forged Steel", "Carbide", "Brass", "Fibreglass", "Rubber"),
        ("repairs at home", "fine joinery", "the toolbox in the car", "old furniture", "every workshop"),
        ("Hammer", "Hand Saw", "Spirit Level", "Screwdriver Set", "Clamp", "Work Apron"),
    ),
    Department(
        "STA",
        ("Inkwell", "Quill", "Letterpress", "Margin", "Blue Pencil", "Foxed Page"),
        ("Kraft Paper", "Vellum", "Cork", "Walnut", "Bookcloth", "Tin"),
        ("morning pages", "letters to friends", "the school desk", "travel notes", "tidy planning"),
        ("Notebook", "Fountain Pen", "Desk Tray", "Wall Calendar", "Pencil Case", "Bookend"),
    ),
    Department(
        "BTH",
        ("Tidewater", "Saltmarsh", "Still Pool", "Lavender Row", "Pebble", "Spring House"),
        ("Organic Cotton", "Teak", "Ceramic", "Bamboo Fibre", "Marble", "Waffle Weave"),
        ("slow mornings", "after a swim", "shared bathrooms", "a small spa at home", "gym bags"),
        ("Bath Towel", "Soap Dish", "Bathrobe", "Shower Caddy", "Bath Mat", "Laundry Hamper"),
    ),
)  # fmt: skip

# The first type of every department, then the second ones, so that a small catalogue has all departments.
PRODUCT_TYPES = [
    (department, name)
    for row in zip(*(d.types for d in DEPARTMENTS), strict=True)
    for department, name in zip(DEPARTMENTS, row, strict=True)
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PlantedTruth:
    """The planted structure of a generated catalogue.

    Attributes:
        product_type: (V,) int64, stated by the text.
        hidden_set: (V,) int64, not stated by the text.
        cold: (V,) bool, items without training sessions.
        steps: split -> (N,) int64, the kind of step (index of ``STEPS``) that led to each interaction, in the
            order of ``store.items``.
    """

    product_type: Ints
    hidden_set: Ints
    cold: NDArray[np.bool_]
    steps: dict[str, Ints]


@dataclass(frozen=True, eq=False)
class _Catalogue:
    product_type: Ints
    brand: Ints
    material: Ints
    colour: Ints
    character: Ints
    use: Ints
    hidden_set: Ints
    cold: NDArray[np.bool_]
    rarity: Floats  # 0 = most popular, 1 = rarest
    popularity: Floats  # sums to 1, 0 for cold items
    appeal: Floats  # weight among substitutes, higher for rare items


def synthetic_dataset(seed: int = 0, items: int = 3000, sessions: int = 20_000) -> Dataset:
    """Generate the built-in catalogue; equal arguments give equal data.

    Args:
        seed: integer from 0.
        items: size of the catalogue, 100 to 50,000; 1.5 % of the items are cold.
        sessions: number of sessions of 2 to 12 items, at least 50; the latest 10 % are test, the 10 % before
            them valid.

    Raises:
        InputError: an argument is outside its range.

    Example:
        >>> data = synthetic_dataset(items=300, sessions=500)
        >>> data.num_items, len(data.train), len(data.valid), len(data.test)
        (300, 400, 50, 50)
        >>> data.text.fields["title"][0]
        'Wildgoose Oilskin Tent, Slate Grey'
    """
    return _generate(seed, items, sessions)[0]


def planted_truth(seed: int = 0, items: int = 3000, sessions: int = 20_000) -> PlantedTruth:
    """Return what :func:`synthetic_dataset` plants for the same arguments."""
    return _generate(seed, items, sessions)[1]


def _generate(seed: int, items: int, sessions: int) -> tuple[Dataset, PlantedTruth]:
    for name, value, low, high in (
        ("seed", seed, 0, 2**63 - 1),
        ("items", items, 100, 50_000),
        ("sessions", sessions, 50, 10_000_000),
    ):
        if not low <= value <= high:
            raise InputError(f"{name} is {value}; expected {low} to {high}")
    rng = np.random.default_rng(seed)
    catalogue = _draw_catalogue(rng, items)
    lengths, times = _draw_times(rng, sessions)
    tenth = round(0.1 * sessions)
    bounds = {
        "train": (0, sessions - 2 * tenth),
        "valid": (sessions - 2 * tenth, sessions - tenth),
        "test": (sessions - tenth, sessions),
    }
    walked, kinds = _walk(rng, catalogue, lengths, first_new=bounds["valid"][0])

    stores, names, steps = {}, {}, {}
    for split in SPLITS:
        rows = slice(*bounds[split])
        real = np.arange(MAX_LENGTH) < lengths[rows, None]
        stores[split] = SessionStore.from_arrays(
            np.repeat(np.arange(len(real)), lengths[rows]),
            walked[rows][real],
            timestamps=times[rows][real],
            num_items=items,
        )
        names[split] = [f"S{number:06d}" for number in range(*bounds[split])]
        steps[split] = kinds[rows][real]
    untrained = int((stores["train"].item_counts() == 0).sum())
    dataset = Dataset(
        name="built-in",
        **stores,
        vocabulary=Vocabulary(_item_ids(catalogue)),
        text=_texts(catalogue),
        vectors=None,
        session_names=names,
        notes=(f"data generated from seed {seed}", f"items without training sessions (cold): {untrained}"),
        users=None,
    )
    return dataset, PlantedTruth(catalogue.product_type, catalogue.hidden_set, catalogue.cold, steps)


def _draw_catalogue(rng: np.random.Generator, items: int) -> _Catalogue:
    num_types = int(np.clip(items // 120, 4, len(PRODUCT_TYPES)))
    product_type = rng.permutation(np.arange(items) % num_types)
    # Each name is used once, because equal texts would be a third kind of signal.
    names = np.empty((items, 4), dtype=np.int64)
    sizes = (len(DEPARTMENTS[0].brands), len(DEPARTMENTS[0].materials), len(COLOURS), len(CHARACTERS))
    for kind in range(num_types):
        members = np.flatnonzero(product_type == kind)
        chosen = rng.choice(np.prod(sizes), len(members), replace=False)
        names[members] = np.column_stack(np.unravel_index(chosen, sizes))
    # Dealing the items out by type gives every set different types.
    num_sets = max(2, items // SET_SIZE)
    hidden_set = np.empty(items, dtype=np.int64)
    hidden_set[np.lexsort((rng.random(items), product_type))] = np.arange(items) % num_sets
    cold = np.zeros(items, dtype=bool)
    cold[rng.choice(items, max(1, round(COLD_SHARE * items)), replace=False)] = True
    rank = rng.permutation(items)
    popularity = np.where(cold, 0.0, 1.0 / (rank + 8.0))
    return _Catalogue(
        product_type=product_type,
        brand=names[:, 0],
        material=names[:, 1],
        colour=names[:, 2],
        character=names[:, 3],
        use=rng.integers(len(DEPARTMENTS[0].uses), size=items),
        hidden_set=hidden_set,
        cold=cold,
        rarity=rank / (items - 1),
        popularity=popularity / popularity.sum(),
        appeal=(0.2 + rank / items) * rng.lognormal(sigma=0.5, size=items),
    )


def _draw_times(rng: np.random.Generator, sessions: int) -> tuple[Ints, Ints]:
    """Lengths (S,) and seconds (S, MAX_LENGTH); sessions are ordered by their last interaction."""
    lengths = np.minimum(2 + rng.geometric(0.32, sessions) - 1, MAX_LENGTH)
    starts = rng.integers(DAYS * 86_400, size=sessions)
    pauses = 5 + rng.exponential(80.0, (sessions, MAX_LENGTH)).astype(np.int64)
    times = FIRST_SECOND + starts[:, None] + np.cumsum(pauses, axis=1)
    order = np.argsort(times[np.arange(sessions), lengths - 1], kind="stable")
    return lengths[order], times[order]


def _walk(
    rng: np.random.Generator, catalogue: _Catalogue, lengths: Ints, first_new: int
) -> tuple[Ints, Ints]:
    """Items and step kinds (S, MAX_LENGTH); sessions from ``first_new`` on may reach cold items."""
    sessions = len(lengths)
    near, old_weights, new_weights = _substitutes(rng, catalogue)
    members, member_weights = _members(catalogue)
    popular = np.cumsum(catalogue.popularity)
    walked = np.full((sessions, MAX_LENGTH), -1, dtype=np.int64)
    kinds = np.full((sessions, MAX_LENGTH), START, dtype=np.int64)
    walked[:, 0] = _by_popularity(rng, popular, sessions)
    for step in range(1, MAX_LENGTH):
        alive = np.flatnonzero(lengths > step)
        past = walked[alive, :step]
        # Mostly the previous item, sometimes an earlier one, so that the whole session matters.
        back = rng.integers(step, size=len(alive))
        place = np.where(rng.random(len(alive)) < 0.75, step - 1, back)
        anchor = past[np.arange(len(alive)), place]
        kind = _draw_kinds(rng, catalogue, anchor, step)

        options = {
            COMPLEMENT: (members[catalogue.hidden_set[anchor]], member_weights[catalogue.hidden_set[anchor]]),
            SUBSTITUTE: (
                near[anchor],
                np.where((alive >= first_new)[:, None], new_weights[anchor], old_weights[anchor]),
            ),
        }
        chosen = _by_popularity(rng, popular, len(alive))
        for which, (candidates, weights) in options.items():
            rows = np.flatnonzero(kind == which)
            drawn = _draw_unseen(rng, candidates[rows], weights[rows], past[rows])
            kind[rows[drawn < 0]] = POPULAR
            chosen[rows[drawn >= 0]] = drawn[drawn >= 0]
        rows = np.flatnonzero(kind == REVISIT)
        chosen[rows] = past[rows, rng.integers(max(1, step - 1), size=len(rows))]
        walked[alive, step], kinds[alive, step] = chosen, kind
    return walked, kinds


def _draw_kinds(rng: np.random.Generator, catalogue: _Catalogue, anchor: Ints, step: int) -> Ints:
    substitute = 0.42 + 0.4 * catalogue.rarity[anchor]
    revisit = np.full(len(anchor), 0.05 if step > 1 else 0.0)
    popular = np.full(len(anchor), 0.1)
    complement = 1.0 - substitute - revisit - popular
    return 1 + _draw_column(rng, np.column_stack([complement, substitute, popular, revisit]))


def _substitutes(rng: np.random.Generator, catalogue: _Catalogue) -> tuple[Ints, Floats, Floats]:
    """Most similar items of the same type (V, SUBSTITUTES), and weights without and with cold items."""
    items = len(catalogue.cold)
    width = min(SUBSTITUTES, int(np.bincount(catalogue.product_type).min()) - 1)
    near = np.empty((items, width), dtype=np.int64)
    likeness = np.empty((items, width))
    for kind in range(int(catalogue.product_type.max()) + 1):
        members = np.flatnonzero(catalogue.product_type == kind)
        shared = np.zeros((len(members), len(members)))
        for attribute in (catalogue.brand, catalogue.material, catalogue.colour):
            shared += attribute[members, None] == attribute[members]
        np.fill_diagonal(shared, -1.0)
        order = np.argsort(-(shared + 0.5 * rng.random(shared.shape)), axis=1)[:, :width]
        near[members] = members[order]
        likeness[members] = np.take_along_axis(shared, order, axis=1)
    weights = np.exp(0.8 * likeness) * catalogue.appeal[near]
    cold = catalogue.cold[near]
    return near, np.where(cold, 0.0, weights), np.where(cold, COLD_PULL * weights, weights)


def _members(catalogue: _Catalogue) -> tuple[Ints, Floats]:
    """Items of each hidden set (sets, width), padded with item 0 of weight 0, and their weights."""
    sizes = np.bincount(catalogue.hidden_set)
    real = np.arange(sizes.max()) < sizes[:, None]
    members = np.zeros(real.shape, dtype=np.int64)
    members[real] = np.argsort(catalogue.hidden_set, kind="stable")
    popular = real & (catalogue.rarity[members] < 0.5)
    return members, np.where(popular, catalogue.popularity[members] ** 0.7, 0.0)


def _draw_unseen(rng: np.random.Generator, candidates: Ints, weights: Floats, past: Ints) -> Ints:
    """Draw a candidate per row by weight, (N,), among those not in its past; -1 where none is left."""
    seen = (candidates[:, :, None] == past[:, None, :]).any(axis=2)
    open_weights = np.where(seen, 0.0, weights)
    chosen = np.full(len(candidates), -1, dtype=np.int64)
    rows = np.flatnonzero(open_weights.sum(axis=1) > 0)
    chosen[rows] = candidates[rows, _draw_column(rng, open_weights[rows])]
    return chosen


def _draw_column(rng: np.random.Generator, weights: Floats) -> Ints:
    sums = np.cumsum(weights, axis=1)
    # 1 - random() is never 0, so a column of weight 0 is never drawn.
    below: Ints = (sums < (1.0 - rng.random(len(weights)))[:, None] * sums[:, -1:]).sum(axis=1)
    return below


def _by_popularity(rng: np.random.Generator, sums: Floats, count: int) -> Ints:
    return np.asarray(np.searchsorted(sums, (1.0 - rng.random(count)) * sums[-1]))


def _item_ids(catalogue: _Catalogue) -> tuple[str, ...]:
    codes = [PRODUCT_TYPES[kind][0].code for kind in catalogue.product_type]
    width = max(4, len(str(len(codes))))
    return tuple(f"{code}-{number:0{width}d}" for number, code in enumerate(codes, 1))


def _texts(catalogue: _Catalogue) -> ItemText:
    titles, descriptions = [], []
    names = (catalogue.brand, catalogue.material, catalogue.colour, catalogue.character, catalogue.use)
    rows = np.column_stack([catalogue.product_type, *names]).tolist()
    for kind, brand, material, colour, character, use in rows:
        department, name = PRODUCT_TYPES[kind]
        made_of = department.materials[material]
        titles.append(f"{department.brands[brand]} {made_of} {name}, {COLOURS[colour]}")
        descriptions.append(
            f"A {CHARACTERS[character]} {name.lower()} in {made_of.lower()}, for {department.uses[use]}."
        )
    return ItemText({"title": titles, "description": descriptions})
