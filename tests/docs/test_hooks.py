"""What makes pages of notebooks, records and files of the repository."""

import csv
import json
import re
import statistics
from importlib.metadata import version
from types import SimpleNamespace

import pages
import pytest

measured = pytest.importorskip("measured", reason="the site is built on Python 3.11 only")
notebooks = pytest.importorskip("notebooks", reason="the site is built on Python 3.11 only")
repository = pytest.importorskip("repository", reason="the site is built on Python 3.11 only")
nbclient = pytest.importorskip("nbclient", reason="the site is built on Python 3.11 only")
nbformat = pytest.importorskip("nbformat", reason="the site is built on Python 3.11 only")


def notebook(*sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells))


def test_a_notebook_runs_in_a_folder_that_is_gone_afterwards(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "open('left.txt', 'w').close()\nimport os\nprint(os.getcwd())\nprint('\\x1b[31mred\\x1b[0m')"
    ran = notebooks.execute(notebook("x = 1", code, "x + 1"))
    folder, colour = ran.cells[1].outputs[0]["text"].splitlines()
    assert not pages.Path(folder).exists()
    assert list(tmp_path.iterdir()) == []
    assert colour == "\x1b[31mred\x1b[0m"
    assert notebooks.without_colours(ran).cells[1].outputs[0]["text"] == f"{folder}\nred\n"
    assert ran.cells[2].outputs[0]["data"]["text/plain"] == "2"


def test_a_cell_that_fails_ends_the_build():
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="ZeroDivisionError"):
        notebooks.execute(notebook("1 / 0"))


def test_tables_hold_the_figures_of_the_records():
    cards = [json.loads(path.read_text("utf-8")) for path in measured.CARDS.glob("*.json")]
    assert len(cards) >= 6
    table = measured.TABLES["cards"]()
    rows = [row.split(" | ") for row in table.splitlines()[2:]]
    assert sorted(row[2] for row in rows) == sorted(f"{card['accuracy']:.2f} %" for card in cards)
    files = json.loads(measured.FILES.read_text("utf-8"))
    for size in files["sizes"].values():
        assert f"**{size['sks']:,}**" in measured.TABLES["sizes"]()
    with measured.SELECTIONS.open(newline="") as file:
        after = [
            float(line["after"])
            for line in csv.DictReader(file)
            if (line["network"], line["road"], line["selection"])
            == ("ResNet8", "fine-tuned", "random")
            and (line["codewords"], line["epochs"]) == ("32", "5")
        ]
    assert len(after) >= 3
    (row,) = [row for row in measured.TABLES["selections"]().splitlines() if "random" in row]
    assert row.split(" | ")[4].startswith(f"{statistics.mean(after):.2f} ± ")


@pytest.mark.parametrize("name", measured.TABLES)
def test_every_table_has_rows_and_its_mark_is_used(name):
    assert len(measured.TABLES[name]()) > 20
    assert any(
        f"<!-- measured: {name} -->" in (pages.ROOT / page).read_text("utf-8")
        for page in pages.pages()
    )


def test_a_target_that_is_missed_is_said_to_be(monkeypatch, tmp_path):
    def memory(ratio):
        record = json.loads((pages.ROOT / "benchmarks/results/core.json").read_text("utf-8"))
        for network in ("ResNet-20", "wide layer"):
            record[f"memory, {network}"] = {"sign": 100.0, "learned": 100.0 * ratio}
        changed = tmp_path / "core.json"
        changed.write_text(json.dumps(record))
        monkeypatch.setattr(measured, "CORE", changed)
        (row,) = [row for row in measured.TABLES["targets"]().splitlines() if "peak memory" in row]
        return row.split(" | ")[3]

    assert memory(1.09) == "yes"
    assert memory(1.11) == "**no**"


def test_a_mark_without_table_is_an_error():
    with pytest.raises(
        Exception, match=r"`measured` must name one of .*Received: 'speeed' in page.md"
    ):
        measured.filled("<!-- measured: speeed -->", "page.md")


def test_links_out_of_docs_lead_into_the_site():
    def moved(src_uri, text):
        page = SimpleNamespace(file=SimpleNamespace(src_uri=src_uri))
        return repository.on_page_markdown(text, page, None, None)

    assert moved("zoo.md", "[a](../zoo/README.md#b)") == "[a](repository/zoo/README.md#b)"
    assert moved("guides/x.md", "![a](../../b.svg)") == "![a](../repository/b.svg)"
    assert moved("guides/x.md", "[a](../zoo.md)") == "[a](../zoo.md)"
    assert moved("guides/x.md", "[a](../t/1.ipynb)") == "[a](../t/1.md)"
    assert moved("changelog.md", "[a](docs/zoo.md)") == "[a](zoo.md)"
    assert moved("repository/zoo/README.md", "[a](../docs/zoo.md)") == "[a](../../zoo.md)"
    assert moved("repository/zoo/README.md", "[a](../CHANGELOG.md)") == "[a](../../changelog.md)"
    for elsewhere in ("[a](https://b.c/d)", "[a](#b)"):
        assert moved("guides/x.md", elsewhere) == elsewhere


def test_linked_files_are_found_and_must_exist():
    text = "[a](../README.md) [b](../LICENSE) [c](zoo.md) [d](https://e.f) [g](#h) [i](../CHANGELOG.md)"
    assert repository.linked("x.md", text) == {"LICENSE"}
    with pytest.raises(Exception, match=r"(?s)file of the repository.*'nowhere.md' in x.md"):
        repository.linked("x.md", "[a](../nowhere.md)")


def test_the_readme_and_the_citation_say_what_holds():
    readme = (pages.ROOT / "README.md").read_text("utf-8")
    for card in measured.cards():
        (row,) = [row for row in readme.splitlines() if row.startswith(f"| {card['network']} |")]
        assert f" {card['accuracy']:.2f} " in row
    citation = (pages.ROOT / "CITATION.cff").read_text("utf-8")
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == version("larq-sks")
    assert f"{{{version('larq-sks')}}}" in (pages.ROOT / "docs/citing.md").read_text("utf-8")
