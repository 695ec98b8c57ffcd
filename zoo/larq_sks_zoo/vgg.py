"""A plain binary network for small images, without shortcuts."""

from __future__ import annotations

import os

import tensorflow as tf

from larq_sks_zoo import _blocks, pretrained

_FILTERS = (128, 128, 256, 256, 512, 512)


def VGGSmall(
    *,
    num_codewords: int | None = None,
    selection="permutation",
    weights: str | os.PathLike | None = None,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    include_top: bool = True,
) -> tf.keras.Model:
    """Builds VGG-Small: six 3×3 convolutions of 128 to 512 channels, the last five binary.

    After every second one the image is halved by its maxima. The batch norm comes before them, so that
    Larq Compute Engine makes one operation of convolution, norm and sign, and finds maxima of signs.

    Example:
        ```python
        model = zoo.VGGSmall(num_codewords=32)
        ```

    Arguments:
        num_codewords: Codewords that each binary convolution may use, 1 to 512, or `None` for plain
            1-bit kernels (`ste_sign`).
        selection: Who chooses them: see `larq_sks.selections`.
        weights: As for `ResNet20`.
        input_shape: Height, width and channels of the images; height and width divisible by 8. The
            classifier has weights for each place, so that weights fit one size of image.
        num_classes: Number of classes, 1 or more.
        include_top: Whether to end in logits, not in the last feature map.

    Returns:
        A Keras model from preprocessed images to logits `(batch, num_classes)`, or without the top to
            features `(batch, height / 8, width / 8, 512)`.

    Raises:
        ValueError: If `input_shape` or `num_codewords` is out of range, or there are no such weights.

    References:
        - [LQ-Nets](https://arxiv.org/abs/1807.10029): this size of VGG
        - [Very Deep Convolutional Networks](https://arxiv.org/abs/1409.1556)
    """
    layers = tf.keras.layers
    _blocks.check_input_shape(input_shape, 8)
    image = x = layers.Input(input_shape)
    for number, filters in enumerate(_FILTERS, 1):
        name = f"conv{number}"
        if number == 1:
            convolution = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name)
        else:
            convolution = _blocks.binary_convolution(filters, num_codewords, selection, name)
        x = layers.BatchNormalization(momentum=0.9, scale=False, name=f"norm{number}")(
            convolution(x)
        )
        if number % 2 == 0:
            x = layers.MaxPooling2D(name=f"pool{number // 2}")(x)
    if include_top:
        x = layers.Dense(num_classes, name="logits")(layers.Flatten(name="flatten")(x))
    model = tf.keras.Model(image, x, name="vgg_small")
    return pretrained.with_weights(model, weights, "VGGSmall", num_codewords, include_top)
