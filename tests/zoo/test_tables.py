"""The tables of zoo/results, from records whose means and standard errors are known."""

import json
import xml.etree.ElementTree as xml

import networks
import pytest
import tables
from click.testing import CliRunner

HEADER = (
    "network,road,codewords,epochs,seed,selection,before,after,changed,seconds,date,machine,versions,"
    "command,settings"
)


def line(codewords, seed, selection, after, changed="", epochs=1, road="parent", settings=""):
    start = f"ResNet8,{road},{codewords},{epochs},{seed},{selection},50.00,{after},{changed}"
    return f'{start},60,2026-11-25,"x86_64, 2 cores",tf 2.15.1,python x.py,{settings}'


RECORD = [
    *(line("", seed, "1-bit", after) for seed, after in enumerate([73.0, 74.0, 75.0])),
    # A seed more than the others, and not the best one for that.
    *(line(8, seed, "random", after) for seed, after in enumerate([60.0, 61.0, 62.0, 61.0])),
    *(line(8, seed, "coverage", after) for seed, after in enumerate([66.0, 68.0, 70.0])),
    # The best single run, but a single one.
    line(8, 0, "frequent", 90.0),
    # 0.5, 1.0, 1.5 above coverage: 1.0 ± 0.5 / √3.
    *(line(8, seed, "learned", after, 3 + seed) for seed, after in enumerate([66.5, 69.0, 71.5])),
    # 1.0, -1.0, 0.3 above: 0.1 ± 0.59.
    *(line(8, seed, "loose", after) for seed, after in enumerate([67.0, 67.0, 70.3])),
    line(8, 2, "once", 71.0),
    line(32, 0, "random", 70.0),
    line(8, 0, "random", 55.0, epochs=5, road="scratch"),
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "selections.csv").write_text("\n".join([HEADER, *RECORD]) + "\n")
    (tmp_path / "other.csv").write_text("epoch,loss\n0,1.5\n")
    return tmp_path


def rebuild(folder):
    result = CliRunner().invoke(
        tables.main, ["--folder", str(folder), "--cards", str(folder / "cards")]
    )
    assert result.exit_code == 0, result.output
    return result.output, (folder / "README.md").read_text()


def test_means_and_standard_errors_are_those_on_paper():
    assert tables.mean([66.0, 68.0, 70.0]) == (68.0, pytest.approx(2 / 3**0.5), 3)
    assert tables.mean([1.5]) == (1.5, None, 1)


def test_the_page_holds_accuracies_and_paired_differences(folder):
    output, page = rebuild(folder)
    assert "selections.csv: 20 runs" in output and "other.csv: no record of runs" in output
    lines = page.splitlines()
    assert lines[0] == "# Results" and "### ResNet8, parent, 1 epoch" in lines
    assert "| selection | n = 8 | n = 32 | 1 bit |" in lines
    assert "| 1-bit |  |  | 74.00 ± 0.58 (3) |" in lines
    assert "| random | 61.00 ± 0.41 (4) | 70.00 (1) |  |" in lines
    assert "| coverage | 68.00 ± 1.15 (3) |  |  |" in lines
    assert "| frequent | 90.00 (1) |  |  |" in lines
    gain = "**+1.00 ± 0.29 (3) against coverage, 4.0 moved**"
    assert f"| learned | {gain} |  |" in lines
    assert "| loose | +0.10 ± 0.59 (3) against coverage |  |" in lines
    assert "| once | +1.00 (1) against coverage |  |" in lines
    assert "### ResNet8, scratch, 5 epochs" in lines and "| random | 55.00 (1) |" in lines


def test_rows_come_baselines_first(folder):
    names = tables._names(tables.read(folder / "selections.csv"))
    assert names == ["1-bit", "random", "frequent", "coverage", "learned", "loose", "once"]


def test_what_stands_around_the_tables_stays(folder):
    _, page = rebuild(folder)
    text = page.replace("# Results\n", "# Results\n\nOur words.\n") + "\nMore words.\n"
    (folder / "README.md").write_text(text)
    (folder / "selections.csv").write_text(f"{HEADER}\n{line(16, 0, 'random', 12.5)}\n")
    _, page = rebuild(folder)
    assert page.startswith("# Results\n\nOur words.\n") and page.endswith("\nMore words.\n")
    assert "12.50 (1)" in page and "68.00" not in page and page.count(tables.BEGIN) == 1
    assert rebuild(folder)[1] == page


def test_settings_tell_selections_of_one_name_apart(folder):
    lines = [line(8, 0, "learned", 1.0, settings=settings) for settings in ("rate=1", "rate=2")]
    (folder / "selections.csv").write_text("\n".join([HEADER, *lines]))
    names = [run.selection for run in tables.read(folder / "selections.csv")]
    assert names == ["learned (rate=1)", "learned (rate=2)"]


def test_a_run_that_is_there_twice_is_refused(folder):
    (folder / "selections.csv").write_text("\n".join([HEADER, *RECORD, RECORD[3]]))
    with pytest.raises(ValueError, match="each run once.*line 22"):
        tables.read(folder / "selections.csv")


def test_the_figure_shows_a_line_for_each_network(folder):
    (folder / "cards").mkdir()
    for number, (network, bits, accuracy) in enumerate(
        [("ResNet20", 1.0, 85.0), ("ResNet20", 0.556, 84.0), ("VGGSmall", 1.0, 90.0)]
    ):
        card = dict(network=network, dataset="cifar10", bits_a_weight=bits, accuracy=accuracy)
        (folder / "cards" / f"{number}.json").write_text(json.dumps(card))
    assert "3 cards" in rebuild(folder)[0]
    assert "](accuracy.svg)" in (folder / "README.md").read_text()
    first = (folder / "accuracy.svg").read_bytes()
    rebuild(folder)
    assert (folder / "accuracy.svg").read_bytes() == first
    root = xml.fromstring(first)
    space = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in root.iter(f"{space}text")]
    assert "ResNet20, cifar10" in texts and "VGGSmall, cifar10" in texts
    # Only what lies in the frame is clipped to it: the points, not the ticks or the legend.
    inside = [group for group in root.iter(f"{space}g") if group.get("clip-path")]
    points = [float(use.get("y")) for group in inside for use in group.iter(f"{space}use")]
    assert len(points) == 3 and min(points) == points[2]  # VGGSmall is the highest


def test_the_records_in_the_repository_are_readable():
    for path in (networks.RESULTS.parents[1] / "results").glob("*.csv"):
        runs = tables.read(path)
        assert runs is None or tables.tables(runs)
