"""`larq-sks zoo`."""

import dataclasses
import json

import pytest
from click.testing import CliRunner

import larq_sks as sks
import larq_sks_zoo as zoo
from larq_sks_cli import commands
from larq_sks_zoo import pretrained
from larq_sks_zoo.training import recipes

CARD = pretrained.Card(
    network="ResNet20",
    dataset="cifar10",
    num_codewords=None,
    file="resnet20_cifar10_1bit.sks",
    sha256="0" * 64,
    bytes=612_345,
    latent=True,
    accuracy=84.37,
    sample_accuracy=84.1,
    test_images=10_000,
    parameters=275_000,
    bits_a_weight=1.0,
    binary_operations=40_550_400.0,
    float_operations=583_000.0,
    recipe="resnet20-cifar10",
    command="larq-sks train resnet20-cifar10 --seed 0",
    environment={},
    seed=0,
    epochs=30,
    started_from=None,
    log="log.csv",
    date="2026-01-01",
    machine="two cores",
    versions={},
    limits="one seed",
)


@pytest.fixture
def cards(tmp_path, monkeypatch):
    small = dataclasses.replace(
        CARD, num_codewords=32, bits_a_weight=5 / 9, bytes=123_456, accuracy=83.5, latent=False
    )
    for number, card in enumerate([small, CARD]):
        (tmp_path / f"{number}.json").write_text(json.dumps(dataclasses.asdict(card)))
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    return [CARD, small]


def run(*arguments):
    result = CliRunner().invoke(commands.main, ["zoo", *arguments])
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def test_it_shows_what_is_pretrained_and_how_to_train_the_rest(cards):
    lines = run().splitlines()
    rows = [line.split() for line in lines if "ResNet20" in line]
    assert rows == [
        ["ResNet20", "cifar10", "-", "84.37", "%", "1.00", "612,345*", "40.6", "M", "0.58", "M"],
        ["ResNet20", "cifar10", "32", "83.50", "%", "0.56", "123,456", "40.6", "M", "0.58", "M"],
        # 33,408 bytes of binary weights, 7,450 float ones.
        ["ResNet20", "63,208", "40.1", "M", "0.71", "M", "resnet20-cifar10,", "resnet20-cifar100"],
    ]
    for build in zoo.NETWORKS:
        assert sum(build.__name__ in line.split() for line in lines) >= 1
    (row,) = [line for line in lines if "VGGSmall" in line.split()]
    assert "vgg_small-cifar10" in row and "vgg_small-cifar100" in row


def test_json_holds_the_cards_and_all_architectures_with_their_recipes(cards):
    listing = json.loads(run("--json"))
    assert listing["pretrained"] == [dataclasses.asdict(card) for card in cards]
    architectures = {entry["network"]: entry for entry in listing["architectures"]}
    assert list(architectures) == [build.__name__ for build in zoo.NETWORKS]
    assert all(entry["about"].startswith("Builds ") for entry in architectures.values())
    assert architectures["QuickNet"]["at_1_bit"]["parameters"] == 13_243_720
    named = [name for entry in architectures.values() for name in entry["recipes"]]
    assert sorted(named) == sorted(recipe.name for recipe in recipes.RECIPES)


def test_each_recipe_is_for_a_network_that_there_is():
    names = {build.__name__ for build in zoo.NETWORKS}
    assert {recipe.network for recipe in recipes.RECIPES} <= names


@pytest.mark.parametrize("build", zoo.NETWORKS, ids=lambda build: build.__name__)
def test_the_figures_of_a_network_are_those_of_its_summary(build):
    """If not, `python zoo/architectures.py` writes them anew."""
    entry = json.loads(pretrained.ARCHITECTURES.read_text())[build.__name__]
    summary = sks.models.summary(build(), print_fn=lambda line: None)
    assert (entry["bytes"], entry["parameters"]) == (summary.bits // 8, summary.float32_bits // 32)
    assert entry["binary_operations"] == summary.cost.bit_operations
    assert entry["float_operations"] == summary.macs and entry["bits_a_weight"] == 1
