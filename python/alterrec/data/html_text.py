"""Plain text of texts that contain HTML."""

from __future__ import annotations

import html
import re

import polars as pl

# Elements whose end separates words; all other tags vanish, as in H<sub>2</sub>O.
_BLOCKS = (
    *("address", "article", "aside", "blockquote", "body", "br", "caption", "center", "dd", "details", "dir"),
    *("div", "dl", "dt", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6"),
    *("head", "header", "hr", "html", "iframe", "img", "input", "li", "main", "menu", "nav", "object", "ol"),
    *("option", "p", "pre", "section", "select", "summary", "table", "tbody", "td", "textarea", "tfoot"),
    *("th", "thead", "title", "tr", "ul", "video"),
)
_INLINE = (
    *("a", "abbr", "acronym", "audio", "b", "bdi", "bdo", "big", "button", "canvas", "cite", "code", "col"),
    *("colgroup", "data", "del", "dfn", "em", "embed", "font", "i", "ins", "kbd", "label", "legend", "link"),
    *("map", "mark", "meta", "meter", "noscript", "param", "picture", "q", "rp", "rt", "ruby", "s", "samp"),
    *("script", "small", "source", "span", "strike", "strong", "style", "sub", "sup", "svg", "time", "track"),
    *("tt", "u", "var", "wbr"),
)
# Attributes that are written without a value.
_BARE = "allowfullscreen|autoplay|checked|compact|controls|defer|disabled|hidden|loop|muted|noshade|nowrap"
_NAMES = "|".join(sorted((*_BLOCKS, *_INLINE), key=len, reverse=True))
_ROUNDS = 5  # levels of escaping that are undone
_ATTRIBUTE = rf"""\s+(?:[\w:-]+\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+)|(?:{_BARE})(?=[\s/>]))"""
# A tag is known by the name of its element, directly after the bracket, and by attributes that have values:
# "a < b", "<3", "<5 kg" and "a <b and c> d" are text. A cell may be cut off inside a tag that has attributes.
_TAG = re.compile(
    rf"<(?P<close>/?)(?P<name>{_NAMES})(?:(?:{_ATTRIBUTE})*\s*/?>|(?:{_ATTRIBUTE})*\s+[\w:-]+\s*=[^<>]*\Z)",
    re.IGNORECASE,
)
# Parts that no reader of a page sees.
_UNSEEN = re.compile(
    rf"<!--.*?(?:-->|\Z)|<!doctype[^<>]*>|<(script|style)(?:{_ATTRIBUTE})*\s*>.*?(?:</\1\s*>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
# Only with its semicolon: "R&D", "AT&T" and "a=1&copy=2" are text.
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


def without_html(text: str) -> str:
    """Remove HTML tags, comments, scripts and styles, and decode entities; text without any stays as it is.

    Tags of blocks and line breaks become spaces. Entities may be escaped several times, and may hide tags
    (``&lt;br&gt;``), as in many catalogues.

    Example:
        >>> without_html("<p>Cotton &amp;amp; wool<br/>H<sub>2</sub>O, 3 < 5 &lt;b&gt;kg&lt;/b&gt;</p>")
        'Cotton & wool H2O, 3 < 5 kg'
    """
    plain = text
    for _ in range(_ROUNDS):
        before = plain
        plain = _ENTITY.sub(lambda found: html.unescape(found[0]), _without_tags(plain))
        if plain == before:
            break
    return text if plain == text else " ".join(plain.split())


def clean_texts(texts: pl.Series) -> pl.Series:
    """:func:`without_html` of every text of a column; null stays null.

    Example:
        >>> clean_texts(pl.Series(["<b>Red</b> tent", "a < b", None])).to_list()
        ['Red tent', 'a < b', None]
    """
    marked = texts.str.contains("<[!/A-Za-z]|&[#A-Za-z][A-Za-z0-9]*;").fill_null(False)
    rows = marked.arg_true()
    if not len(rows):
        return texts
    plain = pl.Series([without_html(text) for text in texts.gather(rows)], dtype=pl.String)
    return texts.clone().scatter(rows, plain)


def _without_tags(text: str) -> str:
    seen = _UNSEEN.sub(" ", text)
    return _TAG.sub(lambda found: " " if found["name"].lower() in _BLOCKS else "", seen)
