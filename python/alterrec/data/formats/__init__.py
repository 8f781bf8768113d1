"""Published formats, each read by one function in its own file.

A format is one function that returns a :class:`~alterrec.data.formats.source.Source`, and one row of
:data:`FORMATS`. Everything after that (sessions, filters, splits, text columns, files) is done by
:func:`~alterrec.data.prepare.prepare`.
"""

from __future__ import annotations

from alterrec.data.formats.source import Format

FORMATS: dict[str, Format] = {}
