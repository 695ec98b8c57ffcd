"""The demo: a trained 1-bit network gets 32 codewords a layer, learns on for a minute, and is made small."""

from __future__ import annotations

import json
import lzma
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

import larq_sks as sks
from larq_sks import latency
from larq_sks_zoo import pretrained
from larq_sks_zoo.images import augmented, load_cifar10_sample, preprocess_input
from larq_sks_zoo.resnet import ResNet20
from larq_sks_zoo.training.run import set_seeds

NUM_CODEWORDS = 32
BATCH_SIZE = 128
_RATE = 3e-4
_ROUNDS = 10
"""How often each interpreter has its turn when times are taken."""
_MAX_CHANGE = 0.005
"""How much rounding in another order may change the accuracy: a sign near 0 may turn."""

# Without markup, which would take the name of an extra in brackets for a style.
_console = Console(markup=False)


@dataclass
class Result:
    """What one network comes to."""

    network: str
    bits_a_weight: float
    """Bits that a weight of the binary kernels takes, log2(n)/9, without the codebooks."""
    binary_kib: float
    """Size of the binary kernels in KiB, codebooks of n·9 bits a layer included."""
    model_kib: float
    """Size of the whole model in KiB, all other weights as float32."""
    accuracy: float
    """Share of the 1,000 test images that are classified correctly."""


@dataclass
class Form:
    """The fine-tuned network in one kind of file."""

    file: str
    holds: str
    size: int
    """In bytes."""
    xz_size: int
    """After compression by xz at its strongest."""
    accuracy: float
    """That of the network read back from the file."""


def run(output: Path, epochs: int = 16, seed: int = 0) -> list[Result]:
    """Makes the zoo's 1-bit ResNet-20 smaller, exports it, prints tables and writes results.

    Example:
        ```python
        run(Path("larq-sks-demo"))
        ```

    Arguments:
        output: Folder for `results.json`, the fine-tuned network in several forms (`compact.*`), its log
            `compact.csv` and, with matplotlib, the picture `codewords.png`. Made if it does not exist.
        epochs: Epochs of fine-tuning on the 1,500 training images in the package, 1 or more.
        seed: Decides the batches.

    Returns:
        The networks in the order of the table.

    Raises:
        ValueError: If `epochs` is below 1.
    """
    if epochs < 1:
        raise ValueError(f"`epochs` must be 1 or more. Received: epochs={epochs}.")
    output.mkdir(parents=True, exist_ok=True)
    train, test = load_cifar10_sample()
    set_seeds(seed)
    trained = ResNet20(weights="cifar10")
    _console.print(
        "A ResNet-20 with 267,264 binary weights, trained at 1 bit a weight, is given the 32 patterns a "
        f"layer that cover its kernels best, and learns on for {epochs} epochs of {len(train[0]):,} images "
        f"of CIFAR-10. Tested on {len(test[0]):,} others."
    )
    results = [_result("1 bit a weight, from the zoo", trained, test)]
    compact = sks.sparsify(trained, NUM_CODEWORDS)
    results.append(_result("32 codewords, just chosen", compact, test))
    _fine_tune(compact, train, epochs, seed, output / "compact.csv")
    results.append(_result(f"... after {epochs} epochs on {len(train[0]):,} images", compact, test))
    on_all = ResNet20(num_codewords=NUM_CODEWORDS, weights="cifar10")
    epochs_on_all = pretrained.card("ResNet20", "cifar10", NUM_CODEWORDS).epochs
    results.append(
        _result(f"... after {epochs_on_all} epochs on all 50,000, from the zoo", on_all, test)
    )

    _console.rule("the network fine-tuned here, for a device")
    forms = _export(compact, test, output)
    timings, missing = _time(compact)
    written = {
        "networks": list(map(asdict, results)),
        "files": list(map(asdict, forms)),
        "latency": [timing._asdict() for timing in timings],
    }
    (output / "results.json").write_text(json.dumps(written, indent=2) + "\n")
    _print_table(results, len(test[0]))
    _print_forms(forms)
    _print_timings(timings, missing)
    _draw(sks.codewords(compact), output / "codewords.png")
    _console.print(f"Results, the network and its log are in {output}/.")
    return results


def _result(name: str, model, test) -> Result:
    figures = sks.models.summary(model, print_fn=lambda line: None)
    bits = pretrained.figures_of(figures)["bits_a_weight"]
    binary = figures.cost.bits + figures.cost.codebook_bits
    scores = model.predict(preprocess_input(test[0]), verbose=0)
    accuracy = float(np.mean(scores.argmax(axis=-1) == test[1]))
    return Result(name, bits, binary / 8 / 1024, figures.bits / 8 / 1024, accuracy)


def _fine_tune(model, train, epochs: int, seed: int, log: Path) -> None:
    images, labels = train
    steps = len(images) // BATCH_SIZE
    model.compile(
        tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(_RATE, epochs * steps)),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        augmented(images, labels, BATCH_SIZE, seed),
        steps_per_epoch=steps,
        epochs=epochs,
        callbacks=[
            sks.callbacks.SelectionSchedule(),
            sks.callbacks.SelectionLog(),
            tf.keras.callbacks.CSVLogger(log),
        ],
    )


def _export(model, test, output: Path) -> list[Form]:
    """Writes the network in every form and reads each back, which must compute the same."""
    images, labels = preprocess_input(test[0]).numpy(), test[1]
    expected = model.predict(images, verbose=0)
    # A copy that was never compiled, so that the files hold no optimizer.
    compact = tf.keras.models.clone_model(model)
    compact.set_weights(model.get_weights())
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
        ("compact.h5", compact, "all that training needs"),
        ("compact.keras", compact, "all that training needs"),
        ("compact_larq.h5", sks.to_larq(compact), "plain Larq: binary weights as floats"),
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
        path = output / "compact.tflite"
        sks.to_tflite(compact, path, images=images[:10])
        # It adds up floats in another order, so that the last bits differ.
        scores = Interpreter(path.read_bytes()).predict(images)
        add(path, "1 bit a binary weight, for a device", scores, exact=False)

    path = output / "compact.sks"
    sks.save(compact, path)
    add(path, "codewords by number", sks.load(path).predict(images, verbose=0))
    return forms


def _time(model) -> tuple[list[latency.Timing], list[str]]:
    """Times one image in every interpreter that is here; returns also what is not here, and why."""
    try:
        forms, missing = latency.of_model(model)
    except ImportError as error:
        return [], [str(error)]
    return latency.measure(forms, _ROUNDS), missing


def _print_timings(timings: list[latency.Timing], missing: list[str]) -> None:
    if timings:
        table = Table(title="One image of 32×32, one thread")
        for column in ("run by", "milliseconds", "quartiles", "file"):
            table.add_column(column, justify="left" if column == "run by" else "right")
        for timing in timings:
            table.add_row(
                timing.name,
                f"{timing.median:.2f}",
                f"{timing.lower:.2f} to {timing.upper:.2f}",
                f"{timing.size / 1024:.1f} KiB",
            )
        _console.print(table)
        _console.print(
            "Measured in turn, on this machine. LCE is Larq Compute Engine, made for Arm and slow on x86; int8 is a network "
            f"of the same shapes with random weights, in {latency.stock_name()}."
        )
    for line in missing:
        _console.print(f"Not timed. {line}")


def _print_table(results: list[Result], tested: int) -> None:
    table = Table(title="One network at 1 bit a weight and at 0.56")
    for column in ("network", "bits a weight", "binary part", "whole model", "accuracy"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for result in results:
        table.add_row(
            result.network,
            f"{result.bits_a_weight:.2f}",
            f"{result.binary_kib:.1f} KiB",
            f"{result.model_kib:.1f} KiB",
            f"{result.accuracy:.1%}",
        )
    _console.print(table)
    error = 100 * np.sqrt(np.mean([r.accuracy * (1 - r.accuracy) for r in results]) / tested)
    _console.print(
        f"One run each, on a small sample: the accuracies are uncertain by ±{error:.1f} points from the "
        "number of test images alone. The 1-bit network has seen the training images before, among 50,000."
    )


def _print_forms(forms: list[Form]) -> None:
    table = Table(title="The network fine-tuned here, as a file")
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
