"""Which codewords should a network have? Trains one network under many selections, at equal budget.

Two roads lead to a small binary ResNet with n codewords a layer: `fine-tuned` begins with a network trained at
1 bit, `from scratch` with random weights and all codewords for the first half. The 1-bit ResNet8 is trained here,
that of the ResNet20 is a file (30 epochs, 80.68 %). All selections see the same batches. A finished run is a line of
zoo/results/selections.csv; one that stands there is skipped, so the command goes on where it was stopped.
`tables.py` makes tables of the record.

    python zoo/evidence/selections.py --data-dir ~/tensorflow_datasets
    python zoo/evidence/selections.py --codewords 16 --epochs 5 --selection random
    python zoo/evidence/selections.py --network ResNet20 --codewords 8 --epochs 2 --seed 0
"""

from __future__ import annotations

import csv
import itertools
import os
import platform
import shlex
import time
from collections.abc import Iterator, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

import larq_sks as sks
import larq_sks_zoo as zoo

RESULTS = Path(__file__).parent / "results"
RECORD = Path(__file__).parents[1] / "results" / "selections.csv"
BATCH = 128
PARENT_EPOCHS = 15
SCRATCH_RATE, FINE_RATE = 3e-3, 1e-3
FIELDS = (
    "network", "road", "codewords", "epochs", "seed", "selection", "before", "after", "changed", "seconds",
    "date", "machine", "versions", "command", "settings",
)  # fmt: skip
NETWORKS = {"ResNet8": zoo.ResNet8, "ResNet20": zoo.ResNet20}
ROADS = ("fine-tuned", "from scratch")
SELECTIONS = (
    "1-bit", "random", "frequent", "coverage-hamming", "coverage-latent", "exchanged", "pairs", "shared",
    "learned-coverage-latent", "learned-exchanged", "learned-random",
)  # fmt: skip


class Run(NamedTuple):
    """What is trained: the columns that tell one line of the record from another."""

    network: str
    road: str
    codewords: int
    epochs: int
    seed: int
    selection: str
    """`1-bit`, a start that stays fixed, or `learned-` and a start."""

    @property
    def learned(self) -> bool:
        return self.selection.startswith("learned-")

    @property
    def rule(self) -> str:
        return self.selection.removeprefix("learned-")

    @property
    def begins_at_1_bit(self) -> bool:
        """From scratch a choice from the latent weights waits until there is something in them."""
        return self.road == "from scratch" and self.rule != "random"


def start_of(kernel: sks.layers.SparseKernel, rule: str, seed: int) -> np.ndarray:
    """Chooses the codewords of one kernel by the name of a rule."""
    count, latent = kernel.quantizer.num_codewords, kernel.latent()
    if rule == "random":
        return np.random.default_rng(seed).permutation(512)[:count]
    if rule == "frequent":
        return sks.selections.most_frequent(latent, count)
    if rule == "exchanged":
        return sks.selections.exchanged_coverage(latent, count)
    if rule == "pairs":
        return paired_coverage(latent, count)
    return sks.selections.greedy_coverage(latent, count, score=rule.removeprefix("coverage-"))


def paired_coverage(latent: np.ndarray, count: int) -> np.ndarray:
    """Chooses codewords as greedy coverage does, each together with its negative: a pair is one correlation."""
    patterns = sks.codebook.patterns(9)[:256]  # of each pair the one with the smaller number
    blocks = sks.codebook.to_blocks(latent, sks.codebook.default_codeword_shape(latent.shape))
    scores = np.abs(blocks.numpy().T @ patterns.T)
    best = np.full((len(scores), 1), -np.inf)
    chosen: list[int] = []
    for _ in range(count // 2):
        reached = np.maximum(scores, best)
        chosen.append(int(reached.sum(axis=0).argmax()))
        best = reached[:, chosen[-1:]]
    return np.array([*chosen, *(511 - index for index in chosen)])


def shared_coverage(kernels: Sequence[sks.layers.SparseKernel], count: int) -> np.ndarray:
    """Chooses one set of codewords for all kernels, each kernel scaled to a mean weight of 1."""
    latents = [kernel.latent() for kernel in kernels]
    pooled = [(latent / np.abs(latent).mean()).reshape(3, 3, -1, 1) for latent in latents]
    return sks.selections.greedy_coverage(np.concatenate(pooled, axis=2), count)


def load_data(data_dir: str | None):
    """Reads all of CIFAR-10 through TensorFlow Datasets, as arrays."""
    parts = tfds.load("cifar10", data_dir=data_dir, batch_size=-1)
    return [
        (part["image"].numpy(), part["label"].numpy()) for part in (parts["train"], parts["test"])
    ]


def fit(model, data, end: int, seed: int, callbacks=(), first: int = 0) -> None:
    """Trains a compiled network from epoch `first` up to epoch `end`."""
    (images, labels), _ = data
    steps = len(images) // BATCH
    batches = zoo.augmented(images, labels, BATCH, seed, first_step=first * steps)
    model.fit(
        batches, steps_per_epoch=steps, initial_epoch=first, epochs=end, verbose=2,
        callbacks=list(callbacks),
    )  # fmt: skip


def compile_model(model, data, epochs: int, rate: float) -> None:
    """Compiles with the loss of all runs, and Adam with a cosine from `rate` to 0."""
    steps = epochs * (len(data[0][0]) // BATCH)
    model.compile(
        tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(rate, steps)),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def evaluate(model, data) -> float:
    """Returns the accuracy on all 10,000 test images in percent."""
    _, (images, labels) = data
    inputs = zoo.preprocess_input(images)
    return 100 * model.evaluate(inputs, labels, batch_size=500, verbose=0)[1]


def parent(network: str, data) -> tf.keras.Model:
    """Returns the 1-bit network; a ResNet8 is trained once, with a checkpoint an epoch, and its weights are kept."""
    if network != "ResNet8":
        return NETWORKS[network](weights=RESULTS / f"{network.lower()}_parent.sks")
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
    compile_model(model, data, PARENT_EPOCHS, SCRATCH_RATE)
    fit(model, data, PARENT_EPOCHS, 0, callbacks)
    # From a copy that was never compiled, so that the file holds no optimizer.
    kept = zoo.ResNet8()
    kept.set_weights(model.get_weights())
    kept.save_weights(path)
    return kept


def give_weights(child: tf.keras.Model, model: tf.keras.Model) -> None:
    """Copies a 1-bit network's weights into the same network with codewords."""
    for source, target in zip(model.layers, child.layers, strict=True):
        weights = source.get_weights()
        target.set_weights(weights + target.get_weights()[len(weights) :])


def first_half(run: Run, data) -> tf.keras.Model:
    """Trains the 1-bit network from random weights for the first half of a run's epochs."""
    tf.keras.utils.set_random_seed(run.seed)
    model = NETWORKS[run.network]()
    compile_model(model, data, run.epochs, SCRATCH_RATE)
    fit(model, data, run.epochs // 2, run.seed)
    return model


def go_on(child: tf.keras.Model, model: tf.keras.Model) -> None:
    """Copies a 1-bit network in the middle of its training: weights, steps and what Adam keeps of each weight."""
    give_weights(child, model)
    child.optimizer.build(child.trainable_variables)
    child.optimizer.iterations.assign(model.optimizer.iterations)
    kept, target = moments(model), moments(child)
    for source, layer in zip(model.layers, child.layers, strict=True):
        # The logits of a selection come last, and have no gradient in the first half.
        for given, weight in zip(source.trainable_weights, layer.trainable_weights, strict=False):
            for value, variable in zip(kept[given.ref()], target[weight.ref()], strict=True):
                variable.assign(value)


def moments(model: tf.keras.Model) -> dict:
    """The two moments that Adam keeps of each weight: the last of its variables, in the order of the weights."""
    weights = model.trainable_variables
    kept = model.optimizer.variables[-2 * len(weights) :]
    return {
        weight.ref(): pair for weight, *pair in zip(weights, kept[::2], kept[1::2], strict=True)
    }


def prepare(run: Run, child: tf.keras.Model, data) -> list[tf.keras.callbacks.Callback]:
    """Gives a new network its start; returns the callbacks that lead its selection."""
    schedule = sks.callbacks.SelectionSchedule
    if run.road == "fine-tuned":
        give_weights(child, parent(run.network, data))
    elif run.begins_at_1_bit and run.selection != "1-bit":
        for kernel in sks.layers.sparse_kernels(child):
            kernel.quantizer.selection.phase = "whole"
        return [schedule(0.5, 0.25 if run.learned else 0.5, run.rule.removesuffix("-latent"))]
    kernels = sks.layers.sparse_kernels(child)
    shared = shared_coverage(kernels, run.codewords) if run.rule == "shared" else None
    for kernel in kernels:
        start = start_of(kernel, run.rule, run.seed) if shared is None else shared
        kernel.quantizer.selection.start_from(start)
        kernel.quantizer.selection.phase = "learn" if run.learned else "frozen"
    return [schedule()] if run.learned else []


def train(run: Run, data, halves: dict) -> dict:
    """Trains once; returns the line of the record.

    `halves` keeps the 1-bit first half of the last runs from scratch: all selections go on from the same.
    """
    began = time.time()
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(run.seed)
    selection = sks.selections.Permutation(seed=run.seed)
    count = None if run.selection == "1-bit" else run.codewords
    child = NETWORKS[run.network](num_codewords=count, selection=selection)
    callbacks = prepare(run, child, data)
    kernels = sks.layers.sparse_kernels(child)
    start = {kernel.name: kernel.quantizer.selected() for kernel in kernels}
    compile_model(child, data, run.epochs, FINE_RATE if run.road == "fine-tuned" else SCRATCH_RATE)
    before = evaluate(child, data)
    if run.begins_at_1_bit:
        key = run.network, run.epochs, run.seed
        if key not in halves:
            halves.clear()
            halves[key] = first_half(run, data)
        go_on(child, halves[key])
    fit(child, data, run.epochs, run.seed, callbacks, run.epochs // 2 if run.begins_at_1_bit else 0)
    after = evaluate(child, data)
    # From scratch there is no first choice to count from: all codewords are allowed before it.
    moved = [np.setdiff1d(k.quantizer.selected(), start[k.name]) for k in kernels]
    return {
        **run._asdict(),
        "before": f"{before:.2f}",
        "after": f"{after:.2f}",
        "changed": sum(map(len, moved)) if run.road == "fine-tuned" else "",
        "seconds": f"{time.time() - began:.0f}",
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": f"tensorflow {tf.__version__}, larq {version('larq')}, larq-sks {version('larq-sks')}",
        "command": command(run),
        "settings": settings(selection, callbacks) if run.learned else "",
    }


def command(run: Run) -> str:
    """Says how to make one line of the record."""
    options = run._asdict()
    words = [f"--{name} {shlex.quote(str(value))}" for name, value in options.items()]
    return " ".join(["python zoo/evidence/selections.py", *words])


def settings(selection, callbacks) -> str:
    """Names what decides how a selection learns."""
    config = selection.get_config()
    names = ("temperature", "noise", "iterations", "boost", "logit_scale")
    return " ".join(
        [*(f"{name}={config[name]}" for name in names), f"frozen={callbacks[0].frozen}"]
    )


def missing(network, roads, codewords, epochs, seeds, selections, done: set[Run]) -> Iterator[Run]:
    """Lists the runs that are asked for and not recorded, seed by seed."""
    for number in epochs:
        for seed, road, selection in itertools.product(seeds, roads, selections):
            # From scratch the choice is that of `SelectionSchedule`, which knows fewer rules.
            if road == "from scratch" and selection in ("coverage-hamming", "pairs", "shared"):
                continue
            # At 1 bit there are all 512 codewords.
            for count in (512,) if selection == "1-bit" else codewords:
                run = Run(network, road, count, number, seed, selection)
                if run not in done:
                    yield run


def recorded(path: Path) -> set[Run]:
    """Reads which runs stand in a record."""
    if not path.exists():
        return set()
    with path.open(newline="") as file:
        return {
            Run(
                line["network"],
                line["road"],
                int(line["codewords"]),
                int(line["epochs"]),
                int(line["seed"]),
                line["selection"],
            )
            for line in csv.DictReader(file)
        }


def several(name: str, kind, default: Sequence, help_text: str):
    """Makes an option that may be given several times."""
    return click.option(
        name, type=kind, multiple=True, default=default, show_default=True, help=help_text
    )


@click.command()
@click.option(
    "--data-dir", help="Where TensorFlow Datasets keeps CIFAR-10; its own default if not given."
)
@click.option(
    "--network", type=click.Choice(list(NETWORKS)), default="ResNet8", show_default=True,
    help="What is trained.",
)  # fmt: skip
@several("--road", click.Choice(ROADS), ROADS[:1], "How the network is trained.")
@several("--codewords", click.IntRange(1, 511), (8, 16, 32), "Codewords a layer.")
@several("--epochs", click.IntRange(1), (1, 5), "Epochs of a run.")
@several("--seed", click.IntRange(0), (0, 1, 2), "Decides batches and random subsets.")
@several(
    "--selection",
    click.Choice(SELECTIONS),
    SELECTIONS,
    "Who chooses the codewords; coverage-hamming, pairs and shared are for the road `fine-tuned` alone.",
)
def main(data_dir, network, road, codewords, epochs, seed, selection) -> None:
    """Runs what is missing of the comparison."""
    if "from scratch" in road and any(number % 2 for number in epochs):
        raise click.UsageError(
            "From scratch the first half is at 1 bit, so --epochs must be even. "
            f"Received: {', '.join(map(str, epochs))}."
        )
    data = load_data(data_dir)
    halves: dict = {}
    RECORD.parent.mkdir(exist_ok=True)
    for run in missing(network, road, codewords, epochs, seed, selection, recorded(RECORD)):
        line = train(run, data, halves)
        click.echo(line)
        with RECORD.open("a", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(line)


if __name__ == "__main__":
    main()
