"""What an audit says about the columns that were read as text."""

from __future__ import annotations

from typing import Literal

from alterrec.data.statistics import Statistics, Texts
from alterrec.report.tables import count, listed, percent

# Share of texts of a single word from which the columns are worth a look.
ONE_WORD = 0.5


def columns_check(statistics: Statistics, text: Texts) -> tuple[Literal["fine", "look", "bad"], str]:
    """The severity and the sentence: which columns are text, and whether it is more than one word or text.

    Args:
        statistics: of the data.
        text: those of all text columns joined.

    Example:
        >>> from alterrec.data.synthetic import synthetic_dataset
        >>> from alterrec.data.statistics import statistics
        >>> found = statistics(synthetic_dataset(items=300, sessions=900))
        >>> columns_check(found, found.text)[0]
        'fine'
    """
    columns = [
        f"{name} ({percent(1 - each.share)} empty, {each.words:.1f} words on average)"
        for name, each in statistics.fields.items()
    ]
    read = f"Read as text: {listed(columns)}."
    if text.distinct == 1:
        return "bad", f"{read} All texts are alike, so they tell nothing; choose other columns with --text."
    single = f"There are {count(text.distinct)} different texts; {percent(text.one_word)} are a single word."
    return "look" if text.one_word > ONE_WORD else "fine", f"{read} {single}"
