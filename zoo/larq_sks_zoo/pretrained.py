"""Weights for the networks: those that come with the package, each with a card, and those of a file."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import h5py
import larq as lq
import tensorflow as tf

import larq_sks as sks
from larq_sks.layers import ROLES

FOLDER = Path(__file__).parent / "data" / "pretrained"
"""Where the pretrained networks and their cards are."""

ARCHITECTURES = FOLDER.parent / "architectures.json"
"""What each network takes at 1 bit a weight, of which building all would take too long: written by
`zoo/architectures.py`."""

_LARQ_ZOO = {
    "QuickNet": "sota",
    "QuickNetSmall": "sota",
    "QuickNetLarge": "sota",
    "BinaryResNetE18": "literature",
    "BiRealNet": "literature",
    "RealToBinaryNet": "literature",
}


@dataclass(frozen=True)
class Card:
    """What is known of one pretrained network, from the .json file beside it."""

    network: str
    """Name of the function that builds it, such as `"ResNet20"`."""
    dataset: str
    num_codewords: int | None
    """Codewords of each binary kernel; `None`: 1 bit a weight."""
    file: str
    sha256: str
    bytes: int
    latent: bool
    """Whether the file keeps latent weights."""
    accuracy: float
    """Percent of the whole test split that is classified correctly."""
    sample_accuracy: float
    """Percent of the 1,000 test images of `load_cifar10_sample`, for networks trained on CIFAR-10."""
    test_images: int
    parameters: int
    bits_a_weight: float
    """Bits that a weight of the binary kernels takes, log2(n)/9, without the codebooks."""
    binary_operations: float
    """Operations on bits for one image, as `larq_sks.models.summary` counts them."""
    float_operations: float
    """Multiplications with additions in float for one image."""
    recipe: str
    command: str
    environment: dict
    seed: int
    epochs: int
    started_from: str | None
    """File of the pretrained network that training began with."""
    log: str
    date: str
    machine: str
    versions: dict
    limits: str

    @property
    def path(self) -> Path:
        """The file."""
        return FOLDER / self.file

    def check(self) -> None:
        """Raises a ValueError if the file is not the one that the card describes."""
        found = hashlib.sha256(self.path.read_bytes()).hexdigest()
        if found != self.sha256:
            raise ValueError(
                f"'{self.path}' is damaged or not what its card describes: the sha256 must be "
                f"{self.sha256}. Received: {found}. Install larq-sks anew."
            )


def cards() -> list[Card]:
    """Lists the pretrained networks that come with the package.

    Example:
        ```python
        for card in zoo.pretrained.cards():
            print(card.network, card.num_codewords, card.accuracy)
        ```

    Returns:
        Their cards, sorted by network, data set and codewords, 1 bit first.
    """
    found = [Card(**json.loads(path.read_text("utf-8"))) for path in FOLDER.glob("*.json")]
    # 1 bit is the whole codebook and more than any part of it.
    return sorted(
        found, key=lambda card: (card.network, card.dataset, -(card.num_codewords or 2**16))
    )


def card(network: str, dataset: str, num_codewords: int | None) -> Card:
    """Finds the card of a pretrained network.

    Example:
        ```python
        zoo.pretrained.card("ResNet20", "cifar10", 32).path
        ```

    Arguments:
        network: Name of the function that builds it.
        dataset: Name of the data set that it learned.
        num_codewords: Codewords of each binary kernel; `None`: 1 bit a weight.

    Returns:
        The card.

    Raises:
        ValueError: If there is no such network; the message lists those that are there.
    """
    known = cards()
    for each in known:
        if (each.network, each.dataset, each.num_codewords) == (network, dataset, num_codewords):
            return each
    listed = "; ".join(
        f"{each.network}, {each.dataset}, num_codewords={each.num_codewords}" for each in known
    )
    raise ValueError(
        "`weights` must be `None`, the name of a data set for which this package has the network, or the "
        f"path of a .sks or .h5 file. Received: weights={dataset!r} for {network} with "
        f"num_codewords={num_codewords}. There are: {listed or 'none'}. "
        f"{how_to_train(network, dataset, num_codewords)}"
    )


def figures(model: tf.keras.Model) -> dict[str, float]:
    """Measures what a card says of a network itself.

    Example:
        ```python
        zoo.pretrained.figures(model)["bits_a_weight"]  # 0.56
        ```

    Arguments:
        model: A network with binary kernels.

    Returns:
        `parameters`, `bits_a_weight`, `binary_operations` and `float_operations`, as `Card` says.
    """
    return figures_of(sks.models.summary(model, print_fn=lambda line: None))


def figures_of(found: sks.models.Summary) -> dict[str, float]:
    """Takes what `figures` returns from a summary that is there already."""
    return {
        "parameters": found.float32_bits // 32,
        # At one bit each there are as many bits as weights.
        "bits_a_weight": found.cost.bits / found.at_one_bit.bits,
        "binary_operations": found.cost.bit_operations or 0,
        "float_operations": found.macs or 0,
    }


def how_to_train(network: str, dataset: str, num_codewords: int | None) -> str:
    """Says by which commands a network learns a data set, or that there is no recipe."""
    from larq_sks_zoo.training import recipes

    fitting = [
        recipe.name
        for recipe in recipes.RECIPES
        if recipe.network == network and recipe.dataset == dataset
    ]
    if not fitting:
        return "No recipe of `larq-sks train --list` trains it."
    option = "" if num_codewords is None else f" --num-codewords {num_codewords}"
    return "Train it: " + " or ".join(f"`larq-sks train {name}{option}`" for name in fitting) + "."


def with_weights(
    model: tf.keras.Model,
    weights: str | os.PathLike | None,
    network: str,
    num_codewords: int | None,
    include_top: bool,
) -> tf.keras.Model:
    """Gives a network that was just built the weights that its user asks for.

    Weights go over layer by layer, and the selected codewords become those that the network's own
    selections begin with, whatever kind they are: outputs are those of the file, bit for bit.

    Arguments:
        model: The network.
        weights: `None`, the name of a data set, or the path of a .sks or .h5 file.
        network: Name of the function that builds it.
        num_codewords: Codewords of each of its binary kernels; `None`: 1 bit a weight.
        include_top: Whether it has its top. If not, the top of the file is left out.

    Returns:
        The network.

    Raises:
        ValueError: If there are no such weights, or they are those of another network.
    """
    if weights is None:
        return model
    path = _find(weights, network, num_codewords)
    try:
        source = sks.load(path) if path.suffix == ".sks" else _load_h5(path)
        if source is None:
            _load_h5_weights(path, model)
        else:
            _hand_on(source, model, include_top)
    except _Misfit as misfit:
        raise ValueError(
            f"'{path}' must hold a {network} with num_codewords={num_codewords} and the same classes and "
            f"channels of the image. Received: {misfit}"
        ) from misfit.__cause__
    return model


def _find(weights: str | os.PathLike, network: str, num_codewords: int | None) -> Path:
    """Finds the file that is meant."""
    path = Path(weights)
    if path.suffix in (".sks", ".h5", ".hdf5"):
        if not path.is_file():
            raise ValueError(f"`weights` must be a file that exists. Received: weights='{path}'.")
        return path
    if weights == "imagenet":
        hint = how_to_train(network, "imagenet2012", num_codewords)
        if network in _LARQ_ZOO:
            hint += (
                " Or convert the 1-bit weights of larq-zoo, which it downloads: "
                f"`sks.sparsify(larq_zoo.{_LARQ_ZOO[network]}.{network}(), {num_codewords or 32})`."
            )
        raise ValueError(
            f"There are no ImageNet weights in this package. Received: weights='imagenet' for {network}. "
            + hint
        )
    found = card(network, os.fspath(weights), num_codewords)
    found.check()
    return found.path


def _load_h5(path: Path) -> tf.keras.Model | None:
    """Reads a whole model. Files with weights alone hold none."""
    try:
        with h5py.File(path) as file:
            if "model_config" not in file.attrs:
                return None
    except OSError as error:
        raise ValueError(f"'{path}' must be an H5 file. Received: {error}") from error
    try:
        return tf.keras.models.load_model(path, compile=False)
    except Exception:  # Keras fails on the initializers of larq-zoo's QuickNet: the weights must do
        return None


def _load_h5_weights(path: Path, model: tf.keras.Model) -> None:
    try:
        model.load_weights(path)
    except Exception as error:  # whatever Keras meets
        raise _Misfit(str(error)) from error


class _Misfit(Exception):
    """Says where the network of a file is another."""


def _hand_on(source: tf.keras.Model, model: tf.keras.Model, include_top: bool) -> None:
    """Copies weights and selections layer by layer, once all are known to fit."""
    # By their order, because layers of larq-zoo are numbered anew with each network.
    given, wanted = ([layer for layer in each.layers if layer.weights] for each in (source, model))
    if not include_top:
        given = given[: len(wanted)]
    if len(given) != len(wanted):
        raise _Misfit(f"{len(given)} layers with weights in place of {len(wanted)}.")
    with lq.context.quantized_scope(False):
        layers = list(zip(given, wanted, strict=True))
        weights = [pair for pair in layers for pair in _weights(*pair)]
        selections = [pair for pair in layers for pair in _selections(*pair)]
        for value, weight in weights:
            weight.assign(value)
    for chosen, selection in selections:
        selection.start_from(chosen)


def _weights(given, wanted) -> list[tuple[tf.Variable, tf.Variable]]:
    """Pairs the weights of two layers, but for those of selections."""
    theirs, ours = _plain_weights(given), _plain_weights(wanted)
    shapes = [[tuple(weight.shape) for weight in weights] for weights in (theirs, ours)]
    if shapes[0] != shapes[1]:
        raise _Misfit(
            f"layer '{given.name}' with weights of shapes {shapes[0]} in place of {shapes[1]}."
        )
    return list(zip(theirs, ours, strict=True))


def _plain_weights(layer) -> list[tf.Variable]:
    selections = {
        id(weight)
        for quantizer in _sparse(layer).values()
        for weight in quantizer.selection.weights
    }
    return [weight for weight in layer.weights if id(weight) not in selections]


def _selections(given, wanted) -> list[tuple]:
    """Pairs the codewords that a layer selected with the selections that are to begin with them."""
    theirs, ours = _sparse(given), _sparse(wanted)
    found = []
    for role in ROLES:
        counts = [
            len(each[role].selected()) if role in each and each[role].uses_selection else None
            for each in (theirs, ours)
        ]
        if counts[0] != counts[1]:
            counted = ["1 bit a weight" if n is None else f"{n} codewords" for n in counts]
            raise _Misfit(
                f"layer '{given.name}' with {counted[0]} in place of {counted[1]}. To give a network "
                "fewer codewords, load it as it is and call `sks.sparsify`."
            )
        if counts[0] is not None:
            found.append((theirs[role].selected(), ours[role].selection))
    return found


def _sparse(layer) -> dict:
    quantizers = {role: getattr(layer, f"{role}_quantizer", None) for role in ROLES}
    return {
        role: quantizer
        for role, quantizer in quantizers.items()
        if isinstance(quantizer, sks.quantizers.SparseKernelSign)
    }
