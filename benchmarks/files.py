"""Measures files: how small they are beside what other tools make of the same network, and how fast.

    make bench-files
    python benchmarks/files.py --output benchmarks/results/files.json

Networks that need data outside the repository (the VGG16) are left out where it is absent.
"""

from __future__ import annotations

import json
import lzma
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from run import _machine

sys.path.append(str(Path(__file__).parents[1] / "zoo" / "evidence"))

SHAPES = [(64, 64)] * 4 + [(64, 128)] + [(128, 128)] * 3 + [(128, 256)] + [(256, 256)] * 3
SHAPES += [(256, 512)] + [(512, 512)] * 3
"""Channels of the sixteen 3×3 convolutions of a ResNet-18: 10,985,472 binary weights."""


@click.command()
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Raw figures.")
@click.option("--rounds", default=5, show_default=True, help="Rounds of saving and loading.")
@click.option("--memory", nargs=2, hidden=True)
def main(output: Path | None, rounds: int, memory: tuple[str, str] | None) -> None:
    """Prints the sizes of five networks in all forms, and time and memory of save and load."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if memory:
        print(_peak_memory(*memory))
        return
    console = Console(width=120)
    console.print(_machine())
    raw: dict = {"machine": _machine(), "command": " ".join(["python", *sys.argv])}
    raw["sizes"] = {}
    table = Table(title="bytes of the same network, and the ratio to its .sks file")
    columns = ("network", "bound", ".sks", ".tflite", "zstd -19", "xz", "H5", "zstd -19", "xz")
    for column in columns:
        table.add_column(column, justify="left" if column == "network" else "right")
    for name, make in _networks().items():
        sizes = raw["sizes"][name] = _sizes(make())
        ours = sizes["sks"]
        row = [name, f"{sizes['bound']:,}\n{ours / sizes['bound']:.4f}", f"{ours:,}"]
        row += [f"{sizes[k]:,}\n{sizes[k] / ours:.2f}" if k in sizes else "–" for k in FORMS]
        table.add_row(*row)
    console.print(table)

    table = Table(title="10,985,472 binary weights, one thread, median of the rounds")
    for column in ("codewords", "save", "load", "peak of save", "peak of load", "network"):
        table.add_column(column, justify="right")
    raw["speed"] = {}
    for count in (32, 512):
        figures = raw["speed"][count] = _speed(count, rounds)
        table.add_row(
            str(count),
            *(f"{statistics.median(figures[k]):.2f} s" for k in ("save", "load")),
            *(f"{figures[k]:.0f} MiB" for k in ("peak of save", "peak of load", "network")),
        )
    console.print(table)
    console.print("Targets: bound ≤ 1.02 times, save and load ≤ 1 s each, peaks ≤ 2 networks.")
    if output:
        output.write_text(json.dumps(raw, indent=1) + "\n")


FORMS = ("tflite", "tflite zstd", "tflite xz", "h5", "h5 zstd", "h5 xz")


def _networks() -> dict:
    """Names the networks of the table and what builds them."""
    import larq_zoo
    import networks

    import larq_sks as sks

    def quicknet():
        return sks.sparsify(larq_zoo.sota.QuickNet(weights=None), 32, selection="fixed")

    def tuned():
        return networks.resnet20(32)

    found = {
        "ResNet8, 1 bit": networks.resnet8,
        "ResNet-20, 1 bit": networks.resnet20,
        "ResNet-20, n = 32": tuned,
        "QuickNet, n = 32, untrained": quicknet,
    }
    if networks.XNOR.exists():
        # The whole codebook: the same outputs, with the multipliers as weights.
        found["VGG16, 1 bit"] = lambda: sks.sparsify(networks.xnor_vgg16(), 512)
        found["VGG16, n = 32"] = lambda: sks.sparsify(networks.xnor_vgg16(), 32, selection="fixed")
    return found


def _sizes(model) -> dict:
    """Returns the bytes of all forms of a network, and of its .sks file by section."""
    import larq_sks as sks

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network"
        roundings = {}
        for floats in ("float16", "int8", "float32"):
            report = sks.save(model, path.with_suffix(".sks"), floats=floats)
            roundings[floats] = {
                "size": report.size,
                "sections": report.sections,
                "largest error": max(report.errors.values(), default=0.0),
            }
        plain = sks.to_larq(model)
        plain.save(path.with_suffix(".h5"), include_optimizer=False)
        sks.to_tflite(model, path.with_suffix(".tflite"))
        sizes = {"bound": _bound(model), "sks": path.with_suffix(".sks").stat().st_size}
        sizes["floats"] = roundings
        for form in ("tflite", "h5"):
            file = path.with_suffix(f".{form}")
            sizes[form] = file.stat().st_size
            if shutil.which("zstd"):
                packed = subprocess.run(
                    ["zstd", "-19", "-c", "-q", file], capture_output=True, check=True
                )
                sizes[f"{form} zstd"] = len(packed.stdout)
            sizes[f"{form} xz"] = len(lzma.compress(file.read_bytes(), preset=9))
    return sizes


def _bound(model) -> int:
    """Returns the order-0 entropy of the codeword indices plus all other weights, in bytes."""
    import larq_sks as sks

    figures = sks.models.summary(model, print_fn=lambda line: None)
    return math.ceil((figures.entropy_bits + figures.other_bits) / 8)


def _model(count: int):
    """Builds the binary convolutions of a ResNet-18 with batch norms, on small maps."""
    import tensorflow as tf

    import larq_sks as sks

    tf.keras.utils.set_random_seed(0)
    x = image = tf.keras.Input((16, 16, 64))
    for inputs, outputs in SHAPES:
        x = sks.layers.SKSConv2D(
            outputs,
            3,
            num_codewords=count,
            selection="fixed",
            input_quantizer="ste_sign",
            padding="same",
            pad_values=1.0,
            strides=1 if inputs == outputs else 2,
            use_bias=False,
        )(x)
        x = tf.keras.layers.BatchNormalization()(x)
    return tf.keras.Model(image, tf.keras.layers.GlobalAveragePooling2D()(x))


def _speed(count: int, rounds: int) -> dict:
    """Times save and load in a process with one thread, and weighs them in others."""
    figures: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "network.sks")
        # The first call makes the file; its time would include TensorFlow's warming up.
        times = json.loads(_in_new_process("-c", _TIMES.format(count, path, rounds)))
        figures["save"], figures["load"] = times
        base, saved = json.loads(_in_new_process(__file__, "--memory", str(count), path))
        _, loaded = json.loads(_in_new_process(__file__, "--memory", "load", path))
    figures["network"] = base
    figures["peak of save"], figures["peak of load"] = saved, loaded
    return figures


_TIMES = """
import json, time, sys
sys.path.insert(0, "benchmarks")
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
import files, larq_sks as sks
model = files._model({0})
times = ([], [])
for _ in range({2} + 1):
    began = time.perf_counter(); sks.save(model, {1!r}); between = time.perf_counter()
    sks.load({1!r}); ended = time.perf_counter()
    times[0].append(between - began); times[1].append(ended - between)
print(json.dumps([t[1:] for t in times]))
"""


def _peak_memory(what: str, path: str) -> str:
    """Returns MiB of a network's weights as float32, and of the peak of saving or loading beyond them.

    The peak counts from a process that has done the same with a tiny network: without libraries and caches.
    """
    import numpy as np
    import tensorflow as tf

    import larq_sks as sks

    image = tf.keras.Input((8, 8, 8))
    tiny = sks.layers.SKSConv2D(8, 3, num_codewords=32, selection="fixed")(image)
    with tempfile.TemporaryDirectory() as folder:
        sks.save(tf.keras.Model(image, tiny), Path(folder) / "tiny.sks")
        sks.load(Path(folder) / "tiny.sks")
    model = None if what == "load" else _model(int(what))
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    if model is None:
        model = sks.load(path)
    else:
        sks.save(model, path)
    peak = _status("VmHWM") - before
    weights = sum(np.prod(weight.shape) * 4 for weight in model.weights) / 2**20
    return json.dumps([weights, peak])


def _status(name: str) -> float:
    """Reads a figure of this process from Linux, in MiB."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def _in_new_process(*arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return result.stdout.splitlines()[-1]


if __name__ == "__main__":
    main()
