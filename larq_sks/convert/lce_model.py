"""The copy of a network that Larq Compute Engine (LCE) converts, and its conversion."""

from __future__ import annotations

import tempfile
from collections.abc import Collection

import larq as lq
import numpy as np
import tensorflow as tf

from larq_sks.convert.clone import QUANTIZERS, clone, remake


class PaddedWithOnes(lq.layers.QuantConv2D):
    """A zero-padded convolution, computed as one padded with ones minus a constant.

    The constant is what the ones add: they stand at the same places for every image. (Keras makes a name
    scope of the class's name, which therefore may not begin with an underscore.)
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{**kwargs, "pad_values": 1.0, "activation": None})
        self.last = tf.keras.activations.get(kwargs["activation"])

    def call(self, inputs):
        outputs = super().call(inputs)
        border = tf.zeros((1, *inputs.shape[1:]))
        border = tf.pad(border, self._get_padding_same(inputs), constant_values=1.0)
        ones = tf.nn.conv2d(border, self.kernel, self.strides, "VALID", "NHWC", self.dilation_rate)
        # Flat, because LCE takes an addition of this shape for one of a bias of each channel.
        flat = tf.reshape(outputs, (-1, np.prod(ones.shape))) - tf.reshape(ones, (-1,))
        return self.last(tf.reshape(flat, (-1, *ones.shape[1:])))


def for_lce(model: tf.keras.Model, small: Collection[tf.keras.layers.Layer]) -> tf.keras.Model:
    """Copies a plain model, with quantised kernels as constants, which LCE recognises at any size."""

    def replace(layer):
        quantizers = [
            name for name in QUANTIZERS.values() if getattr(layer, name, None) is not None
        ]
        if not quantizers and layer not in small:
            return None
        cls = PaddedWithOnes if layer in small else None
        return remake(layer, dict.fromkeys(quantizers), cls)

    copy, copies = clone(model, replace)
    for layer, new in copies.items():
        for weight, name in QUANTIZERS.items():
            quantizer = getattr(layer, name, None)
            if quantizer is not None:
                getattr(new, weight).assign(quantised(layer, weight))
    return copy


def quantised(layer: tf.keras.layers.Layer, weight: str) -> tf.Tensor:
    """Returns a weight as the layer computes with it."""
    with lq.context.quantized_scope(True):
        return tf.convert_to_tensor(getattr(layer, weight))


def convert(lce, model: tf.keras.Model) -> bytes:
    """Makes a .tflite file of a model, for one image at a time; raises a ValueError where LCE fails."""
    # Not `lce.convert_keras_model`: it also writes what Keras would need to train on, which takes many
    # times as long.
    batch = tf.TensorSpec((1, *model.inputs[0].shape[1:]), tf.float32, model.input_names[0])
    function = tf.function(
        lambda image: {model.output_names[0]: model(image, training=False)}, [batch]
    )
    module = tf.Module()
    module.weights = model.variables
    try:
        with tempfile.TemporaryDirectory() as folder:
            tf.saved_model.save(
                module, folder, {"serving_default": function.get_concrete_function()}
            )
            return lce.convert_saved_model(folder)
    except Exception as error:  # LCE raises bare ones
        raise ValueError(
            f"`model` must consist of what LCE can convert. Received: {error} Nothing was written."
        ) from error
