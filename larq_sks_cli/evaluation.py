"""How many images of a data set a network classifies correctly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

import larq_sks_zoo as zoo
from larq_sks.convert import tflite_file
from larq_sks.convert.compact_filters import COMPACT
from larq_sks.latency import runtime_interpreter
from larq_sks_cli.files import read_model, read_tflite
from larq_sks_zoo.training import datasets

SAMPLE = "cifar10_sample"
"""The data set that comes with the package."""


class Network(NamedTuple):
    """A network from a file, ready to run."""

    predict: Callable[[np.ndarray], np.ndarray]
    """From preprocessed images to scores."""
    inputs: list[tuple]
    """Shapes of the inputs without the batch."""
    outputs: list[tuple]
    """Shapes of the outputs without the batch."""


class Images(NamedTuple):
    """Images with their classes."""

    examples: tf.data.Dataset
    number: int
    shape: tuple[int, ...]
    """Height, width and channels."""
    classes: int


def read_network(path: Path) -> Network:
    """Reads a network from a Keras model of any kind or from a .tflite file.

    Raises:
        ValueError: If the file cannot be read.
        ImportError: If a .tflite file needs Larq Compute Engine or larq-sks-runtime and it is not installed.
    """
    if path.suffix == ".tflite":
        return _read_tflite(path)
    model = read_model(path)
    shapes = [
        [tuple(tensor.shape[1:]) for tensor in tensors or ()]
        for tensors in (model.inputs, model.outputs)
    ]
    return Network(model.predict_on_batch, *shapes)


def _read_tflite(path: Path) -> Network:
    data = read_tflite(path)
    compact = COMPACT in tflite_file.read(data).ops
    return _read_compact(path, data) if compact else _read_lce(path, data)


def _read_lce(path: Path, data: bytes) -> Network:
    try:
        from larq_compute_engine.tflite.python.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(
            "Larq Compute Engine is needed to run a .tflite file. Install it with pip install '.[lce]' in a checkout of larq_sks; it "
            "exists for Python 3.10 and 3.11."
        ) from error
    interpreter = Interpreter(data)
    _check_floats(path, (*interpreter.input_types, *interpreter.output_types))
    shapes = [
        [tuple(shape[1:]) for shape in shapes]
        for shapes in (interpreter.input_shapes, interpreter.output_shapes)
    ]
    return Network(interpreter.predict, *shapes)


def _read_compact(path: Path, data: bytes) -> Network:
    interpreter = runtime_interpreter(data, threads=1)
    details = interpreter.get_input_details(), interpreter.get_output_details()
    _check_floats(path, [each["dtype"] for tensors in details for each in tensors])

    def predict(images: np.ndarray) -> np.ndarray:
        scores = []
        for image in images:
            interpreter.set_tensor(details[0][0]["index"], image[None])
            interpreter.invoke()
            scores.append(interpreter.get_tensor(details[1][0]["index"])[0])
        return np.stack(scores)

    return Network(
        predict, *([tuple(each["shape"][1:]) for each in tensors] for tensors in details)
    )


def _check_floats(path: Path, types) -> None:
    if {np.dtype(each) for each in types} != {np.dtype(np.float32)}:
        raise ValueError(f"'{path}' takes or gives other numbers than float32.")


def read_images(name: str, data_dir: Path | None, split: str, limit: int | None) -> Images:
    """Opens a data set, without a download.

    Arguments:
        name: Its name in TensorFlow Datasets, such as "cifar10", or "cifar10_sample".
        data_dir: The folder of TensorFlow Datasets; `None` for the usual one.
        split: Which part, such as "test".
        limit: Take only so many images, the first; `None` for all.

    Raises:
        ValueError: If the data set is not there or is not of images of one size with a class each.
    """
    if name == SAMPLE:
        return _read_sample(split, limit)
    import tensorflow_datasets as tfds

    folder = datasets.folder_of(data_dir)
    if not (folder / name.partition(":")[0]).is_dir():
        raise datasets.missing(name, folder)
    try:
        examples, info = tfds.load(
            name,
            split=split,
            data_dir=folder,
            download=False,
            as_supervised=True,
            with_info=True,
            read_config=tfds.ReadConfig(try_autocache=False),
        )
    except AssertionError as error:  # another version of it, or half of it
        raise datasets.missing(name, folder) from error
    image, label = examples.element_spec
    classes = getattr(info.features[info.supervised_keys[1]], "num_classes", None)
    if classes is None or image.shape.rank != 3 or not image.shape.is_fully_defined():
        raise ValueError(
            f"The data set must hold images of one size with a class each. Received: {name}, with "
            f"{tuple(image.shape)} and {tuple(label.shape)}."
        )
    if limit is not None:
        examples = examples.take(limit)
    return Images(examples, len(examples), tuple(image.shape), classes)


def _read_sample(split: str, limit: int | None) -> Images:
    parts = dict(zip(("train", "test"), zoo.load_cifar10_sample(), strict=True))
    if split not in parts:
        raise ValueError(
            f"`--split` of {SAMPLE} must be one of {tuple(parts)}. Received: '{split}'."
        )
    pixels, labels = (values[:limit] for values in parts[split])
    examples = tf.data.Dataset.from_tensor_slices((pixels, labels))
    return Images(examples, len(labels), pixels.shape[1:], len(zoo.CLASSES))


def check_fit(network: Network, images: Images) -> None:
    """Raises a ValueError if the network does not take the images or gives no score for each class."""
    fits = len(network.inputs) == len(network.outputs) == 1
    for ours, theirs in zip(network.inputs, [images.shape], strict=False):
        fits = fits and tf.TensorShape(ours).is_compatible_with(theirs)
    if not fits or network.outputs[0] != (images.classes,):
        raise ValueError(
            f"The network must take images of {images.shape} and give {images.classes} scores, as the "
            f"data set has it. Received: a network with inputs {_listed(network.inputs)} and outputs "
            f"{_listed(network.outputs)}."
        )


def count_correct(
    network: Network, images: Images, batch_size: int, advance: Callable[[int], None]
) -> int:
    """Counts the images whose class has the highest score; calls `advance` with each batch's size."""
    correct = 0
    for pixels, labels in images.examples.batch(batch_size).as_numpy_iterator():
        scores = network.predict(zoo.preprocess_input(pixels).numpy())
        correct += int(np.sum(scores.argmax(axis=-1) == labels))
        advance(len(labels))
    return correct


def _listed(shapes: list[tuple]) -> str:
    return ", ".join(str(shape) for shape in shapes) or "unknown"
