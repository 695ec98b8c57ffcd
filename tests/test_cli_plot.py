"""`larq-sks plot`, as a user calls it."""

import json
import sys

import networks
import pytest
from click.testing import CliRunner
from matplotlib import pyplot

import larq_sks as sks
from larq_sks_cli import commands

PNG, SVG = b"\x89PNG", b"<?xml"
CODEWORDS = [
    f"codewords_{number:02}_stage{stage}_{place}_conv"
    for number, (stage, place) in enumerate(
        ((stage, place) for stage in (1, 2, 3) for place in (1, 2)), start=1
    )
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained 1-bit network, and the same with 8 codewords."""
    folder = tmp_path_factory.mktemp("plot")
    model = networks.resnet8()
    model.save(folder / "net.h5")
    sks.save(sks.sparsify(model, 8), folder / "small.sks")
    return folder


def run(*arguments, code=0):
    result = CliRunner().invoke(commands.main, ["plot", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def fails(*arguments):
    result = run(*arguments, code=1)
    (line,) = result.stderr.splitlines()
    assert not result.stdout
    return line


@pytest.mark.parametrize("kind, begin", [("png", PNG), ("svg", SVG)])
def test_all_pictures_of_a_network_with_few_codewords(folder, tmp_path, kind, begin):
    pytest.importorskip("powerlaw")
    out = tmp_path / "new" / "pictures"
    figures_before = pyplot.get_fignums()
    figures = json.loads(run(folder / "small.sks", out, "--format", kind, "--json").stdout)
    names = ["sizes", "ranks", "use", *CODEWORDS]
    paths = [out / f"{name}.{kind}" for name in names]
    assert figures == {
        "path": str(folder / "small.sks"),
        "pictures": list(map(str, paths)),
        "left_out": {},
    }
    assert sorted(out.iterdir()) == sorted(paths)
    assert all(path.read_bytes().startswith(begin) for path in paths)
    assert pyplot.get_fignums() == figures_before

    before = [path.read_bytes() for path in paths]
    assert "sizes" in fails(folder / "small.sks", out, "--format", kind)
    run(folder / "small.sks", out, "--format", kind, "--force")
    assert [path.read_bytes() for path in paths] == before


def test_a_network_at_one_bit_has_no_pictures_of_codewords(folder, tmp_path):
    pytest.importorskip("powerlaw")
    lines = run(folder / "net.h5", tmp_path).stdout.splitlines()
    assert lines[:-1] == [str(tmp_path / "sizes.png"), str(tmp_path / "ranks.png")]
    assert lines[-1].startswith("no codewords: no kernel has chosen codewords")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ranks.png", "sizes.png"]


def test_without_powerlaw_the_other_pictures_are_drawn(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "powerlaw", None)
    result = run(folder / "small.sks", tmp_path)
    assert "no ranks: The power-law fit needs the package powerlaw" in result.stdout
    assert (tmp_path / "use.png").exists() and not (tmp_path / "ranks.png").exists()


def test_without_matplotlib_the_error_says_what_to_install(folder, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "larq_sks.plot", raising=False)
    assert "pip install '.[plot]'" in fails(folder / "small.sks", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_where_no_picture_can_be_written_nothing_is(folder, tmp_path):
    (tmp_path / "file").touch()
    assert "is a file" in fails(folder / "small.sks", tmp_path / "file")
    assert "There is no file" in fails(tmp_path / "none.sks", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
