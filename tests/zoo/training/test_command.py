"""`larq-sks train`, as a user calls it."""

import json
import os

import pytest
from click.testing import CliRunner

import larq_sks as sks
from larq_sks_cli.commands import main
from larq_sks_zoo.training import recipes


@pytest.fixture(autouse=True)
def one_order(monkeypatch):
    """With one thread the command leaves the process's settings as they are."""
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "1")


def call(*arguments, code=0):
    result = CliRunner().invoke(main, ["train", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_the_list_names_every_recipe():
    shown = call("--list").stdout
    assert [line.split()[0] for line in shown.splitlines()] == [r.name for r in recipes.RECIPES]
    listed = json.loads(call("--list", "--json").stdout)["recipes"]
    assert listed[1]["recipe"] == recipes.RECIPES[1].name and listed[1]["epochs"] == 30


def test_from_1_bit_to_few_codewords(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "resnet8-cifar10_sample"
    result = call(name, "--epochs", 1)
    folder = os.path.join("larq-sks-runs", f"{name}_1bit_seed0")
    assert "of 1,000 test images" in result.stdout and "1.00 bit a binary weight" in result.stdout
    assert "epoch 1/1" in result.stderr and "epoch" not in result.stdout
    parent = os.path.join(folder, "final.sks")
    assert parent in result.stdout

    options = ("--num-codewords", 16, "--start", parent, "--epochs", 1, "--output", "small")
    record = json.loads(call(name, *options, "--json").stdout)
    assert record["new"] and record["settings"]["selection"] == "fixed"
    model = sks.load("small/final.sks")
    assert all(len(kernel.indices) == 16 for kernel in sks.codewords(model).values())
    again = call(name, *options, "--selection", "fixed")
    assert "finished already" in again.stdout
    refused = call(name, *options, "--selection", "permutation", code=1)
    assert "selection: 'fixed' there, 'permutation' now" in refused.stderr


@pytest.mark.parametrize(
    "arguments, code, complaint",
    [
        ([], 2, "--list"),
        (["resnet8-cifar10", "--list"], 2, "--list"),
        (["resnet9-cifar10"], 1, "resnet8-cifar10_sample"),
        (["resnet8-cifar10", "--data-dir", "nowhere"], 1, "tfds.load('cifar10'"),
        (["resnet8-cifar10_sample", "--start", "net.sks"], 1, "num_codewords"),
    ],
)
def test_mistakes_are_answered_in_one_line(tmp_path, monkeypatch, arguments, code, complaint):
    monkeypatch.chdir(tmp_path)
    result = call(*arguments, code=code)
    assert complaint in result.stderr and result.stdout == ""
    assert code == 2 or result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
