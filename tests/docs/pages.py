"""Where the pages are, and the fenced blocks in them."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
# Three backticks with a language or without, and the same three, as deep in the line, at the end.
_FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block."""

    language: str
    line: int
    """Number of its first line in the page, from 1."""
    text: str


def pages() -> list[str]:
    """Lists README.md, CONTRIBUTING.md and all pages of the site, by their path in the repository."""
    found = [*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    return sorted(page.relative_to(ROOT).as_posix() for page in found)


def blocks(page: str) -> list[Block]:
    """Finds the fenced blocks of a page."""
    text = (ROOT / page).read_text("utf-8")
    return [
        Block(fence[2].strip(), text.count("\n", 0, fence.start(3)) + 1, textwrap.dedent(fence[3]))
        for fence in _FENCE.finditer(text)
    ]
