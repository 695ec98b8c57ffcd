"""The command line, as a user calls it."""

import csv
import json

import pytest
import tensorflow as tf
from click.testing import CliRunner

import larq_sks as sks
from larq_sks.cli import main


def test_help_names_the_commands():
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0 and "demo" in result.output


def test_demo_trains_and_writes_its_results(tmp_path):
    folder = tmp_path / "results"
    result = CliRunner().invoke(main, ["demo", "--quick", "--output", str(folder)])
    assert result.exit_code == 0, result.output
    assert "0.56" in result.output and folder.name in result.output

    results = json.loads((folder / "results.json").read_text())
    assert [round(run["bits_a_weight"], 2) for run in results] == [1.0, 0.56, 0.56]
    # 165,888 weights, and six codebooks of 32 times 9 bits.
    sizes = [165_888 / 8192, (165_888 * 5 / 9 + 6 * 32 * 9) / 8192]
    assert [run["binary_kib"] for run in results] == pytest.approx([*sizes, sizes[1]])
    assert all(0.0 <= run["accuracy"] <= 1.0 and run["seconds_a_step"] > 0 for run in results)
    with open(folder / "learned.csv") as log:
        assert "codewords_changed" in next(csv.reader(log))
    assert (folder / "codewords.png").read_bytes().startswith(b"\x89PNG")
    model = tf.keras.models.load_model(folder / "learned.keras")
    for chosen in sks.codewords(model).values():
        assert len(set(chosen.indices)) == 32


@pytest.mark.parametrize(
    "arguments",
    [["--epochs", "0"], ["--seed", "-1"], ["--quick", "--epochs", "5"], ["--output", __file__]],
)
def test_demo_refuses_wrong_arguments(arguments):
    result = CliRunner().invoke(main, ["demo", *arguments])
    assert result.exit_code == 2 and arguments[0] in result.output
