"""Carries out a recipe, from the data to the files of the trained network."""

from __future__ import annotations

import datetime
import hashlib
import os
import random
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

import larq_sks as sks
import larq_sks_zoo as zoo
from larq_sks.convert.clone import clone, remake
from larq_sks_zoo import pretrained
from larq_sks_zoo.training import datasets, devices, distillation, fitting, folder, results
from larq_sks_zoo.training.recipe import Recipe, Stage

SELECTIONS = ("permutation", "fixed")


@dataclass(frozen=True)
class Trained:
    """What a run came to."""

    model: tf.keras.Model
    """The network, in float32 and not compiled."""
    record: dict
    """What `run.json` holds."""
    is_new: bool
    """Whether this call trained it; if not, the folder held the finished run."""


def train(
    recipe: Recipe,
    output: str | os.PathLike,
    *,
    num_codewords: int | None = None,
    selection: str | None = None,
    start: str | os.PathLike | None = None,
    seed: int = 0,
    data_dir: str | os.PathLike | None = None,
    epochs: int | None = None,
    teacher: str | os.PathLike | None = None,
    distribute: str | None = None,
    mixed_precision: bool = False,
) -> Trained:
    """Trains a network by a recipe and writes it, with its log, to a folder.

    A run that was broken off goes on from its last complete epoch when it is called again, with the
    same result as without the break, to the last bit where the machine's arithmetic repeats.

    Example:
        ```python
        trained = train(recipes.get("resnet8-cifar10_sample"), "runs/first")
        trained.record["results"]["accuracy"]
        ```

    Arguments:
        recipe: The recipe.
        output: Folder for `log.csv`, `tensorboard/`, `run.json`, `final.sks` and `final.weights.h5`.
        num_codewords: Codewords of each binary kernel; `None` for 1 bit a weight.
        selection: Who chooses them. `"fixed"`: greedy coverage of the kernels that the last stage begins
            with, once (chance, where nothing was trained before). `"permutation"`: they are learned. `None`:
            fixed with a trained network to begin with, else learned.
        start: With `num_codewords`: the trained 1-bit network to begin with, a .sks or .h5 file; `None`
            for the one that comes with the package; `"none"` to train from random weights.
        seed: Decides initial weights, batches and random codewords.
        data_dir: Folder of TensorFlow Datasets: see `datasets.read`.
        epochs: Epochs of each stage in place of the recipe's, 1 or more.
        teacher: A network whose outputs to learn beside the labels: a .sks, .keras or .h5 file.
        distribute: `"mirrored"`: on all GPUs of this machine; `"multi-worker"`: on the machines that
            the environment variable TF_CONFIG names; `None`: on one device.
        mixed_precision: Whether to compute in 16 bits: float16 on a GPU, bfloat16 on a CPU. Weights and
            logits stay float32.

    Returns:
        The network and the record of the run.

    Raises:
        ValueError: If an argument is out of range, the data set is missing, or the folder holds
            something else than this run.
    """
    strategy = devices.strategy(distribute)  # before all else, as workers must
    is_chief = devices.is_chief(strategy)
    output = Path(output)
    if selection not in (None, *SELECTIONS):
        raise ValueError(
            f"`selection` must be one of {SELECTIONS}. Received: selection={selection!r}."
        )
    for name, value in (("num_codewords", num_codewords), ("epochs", epochs)):
        if value is not None and value < 1:
            raise ValueError(f"`{name}` must be 1 or more. Received: {name}={value!r}.")
    start_path = _start(recipe, num_codewords, start)
    if selection is None:
        selection = "fixed" if start_path else "permutation"
    stages = [recipe.compact] if start_path else list(recipe.stages)
    if epochs:
        stages = [_shortened(stage, epochs) for stage in stages]
    for stage in stages:
        if stage.batch_size % strategy.num_replicas_in_sync:
            raise ValueError(
                f"The batch of {stage.batch_size} images must divide among the devices. Received: "
                f"{strategy.num_replicas_in_sync} of them."
            )
    precision = devices.precision(mixed_precision)
    settings = {
        "recipe": recipe.name,
        "network": recipe.network,
        "dataset": recipe.dataset,
        "options": recipe.options,
        "stages": [asdict(stage) for stage in stages],
        "num_codewords": num_codewords,
        "selection": selection if num_codewords else None,
        "start": _digest(start_path),
        "seed": seed,
        "teacher": _digest(teacher),
        "replicas": strategy.num_replicas_in_sync,
        "precision": precision,
    }
    finished = folder.begin(output, settings, write=False)
    if finished:
        shutil.rmtree(output / "backup", ignore_errors=True)
        shape = finished["results"]["image_shape"], finished["results"]["num_classes"]
        model = _build(recipe, *shape, num_codewords, selection)
        model.load_weights(output / folder.WEIGHTS)
        return Trained(model, finished, False)
    data = datasets.read(recipe.dataset, data_dir)
    shape = data.image_shape, data.num_classes
    if is_chief:
        folder.begin(output, settings)
    began = datetime.datetime.now(datetime.timezone.utc)
    weights = None
    if start_path:
        weights = _build(recipe, *shape, None, selection, weights=start_path).get_weights()
    for number, stage in enumerate(stages, 1):
        codewords = num_codewords if number == len(stages) else None
        set_seeds(seed)
        values = weights
        if codewords is not None and weights is not None:
            values = _compacted(recipe, shape, weights, codewords, selection)
        with strategy.scope(), devices.policy(precision):
            network = _build(recipe, *shape, codewords, selection)
            if not stage.binary_kernels:
                network = with_float_kernels(network)
            if values is not None:
                network.set_weights(values)
            outputs = _outputs(network)
            model = network
            if precision != "float32":
                float32 = tf.keras.layers.Activation("linear", dtype="float32", name="float32")
                model = tf.keras.Model(network.input, float32(network.output))
            trained = model
            if teacher is not None:
                trained = distillation.distilled(model, _read_network(Path(teacher)))
            fitting.compile_for(trained, outputs, stage, data.train_images // stage.batch_size)
        fitting.fit(
            trained,
            stage,
            data,
            seed,
            output,
            number,
            sum(earlier.epochs for earlier in stages[: number - 1]),
            _selection_callbacks(network, from_scratch=start_path is None),
            is_chief,
            f"stage {number}/{len(stages)}, " if len(stages) > 1 else "",
        )
        weights = network.get_weights()
    # In float32 and outside the strategy: the network as its user builds it.
    final = _build(recipe, *shape, num_codewords, selection)
    final.set_weights(weights)
    record: dict = {"settings": settings}
    if is_chief:
        record |= results.surroundings(began)
        record["results"] = results.measured(final, data) | results.write(
            final, output, num_codewords
        )
        folder.write_json(output / folder.RUN, record)
        shutil.rmtree(output / "backup", ignore_errors=True)
    return Trained(final, record, True)


def set_seeds(seed: int) -> None:
    """Seeds like Keras' `set_random_seed`, after which tf-keras 2.18 fails on Python 3.12."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global generator is what is to be seeded
    tf.random.set_seed(seed)


def with_float_kernels(model: tf.keras.Model) -> tf.keras.Model:
    """Copies a network with its weights, but leaves the kernels of its binary layers floats.

    Example:
        ```python
        first_stage = with_float_kernels(zoo.ResNet18())
        ```

    Arguments:
        model: A 1-bit network.

    Returns:
        A network whose `get_weights` are in the order of the given one's.
    """

    def unquantised(layer):
        if getattr(layer, "kernel_quantizer", None) is None:
            return None
        return remake(layer, {"kernel_quantizer": None})

    return clone(model, unquantised)[0]


def _start(recipe: Recipe, num_codewords: int | None, start) -> Path | None:
    """Finds the file of the network to begin with; `None`: from random weights."""
    if num_codewords is None:
        if start not in (None, "none"):
            raise ValueError(
                "`start` is for training with `num_codewords`, from a 1-bit network. "
                f"Received: start={str(start)!r} without `num_codewords`."
            )
        return None
    if start == "none":
        return None
    if start is None:
        try:
            card = pretrained.card(recipe.network, recipe.dataset.removesuffix("_sample"), None)
        except ValueError as error:
            raise ValueError(
                f"The package has no trained 1-bit {recipe.network} for {recipe.dataset} to begin with. "
                f"Train one by `larq-sks train {recipe.name}` and give its final.sks by --start, or "
                "--start none to begin with random weights."
            ) from error
        card.check()
        return card.path
    if not Path(start).is_file():
        raise ValueError(f"`start` must be a file that exists, or 'none'. Received: '{start}'.")
    return Path(start)


def _shortened(stage: Stage, epochs: int) -> Stage:
    return replace(stage, epochs=epochs, warmup=stage.warmup if stage.warmup < epochs else 0)


def _digest(path: str | os.PathLike | None) -> str | None:
    """Names the file by what it holds, wherever it is."""
    if path is None:
        return None
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no file '{path}'.")
    return f"{path.name}, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"


def _build(
    recipe: Recipe, image_shape, num_classes, num_codewords, selection, **options
) -> tf.keras.Model:
    return getattr(zoo, recipe.network)(
        num_codewords=num_codewords,
        selection=selection,
        input_shape=tuple(image_shape),
        num_classes=num_classes,
        **recipe.options,
        **options,
    )


def _compacted(
    recipe: Recipe, shape: tuple[tuple[int, ...], int], weights, num_codewords, selection
) -> list[np.ndarray]:
    """Returns the weights of the network with few codewords that a 1-bit network's weights give."""
    parent = _build(recipe, *shape, None, selection)
    parent.set_weights(weights)
    return sks.sparsify(parent, num_codewords, selection).get_weights()


def _outputs(network: tf.keras.Model) -> str:
    last = network.layers[-1]
    is_softmax = getattr(last, "activation", None) is tf.keras.activations.softmax
    return "softmax" if is_softmax or isinstance(last, tf.keras.layers.Softmax) else "logits"


def _selection_callbacks(network, from_scratch: bool) -> list[tf.keras.callbacks.Callback]:
    selections = [
        kernel.quantizer.selection
        for kernel in sks.layers.sparse_kernels(network)
        if kernel.quantizer.uses_selection
    ]
    if not selections:
        return []
    log = sks.callbacks.SelectionLog()
    if not isinstance(selections[0], sks.selections.Permutation):
        return [log]
    if from_scratch:
        return [sks.callbacks.SelectionSchedule(whole=0.5), log]
    return [sks.callbacks.SelectionSchedule(), log]


def _read_network(path: Path) -> tf.keras.Model:
    if path.suffix == ".sks":
        return sks.load(path)
    try:
        return tf.keras.models.load_model(path, compile=False)
    except Exception as error:  # whatever Keras meets in a bad file
        raise ValueError(
            f"`teacher` must be a .sks file or a Keras model. '{path}': {error}"
        ) from error
