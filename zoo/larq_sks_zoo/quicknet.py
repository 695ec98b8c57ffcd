"""QuickNet for small images: larq-zoo's blocks behind a stem that halves the image once."""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf

from larq_sks_zoo import _blocks, pretrained

_BLOCKS = (4, 4, 4, 4)
_FILTERS = (32, 64, 128, 256)
_CLIP_VALUE = 1.25
# Those of larq-zoo's QuickNet, for all batch norms behind the stem.
_NORM = dict(momentum=0.9, epsilon=1e-5)


def QuickNetSmall32(
    *,
    num_codewords: int | None = None,
    selection="permutation",
    weights: str | os.PathLike | None = None,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    include_top: bool = True,
) -> tf.keras.Model:
    """Builds a QuickNet for small images: 16 binary 3×3 convolutions of 32 to 256 channels.

    Blocks and transitions are those of larq-zoo's QuickNet. The stem halves the image once where the one
    for ImageNet does so twice, so that the sections of an image of 32×32 see 16×16, 8×8, 4×4 and 2×2.

    Example:
        ```python
        model = zoo.QuickNetSmall32(num_codewords=32)
        ```

    Arguments:
        num_codewords: Codewords that each binary convolution may use, 1 to 512, or `None` for plain
            1-bit kernels (`ste_sign`).
        selection: Who chooses them: see `larq_sks.selections`.
        weights: As for `ResNet20`.
        input_shape: Height, width and channels of the images; height and width divisible by 16.
        num_classes: Number of classes, 1 or more.
        include_top: Whether to end in logits, not in the last feature map.

    Returns:
        A Keras model from preprocessed images to logits `(batch, num_classes)`, or without the top to
            features `(batch, height / 16, width / 16, 256)`.

    Raises:
        ValueError: If `input_shape` or `num_codewords` is out of range, or there are no such weights.

    References:
        - [Larq Compute Engine](https://arxiv.org/abs/2011.09398), which presents QuickNet
        - [Making Convolutional Networks Shift-Invariant Again](https://arxiv.org/abs/1904.11486): the blur
    """
    _blocks.check_input_shape(input_shape, 16)
    image = tf.keras.layers.Input(input_shape)
    x = _stem(image)
    for number, (blocks, filters) in enumerate(zip(_BLOCKS, _FILTERS, strict=True), 1):
        if number > 1:
            x = _transition(x, filters, f"section{number}_transition")
        for block in range(1, blocks + 1):
            x = _block(x, filters, num_codewords, selection, f"section{number}_{block}")
    if include_top:
        x = tf.keras.layers.Activation("relu", name="top_relu")(x)
        x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(x)
        x = tf.keras.layers.Dense(num_classes, kernel_initializer="glorot_normal", name="logits")(x)
    model = tf.keras.Model(image, x, name="quicknet_small32")
    return pretrained.with_weights(model, weights, "QuickNetSmall32", num_codewords, include_top)


def _stem(image):
    """Halves the image by a 3×3 convolution to a quarter of the channels, then mixes them."""
    layers = tf.keras.layers
    x = layers.Conv2D(
        _FILTERS[0] // 4,
        3,
        2,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name="stem_conv",
    )(image)
    x = layers.BatchNormalization(name="stem_norm", **_NORM)(x)
    x = layers.Activation("relu", name="stem_relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="stem_depthwise")(x)
    x = layers.BatchNormalization(scale=False, center=False, name="stem_depthwise_norm", **_NORM)(x)
    x = layers.Conv2D(
        _FILTERS[0], 1, use_bias=False, kernel_initializer="he_normal", name="stem_pointwise"
    )(x)
    return layers.BatchNormalization(name="stem_pointwise_norm", **_NORM)(x)


def _block(x, filters, num_codewords, selection, prefix):
    """Sign → binary convolution → ReLU → batch norm, in the order that LCE fuses, plus a shortcut."""
    layers = tf.keras.layers
    convolution = _blocks.binary_convolution(
        filters,
        num_codewords,
        selection,
        f"{prefix}_conv",
        _CLIP_VALUE,
        activation="relu",
        kernel_initializer="glorot_normal",
    )
    y = layers.BatchNormalization(name=f"{prefix}_norm", **_NORM)(convolution(x))
    return layers.Add(name=f"{prefix}_add")([y, x])


def _transition(x, filters, prefix):
    """Halves the image by a maximum and a blur, and changes the channels by a 1×1 convolution."""
    layers = tf.keras.layers
    binomial = np.outer([1, 2, 1], [1, 2, 1]) / 16
    # Weight by weight, as no initializer of Keras repeats a kernel, and files would not know ours.
    blur = np.repeat(binomial[:, :, np.newaxis, np.newaxis], x.shape[-1], axis=2).tolist()
    x = layers.Activation("relu", name=f"{prefix}_relu")(x)
    x = layers.MaxPooling2D(2, 1, name=f"{prefix}_max")(x)
    x = layers.DepthwiseConv2D(
        3,
        2,
        padding="same",
        use_bias=False,
        depthwise_initializer=tf.keras.initializers.Constant(blur),
        trainable=False,
        name=f"{prefix}_blur",
    )(x)
    x = layers.Conv2D(
        filters, 1, use_bias=False, kernel_initializer="glorot_normal", name=f"{prefix}_conv"
    )(x)
    return layers.BatchNormalization(name=f"{prefix}_norm", **_NORM)(x)
