"""Writes training steps of the zoo's networks as XLA programs, for an accelerator whose machine has no TensorFlow.

One folder for each network and number of codewords: `step.hlo.xz` (forward, backward and Adam), `test.hlo.xz`,
`manifest.json` (the variables in the order of the programs' arguments) and `start.npz` (their first values; kernels are
drawn where the program runs). `run.py` trains with them.

    python zoo/evidence/accelerator/export.py steps jobs --network ResNet20 --codewords 0 --codewords 32
    python zoo/evidence/accelerator/export.py weights ResNet20 network.sks jobs/network.npz
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import click
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.auto_control_deps_utils import (
    get_read_only_resource_input_indices_graph,
)

import larq_sks as sks
import larq_sks_zoo as zoo
from larq_sks_zoo.training import devices

BATCH, TEST_BATCH = 128, 1000
SHAPE, CLASSES = (32, 32, 3), 10


def build(network: str, codewords: int, learned: bool, precision: str) -> tf.keras.Model:
    """Builds a network; 0 codewords: 1 bit a weight."""
    tf.keras.backend.clear_session()  # names of variables count the layers before
    selection = sks.selections.Permutation(seed=0) if learned else sks.selections.Fixed(seed=0)
    with devices.policy(precision):
        return getattr(zoo, network)(
            num_codewords=codewords or None,
            selection=selection,
            input_shape=SHAPE,
            num_classes=CLASSES,
        )


def raw(variable) -> tf.Variable:
    """Returns the variable below one of Larq's quantised variables."""
    return getattr(variable, "latent_variable", variable)


def functions(model: tf.keras.Model, optimizer, smoothing: float):
    """Makes the step and the test of a network, on preprocessed images."""
    losses = tf.keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)

    def hits(labels, logits):
        found = tf.argmax(logits, axis=-1, output_type=tf.int32)
        return tf.reduce_sum(tf.cast(found == labels, tf.int32))

    @tf.function(jit_compile=True)
    def step(images, labels):
        with tf.GradientTape() as tape:
            logits = tf.cast(model(images, training=True), tf.float32)
            loss = losses(tf.one_hot(labels, CLASSES), logits)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss, hits(labels, logits)

    @tf.function(jit_compile=True)
    def test(images, labels):
        return hits(labels, model(images, training=False))

    return step, test


def variables_of(functions: list) -> list[tf.Variable]:
    """Lists all variables that functions read or write, each once."""
    found = {}
    for function in functions:
        for variable in function.graph.variables:
            found[id(raw(variable).handle)] = raw(variable)
    return list(found.values())


def arguments(function, variables: list[tf.Variable], constants: list[np.ndarray]) -> list[list]:
    """Says what each further argument of a program is: `["variable", i]` or `["constant", i]`."""
    numbers = {id(variable.handle): i for i, variable in enumerate(variables)}
    found = []
    for tensor in function.captured_inputs:
        if tensor.dtype == tf.resource:
            found.append(["variable", numbers[id(tensor)]])
        else:
            found.append(["constant", len(constants)])
            constants.append(tensor.numpy())
    return found


def written(function, given: list[list], count: int) -> list[bool]:
    """Tells for each variable whether a function writes it."""
    first = len(function.graph.inputs) - len(given)
    read = set(get_read_only_resource_input_indices_graph(function.graph))
    found = {
        i for at, (kind, i) in enumerate(given) if kind == "variable" and first + at not in read
    }
    return [i in found for i in range(count)]


def export(
    folder: Path, network: str, codewords: int, learned: bool, precision: str, smoothing: float
) -> None:
    """Writes one network's programs."""
    model = build(network, codewords, learned, precision)
    optimizer = tf.keras.optimizers.Adam(1e-3)
    optimizer.build(model.trainable_variables)
    generator = np.random.default_rng(0)
    images = tf.constant(generator.normal(size=(BATCH, *SHAPE)), tf.float32)
    labels = tf.constant(generator.integers(CLASSES, size=BATCH), tf.int32)
    test_images, test_labels = tf.zeros((TEST_BATCH, *SHAPE)), tf.zeros(TEST_BATCH, tf.int32)
    step, test = functions(model, optimizer, smoothing)
    traced = [
        step.get_concrete_function(images, labels),
        test.get_concrete_function(test_images, test_labels),
    ]
    variables = variables_of(traced)
    constants: list[np.ndarray] = []
    step_arguments, test_arguments = (arguments(each, variables, constants) for each in traced)
    programs = {
        "step": step.experimental_get_compiler_ir(images, labels)(stage="hlo_serialized"),
        "test": test.experimental_get_compiler_ir(test_images, test_labels)(stage="hlo_serialized"),
    }
    drawn, start = {}, {}
    for number, variable in enumerate(variables):
        name = variable.name
        value = variable.numpy()
        if name.endswith("/kernel:0") and not name.startswith(("m/", "v/")):
            receptive = int(np.prod(value.shape[:-2]))
            drawn[number] = float(np.sqrt(6 / (receptive * (value.shape[-2] + value.shape[-1]))))
        else:
            start[f"v{number}"] = value
    folder.mkdir(parents=True, exist_ok=True)
    for name, program in programs.items():
        (folder / f"{name}.hlo.xz").write_bytes(lzma.compress(program, preset=9))
    np.savez_compressed(
        folder / "start.npz", **start, **{f"c{i}": c for i, c in enumerate(constants)}
    )
    manifest = {
        "network": network,
        "codewords": codewords,
        "learned": learned,
        "precision": precision,
        "smoothing": smoothing,
        "batch": BATCH,
        "test_batch": TEST_BATCH,
        "shape": SHAPE,
        "variables": [[v.name, v.shape.as_list(), v.dtype.name] for v in variables],
        "drawn": drawn,
        "written": written(traced[0], step_arguments, len(variables)),
        "arguments": {"step": step_arguments, "test": test_arguments},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    click.echo(
        f"{folder}: {len(variables)} variables, {sum(f.stat().st_size for f in folder.iterdir()):,} bytes"
    )


@click.group()
def main() -> None:
    """Training steps and weights for `run.py`."""


@main.command()
@click.argument("output", type=click.Path(file_okay=False, path_type=Path))
@click.option("--network", required=True, help="Name of the function that builds it.")
@click.option("--codewords", type=int, multiple=True, default=(0,), help="0: 1 bit a weight.")
@click.option("--learned", is_flag=True, help="Learn the selection, in place of a fixed one.")
@click.option("--precision", default="float32", help="A policy of Keras.")
@click.option("--smoothing", default=0.1, help="Of the labels.")
def steps(output, network, codewords, learned, precision, smoothing) -> None:
    """Writes the training steps of a network, a folder for each number of codewords."""
    for count in codewords:
        kind = "1bit" if not count else f"n{count}" + ("_learned" if learned else "")
        kind += "" if smoothing else "_plain"
        export(output / f"{network}_{kind}", network, count, learned, precision, smoothing)


@main.command()
@click.argument("network")
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
def weights(network, file, output) -> None:
    """Writes the weights of a 1-bit network's FILE by the names of their variables, for runs to begin with."""
    variables = map(raw, getattr(zoo, network)(weights=file).weights)
    np.savez_compressed(output, **{variable.name: variable.numpy() for variable in variables})


if __name__ == "__main__":
    main()
