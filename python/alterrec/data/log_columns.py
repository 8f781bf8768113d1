"""Which columns of a log are its users, items, times and sessions: mapped by the user, else known by name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from alterrec.errors import InputError, nearest

_USUAL = {
    "session_id": (
        "sessionid session sid sessid sessionkey sessionno sessionnumber usersession usersessionid visitid "
        "visit visitnumber visitno basketid basket"
    ),
    "user_id": (
        "userid user uid userno usernumber userkey visitorid visitor fullvisitorid customerid customer "
        "customerno customernumber customerkey custid clientid client memberid member buyerid shopperid "
        "accountid reviewerid personid deviceid cookieid householdkey householdid anonymousid kundennummer "
        "kundenid"
    ),
    "item_id": (
        "itemid item itemno itemnumber sku skuid productid product productno productcode productkey prodid "
        "stockcode articleid article articleno articlenumber artikelnummer artikelid asin parentasin gtin "
        "ean movieid trackid songid newsid bookid videoid contentid goodsid aid"
    ),
    "timestamp": (
        "timestamp time date datetime ts eventtime eventtimestamp eventdate timestampms unixtime createdat "
        "createdtime clicktime occurredat orderdate invoicedate purchasedate transactiondate "
        "transactiontime tdat datum zeit zeitstempel day"
    ),
    "event": (
        "event eventtype eventname behavior behaviour behaviortype behaviourtype action actiontype "
        "interactiontype"
    ),
}
# Our column name -> names that logs use for it, without case, spaces and punctuation.
USUAL_NAMES = {ours: frozenset(names.split()) for ours, names in _USUAL.items()}
OURS = tuple(USUAL_NAMES)
# Words of the names of columns that have times, as they are written.
_TIME_WORDS = {form for word in ("time", "date", "datetime") for form in (word, word.title(), word.upper())}


def plain_name(name: str) -> str:
    """A name without case, spaces and punctuation.

    Example:
        >>> plain_name("Customer ID"), plain_name("InvoiceDate")
        ('customerid', 'invoicedate')
    """
    return re.sub(r"[\W_]", "", name).lower()


def likely_column(ours: str, names: Sequence[str]) -> str:
    """The column that probably is one of ours, by a usual or a similar name; empty if there is none.

    Example:
        >>> likely_column("item_id", ["SKU", "title"]), likely_column("session_id", ["sesion_id"])
        ('SKU', 'sesion_id')
        >>> likely_column("timestamp", ["item_id", "timeOfClick"])
        'timeOfClick'
    """
    likely = [name for name in names if plain_name(name) in USUAL_NAMES[ours]]
    likely += ["id"] if ours == "item_id" and "id" in names else []
    likely += difflib.get_close_matches(ours, names, n=1)
    if ours == "timestamp":
        likely += [name for name in names if _TIME_WORDS & set(re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name))]
    return next(iter(likely), "")


def find_columns(
    names: Sequence[str], mapped: Mapping[str, str], where: str
) -> tuple[dict[str, str], list[str]]:
    """The log's column for each of ours that it has, and sentences about those that were guessed.

    A mapped column comes first, then one with our own name, then the only one with a usual name.

    Args:
        names: the columns of the log.
        mapped: our column name -> the log's, from the user.
        where: the log, for messages.

    Raises:
        InputError: a mapped column is missing, several columns have usual names for one of ours, or there is
            no item.

    Example:
        >>> find_columns(["visitorid", "itemid", "ts", "price"], {}, "log.csv")[0]
        {'user_id': 'visitorid', 'item_id': 'itemid', 'timestamp': 'ts'}
    """
    _check_mapped(names, mapped, where)
    found, notes = {}, []
    for ours in OURS:
        chosen, remark = _find(ours, names, mapped, where)
        if chosen is not None:
            found[ours] = chosen
        notes += [remark] if remark else []
    guessed = {ours: name for ours, name in found.items() if name not in (ours, mapped.get(ours))}
    if guessed:
        pairs = ", ".join(f"{ours} is {name!r}" for ours, name in guessed.items())
        notes.insert(0, f"columns known by their names: {pairs}")
    if "item_id" not in found:
        raise _missing(where, names, "no column is known as the item")
    if not found.keys() & {"session_id", "user_id"}:
        raise _missing(where, names, "no column is known as the session or the user")
    return found, notes


def item_column(names: Sequence[str], mapped: Mapping[str, str], where: str) -> str:
    """The column of ids in a file of items.

    Raises:
        InputError: no column is known as the item, or several are.

    Example:
        >>> item_column(["id", "title"], {}, "items.csv"), item_column(["sku", "id"], {}, "items.csv")
        ('id', 'sku')
    """
    if mapped.get("item_id") in names:
        return mapped["item_id"]
    chosen, _ = _find("item_id", names, {}, where)
    chosen = chosen or ("id" if "id" in names else None)
    if chosen is None:
        raise _missing(where, names, "no column is known as the item")
    return chosen


def _find(ours: str, names: Sequence[str], mapped: Mapping[str, str], where: str) -> tuple[str | None, str]:
    """The column for one of ours, or None, and a sentence if others have usual names for it."""
    if ours in mapped:
        return mapped[ours], ""
    free = [name for name in names if name not in mapped.values()]
    candidates = [name for name in free if plain_name(name) in USUAL_NAMES[ours]]
    if ours in free:
        others = [name for name in candidates if name != ours]
        return ours, _choice(ours, ours, others) if others else ""
    if len(candidates) > 1:
        raise InputError(
            f"{where}: several columns may be {ours}: {', '.join(map(repr, candidates))}; choose one with "
            f"--column {ours}={quoted(candidates[0])} (in Python, columns={{{ours!r}: "
            f"{candidates[0]!r}}})"
        )
    return (candidates[0] if candidates else None), ""


def _check_mapped(names: Sequence[str], mapped: Mapping[str, str], where: str) -> None:
    for ours, theirs in mapped.items():
        if ours not in OURS:
            raise InputError(
                f"columns: {ours!r} cannot be mapped; choose one of {', '.join(OURS)}{nearest(ours, OURS)}"
            )
        if theirs not in names:
            raise InputError(
                f"columns {ours}={theirs}: no column {theirs!r} in {where}; its columns are "
                f"{', '.join(map(repr, names))}{nearest(theirs, names)}"
            )
    for theirs in mapped.values():
        twice = [ours for ours, other in mapped.items() if other == theirs]
        if len(twice) > 1:
            raise InputError(f"columns: {theirs!r} is mapped to {' and '.join(twice)}; map each column once")


def _missing(where: str, names: Sequence[str], found: str) -> InputError:
    if names[0] == "column_1":
        return InputError(
            f"{where}: has no header line, so its columns are called {names[0]} to {names[-1]} by their "
            "position; say which is which, for instance --column user_id=column_1 --column item_id=column_2 "
            "--column timestamp=column_3 (in Python, columns={'user_id': 'column_1', ...})"
        )
    alone = (
        "" if len(names) > 1 else " If its cells are not separated by one of , ; | :: or tabs, change that."
    )
    return InputError(
        f"{where}: {found}; its columns are {', '.join(map(repr, names))}. Map them, for instance with "
        "--column item_id=NAME --column user_id=NAME --column timestamp=NAME (in Python, "
        f"columns={{'item_id': 'NAME', ...}}).{alone}"
    )


def _choice(ours: str, chosen: str, others: Sequence[str]) -> str:
    return (
        f"{ours} is the column {chosen!r}, although {', '.join(map(repr, others))} may be meant as well; "
        f"--column {ours}=NAME chooses another"
    )


def quoted(name: str) -> str:
    return f"'{name}'" if re.search(r"\W", name) else name
