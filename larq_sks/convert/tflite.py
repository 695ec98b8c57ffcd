"""Files for Larq Compute Engine and our runtime, and the proof that their binary convolutions are binary."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import larq as lq
import numpy as np
import tensorflow as tf

from larq_sks import _calls
from larq_sks._files import write_atomically
from larq_sks.convert import compact_filters, lce_model, tflite_file
from larq_sks.convert.clone import QUANTIZERS, check_model
from larq_sks.convert.plain import to_larq
from larq_sks.convert.quiet import without_progress
from larq_sks.convert.tflite_file import BINARY

_NOISE_IMAGES = 4
_MAX_ERROR = 0.1
"""The largest `relative_error` on given images. Rounding alone stays far below it in trained networks."""


@dataclass(frozen=True)
class TFLiteLayer:
    """What one layer with a kernel became in the file."""

    name: str
    """Name of the layer, numbered (`name#2`) where layers of nested models share one."""
    kind: str
    """Name of its class."""
    became: str
    """`"LceBconv2d"` for a binary convolution, `"LarqSksBconv2d"` for one with a codebook (`compact=True`),
    else `"float"`: its kernel takes 32 bits a weight."""
    reason: str
    """Why it is float, or how it differs from the layer; empty if there is nothing to say."""
    quantised: bool
    """Whether it has a quantizer, or gets binary inputs. `strict=True` lets no such layer be float."""


@dataclass(frozen=True)
class TFLiteReport:
    """What `to_tflite` wrote and how well it agrees with the model; `str()` of it is a table."""

    size: int
    """Size of the file."""
    ops: dict[str, int]
    """How many operators of each name the file holds, the most frequent first."""
    layers: list[TFLiteLayer]
    """The layers with kernels, in the order of the model."""
    images: int
    """Number of images that file and model were compared on."""
    noise: bool
    """Whether they were noise, because none were given."""
    largest_difference: float
    """Largest absolute difference of an output."""
    largest_output: float
    """Largest absolute output of the model."""
    relative_error: float
    """Root of the mean squared difference over root of the mean squared output."""
    same_images: float
    """Share of the images, 0 to 1, in which no output differs by more than a ten-thousandth of the largest
    output. In the others rounding gave a value near 0 the other sign before a binary convolution."""
    equal_argmax: float
    """Share of the images, 0 to 1, in which the same output is largest."""

    def __str__(self) -> str:
        rows = [("layer", "class", "became", "")]
        rows += [(layer.name, layer.kind, layer.became, layer.reason) for layer in self.layers]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        what = "images of noise" if self.noise else "images"
        return "\n".join(
            [
                *lines,
                f"{self.size} bytes. Operators: "
                + ", ".join(f"{count} {name}" for name, count in self.ops.items())
                + ".",
                f"On {self.images} {what} outputs differ by at most {self.largest_difference:.2g} "
                f"(largest output {self.largest_output:.3g}, relative error {self.relative_error:.2g}); "
                f"{self.same_images:.1%} of the images differ by rounding alone, and {self.equal_argmax:.1%} "
                "have the same largest output.",
            ]
        )

    def as_dict(self) -> dict:
        """Returns all of it as JSON has it."""
        return asdict(self)


def to_tflite(
    model: tf.keras.Model,
    path: str | os.PathLike,
    images=None,
    strict: bool = False,
    compact: bool = False,
) -> TFLiteReport:
    """Writes a network for Larq Compute Engine (LCE), and checks that it is binary and gives the same.

    The file takes one image at a time and holds one bit for each weight of a binary convolution. Each
    `QuantConv2D` with binary inputs must have become the operator `LceBconv2d`: its kernel is looked up
    among those in the file. Other layers stay float. Then LCE's interpreter runs the file.

    With `compact=True` the file holds codebooks and numbers of codewords, about log2(n)/9 bits for a weight
    of a 3×3 kernel. LCE cannot read such a file: it runs in a stock interpreter of TensorFlow Lite with the
    delegate of larq-sks-runtime. What LCE runs here is the same file before its filters are replaced, each
    by one that is decoded and compared.

    Layers keep their order. One thing is computed in another way: LCE gets zero padding wrong where the
    image is smaller than the kernel, so such a layer pads with ones and subtracts what that adds. The
    report says so.

    Example:
        ```python
        report = sks.to_tflite(model, "net.tflite", images=zoo.preprocess_input(test_images[:100]))
        print(report)
        ```

    Arguments:
        model: A functional or sequential float32 model with one input of known size and one output. It
            is left alone.
        path: The file to write, in a folder that exists. Nothing is written if a check fails.
        images: What to compare file and model on, as the model takes it. `None`: a few images of noise,
            on which disagreement is reported but no error.
        strict: Whether a quantised layer that stays float is an error, too.
        compact: Whether binary filters that become smaller by it are stored with codebooks.

    Returns:
        What each layer became, the operators, the file's size, and how well it agrees with the model.

    Raises:
        ImportError: If LCE is not installed.
        ValueError: If LCE cannot convert or run the model; if a layer with binary inputs is not binary
            in the file, with the layer's name and the reason; if the outputs for `images` disagree
            by more than rounding explains; if an argument is wrong.
        OSError: If the file cannot be written.
    """
    lce = _import_lce()
    path = Path(path)
    check_model(model)
    _check_form(model)
    if not path.parent.is_dir():
        raise ValueError(f"`path` must be in a folder that exists. Received: path={str(path)!r}.")
    inputs = _inputs(model, images)

    plain = to_larq(model)
    uses = _uses(plain)
    small = {use.layer for use in uses if use.small_image and use.is_stock}
    with without_progress():
        data = lce_model.convert(lce, lce_model.for_lce(plain, small))
    file = tflite_file.read(data)
    judged = [_judge(use, file) for use in uses]
    refused = [
        layer
        for layer, broken in judged
        if broken or (strict and layer.quantised and layer.became != BINARY)
    ]
    if refused:
        raise ValueError(
            "Each `QuantConv2D` with binary inputs must become a binary convolution that LCE can run"
            f"{', and with strict=True each quantised layer' if strict else ''}. Received:\n"
            + "\n".join(f"- '{layer.name}' ({layer.kind}): {layer.reason}." for layer in refused)
            + "\nNothing was written."
        )

    agreement = _compare(lce, data, plain, inputs)
    layers = [layer for layer, _ in judged]
    if compact:
        data, file, layers = _compacted(data, uses, layers)
    report = TFLiteReport(
        size=len(data),
        ops=dict(file.ops.most_common()),
        layers=layers,
        images=len(inputs),
        noise=images is None,
        **agreement,
    )
    if images is not None and not report.relative_error <= _MAX_ERROR:
        raise ValueError(
            f"The file must give what the model gives, up to a relative error of {_MAX_ERROR}. "
            f"Received: a relative error of {report.relative_error:.2g} on {len(inputs)} images, where "
            f"outputs differ by up to {report.largest_difference:.2g}. Nothing was written. In an "
            "untrained network, whose batch norm leaves many values at exactly 0, rounding alone can do "
            "that, since it decides their signs; to write the file nevertheless, leave out `images`."
        )
    write_atomically(path, data)
    return report


def _import_lce():
    try:
        import larq_compute_engine
    except ImportError as error:
        raise ImportError(
            "`to_tflite` needs Larq Compute Engine. Install it with `pip install '.[lce]'` in a checkout of larq_sks, on Python "
            f"3.10 or 3.11; it has no release for Python 3.12. Received: {error}"
        ) from error
    return larq_compute_engine


def _check_form(model: tf.keras.Model) -> None:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            "`model` must have one input and one output. "
            f"Received: {len(model.inputs)} inputs and {len(model.outputs)} outputs."
        )
    # The batch size is of no interest: a `Sequential` may have learned one from data.
    if None in model.inputs[0].shape[1:]:
        raise ValueError(
            "`model` must take images of known size. Received: an input of shape "
            f"{tuple(model.inputs[0].shape)}. Build the network with a `tf.keras.Input` of such a shape "
            "and set its weights."
        )
    others = {
        dtype
        for dtype in (
            model.inputs[0].dtype.name,
            *(layer.compute_dtype for layer in model._flatten_layers()),
        )
        if dtype != "float32"
    }
    if others:
        raise ValueError(
            f"`model` must compute in float32. Received: {', '.join(sorted(others))}. Build the network "
            "with the policy 'float32' and set its weights."
        )


def _inputs(model: tf.keras.Model, images) -> np.ndarray:
    shape = tuple(model.inputs[0].shape)[1:]
    if images is None:
        rng = np.random.default_rng(0)
        return rng.standard_normal((_NOISE_IMAGES, *shape), np.float32)
    inputs = np.asarray(images, np.float32)
    if inputs.shape[1:] != shape or not len(inputs):
        raise ValueError(
            f"`images` must be one or more images of shape {shape}. "
            f"Received: an array of shape {inputs.shape}."
        )
    return inputs


class _Use(NamedTuple):
    """What is known of a layer before the conversion."""

    name: str
    layer: tf.keras.layers.Layer
    input_bits: int | None
    """Precision of its inputs, `None` for floats."""
    small_image: bool
    """Whether it is one of those whose zero padding LCE gets wrong."""

    @property
    def is_stock(self) -> bool:
        return type(self.layer) is lq.layers.QuantConv2D

    @property
    def other_inputs(self) -> bool:
        """Whether it quantises its inputs to something else than signs."""
        own = getattr(self.layer, "input_quantizer", None)
        return own is not None and not _takes_signs(self.layer)

    @property
    def quantised(self) -> bool:
        names = ("input_quantizer", *QUANTIZERS.values())
        return self.input_bits is not None or any(
            getattr(self.layer, name, None) is not None for name in names
        )


def _uses(model: tf.keras.Model) -> list[_Use]:
    calls = _calls.recorded(model)
    uses = []
    names: Counter[str] = Counter()
    for layer in model._flatten_layers():
        if not any(isinstance(getattr(layer, weight, None), tf.Variable) for weight in QUANTIZERS):
            continue
        names[layer.name] += 1
        name = layer.name + (f"#{names[layer.name]}" if names[layer.name] > 1 else "")
        bits = _calls.input_bits(layer, "kernel", calls.get(id(layer)))
        if _takes_signs(layer):
            bits = 1
        uses.append(_Use(name, layer, bits, bits == 1 and _is_small(layer, calls)))
    return uses


def _takes_signs(layer: tf.keras.layers.Layer) -> bool:
    """Tells whether a convolution's own quantizer makes its inputs -1 and +1, whatever they were."""
    if not isinstance(layer, lq.layers.QuantConv2D) or layer.input_quantizer is None:
        return False
    channels = layer.kernel.shape[2] * layer.groups
    shape = (1, channels, 4, 4) if layer.data_format == "channels_first" else (1, 4, 4, channels)
    probe = np.random.default_rng(0).standard_normal(shape, np.float32)
    probe.flat[:2] = 0.0, -0.0
    return bool(np.all(np.abs(layer.input_quantizer(tf.constant(probe))) == 1))


def _is_small(layer, calls) -> bool:
    """Tells whether LCE gets a layer's zero padding wrong.

    Its kernels assume that no filter sticks out of the image on two opposite sides
    (core/bconv2d/zero_padding_correction.h; seen in LCE 0.16, not in its slow reference kernel).
    """
    if not isinstance(layer, tf.keras.layers.Conv2D) or _pad_values(layer) != 0:
        return False
    if (layer.padding, layer.data_format) != ("same", "channels_last"):
        return False
    reach = [
        (size - 1) * rate + 1
        for size, rate in zip(layer.kernel_size, layer.dilation_rate, strict=True)
    ]
    shapes = [call.inputs[0][1:3] for call in calls.get(id(layer), []) if call.inputs[0]]
    return any(size < wide for shape in shapes for size, wide in zip(shape, reach, strict=True))


def _pad_values(layer: tf.keras.layers.Conv2D) -> float:
    return getattr(layer, "pad_values", 0.0)  # Keras' own layers pad with 0


def _judge(use: _Use, file: tflite_file.File) -> tuple[TFLiteLayer, bool]:
    """Finds out what became of a layer, and why, and whether that is no good."""
    is_conv = isinstance(use.layer, tf.keras.layers.Conv2D) and not isinstance(
        use.layer, tf.keras.layers.Conv2DTranspose
    )
    became, reason, broken = "float", "", False
    if is_conv and use.quantised:
        kernel = lce_model.quantised(use.layer, "kernel").numpy()
        if tflite_file.is_among_binary(kernel, file.binary) and not tflite_file.is_among_float(
            kernel, file.other
        ):
            became = BINARY
    if became == BINARY:
        reason = _why_wrong(use)
        broken = bool(reason)
        if use.small_image and not broken:
            reason = "padded with ones less a constant: LCE gets zeros wrong on images this small"
    elif not use.quantised:
        reason = "no quantizers"
    elif not is_conv:
        reason = "LCE has binary kernels for `QuantConv2D` only"
    elif use.input_bits is None:
        reason = "float inputs"
    elif use.input_bits != 1:
        reason = f"inputs of {use.input_bits} bits"
    else:
        reason = _why_float(use, kernel)
        broken = isinstance(use.layer, lq.layers.QuantConv2D)
    kind = type(use.layer).__name__
    return TFLiteLayer(use.name, kind, became, reason, use.quantised), broken


def _compacted(
    data: bytes, uses: list[_Use], layers: list[TFLiteLayer]
) -> tuple[bytes, tflite_file.File, list[TFLiteLayer]]:
    """Stores filters with codebooks; returns the file, what is in it, and what the layers are now."""
    kernels = [
        lce_model.quantised(use.layer, "kernel").numpy() if layer.became == BINARY else None
        for use, layer in zip(uses, layers, strict=True)
    ]
    data = compact_filters.compacted(data, [kernel for kernel in kernels if kernel is not None])
    file = tflite_file.read(data)
    layers = [
        layer
        if kernel is None or tflite_file.is_among_binary(kernel, file.binary)
        else replace(layer, became=compact_filters.COMPACT)
        for layer, kernel in zip(layers, kernels, strict=True)
    ]
    return data, file, layers


def _why_wrong(use: _Use) -> str:
    """Says why LCE would not compute a binary convolution, or not rightly; nothing if it would."""
    if use.other_inputs:
        return (
            "LCE takes its `input_quantizer` for a sign, but it gives other values; use `ste_sign`"
        )
    if use.layer.groups > 1:
        return f"groups={use.layer.groups}, which only LCE's slow reference kernel can run"
    if use.small_image and not use.is_stock:
        return "LCE gets zero padding wrong on images smaller than the kernel; use pad_values=1.0"
    return ""


def _why_float(use: _Use, kernel: np.ndarray) -> str:
    """Says why LCE did not take a convolution with binary inputs for one; ways out included."""
    layer = use.layer
    if use.other_inputs:
        return "its `input_quantizer` gives other values than -1 and +1; use `ste_sign`"
    if layer.data_format != "channels_last":
        return "data_format='channels_first'; LCE knows 'channels_last' only"
    if layer.groups > 1:
        return f"groups={layer.groups}; LCE runs no groups"
    sizes = np.abs(kernel).reshape(-1, kernel.shape[-1])
    scale = sizes[0]
    if np.any(scale <= np.finfo(np.float32).eps):
        return (
            "output channels of its kernel are 0 or have a multiplier below 1.2e-7, which LCE does not "
            f"recognise: {np.flatnonzero(scale <= np.finfo(np.float32).eps).tolist()}"
        )
    if np.any(np.abs(sizes / scale - 1) > 0.005):
        return "its kernel is not binary: in a channel, weights differ in more than their sign"
    if layer.padding == "same" and _pad_values(layer) not in (0.0, 1.0):
        return f"pad_values={layer.pad_values}; LCE pads with 0 and 1 only"
    return "LCE did not recognise it, and no reason is known"


def _compare(lce, data: bytes, model: tf.keras.Model, inputs: np.ndarray) -> dict[str, float]:
    try:
        got = lce.testing.Interpreter(data).predict(inputs)
    except RuntimeError as error:
        raise ValueError(
            f"LCE's interpreter must be able to run the file. Received: {error} Nothing was written."
        ) from error
    # One image at a time as well: some quantizers of inputs look at the whole batch.
    wanted = model.predict(inputs, batch_size=1, verbose=0)
    difference = np.abs(got - wanted)
    largest = float(np.abs(wanted).max())
    rms = float(np.sqrt(np.mean(wanted**2)))
    rounded = difference.reshape(len(inputs), -1).max(1) <= 1e-4 * largest
    return {
        "largest_difference": float(difference.max()),
        "largest_output": largest,
        "relative_error": float(np.sqrt(np.mean(difference**2))) / max(rms, 1e-30),
        "same_images": float(rounded.mean()),
        "equal_argmax": float(np.mean(got.argmax(-1) == wanted.argmax(-1))),
    }
