"""HTML that is escaped unless it was made here."""

from __future__ import annotations

from html import escape


class Html(str):
    """Text that is HTML already; any other string is escaped where it enters an element."""

    __slots__ = ()


def html(part: str) -> Html:
    """The part itself if it is HTML, else escaped.

    Example:
        >>> html("<script>")
        '&lt;script&gt;'
    """
    return part if isinstance(part, Html) else Html(escape(part))


def element(name: str, *parts: str, **attributes: str) -> Html:
    """An element around its parts; `_` in attribute names is `-`, and a trailing one is dropped (`class_`).

    Example:
        >>> element("p", "a < b, ", element("b", "c"), class_="note")
        '<p class="note">a &lt; b, <b>c</b></p>'
    """
    named = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items()
    )
    return Html(f"<{name}{named}>{''.join(map(html, parts))}</{name}>")


def join(parts: list[Html]) -> Html:
    """Pieces of HTML one after another.

    Example:
        >>> join([element("i", "a"), element("i", "b")])
        '<i>a</i><i>b</i>'
    """
    return Html("".join(parts))
