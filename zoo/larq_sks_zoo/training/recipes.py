"""The recipes that there are."""

from __future__ import annotations

from larq_sks_zoo.training.imagenet_recipes import RECIPES as _IMAGENET
from larq_sks_zoo.training.recipe import Recipe, Stage

_SHORT = Stage(epochs=30, batch_size=128, rate=3e-3, warmup=1, label_smoothing=0.1)
_LONG = Stage(epochs=200, batch_size=128, rate=1e-3, warmup=5, label_smoothing=0.1)
_SHORT_COMPACT = Stage(epochs=10, batch_size=128, rate=1e-3, warmup=0, label_smoothing=0.1)
_LONG_COMPACT = Stage(epochs=60, batch_size=128, rate=1e-3, warmup=0, label_smoothing=0.1)

__all__ = ["RECIPES", "Recipe", "Stage", "get"]


def _for_small_images(dataset: str, title: str) -> list[Recipe]:
    recipes = []
    for name, network, is_long in [
        ("resnet8", "ResNet8", False),
        ("resnet20", "ResNet20", False),
        ("quicknet_small32", "QuickNetSmall32", False),
        ("resnet18", "ResNet18", True),
        ("vgg_small", "VGGSmall", True),
    ]:
        stage, compact = (_LONG, _LONG_COMPACT) if is_long else (_SHORT, _SHORT_COMPACT)
        meant = "meant for a GPU, " if is_long else ""
        description = f"{title}, {stage.epochs} epochs; {meant}not run in full by its authors"
        recipes.append(
            Recipe(f"{name}-{dataset}", network, dataset, (stage,), compact, description)
        )
    return recipes


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        "resnet8-cifar10_sample",
        "ResNet8",
        "cifar10_sample",
        (Stage(epochs=20, batch_size=128, rate=3e-3, warmup=1, label_smoothing=0.1),),
        Stage(epochs=10, batch_size=128, rate=1e-3, warmup=0, label_smoothing=0.1),
        "for trying out, on the 1,500 images that come with the package; a minute",
    ),
    *_for_small_images("cifar10", "CIFAR-10"),
    *_for_small_images("cifar100", "CIFAR-100"),
    *_IMAGENET,
)
"""All recipes, those for small images first."""


def get(name: str) -> Recipe:
    """Finds a recipe by its name.

    Example:
        ```python
        recipes.get("resnet20-cifar10").stages[0].epochs  # 30
        ```

    Arguments:
        name: Its name, such as `"resnet20-cifar10"`.

    Returns:
        The recipe.

    Raises:
        ValueError: If there is none of that name; the message lists those that there are.
    """
    for recipe in RECIPES:
        if recipe.name == name:
            return recipe
    known = ", ".join(recipe.name for recipe in RECIPES)
    raise ValueError(f"The recipe must be one of: {known}. Received: {name!r}.")
