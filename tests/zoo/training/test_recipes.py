"""The list of recipes."""

import pytest
import tensorflow as tf

import larq_sks_zoo as zoo
from larq_sks_zoo.training import datasets, fitting, recipes
from larq_sks_zoo.training.recipes import Recipe, Stage

SMALL = ("ResNet8", "ResNet20", "ResNet18", "VGGSmall", "QuickNetSmall32")


def test_names_are_unique_and_networks_and_data_sets_exist():
    names = [recipe.name for recipe in recipes.RECIPES]
    assert len(set(names)) == len(names)
    for recipe in recipes.RECIPES:
        assert callable(getattr(zoo, recipe.network))
        assert recipe.dataset in datasets.NAMES
        assert recipes.get(recipe.name) is recipe


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_each_network_for_small_images_has_a_recipe(dataset):
    found = {each.network: each for each in recipes.RECIPES if each.dataset == dataset}
    assert set(found) == set(SMALL)
    for name in ("ResNet18", "VGGSmall"):
        assert "not run" in found[name].description


def test_an_unknown_name_is_answered_with_those_that_there_are():
    with pytest.raises(ValueError, match="resnet8-cifar10_sample.*Received: 'resnet9-cifar10'"):
        recipes.get("resnet9-cifar10")


@pytest.mark.parametrize(
    "options, what",
    [
        ({"optimizer": "bop"}, "`optimizer`.*adam.*'bop'"),
        ({"decay": "steps"}, "`decay`.*cosine.*'steps'"),
        ({"warmup": 3}, "`warmup`.*warmup=3, epochs=3"),
        ({"warmup": 1, "decay": "linear"}, "`warmup`.*cosine"),
        ({"weight_decay": 0.1, "optimizer": "adam_and_sgd"}, "`weight_decay`"),
    ],
)
def test_a_stage_refuses_numbers_that_make_no_sense(options, what):
    with pytest.raises(ValueError, match=what):
        Stage(**{"epochs": 3, "batch_size": 128, "rate": 0.1, "warmup": 0, **options})


def test_a_recipe_must_end_in_binary_kernels():
    stage = Stage(3, 128, 0.1, 0, binary_kernels=False)
    with pytest.raises(ValueError, match="`stages`"):
        Recipe("name", "ResNet8", "cifar10_sample", (stage,), Stage(3, 128, 0.1, 0), "")


@pytest.mark.parametrize(
    "stage, expected",
    [
        (Stage(4, 128, 0.1, 1), {0: 0.0, 5: 0.05, 10: 0.1, 25: 0.05, 40: 0.0}),
        (Stage(4, 128, 0.1, 0), {0: 0.1, 20: 0.05, 40: 0.0}),
        (Stage(4, 128, 0.1, 0, decay="linear"), {0: 0.1, 10: 0.075, 40: 0.0}),
    ],
)
def test_the_rate_follows_the_line_that_the_stage_names(stage, expected):
    line = fitting.schedule(stage, 10, stage.rate)
    for step, rate in expected.items():
        assert float(line(step)) == pytest.approx(rate, abs=1e-7)


def test_the_optimizer_takes_rate_and_weight_decay_of_the_stage():
    adam = fitting.optimizer(Stage(4, 128, 0.1, 0, weight_decay=1e-5), 10)
    assert isinstance(adam, tf.keras.optimizers.Adam) and adam.weight_decay == 1e-5
    assert fitting.optimizer(Stage(4, 128, 0.1, 0), 10).weight_decay is None
    split = fitting.optimizer(Stage(4, 128, 0.1, 0, optimizer="adam_and_sgd"), 10)
    assert float(split.binary.learning_rate) == pytest.approx(0.1)
    assert float(split.other.learning_rate) == pytest.approx(1.0)
