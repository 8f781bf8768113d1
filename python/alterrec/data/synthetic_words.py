"""Words of the built-in catalogue: departments with their brands, materials, uses and product types."""

from __future__ import annotations

from typing import NamedTuple


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
