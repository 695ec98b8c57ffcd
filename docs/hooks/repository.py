"""Brings files of the repository that lie outside docs/ into the site, so that links lead to them.

A page links to them as a reader of the repository needs it, such as `../benchmarks/results/core.log`. The
site has each linked file under repository/, a .md file as a page.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
"""Pages of the site whose text is elsewhere in the repository."""
PLACES = {**{source: page for page, source in PAGES.items()}, "README.md": "index.md"}
"""Where the site has files that are not under repository/: the home page stands for the README."""

# [text](target#anchor) and ![text](target); code is looked at, too, and has no such thing in it.
_LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")


def on_files(files: Files, config) -> Files:
    """Adds the pages of `PAGES` and all files that pages link to, and those that these link to."""
    for page, source in PAGES.items():
        files.append(_generated(config, page, source))
    waiting = [file for file in files if file.src_uri.endswith(".md")]
    while waiting:
        page = waiting.pop()
        for source in linked(page.src_uri, page.content_string):
            if files.get_file_from_path(_inside(source)) is None:
                files.append(_generated(config, _inside(source), source))
                if source.endswith(".md"):
                    waiting.append(files.get_file_from_path(_inside(source)))
    return files


def linked(src_uri: str, text: str) -> set[str]:
    """Lists the files of the repository, outside the site's own pages, that a page links to.

    Arguments:
        src_uri: The page.
        text: What stands in it.

    Returns:
        Their paths in the repository.

    Raises:
        PluginError: If one of them is not there.
    """
    found = {_source(src_uri, target) for _, target, _ in _LINK.findall(text)} - {None, *PLACES}
    outside = {source for source in found if not source.startswith("docs/")}
    for source in outside:
        if not (ROOT / source).is_file():
            raise PluginError(
                f"A link must lead to a file of the repository. Received: '{source}' in {src_uri}."
            )
    return outside


def on_page_markdown(markdown: str, page, config, files: Files) -> str:
    """Turns links to files of the repository into links to their places in the site."""
    here = posixpath.dirname(page.file.src_uri)

    def moved(link: re.Match) -> str:
        begin, target, anchor = link.groups(default="")
        source = _source(page.file.src_uri, target)
        if source is None:
            return link[0]
        if source.startswith("docs/") and source.endswith(".ipynb"):
            source = f"{source.removesuffix('.ipynb')}.md"
        return f"{begin}{posixpath.relpath(_inside(source), here or '.')}{anchor}"

    return _LINK.sub(moved, markdown)


def _origin(src_uri: str) -> str:
    """Finds the file of the repository that a page of the site is made from."""
    if src_uri in PAGES:
        return PAGES[src_uri]
    inside = src_uri.removeprefix("repository/")
    return f"docs/{src_uri}" if inside == src_uri else inside


def _source(src_uri: str, target: str) -> str | None:
    """Finds the file of the repository that a link means, or `None` if it leads elsewhere."""
    if ":" in target or target.startswith("/"):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(_origin(src_uri)), target))


def _inside(source: str) -> str:
    """Finds the place in the site of a file of the repository."""
    inside = source.removeprefix("docs/") if source.startswith("docs/") else f"repository/{source}"
    return PLACES.get(source, inside)


def _generated(config, src_uri: str, source: str) -> File:
    return File.generated(config, src_uri, abs_src_path=str(ROOT / source))
