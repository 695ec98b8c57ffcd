"""Which start, and which learned selection, is best after compacting a trained 1-bit network?

Trains a small binary ResNet on all of CIFAR-10 at 1 bit, then fine-tunes it with n codewords a layer
under several selections, at equal budget and with the same batches for all of them. Each finished run
is one line of results/first_evidence.csv; a run that stands there already is skipped, so the command
goes on where it was stopped. Afterwards it prints the table.

    python zoo/evidence/first_evidence.py --data-dir ~/tensorflow_datasets
"""

from __future__ import annotations

import csv
import os
import platform
import time
from datetime import date
from pathlib import Path

import click
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from rich.console import Console
from rich.table import Table

import larq_sks as sks
import larq_sks_zoo as zoo

RESULTS = Path(__file__).parent / "results"
BATCH = 128
PARENT_EPOCHS = 15
PARENT_RATE, FINE_RATE = 3e-3, 1e-3
FIELDS = (
    "codewords", "epochs", "seed", "selection", "before", "after", "changed", "seconds",
    "date", "machine", "tensorflow", "settings",
)  # fmt: skip


def start_of(kernel: sks.layers.SparseKernel, rule: str, seed: int) -> np.ndarray:
    """Chooses the codewords of one kernel by the name of a rule."""
    count, latent = kernel.quantizer.num_codewords, kernel.latent()
    if rule == "random":
        return np.random.default_rng(seed).permutation(512)[:count]
    if rule == "frequent":
        return sks.selections.most_frequent(latent, count)
    return sks.selections.greedy_coverage(latent, count, score=rule.removeprefix("coverage-"))


def load_data(data_dir: str | None):
    """Reads all of CIFAR-10 through TensorFlow Datasets, as arrays."""
    parts = tfds.load("cifar10", data_dir=data_dir, batch_size=-1)
    return [
        (part["image"].numpy(), part["label"].numpy()) for part in (parts["train"], parts["test"])
    ]


def fit(model, data, epochs: int, rate: float, seed: int, callbacks=()) -> float:
    """Trains with Adam and a cosine from `rate` to 0; returns the accuracy on the test images."""
    (images, labels), _ = data
    steps = len(images) // BATCH
    schedule = tf.keras.optimizers.schedules.CosineDecay(rate, epochs * steps)
    compile_model(model, schedule)
    batches = zoo.augmented(images, labels, BATCH, seed)
    model.fit(batches, steps_per_epoch=steps, epochs=epochs, verbose=2, callbacks=list(callbacks))
    return evaluate(model, data)


def compile_model(model, rate=0.0) -> None:
    """Compiles with Adam and the loss of all runs."""
    model.compile(
        tf.keras.optimizers.Adam(rate),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def evaluate(model, data) -> float:
    """Returns the accuracy on all 10,000 test images in percent."""
    _, (images, labels) = data
    inputs = zoo.preprocess_input(images)
    return 100 * model.evaluate(inputs, labels, batch_size=500, verbose=0)[1]


def parent(data) -> tf.keras.Model:
    """Trains the 1-bit network once, with a checkpoint an epoch, and keeps its weights."""
    path = RESULTS / "parent.weights.h5"
    model = zoo.ResNet8()
    if path.exists():
        model.load_weights(path)
        return model
    tf.keras.utils.set_random_seed(0)
    model = zoo.ResNet8()
    callbacks = [
        tf.keras.callbacks.BackupAndRestore(RESULTS / "parent.backup"),
        tf.keras.callbacks.CSVLogger(RESULTS / "parent.csv", append=True),
    ]
    fit(model, data, PARENT_EPOCHS, PARENT_RATE, 0, callbacks)
    # From a copy that was never compiled, so that the file holds no optimizer.
    kept = zoo.ResNet8()
    kept.set_weights(model.get_weights())
    kept.save_weights(path)
    return kept


def child_of(model: tf.keras.Model, count: int | None, selection) -> tf.keras.Model:
    """Builds the network with `count` codewords a layer and copies the 1-bit network's weights."""
    child = zoo.ResNet8(num_codewords=count, selection=selection)
    for source, target in zip(model.layers, child.layers, strict=True):
        weights = source.get_weights()
        target.set_weights(weights + target.get_weights()[len(weights) :])
    return child


def run(model, data, count: int, rule: str, epochs: int, seed: int) -> dict:
    """Fine-tunes once: `rule` is `1-bit`, a start that stays fixed, or `learned-` and a start."""
    began = time.time()
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(seed)
    learned = rule.startswith("learned-")
    selection = sks.selections.Permutation(seed=seed)
    child = child_of(model, None if rule == "1-bit" else count, selection)
    kernels, callbacks = sks.layers.sparse_kernels(child), []
    for kernel in kernels:
        start = start_of(kernel, rule.removeprefix("learned-"), seed)
        kernel.quantizer.selection.start_from(start)
        kernel.quantizer.selection.phase = "learn" if learned else "frozen"
    if learned:
        callbacks = [sks.callbacks.SelectionSchedule(), sks.callbacks.SelectionLog()]
    before = {kernel.name: kernel.quantizer.selected() for kernel in kernels}
    compile_model(child)
    accuracy = evaluate(child, data)
    after = fit(child, data, epochs, FINE_RATE, seed, callbacks)
    changed = sum(len(np.setdiff1d(k.quantizer.selected(), before[k.name])) for k in kernels)
    return {
        "codewords": count,
        "epochs": epochs,
        "seed": seed,
        "selection": rule,
        "before": f"{accuracy:.2f}",
        "after": f"{after:.2f}",
        "changed": changed,
        "seconds": f"{time.time() - began:.0f}",
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "tensorflow": tf.__version__,
        "settings": settings(selection, callbacks[0]) if learned else "",
    }


def settings(selection, schedule) -> str:
    """Names what decides how a selection learns."""
    config = selection.get_config()
    names = ("temperature", "noise", "iterations", "boost", "logit_scale")
    return " ".join([*(f"{name}={config[name]}" for name in names), f"frozen={schedule.frozen}"])


def grid():
    """Lists all runs: the short ones first, then seed by seed."""
    starts = (
        "random",
        "frequent",
        "coverage-hamming",
        "coverage-latent",
        "learned-coverage-latent",
    )
    for epochs in (1, 5):
        for seed in (0, 1, 2):
            yield 512, "1-bit", epochs, seed
            for count in (8, 32):
                for rule in starts:
                    yield count, rule, epochs, seed


def print_table(rows: list[dict]) -> None:
    """Prints mean and standard error over the seeds, and how much learning gains seed by seed."""
    table = Table(title="accuracy on CIFAR-10's 10,000 test images, mean ± standard error")
    for column in ("n", "epochs", "selection", "seeds", "before", "after", "codewords changed"):
        table.add_column(column, justify="left" if column == "selection" else "right")
    for count, epochs in sorted({(int(r["codewords"]), int(r["epochs"])) for r in rows}):
        cell = [r for r in rows if (int(r["codewords"]), int(r["epochs"])) == (count, epochs)]
        by_rule: dict[str, list[dict]] = {}
        for row in cell:
            by_rule.setdefault(row["selection"], []).append(row)
        for rule, runs in by_rule.items():
            before, after = (mean([float(r[k]) for r in runs]) for k in ("before", "after"))
            changed = np.mean([int(r["changed"]) for r in runs])
            table.add_row(
                str(count), str(epochs), rule, str(len(runs)), before, after, f"{changed:.1f}"
            )
        if "learned-coverage-latent" in by_rule:
            fixed = {r["seed"]: float(r["after"]) for r in by_rule.get("coverage-latent", [])}
            learned = {r["seed"]: float(r["after"]) for r in by_rule["learned-coverage-latent"]}
            gains = [learned[seed] - fixed[seed] for seed in learned if seed in fixed]
            name, seeds = "learned − coverage-latent", str(len(gains))
            table.add_row(str(count), str(epochs), name, seeds, "", mean(gains), "")
        table.add_section()
    Console(width=110).print(table)


def mean(values: list[float]) -> str:
    """Writes mean ± standard error."""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{np.mean(values):.2f} ± {error:.2f}"


@click.command()
@click.option(
    "--data-dir", help="Where TensorFlow Datasets keeps CIFAR-10; its own default if not given."
)
@click.option("--table", is_flag=True, help="Only print the table of the runs so far.")
def main(data_dir: str | None, table: bool) -> None:
    """Runs what is missing of the comparison and prints its table."""
    path = RESULTS / "first_evidence.csv"
    rows = list(csv.DictReader(path.open())) if path.exists() else []
    if not table:
        RESULTS.mkdir(exist_ok=True)
        data = load_data(data_dir)
        model = parent(data)
        done = {tuple(row[name] for name in FIELDS[:4]) for row in rows}
        for count, rule, epochs, seed in grid():
            if (str(count), str(epochs), str(seed), rule) in done:
                continue
            row = run(model, data, count, rule, epochs, seed)
            print(row, flush=True)
            with path.open("a", newline="") as file:
                writer = csv.DictWriter(file, FIELDS)
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(row)
        rows = list(csv.DictReader(path.open()))
    print_table(rows)


if __name__ == "__main__":
    main()
