"""What Keras recorded of the calls of a model's layers: shapes and the precision of inputs."""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf

from larq_sks.accounting import Kind

# With `None` for a size, or for the whole shape, that is not known.
Shape = tuple[int | None, ...] | None

_TRANSPOSED = (
    tf.keras.layers.Conv1DTranspose,
    tf.keras.layers.Conv2DTranspose,
    tf.keras.layers.Conv3DTranspose,
)
_CONVOLUTIONS = (
    tf.keras.layers.Conv1D,
    tf.keras.layers.Conv2D,
    tf.keras.layers.Conv3D,
    tf.keras.layers.DepthwiseConv1D,
    tf.keras.layers.DepthwiseConv2D,
    tf.keras.layers.SeparableConv1D,
    tf.keras.layers.SeparableConv2D,
    *_TRANSPOSED,
)
_LOCAL = (tf.keras.layers.LocallyConnected1D, tf.keras.layers.LocallyConnected2D)


class Call(NamedTuple):
    """One use of a layer in a model."""

    inputs: list[Shape]
    outputs: list[Shape]
    input_bits: int | None
    """Precision of the inputs, or `None` for floats."""


def leaves(model: tf.keras.Model) -> list[tf.keras.layers.Layer]:
    """Lists the layers of a model and of the models in it, each once."""
    found: dict[int, tf.keras.layers.Layer] = {}
    for layer in model.layers:
        inner = leaves(layer) if isinstance(layer, tf.keras.Model) else [layer]
        found.update((id(leaf), leaf) for leaf in inner)
    return list(found.values())


def recorded(model: tf.keras.Model) -> dict[int, list[Call]]:
    """Collects the calls of each layer, by its id; nothing is called.

    A model that is a layer of another may get inputs of other shapes there than it was made with; the
    shapes in it follow from them. A subclassed model records nothing.
    """
    calls: dict[int, list[Call]] = {}
    _follow(model, [_shape(tensor) for tensor in model.inputs or []], calls)
    return calls


def _shape(tensor) -> Shape:
    return None if tensor.shape.rank is None else tuple(tensor.shape)


def _follow(model: tf.keras.Model, inputs: list[Shape], calls: dict[int, list[Call]]) -> None:
    shapes = dict(zip(map(id, model.inputs or []), inputs, strict=False))
    # Keras' list of what belongs to this model: a layer's own list has its calls in other models, too.
    nodes = getattr(model, "_nodes_by_depth", {})
    for node in (node for depth in sorted(nodes, reverse=True) for node in nodes[depth]):
        if node.is_input:
            continue
        given = [shapes[id(tensor)] for tensor in node.keras_inputs]
        outputs = tf.nest.flatten(node.outputs)
        made = [_shape(tensor) for tensor in outputs]
        if given != [_shape(tensor) for tensor in node.keras_inputs]:
            made = _output_shapes(node.layer, given, len(outputs))
        shapes.update(zip(map(id, outputs), made, strict=True))
        if isinstance(node.layer, tf.keras.Model):
            _follow(node.layer, given, calls)
        else:
            call = Call(given, made, _call_bits(node))
            calls.setdefault(id(node.layer), []).append(call)


def _output_shapes(layer: tf.keras.layers.Layer, inputs: list[Shape], count: int) -> list[Shape]:
    if None in inputs:
        return [None] * count
    try:
        shapes = layer.compute_output_shape(inputs[0] if len(inputs) == 1 else inputs)
    except (NotImplementedError, TypeError, ValueError):  # a layer made of a TensorFlow function
        return [None] * count
    return [tuple(tf.TensorShape(shape)) for shape in ([shapes] if count == 1 else shapes)]


def _call_bits(node) -> int | None:
    """Finds the precision of a layer's input: by its own quantizer, else by the layer before."""
    own = getattr(node.layer, "input_quantizer", None)
    if own is not None or not node.parent_nodes:
        return precision(own)
    before = node.parent_nodes[0].layer
    return precision(before) or precision(getattr(before, "activation", None))


def precision(quantizer) -> int | None:
    """Returns the bits of what a quantizer gives, as Larq states them; `None` for floats."""
    bits = getattr(quantizer, "precision", None)
    return bits if isinstance(bits, int) else None


def input_bits(
    layer: tf.keras.layers.Layer, attribute: str, calls: list[Call] | None
) -> int | None:
    """Returns the precision of what a kernel is applied to, `None` if it is not always the same one."""
    if attribute == "pointwise_kernel":  # to sums that the depthwise kernel made
        return None
    if not calls:
        return precision(getattr(layer, "input_quantizer", None))
    different = {call.input_bits for call in calls}
    return different.pop() if len(different) == 1 else None


def kind(layer: tf.keras.layers.Layer, attribute: str) -> Kind:
    """Tells how a kernel's axes meet its inputs."""
    if attribute == "depthwise_kernel":
        return "depthwise"
    return "transposed" if isinstance(layer, _TRANSPOSED) else "plain"


def positions(layer: tf.keras.layers.Layer, calls: list[Call] | None) -> int | None:
    """Counts the positions at which a kernel is applied in all calls; `None` where that is unknown."""
    numbers = [_positions(layer, call) for call in calls or []]
    known = [number for number in numbers if number is not None]
    return sum(known) if known and len(known) == len(numbers) else None


def _positions(layer: tf.keras.layers.Layer, call: Call) -> int | None:
    if isinstance(layer, _LOCAL):  # each weight has its place
        return 1 if layer.implementation == 1 else None
    shape = call.inputs[0] if isinstance(layer, _TRANSPOSED) else call.outputs[0]
    if shape is None or not isinstance(layer, (*_CONVOLUTIONS, tf.keras.layers.Dense)):
        return None
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    sizes = [size for size in (shape[2:] if first else shape[1:-1]) if size is not None]
    return math.prod(sizes) if len(sizes) == len(shape) - 2 else None
