"""Measures this library's targets as ratios, each pair side by side in one run.

make bench
python benchmarks/run.py --rounds 30 --output benchmarks/results/core.json
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

NUM_CODEWORDS = 32
BATCH_SIZE = 128
NETWORKS = ("ResNet-20", "wide layer")


@click.command()
@click.option("--rounds", default=20, show_default=True, help="Rounds of each training step.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Raw figures.")
@click.option("--measure-memory", nargs=2, hidden=True)
def main(rounds: int, output: Path | None, measure_memory: tuple[str, str] | None) -> None:
    """Prints each target with what is measured here."""
    if measure_memory:
        print(_peak_memory(*measure_memory))
        return
    console = Console()
    console.print(_machine())
    table = Table(title=f"n = {NUM_CODEWORDS}, batch {BATCH_SIZE}, medians")
    for column in ("what", "this library", "compared with", "ratio", "target"):
        table.add_column(column, justify="left" if column == "what" else "right")
    raw = {"machine": _machine(), "command": " ".join(["python", *sys.argv])}

    for network in NETWORKS:
        times = raw[f"step, {network}"] = _steps(network, rounds)
        for kernels, target in (("learned", "1.05"), ("fixed", "1.05")):
            # Round by round, so that a change of the machine's speed touches both alike.
            ratios = [a / b for a, b in zip(times[kernels], times["sign"], strict=True)]
            ours, theirs = (1000 * statistics.median(times[k]) for k in (kernels, "sign"))
            ratio = f"{statistics.median(ratios):.3f}"
            row = f"training step, {network}, {kernels}"
            table.add_row(row, f"{ours:.1f} ms", f"ste_sign {theirs:.1f} ms", ratio, f"≤ {target}")

    for network in NETWORKS:
        memory = {k: _in_new_process("--measure-memory", network, k) for k in ("learned", "sign")}
        raw[f"memory, {network}"] = memory
        ours, theirs = memory["learned"], memory["sign"]
        row = f"peak memory of training, {network}"
        table.add_row(row, f"{ours:.0f} MiB", f"{theirs:.0f} MiB", f"{ours / theirs:.3f}", "≤ 1.10")

    for count in (32, 128):
        ours, theirs = raw[f"rounding, 512×{count}"] = _rounding(count)
        row = f"rounding a plan of 512×{count}, one thread"
        table.add_row(
            row, f"{ours:.2f} ms", f"SciPy {theirs:.2f} ms", f"{ours / theirs:.2f}", "≤ 2 ms"
        )

    imports = raw["import"] = {name: _import_seconds(name) for name in ("larq_sks", "larq")}
    ours, theirs = (statistics.median(imports[name]) for name in ("larq_sks", "larq"))
    more = f"{ours - theirs:+.2f} s"
    table.add_row("import", f"{ours:.2f} s", f"larq {theirs:.2f} s", more, "≤ +0.3 s")
    console.print(table)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(raw, indent=1) + "\n")


def _machine() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("larq", "numpy", "larq-sks"))
    now = datetime.now(timezone.utc).date()
    return f"{now}, {platform.machine()}, {os.cpu_count()} cores, TensorFlow {_tensorflow()}, {versions}"


def _tensorflow() -> str:
    import tensorflow as tf

    return tf.__version__


def _model(network: str, kernels: str):
    """Builds a network with the kernels to compare, and data to train it on."""
    import larq as lq
    import tensorflow as tf

    import larq_sks as sks
    import larq_sks_zoo as zoo

    tf.keras.utils.set_random_seed(0)
    selection = "permutation" if kernels == "learned" else "fixed"
    count = None if kernels == "sign" else NUM_CODEWORDS
    if network == "ResNet-20":
        model, shape = zoo.ResNet20(num_codewords=count, selection=selection), (32, 32, 3)
    else:
        shape = (16, 16, 256)
        quantizer = (
            sks.quantizers.SparseKernelSign(NUM_CODEWORDS, selection) if count else "ste_sign"
        )
        layer = lq.layers.QuantConv2D(
            256,
            3,
            padding="same",
            pad_values=1.0,
            input_quantizer="ste_sign",
            kernel_quantizer=quantizer,
            kernel_constraint="weight_clip",
        )
        layers = [tf.keras.Input(shape), layer, tf.keras.layers.GlobalAveragePooling2D()]
        model = tf.keras.Sequential(layers)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf.keras.optimizers.Adam(1e-3), loss)
    generator = np.random.default_rng(0)
    images = generator.normal(size=(BATCH_SIZE, *shape)).astype(np.float32)
    return model, tf.constant(images), tf.constant(generator.integers(0, 10, BATCH_SIZE))


def _steps(network: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each training step, the kernels in turn."""
    models = {kernels: _model(network, kernels) for kernels in ("sign", "learned", "fixed")}
    times: dict[str, list[float]] = {kernels: [] for kernels in models}
    for number in range(rounds + 3):
        for kernels, (model, images, labels) in models.items():
            seconds = _seconds(lambda m=model, i=images, y=labels: m.train_on_batch(i, y))
            if number >= 3:  # the first ones compile and warm up
                times[kernels].append(seconds)
    return times


def _peak_memory(network: str, kernels: str) -> float:
    """MiB by which some training steps raise the largest resident memory of this process."""
    import larq_sks_zoo  # noqa: F401 - what importing takes is not counted

    before = _high_water_mark()
    model, images, labels = _model(network, kernels)
    for _ in range(5):
        model.train_on_batch(images, labels)
    return _high_water_mark() - before


def _high_water_mark() -> float:
    """Largest resident memory of this process so far in MiB; unlike ru_maxrss not its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def _in_new_process(*arguments: str) -> float:
    command = [sys.executable, __file__, *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(output.split()[-1])


def _rounding(count: int) -> tuple[float, float]:
    """Milliseconds to round a plan of random logits: this library in one thread, and SciPy."""
    code = f"""
import statistics, time
import numpy as np, scipy.optimize, tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
from larq_sks import pste
logits = np.random.default_rng(0).normal(size=(512, {count})).astype(np.float32)
plan = pste.relax(tf.constant(logits), 20)
scores = (plan[:, :-1] - plan[:, -1:] / (512 - {count})).numpy()
harden = tf.function(lambda plan: pste.harden(plan, {count}))
scipy_rows = lambda: scipy.optimize.linear_sum_assignment(scores, maximize=True)[0]
columns = np.arange({count})
def total(rows): return scores[rows, columns].sum()
rows, chosen = scipy.optimize.linear_sum_assignment(scores, maximize=True)
assert np.isclose(total(harden(plan).numpy()), scores[rows, chosen].sum(), rtol=1e-6)
ours, theirs = [], []
for _ in range(50):
    for times, call in ((ours, lambda: harden(plan)), (theirs, scipy_rows)):
        began = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - began))
print(statistics.median(ours), statistics.median(theirs))
"""
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(output[-2]), float(output[-1])


def _import_seconds(name: str) -> list[float]:
    """Seconds of a new process that imports a package, five times."""
    command = [sys.executable, "-c", f"import {name}"]
    return [_seconds(lambda: subprocess.run(command, check=True)) for _ in range(5)]


def _seconds(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
