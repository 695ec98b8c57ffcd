"""The demo: one small network on real images, with 1 bit a weight and with 0.56, then made small."""

from __future__ import annotations

import json
import lzma
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

import larq_sks as sks
from larq_sks_zoo.images import augmented, load_cifar10_sample, preprocess_input
from larq_sks_zoo.resnet import ResNet8
from larq_sks_zoo.training.run import set_seeds

NUM_CODEWORDS = 32
BATCH_SIZE = 128
_MAX_CHANGE = 0.005
"""How much rounding in another order may change the accuracy: a sign near 0 may turn."""

# Without markup, which would take the name of an extra in brackets for a style.
_console = Console(markup=False)


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


@dataclass
class Form:
    """The learned network in one kind of file."""

    file: str
    holds: str
    size: int
    """In bytes."""
    xz_size: int
    """After compression by xz at its strongest."""
    accuracy: float
    """That of the network read back from the file."""


class _StepTime(tf.keras.callbacks.Callback):
    """Measures the mean time of a step in all epochs but the first."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.began = time.perf_counter()

    def on_train_end(self, logs=None):
        steps = (self.params["epochs"] - 1) * self.params["steps"]
        self.seconds = (time.perf_counter() - self.began) / steps


def run(output: Path, epochs: int = 10, steps: int = 55, seed: int = 0) -> list[Result]:
    """Trains three networks alike but for their kernels, exports one, prints tables and writes results.

    Example:
        ```python
        run(Path("larq-sks-demo"))
        ```

    Arguments:
        output: Folder for `results.json`, the learned network in several forms (`learned.*`), its log
            `learned.csv` and, with matplotlib, the picture `codewords.png`. Made if it does not exist.
        epochs: Epochs of each run, 3 or more.
        steps: Batches of 128 images in an epoch, 1 or more.
        seed: Decides initial weights, batches and selections.

    Returns:
        The results of training in the order of the table.

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
        set_seeds(seed)
        model = ResNet8(**options)
        accuracy, seconds = _train(model, train, test, epochs, steps, seed, callbacks)
        results.append(Result(name, *_sizes(model), accuracy, seconds))

    _console.rule("the learned network, for a device")
    forms = _export(model, test, output)
    written = {"runs": list(map(asdict, results)), "files": list(map(asdict, forms))}
    (output / "results.json").write_text(json.dumps(written, indent=2) + "\n")
    _print_table(results, len(test[0]))
    _print_forms(forms)
    _draw(sks.codewords(model), output / "codewords.png")
    _console.print(f"Results, the learned network and its log are in {output}/.")
    return results


def _sizes(model) -> tuple[float, float, float]:
    """Returns bits a binary weight, KiB of binary kernels with codebooks, and KiB of the model."""
    figures = sks.models.summary(model, print_fn=lambda line: None)
    # At one bit each there are as many bits as weights.
    bits = figures.cost.bits / figures.at_one_bit.bits
    binary = figures.cost.bits + figures.cost.codebook_bits
    return bits, binary / 8 / 1024, figures.bits / 8 / 1024


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


def _export(model, test, output: Path) -> list[Form]:
    """Writes the network in every form and reads each back, which must compute the same."""
    images, labels = preprocess_input(test[0]).numpy(), test[1]
    expected = model.predict(images, verbose=0)
    # A copy that was never compiled, so that the files hold no optimizer.
    learned = tf.keras.models.clone_model(model)
    learned.set_weights(model.get_weights())
    forms = []

    def add(path: Path, holds: str, scores: np.ndarray, exact: bool = True):
        if exact and not np.array_equal(scores, expected):
            raise RuntimeError(f"The network read back from {path} computes something else.")
        data = path.read_bytes()
        packed = lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)
        accuracy = float(np.mean(scores.argmax(axis=-1) == labels))
        if abs(accuracy - np.mean(expected.argmax(axis=-1) == labels)) > _MAX_CHANGE:
            raise RuntimeError(f"The network read back from {path} has another accuracy.")
        forms.append(Form(path.name, holds, len(data), len(packed), accuracy))

    for name, network, holds in [
        ("learned.h5", learned, "all that training needs"),
        ("learned.keras", learned, "all that training needs"),
        ("learned_larq.h5", sks.to_larq(learned), "plain Larq: binary weights as floats"),
    ]:
        network.save(output / name)
        again = tf.keras.models.load_model(output / name, compile=False)
        add(output / name, holds, again.predict(images, verbose=0))

    try:
        from larq_compute_engine.tflite.python.interpreter import Interpreter
    except ImportError:
        _console.print(
            "No .tflite: Larq Compute Engine is missing. Install it with pip install '.[lce]' in a checkout of larq_sks; it exists for "
            "Python 3.10 and 3.11."
        )
    else:
        path = output / "learned.tflite"
        sks.to_tflite(learned, path, images=images[:10])
        # It adds up floats in another order, so that the last bits differ.
        scores = Interpreter(path.read_bytes()).predict(images)
        add(path, "1 bit a binary weight, for a device", scores, exact=False)

    path = output / "learned.sks"
    sks.save(learned, path)
    add(path, "codewords by number", sks.load(path).predict(images, verbose=0))
    return forms


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


def _print_forms(forms: list[Form]) -> None:
    table = Table(title="The learned network as a file")
    for column in ("file", "holds", "size", "after xz", "accuracy"):
        table.add_column(column, justify="left" if column in ("file", "holds") else "right")
    for form in forms:
        table.add_row(
            form.file,
            form.holds,
            f"{form.size / 1024:.1f} KiB",
            f"{form.xz_size / 1024:.1f} KiB",
            f"{form.accuracy:.1%}",
        )
    _console.print(table)
    _console.print(
        "Read back from its file, each computes the same as the trained network, to the last bit; a "
        ".tflite up to rounding."
    )


def _draw(chosen: dict[str, sks.models.Codewords], path: Path) -> None:
    try:
        import matplotlib
    except ImportError:
        _console.print(
            "No picture: matplotlib is missing. Install it with pip install '.[plot]' in a checkout of larq_sks."
        )
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
