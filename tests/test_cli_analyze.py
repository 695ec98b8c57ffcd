"""`larq-sks analyze`, as a user calls it."""

import json
import sys

import networks
import numpy as np
import pytest
from click.testing import CliRunner

import larq_sks as sks
from larq_sks import analysis
from larq_sks_cli import commands

pytest.importorskip("powerlaw", reason="needs the extra `analyze`")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained network as .h5 and .sks, and its binary kernels as .npz, packed and not."""
    folder = tmp_path_factory.mktemp("analyze")
    model = networks.resnet8()
    model.save(folder / "net.h5")
    sks.save(model, folder / "net.sks")
    kernels = {
        layer.name: layer.kernel.numpy()
        for layer in model.layers
        if getattr(layer, "kernel_quantizer", None) is not None
    }
    packed = {}
    for name, kernel in kernels.items():
        packed[f"{name}.kernel_bits"] = np.packbits(kernel >= 0)
        packed[f"{name}.kernel_shape"] = np.array(kernel.shape)
    stem = model.get_layer("stem").kernel.numpy()
    extra = {"stem.kernel": stem, "stem.bias": stem[0, 0, 0], "plan": np.array(["stem"])}
    np.savez(folder / "packed.npz", **packed, **extra)
    (first, one), (second, two), *_ = kernels.items()
    np.savez(
        folder / "plain.npz",
        **{
            first: one,
            f"{second}.kernel": two,
            "odd.kernel": np.ones((5, 5, 3, 2)),
            "bias": one[0],
        },
    )
    return folder


def run(*arguments, code=0):
    result = CliRunner().invoke(commands.main, ["analyze", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def run_json(*arguments):
    return json.loads(run(*arguments, "--json").stdout)["files"]


def fails(*arguments):
    result = run(*arguments, code=1)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line.removeprefix("Error: ")


def test_each_kind_of_file_gives_the_figures_of_the_network(folder):
    expected = analysis.analyze(networks.resnet8()).as_dict()
    names = ("net.h5", "net.sks", "packed.npz")
    files = run_json(*(folder / name for name in names))
    assert [file["path"] for file in files] == [str(folder / name) for name in names]
    for file in files:
        assert file["kernels"] == expected["kernels"]
        assert file["together"] == expected["together"]
    assert files[0]["skipped"] == files[1]["skipped"] == expected["skipped"]
    assert files[2]["skipped"] == {
        "stem.kernel": "not packed, as others are",
        "stem.bias": "no kernel by its name, nor 3×3 by its shape",
        "plan": "it holds no numbers",
    }


def test_the_tables_say_how_each_kernel_differs_from_chance(folder):
    lines = run(folder / "net.h5").stdout.splitlines()
    assert lines[0] == "net"
    position = next(number for number, line in enumerate(lines) if line.startswith("all "))
    together = analysis.analyze(networks.resnet8()).together[0]
    assert "18,432" in lines[position] and f"{together.figures.entropy:.2f}" in lines[position]
    assert f"{together.figures.top[64]:.1%}" in lines[position]
    assert lines[position + 1].split()[:3] == ["at", "random", f"{together.at_random.entropy:.2f}"]
    fit = next(line for line in lines[position + 2 :] if line.startswith("all "))
    assert f"{together.power_law.alpha:.2f}" in fit and fit.endswith(together.power_law.verdict)
    assert "left out (no binary kernel): stem, stage2_1_shortcut" in lines[-1]


def test_a_npz_of_plain_weights_is_read_by_name_and_shape(folder):
    (file,) = run_json(folder / "plain.npz")
    kernels = networks.resnet8()
    for each, name in zip(file["kernels"], ("stage1_1_conv", "stage1_2_conv")):
        assert each["name"] == name
        kernel = kernels.get_layer(name).kernel.numpy()
        assert each["counts"] == analysis.histogram(kernel).tolist()
    assert len(file["kernels"]) == 2
    assert file["skipped"] == {
        "odd.kernel": "no blocks for a kernel of 5×5×3×2",
        "bias": "no kernel by its name, nor 3×3 by its shape",
    }


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_picture_is_the_same_each_time(folder, tmp_path, ending):
    one, two = tmp_path / f"one.{ending}", tmp_path / f"two.{ending}"
    for path in one, two:
        run(folder / "plain.npz", folder / "packed.npz", "--plot", path)
    assert one.read_bytes() == two.read_bytes()
    start = {"png": b"\x89PNG", "svg": b"<?xml"}[ending]
    assert one.read_bytes().startswith(start) and one.stat().st_size > 5000
    assert "--force" in fails(folder / "plain.npz", "--plot", one)


def test_files_that_cannot_be_measured_are_refused_in_one_line(folder, tmp_path):
    assert "There is no file" in fails(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("nothing")
    assert "cannot be read as a .npz" in fails(tmp_path / "text.npz")
    half = (folder / "packed.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(half[: len(half) // 2])
    assert "cannot be read as a .npz" in fails(tmp_path / "half.npz")
    np.savez(tmp_path / "object.npz", a=np.array([{}], dtype=object))
    assert "cannot be read as a .npz" in fails(tmp_path / "object.npz")
    np.savez(tmp_path / "none.npz", bias=np.ones(3))
    assert "must hold a kernel" in fails(tmp_path / "none.npz")
    shape = np.array([3, 3, 8, 9])
    np.savez(
        tmp_path / "short.npz", **{"a.kernel_bits": np.zeros(8, np.uint8), "a.kernel_shape": shape}
    )
    assert "Received: 8 of uint8 for [3, 3, 8, 9]" in fails(tmp_path / "short.npz")
    assert "none of what can be read" in fails(tmp_path)


def test_without_the_package_the_extra_is_named_before_work_begins(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "powerlaw", None)
    assert "pip install '.[analyze]'" in fails(tmp_path / "missing.npz")
