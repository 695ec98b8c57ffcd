"""How long a network takes for one image: Larq Compute Engine, our runtime, and int8, side by side."""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import larq as lq
import numpy as np
import tensorflow as tf

from larq_sks.convert import clone, lce_model, tflite_file, to_larq, to_tflite
from larq_sks.convert.compact_filters import COMPACT, compacted
from larq_sks.convert.quiet import without_stderr

_ROUND_SECONDS = 0.03
"""How long a form is run before the next one has its turn."""


class Form(NamedTuple):
    """A network in a file, ready to run on one image of noise."""

    name: str
    size: int
    """Of the file, in bytes."""
    run: Callable[[], None]


class Timing(NamedTuple):
    """How long one form took."""

    name: str
    size: int
    """Of the file, in bytes."""
    median: float
    """Milliseconds an image: the median of all rounds."""
    lower: float
    """The lower quartile."""
    upper: float
    """The upper quartile."""


def of_model(model: tf.keras.Model, threads: int = 1) -> tuple[list[Form], list[str]]:
    """Exports a network in three forms and makes ready those that can be run here.

    With one bit a weight, with codebooks if that makes it smaller, and as a network of the same shapes in
    int8.

    Example:
        ```python
        forms, missing = sks.latency.of_model(model)
        for timing in sks.latency.measure(forms):
            print(timing.name, timing.median)
        ```

    Arguments:
        model: A network that `to_tflite` can export.
        threads: Number of threads of each interpreter, 1 or more.

    Returns:
        The forms, and a line for each that cannot be run, with the reason.

    Raises:
        ImportError: If Larq Compute Engine is not installed.
        ValueError: If the network cannot be exported.
    """
    forms, missing = [], []
    for what, data in files_of(model).items():
        found, reasons = of_file(data, threads)
        forms += [form._replace(name=f"{form.name}, {what}".rstrip(", ")) for form in found]
        missing += reasons
    twin = int8_twin(model)
    forms.append(Form("TensorFlow Lite, int8", len(twin), _call(stock_interpreter(twin, threads))))
    return forms, list(dict.fromkeys(missing))


def files_of(model: tf.keras.Model) -> dict[str, bytes]:
    """Exports a network: as "", with one bit a weight, and as "compact", with codebooks if that makes it smaller.

    Raises:
        ImportError: If Larq Compute Engine is not installed.
        ValueError: If the network cannot be exported.
    """
    plain = to_larq(model)
    data = _exported(plain)
    kernels = [
        lce_model.quantised(layer, "kernel").numpy()
        for layer in plain._flatten_layers()
        if isinstance(layer, lq.layers.QuantConv2D)
    ]
    compact = compacted(data, kernels)
    return {"": data} | ({"compact": compact} if COMPACT in tflite_file.read(compact).ops else {})


def of_file(data: bytes, threads: int = 1) -> tuple[list[Form], list[str]]:
    """Makes a binary .tflite file ready in every interpreter that is here.

    Arguments:
        data: The file.
        threads: Number of threads of each interpreter, 1 or more.

    Returns:
        The forms, and a line for each interpreter that cannot run it, with the reason.
    """
    forms, missing = [], []
    compact = COMPACT in tflite_file.read(data).ops
    for engine, make in (("LCE", _lce), ("larq-sks-runtime", _runtime)):
        if compact and make is _lce:
            missing.append("LCE: cannot read a compact file.")
            continue
        try:
            forms.append(Form(engine, len(data), make(data, threads)))
        except ImportError as error:
            missing.append(f"{engine}: {error}")
    return forms, missing


def measure(
    forms: list[Form], rounds: int = 30, advance: Callable[[int], None] = lambda count: None
) -> list[Timing]:
    """Times all forms in turn, so that whatever else the machine does meets them all alike.

    Arguments:
        forms: What to run, on one image of noise.
        rounds: How often each has its turn, for 30 ms.
        advance: Called with 1 after each round.

    Returns:
        A timing for each form.
    """
    times: dict[str, list[float]] = {form.name: [] for form in forms}
    for form in forms:
        form.run()  # the first run prepares
    for _ in range(rounds):
        for form in forms:
            end = time.perf_counter() + _ROUND_SECONDS
            while True:
                began = time.perf_counter()
                form.run()
                now = time.perf_counter()
                times[form.name].append(1000 * (now - began))
                if now >= end:
                    break
        advance(1)
    quartiles = {name: np.percentile(values, [50, 25, 75]) for name, values in times.items()}
    return [Timing(form.name, form.size, *map(float, quartiles[form.name])) for form in forms]


def int8_twin(model: tf.keras.Model) -> bytes:
    """Makes an int8 .tflite file of a network with the layers and shapes of a model, for timings only.

    Binary convolutions become int8 ones without a quantizer of inputs. Weights and ranges are random.
    """

    def float_layer(layer):
        config = layer.get_config()
        names = ["input_quantizer", *clone.QUANTIZERS.values()]
        config |= {name: None for name in names if name in config}
        if config.get("pad_values"):
            config["pad_values"] = 0.0  # a border of ones would cost int8 another operator
        return type(layer).from_config(config)

    twin = tf.keras.models.clone_model(to_larq(model), clone_function=float_layer)
    shape = (1, *twin.inputs[0].shape[1:])
    function = tf.function(lambda image: twin(image, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec(shape, tf.float32))
    # Not the model itself, with which the converter would write all that Keras needs to train.
    module = tf.Module()
    module.weights = twin.variables
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([_noise(shape)] for _ in range(4))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with without_stderr():
        return converter.convert()


def stock_interpreter(data: bytes, threads: int, delegates=()):
    """Makes an interpreter of LiteRT if it is installed, whose int8 is the faster one, else TensorFlow's."""
    try:
        cls = importlib.import_module("ai_edge_litert.interpreter").Interpreter
    except ImportError:
        cls = tf.lite.Interpreter
    with without_stderr():
        interpreter = cls(
            model_content=data, num_threads=threads, experimental_delegates=list(delegates) or None
        )
        interpreter.allocate_tensors()
    return interpreter


def stock_name() -> str:
    """Returns whose interpreter `stock_interpreter` makes, with the version."""
    try:
        return f"LiteRT {version('ai-edge-litert')}"
    except PackageNotFoundError:
        return f"TensorFlow {tf.__version__}"


def runtime_interpreter(data: bytes, threads: int):
    """Makes a stock interpreter that runs binary and sub-bit networks by larq-sks-runtime."""
    try:
        import larq_sks_runtime
    except ImportError as error:
        raise ImportError(
            "larq-sks-runtime is not here. Install it with pip install ./runtime in a checkout of larq_sks. "
            f"Received: {error}"
        ) from error
    return stock_interpreter(data, threads, [larq_sks_runtime.load_delegate()])


def _exported(model: tf.keras.Model) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.tflite")
        to_tflite(model, path)
        return path.read_bytes()


def _noise(shape) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(tuple(shape), np.float32)


def _lce(data: bytes, threads: int) -> Callable[[], None]:
    """Larq Compute Engine at its fastest on x86: indirect kernels, XNNPACK for what is float."""
    try:
        from larq_compute_engine.tflite.python.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(
            "Larq Compute Engine is not here. Install it with pip install '.[lce]' in a checkout of "
            f"larq_sks, on Python 3.10 or 3.11. Received: {error}"
        ) from error
    with without_stderr():
        interpreter = Interpreter(data, threads, use_indirect_bgemm=True, use_xnnpack=True)
    images = [_noise(shape) for shape in interpreter.input_shapes]
    return lambda: interpreter.predict(images if len(images) > 1 else images[0])


def _runtime(data: bytes, threads: int) -> Callable[[], None]:
    return _call(runtime_interpreter(data, threads))


def _call(interpreter) -> Callable[[], None]:
    inputs = [
        (each["index"], _noise(each["shape"]).astype(each["dtype"]))
        for each in interpreter.get_input_details()
    ]
    outputs = [each["index"] for each in interpreter.get_output_details()]

    def run():
        for index, image in inputs:
            interpreter.set_tensor(index, image)
        interpreter.invoke()
        for index in outputs:
            interpreter.get_tensor(index)

    return run
