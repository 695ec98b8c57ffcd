"""Makes a page of each notebook: runs it, and writes its cells and outputs as markdown.

The notebooks are kept without outputs. They run in a temporary folder, and nothing stays behind. With the
environment variable DOCS_EXECUTE=0 they do not run, and the pages have no outputs.
"""

from __future__ import annotations

import functools
import logging
import os
import posixpath
import re
import tempfile
import time

import nbformat
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

# The kernel listens on this machine alone, to signed messages, and warns of that all the same.
_QUIET = ["--IPKernelApp.log_level=40"]
# tensorflow_datasets prepares to draw progress bars, which warns where ipywidgets is missing.
_NO_BARS = {"PYTHONWARNINGS": "ignore:IProgress not found"}
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_log = logging.getLogger("mkdocs.hooks.notebooks")


def execute(text: str) -> nbformat.NotebookNode:
    """Runs a notebook, cell by cell, in a temporary folder.

    Arguments:
        text: The notebook, as it stands in its file.

    Returns:
        The notebook with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails.
    """
    notebook = nbformat.reads(text, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(
            notebook,
            timeout=600,
            startup_timeout=300,
            kernel_name="python3",
            resources=resources,
            extra_arguments=_QUIET,
            # What a cell prints bit by bit is one block.
            coalesce_streams=True,
        )
        client.execute(env={**os.environ, **_NO_BARS})
    return notebook


def without_colours(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Takes the colour codes of terminals out of a notebook's outputs, which a page would show as text."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "text" in output:
                output["text"] = _COLOURS.sub("", output["text"])
            if "text/plain" in output.get("data", {}):
                output["data"]["text/plain"] = _COLOURS.sub("", output["data"]["text/plain"])
    return notebook


# `mkdocs serve` builds again at every change: it need not run again what did not change.
@functools.cache
def _markdown(text: str, run: bool) -> tuple[str, dict[str, bytes]]:
    notebook = execute(text) if run else nbformat.reads(text, as_version=4)
    markdown, resources = MarkdownExporter().from_notebook_node(without_colours(notebook))
    return markdown, resources["outputs"]


def on_files(files: Files, config) -> Files:
    """Puts a page and its pictures in the place of each notebook."""
    run = os.environ.get("DOCS_EXECUTE", "1") != "0"
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        began = time.monotonic()
        stem = notebook.src_uri.removesuffix(".ipynb")
        markdown, pictures = _markdown(notebook.content_string, run)
        if run:
            _log.info("%s took %.0f s", notebook.src_uri, time.monotonic() - began)
        for name, content in pictures.items():
            # Beside the page, and named after it: two notebooks may have an output_1_0.png each.
            unique = f"{posixpath.basename(stem)}_{name}"
            markdown = markdown.replace(f"]({name})", f"]({unique})")
            place = posixpath.join(posixpath.dirname(stem), unique)
            files.append(File.generated(config, place, content=content))
        files.append(File.generated(config, f"{stem}.md", content=markdown))
    return files
