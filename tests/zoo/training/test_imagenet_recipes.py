"""The recipes for ImageNet: their numbers are those of the papers, and the training loop takes them."""

import pytest
import tensorflow as tf

import larq_sks_zoo as zoo
from larq_sks_zoo.training import fitting
from larq_sks_zoo.training.imagenet_recipes import RECIPES
from larq_sks_zoo.training.optimizers import SplitOptimizer

IMAGES = 1_281_167
BY_NAME = {recipe.name: recipe for recipe in RECIPES}


def rates(optimizer, stage, steps):
    schedule = optimizer.get_config()["learning_rate"]
    schedule = tf.keras.optimizers.schedules.deserialize(schedule)
    wanted = (0, stage.warmup * steps, stage.epochs * steps)
    return [float(schedule(tf.constant(step, tf.int64))) for step in wanted]


def test_every_network_of_larq_zoo_has_one_recipe_that_says_what_was_not_measured():
    assert [recipe.network for recipe in RECIPES] == [
        "QuickNetSmall",
        "QuickNet",
        "QuickNetLarge",
        "BinaryResNetE18",
        "BiRealNet",
        "RealToBinaryNet",
    ]
    assert len(BY_NAME) == len(RECIPES)
    for recipe in RECIPES:
        assert callable(getattr(zoo, recipe.network)) and recipe.dataset == "imagenet2012"
        assert "not run" in recipe.description and "was not measured" in recipe.description


@pytest.mark.parametrize("name", ["quicknet_small", "quicknet", "quicknet_large"])
def test_quicknet_trains_as_in_larq_zoo(name):
    (stage,) = BY_NAME[f"{name}-imagenet"].stages
    assert (stage.epochs, stage.batch_size) == (600, 2048)
    optimizer = fitting.optimizer(stage, steps=10)
    assert isinstance(optimizer, SplitOptimizer)
    assert isinstance(optimizer.binary, tf.keras.optimizers.Adam)
    assert rates(optimizer.binary, stage, 10) == pytest.approx([0, 0.01, 0], abs=1e-7)
    assert isinstance(optimizer.other, tf.keras.optimizers.SGD) and optimizer.other.momentum == 0.9
    assert rates(optimizer.other, stage, 10) == pytest.approx([0, 0.1, 0], abs=1e-6)
    assert stage.warmup == 5


@pytest.mark.parametrize("name", ["binary_resnet_e18", "birealnet", "real_to_binary"])
def test_reactnet_trains_in_two_stages(name):
    stages = BY_NAME[f"{name}-imagenet"].stages
    assert [stage.binary_kernels for stage in stages] == [False, True]
    for stage, weight_decay in zip(stages, (1e-5, None), strict=True):
        steps = IMAGES // stage.batch_size * stage.epochs
        assert steps == pytest.approx(600_000, rel=1e-3)
        optimizer = fitting.optimizer(stage, steps=10)
        assert isinstance(optimizer, tf.keras.optimizers.Adam)
        assert optimizer.weight_decay == weight_decay
        assert rates(optimizer, stage, 10) == pytest.approx([5e-4, 5e-4, 0], abs=1e-8)
        halfway = optimizer.get_config()["learning_rate"]
        halfway = tf.keras.optimizers.schedules.deserialize(halfway)(600)
        assert float(halfway) == pytest.approx(2.5e-4)  # a straight line
