"""`larq-sks benchmark`: what it runs and says. Its figures are for `benchmarks/`, not for tests."""

import importlib.util
import json
import sys

import networks
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

import larq_sks as sks
from larq_sks import latency
from larq_sks_cli.commands import main

pytest.importorskip("larq_compute_engine", reason="has no release for this Python")
RUNTIME = importlib.util.find_spec("larq_sks_runtime") is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained network with 16 codewords as .sks and as .tflite."""
    folder = tmp_path_factory.mktemp("files")
    model = sks.sparsify(networks.resnet8(), 16, "fixed")
    sks.save(model, folder / "net.sks")
    sks.to_tflite(model, folder / "compact.tflite", compact=True)
    sks.to_tflite(model, folder / "net.tflite")
    return folder


def run(*arguments):
    return CliRunner().invoke(main, ["benchmark", *map(str, arguments), "--rounds", "1"])


def test_a_tflite_file_runs_in_every_interpreter_that_is_here(folder):
    result = run(folder / "net.tflite")
    assert result.exit_code == 0, result.stderr
    engines = [line.split("  ")[0] for line in result.stdout.splitlines()]
    assert engines == ["LCE", "larq-sks-runtime"][: 1 + RUNTIME]
    assert ("Not run. larq-sks-runtime: larq-sks-runtime is not here." in result.stderr) != RUNTIME


def test_a_model_is_exported_in_three_forms(folder):
    result = run(folder / "net.sks", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    sizes = {each["name"]: each["size"] for each in report["timings"]}
    assert sizes["LCE"] == (folder / "net.tflite").stat().st_size
    assert "TensorFlow Lite, int8" in sizes
    if RUNTIME:
        assert sizes["larq-sks-runtime, compact"] == (folder / "compact.tflite").stat().st_size
    assert "LCE: cannot read a compact file." in report["missing"]
    for each in report["timings"]:
        assert 0 < each["lower"] <= each["median"] <= each["upper"]


def test_without_the_runtime_a_compact_file_says_how_to_get_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "larq_sks_runtime", None)
    result = run(folder / "compact.tflite")
    assert result.exit_code == 1 and "pip install ./runtime" in result.stderr
    result = CliRunner().invoke(
        main, ["evaluate", str(folder / "compact.tflite"), "--dataset", "cifar10_sample"]
    )
    assert result.exit_code == 1 and "pip install ./runtime" in result.stderr


@pytest.mark.skipif(not RUNTIME, reason="larq-sks-runtime is not installed")
def test_evaluate_runs_a_compact_file(folder):
    found = []
    for name in ("net.sks", "compact.tflite"):
        arguments = ["evaluate", str(folder / name), "--dataset", "cifar10_sample", "--json"]
        result = CliRunner().invoke(main, [*arguments, "--limit", "100"])
        assert result.exit_code == 0, result.stderr
        found.append(json.loads(result.stdout)["correct"])
    assert abs(found[0] - found[1]) <= 1


def test_what_is_no_tflite_file_is_refused(tmp_path):
    (tmp_path / "net.tflite").write_text("no network")
    result = run(tmp_path / "net.tflite")
    assert result.exit_code == 1 and "is no .tflite file" in result.stderr
    result = run(tmp_path / "missing.tflite")
    assert result.exit_code == 1 and "There is no file" in result.stderr


def test_the_int8_twin_has_the_shapes_of_the_model():
    model = networks.resnet8()
    interpreter = tf.lite.Interpreter(model_content=latency.int8_twin(model))
    filters = [
        tuple(each["shape"])
        for each in interpreter.get_tensor_details()
        if each["dtype"] == np.int8 and len(each["shape"]) == 4 and each["shape"][1] == 3
    ]
    for name in ("stage1_1_conv", "stage3_2_conv"):
        height, width, channels_in, channels_out = model.get_layer(name).kernel.shape
        assert (channels_out, height, width, channels_in) in filters
    assert interpreter.get_input_details()[0]["dtype"] == np.int8
