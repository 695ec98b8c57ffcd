"""What the networks for small images are made of."""

from __future__ import annotations

from collections.abc import Sequence

import larq as lq
import tensorflow as tf

import larq_sks as sks


def binary_convolution(
    filters: int,
    num_codewords: int | None,
    selection,
    name: str,
    clip_value: float = 1.0,
    **options,
) -> tf.keras.layers.Layer:
    """Makes a 3×3 convolution of signs with signs, in the form that Larq Compute Engine takes.

    Arguments:
        filters: Its output channels.
        num_codewords: Codewords that its kernel may use; `None` for plain 1 bit.
        selection: Who chooses them: see `larq_sks.selections`.
        name: Its name.
        clip_value: The largest absolute latent weight, and the largest absolute input with a gradient.
        **options: As for `lq.layers.QuantConv2D`.

    Returns:
        The layer.

    Raises:
        ValueError: If `num_codewords` is out of range.
    """
    options = dict(
        input_quantizer=lq.quantizers.SteSign(clip_value=clip_value),
        kernel_constraint=lq.constraints.WeightClip(clip_value=clip_value),
        padding="same",
        pad_values=1.0,
        use_bias=False,
        name=name,
        **options,
    )
    if num_codewords is None:
        sign = lq.quantizers.SteSign(clip_value=clip_value)
        return lq.layers.QuantConv2D(filters, 3, kernel_quantizer=sign, **options)
    return sks.layers.SKSConv2D(
        filters,
        3,
        num_codewords=num_codewords,
        selection=selection,
        clip_value=clip_value,
        **options,
    )


def residual_network(
    name: str,
    *,
    widths: Sequence[int],
    convolutions: int,
    stem_stride: int,
    num_codewords: int | None,
    selection,
    input_shape: tuple[int, int, int],
    num_classes: int,
    include_top: bool,
    threshold: bool = False,
) -> tf.keras.Model:
    """Builds a residual network with a shortcut around each binary convolution.

    Arguments:
        name: Its name.
        widths: Channels of each stage; all stages but the first halve the image.
        convolutions: Binary convolutions in each stage.
        stem_stride: Stride of the first convolution, which is not binary.
        num_codewords: Codewords of each binary convolution; `None` for plain 1 bit.
        selection: Who chooses them.
        input_shape: Height, width and channels of the images.
        num_classes: Number of classes.
        include_top: Whether to end in logits.
        threshold: Whether to learn, for each channel, where the sign before a convolution changes.

    Returns:
        The network.

    Raises:
        ValueError: If the image cannot be halved in each stage.
    """
    layers = tf.keras.layers
    check_input_shape(input_shape, stem_stride * 2 ** (len(widths) - 1))
    image = layers.Input(input_shape)
    x = layers.Conv2D(widths[0], 3, stem_stride, padding="same", use_bias=False, name="stem")(image)
    x = layers.BatchNormalization(momentum=0.9, name="stem_norm")(x)
    for stage, filters in enumerate(widths, 1):
        for number in range(1, convolutions + 1):
            strides = 2 if stage > 1 and number == 1 else 1
            prefix = f"stage{stage}_{number}"
            x = _unit(x, filters, strides, num_codewords, selection, prefix, threshold)
    if include_top:
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        x = layers.Dense(num_classes, name="logits")(x)
    return tf.keras.Model(image, x, name=name)


def _unit(x, filters, strides, num_codewords, selection, prefix, threshold):
    """Sign → binary convolution → batch norm, plus a shortcut of full precision, then PReLU."""
    layers = tf.keras.layers
    shortcut = x
    if strides > 1:
        shortcut = layers.AveragePooling2D(strides, name=f"{prefix}_shortcut_pool")(shortcut)
        shortcut = layers.Conv2D(filters, 1, use_bias=False, name=f"{prefix}_shortcut")(shortcut)
        shortcut = layers.BatchNormalization(momentum=0.9, name=f"{prefix}_shortcut_norm")(shortcut)
    if threshold:
        # The sign does not see a scale: what this learns is where it changes.
        name = f"{prefix}_threshold"
        x = layers.BatchNormalization(momentum=0.9, scale=False, name=name)(x)
    convolution = binary_convolution(
        filters, num_codewords, selection, f"{prefix}_conv", strides=strides
    )
    x = layers.BatchNormalization(momentum=0.9, name=f"{prefix}_norm")(convolution(x))
    x = layers.Add(name=f"{prefix}_add")([x, shortcut])
    # A slope of 0 (Keras' default) would make every input of the next sign +1.
    slope = tf.keras.initializers.Constant(0.25)
    return layers.PReLU(slope, shared_axes=[1, 2], name=f"{prefix}_prelu")(x)


def check_input_shape(input_shape: tuple[int, int, int], divisor: int) -> None:
    """Refuses images that a network cannot halve: convolution and shortcut would disagree."""
    if any(size is None or size % divisor for size in input_shape[:2]):
        raise ValueError(
            f"`input_shape` must have height and width divisible by {divisor}. "
            f"Received: input_shape={tuple(input_shape)}."
        )
