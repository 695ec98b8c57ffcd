"""The demo: one small network on real images, with 1 bit a weight and with 0.56."""

from __future__ import annotations

import json
import math
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import larq as lq
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

import larq_sks as sks
from larq_sks_zoo.images import augmented, load_cifar10_sample, preprocess_input
from larq_sks_zoo.resnet import ResNet8

NUM_CODEWORDS = 32
BATCH_SIZE = 128

_console = Console()


@dataclass
class Result:
    """What one training run came to."""

    kernels: str
    """How the binary kernels were made."""
    bits_a_weight: float
    """Bits that a weight of the binary kernels takes, log2(n)/9, without the codebooks."""
    binary_kib: float
    """Size of the binary kernels in KiB, codebooks of n·9 bits a layer included."""
    model_kib: float
    """Size of the whole model in KiB, all other weights as float32."""
    accuracy: float
    """Share of the 1,000 held-out images that are classified correctly."""
    seconds_a_step: float
    """Mean time of a training step, without the first epoch, which compiles."""


class _StepTime(tf.keras.callbacks.Callback):
    """Measures the mean time of a step in all epochs but the first."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.began = time.perf_counter()

    def on_train_end(self, logs=None):
        steps = (self.params["epochs"] - 1) * self.params["steps"]
        self.seconds = (time.perf_counter() - self.began) / steps


def run(output: Path, epochs: int = 10, steps: int = 55, seed: int = 0) -> list[Result]:
    """Trains three networks alike but for their kernels, prints a table and writes the results.

    Example:
        ```python
        run(Path("larq-sks-demo"))
        ```

    Arguments:
        output: Folder for `results.json`, the learned network `learned.keras`, its log `learned.csv`
            and, with matplotlib, the picture `codewords.png`. Made if it does not exist.
        epochs: Epochs of each run, 3 or more.
        steps: Batches of 128 images in an epoch, 1 or more.
        seed: Decides initial weights, batches and selections.

    Returns:
        The results in the order of the table.

    Raises:
        ValueError: If `epochs` is below 3, which leaves no part of the run for learning.
    """
    if epochs < 3:
        raise ValueError(f"`epochs` must be 3 or more. Received: epochs={epochs}.")
    output.mkdir(parents=True, exist_ok=True)
    train, test = load_cifar10_sample()
    _console.print(
        f"A residual network with 165,888 binary weights, {len(train[0]):,} images of CIFAR-10 to learn "
        f"from and {len(test[0]):,} others to test on; three runs of {epochs} epochs."
    )
    learning = [
        sks.callbacks.SelectionSchedule(whole=0.4),
        sks.callbacks.SelectionLog(),
        tf.keras.callbacks.CSVLogger(output / "learned.csv"),
    ]
    runs: list[tuple[str, dict, list]] = [
        ("sign, 1 bit a weight", {"num_codewords": None}, []),
        ("32 codewords, at random", {"num_codewords": NUM_CODEWORDS, "selection": "fixed"}, []),
        ("32 codewords, learned", {"num_codewords": NUM_CODEWORDS}, learning),
    ]
    results = []
    for name, options, callbacks in runs:
        _console.rule(name)
        tf.keras.backend.clear_session()
        _set_seeds(seed)
        model = ResNet8(**options)
        accuracy, seconds = _train(model, train, test, epochs, steps, seed, callbacks)
        results.append(Result(name, *_sizes(model, options["num_codewords"]), accuracy, seconds))

    model.save(output / "learned.keras")
    (output / "results.json").write_text(json.dumps([asdict(r) for r in results], indent=2) + "\n")
    _print_table(results, len(test[0]))
    _draw(sks.codewords(model), output / "codewords.png")
    _console.print(f"Results, the learned network and its log are in {output}/.")
    return results


def _set_seeds(seed: int) -> None:
    """Seeds like Keras' `set_random_seed`, after which tf-keras 2.18 fails on Python 3.12."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global generator is what is to be seeded
    tf.random.set_seed(seed)


def _sizes(model, num_codewords: int | None) -> tuple[float, float, float]:
    """Returns bits a binary weight, KiB of binary kernels with codebooks, and KiB of the model."""
    kernels = [layer.kernel for layer in model.layers if isinstance(layer, lq.layers.QuantConv2D)]
    weights = sum(kernel.shape.num_elements() for kernel in kernels)
    bits, codebooks = 1.0, 0
    if num_codewords is not None:
        bits, codebooks = math.log2(num_codewords) / 9, 9 * num_codewords * len(kernels)
    # Everything but the binary layers, which have no bias here.
    layers = [layer for layer in model.layers if not isinstance(layer, lq.layers.QuantConv2D)]
    floats = sum(layer.count_params() for layer in layers)
    binary = weights * bits + codebooks
    return bits, binary / 8 / 1024, (binary + 32 * floats) / 8 / 1024


def _train(model, train, test, epochs, steps, seed, callbacks) -> tuple[float, float]:
    """Returns the accuracy on the test images and the seconds a step."""
    model.compile(
        tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(3e-3, epochs * steps)),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    timer = _StepTime()
    images, labels = train
    batches = augmented(images, labels, BATCH_SIZE, seed)
    model.fit(batches, steps_per_epoch=steps, epochs=epochs, callbacks=[timer, *callbacks])
    _, accuracy = model.evaluate(preprocess_input(test[0]), test[1], verbose=0)
    return accuracy, timer.seconds


def _print_table(results: list[Result], tested: int) -> None:
    table = Table(title="The same network, the same images, the same number of steps")
    columns = ("kernels", "bits a weight", "binary part", "whole model", "accuracy", "ms a step")
    for column in columns:
        table.add_column(column, justify="left" if column == "kernels" else "right")
    for result in results:
        table.add_row(
            result.kernels,
            f"{result.bits_a_weight:.2f}",
            f"{result.binary_kib:.1f} KiB",
            f"{result.model_kib:.1f} KiB",
            f"{result.accuracy:.1%}",
            f"{1000 * result.seconds_a_step:.0f}",
        )
    _console.print(table)
    error = 100 * np.sqrt(np.mean([r.accuracy * (1 - r.accuracy) for r in results]) / tested)
    _console.print(
        f"One run each, on a small sample: the accuracies are uncertain by ±{error:.1f} points from the "
        "number of test images alone."
    )


def _draw(chosen: dict[str, sks.models.Codewords], path: Path) -> None:
    try:
        import matplotlib
    except ImportError:
        _console.print("No picture: matplotlib is missing. Install it with larq-sks[plot].")
        return
    # Draws to a file, whether or not there is a screen.
    matplotlib.use("agg")
    from matplotlib import pyplot

    from larq_sks import plot

    name = max(chosen, key=lambda name: chosen[name].counts.sum())
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 5), width_ratios=(3, 2))
    plot.tiles(chosen[name], left)
    left.set_title(f"{name}: its {len(chosen[name].indices)} codewords and their share of blocks")
    plot.use(chosen, right)
    right.set_title("use of the codewords in each layer")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
