"""The code in the README and in the pages of the site runs, and the commands in them exist."""

import importlib.util
import os
import shlex
import sys
from unittest import mock

import click
import pages
import pytest
import tensorflow as tf

from larq_sks_cli.commands import main

# "py" is Python that cannot run here, because it needs ImageNet or files of the reader; the page says so.
# "output" is what the Python block before it prints; a line of "…" stands for others.
LANGUAGES = {"", "python", "py", "console", "bibtex", "json", "text", "output"}
# These train for more than some seconds.
SLOW = {
    f"docs/guides/{name}.md"
    for name in ("choosing-n", "distributed", "learned-selection", "sparsify", "training")
}
# This needs a package that needs a compiler.
RUNTIME = "docs/guides/runtime.md"
without_runtime = pytest.mark.skipif(
    importlib.util.find_spec("larq_sks_runtime") is None, reason="larq-sks-runtime is not installed"
)
WITH_PYTHON = [
    pytest.param(
        page,
        marks=[pytest.mark.slow] * (page in SLOW) + [without_runtime] * (page == RUNTIME),
    )
    for page in pages.pages()
    if any(block.language == "python" for block in pages.blocks(page))
]


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="the pages are run on the main Python, 3.11"
)
@pytest.mark.parametrize("page", WITH_PYTHON)
def test_the_blocks_of_a_page_run_one_after_the_other(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tf.keras.backend.clear_session()
    names = {"__name__": "__main__"}
    # What a page sets in the environment ends with it.
    with mock.patch.dict(os.environ, MPLBACKEND="agg"):
        for block in pages.blocks(page):
            if block.language == "python":
                # Empty lines before it, so that a traceback names the line of the page.
                source = "\n" * (block.line - 1) + block.text
                exec(compile(source, pages.ROOT / page, "exec"), names)
                printed = {line.strip() for line in capsys.readouterr().out.splitlines()}
            if block.language == "output":
                assert {line.strip() for line in block.text.splitlines()} - {"…"} <= printed


@pytest.mark.parametrize("page", pages.pages())
def test_blocks_are_of_a_known_kind(page):
    # A misspelt "python" would not be run.
    assert {block.language for block in pages.blocks(page)} <= LANGUAGES


def commands(page):
    """The calls of larq-sks among a page's blocks, without comments and prompts."""
    for block in pages.blocks(page):
        if block.language in ("", "console"):
            for line in block.text.replace("\\\n", " ").splitlines():
                line = line.removeprefix("$ ")
                if line.startswith("larq-sks "):
                    yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize("page", [page for page in pages.pages() if list(commands(page))])
def test_commands_have_the_options_that_a_page_gives_them(page):
    for name, *words in commands(page):
        command = main.get_command(click.Context(main), name)
        if name.startswith("-"):
            command, words = main, [name, *words]
        assert command is not None, f"there is no command {name}"
        try:
            command.make_context(name, words)
        except click.exceptions.Exit:
            pass  # --help and the like
        except click.BadParameter as error:
            # The files of examples are not here.
            if "does not exist" not in str(error):
                raise


def test_a_block_is_found_where_it_stands(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    (tmp_path / "page.md").write_text(
        "a\n```python\nx = 1\n```\n\n- b\n\n    ```\n    $ c\n    ```\n"
    )
    first, second = pages.blocks("page.md")
    assert first == ("python", 3, "x = 1\n")
    assert second == ("", 9, "$ c\n")
