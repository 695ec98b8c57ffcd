"""The notebooks run from beginning to end, and are kept without what they print."""

import json

import pages
import pytest

notebooks = pytest.importorskip("notebooks", reason="the site is built on Python 3.11 only")

TUTORIALS = sorted((pages.ROOT / "docs" / "tutorials").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=[path.name for path in TUTORIALS])
def test_a_notebook_runs(path):
    ran = notebooks.execute(path.read_text("utf-8"))
    assert all(cell.execution_count for cell in ran.cells if cell.cell_type == "code")


def test_notebooks_are_kept_without_outputs():
    assert len(TUTORIALS) == 4
    for path in TUTORIALS:
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                assert (cell["outputs"], cell["execution_count"]) == ([], None), path.name
