"""A Sphinx extension: this library's docstrings, plain text with code in backticks, as the markup that autodoc expects.

Docstrings here are written to be read in an editor: ``|x|``, ``X_`` or a hanging indent mean themselves. Sphinx would
take them for markup and warn, so all is escaped but code, ``*emphasis*``, lists (with what is indented below ``Args:``)
and blocks after ``::``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

#: What keeps its meaning: code in backticks and ``*emphasis*``.
KEPT = re.compile(r"(``.+?``|`[^`]+`|(?<![\w*])\*\w(?:[\w ,-]*\w)?\*(?![\w*]))")
ROLE = re.compile(r":[a-z]+:(?=`)")
_MARKUP = re.compile(r"[\\*|`]|_(?!\w)")


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx when it loads the extension."""
    app.connect("autodoc-process-docstring", lambda app, what, name, thing, options, lines: convert(lines))
    return {"parallel_read_safe": True}


def convert(lines: list[str]) -> None:
    """Rewrite a docstring's lines in place."""
    lines[:] = [*_converted(lines), ""]


def _converted(lines: list[str]) -> Iterator[str]:
    literal = False
    for block in _blocks(lines):
        literal = literal and all(line.startswith(" ") for line in block if line)
        if literal:
            yield from block
        else:
            yield from _paragraph(block)
            literal = block[-1].rstrip().endswith("::")
        yield ""


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Runs of lines between blank ones."""
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []


def _paragraph(block: list[str]) -> Iterator[str]:
    """One escaped line, and one for each item of the list that the block may end with."""
    text, *items = " ".join(_itemised(block)).split("\n")
    if text:
        yield _escaped(text)
        yield ""
    yield from map(_escaped, items)


def _itemised(block: list[str]) -> Iterator[str]:
    """The block's lines, a line break before each that begins an item: ``- ...``, or indented below ``Args:``."""
    indents = [len(line) - len(line.lstrip()) for line in block]
    named = len(block) > 1 and block[0].rstrip().endswith(":") and min(indents[1:]) > indents[0]
    for at, line in enumerate(block):
        begins = named and at > 0 and indents[at] == min(indents[1:])
        text = line.strip()
        yield f"\n- {text.removeprefix('- ')}" if begins or text.startswith("- ") else text


def _escaped(text: str) -> str:
    """Code goes between empty escapes: in ``Module``s or (``x``) it may touch letters and brackets."""
    plain = ROLE.sub("", text.strip())
    return "".join(_piece(piece) for piece in KEPT.split(plain))


def _piece(piece: str) -> str:
    if KEPT.fullmatch(piece):
        kept = f"`{piece}`" if re.match("`[^`]", piece) else piece
        return rf"\ {kept}\ "
    return _MARKUP.sub(lambda mark: f"\\{mark[0]}", piece)
