"""Residual binary networks for small images, with a shortcut around each binary convolution."""

from __future__ import annotations

import larq as lq
import tensorflow as tf

import larq_sks as sks


def ResNet20(
    *,
    num_codewords: int | None = None,
    selection="permutation",
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
) -> tf.keras.Model:
    """Builds the binary ResNet-20 for small images: 18 binary 3×3 convolutions of 16 to 64 channels.

    Example:
        ```python
        model = zoo.ResNet20(num_codewords=32)
        ```

    Arguments:
        num_codewords: Codewords that each binary convolution may use, 1 to 512, or `None` for plain
            1-bit kernels (`ste_sign`).
        selection: Who chooses them: see `larq_sks.selections`.
        input_shape: Height, width and channels of the images; height and width divisible by 4.
        num_classes: Number of classes, 1 or more.

    Returns:
        A Keras model from preprocessed images to logits `(batch, num_classes)`.

    Raises:
        ValueError: If `input_shape` or `num_codewords` is out of range.

    References:
        - [Deep Residual Learning for Image Recognition](https://arxiv.org/abs/1512.03385), section 4.2
        - [Bi-Real Net](https://arxiv.org/abs/1808.00278): a shortcut around each convolution
    """
    return _resnet(
        "resnet20", (16, 32, 64), 6, 1, num_codewords, selection, input_shape, num_classes
    )


def ResNet8(
    *,
    num_codewords: int | None = None,
    selection="permutation",
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
) -> tf.keras.Model:
    """Builds a small, fast binary ResNet: 6 binary 3×3 convolutions of 24 to 96 channels.

    Its first convolution halves the image, so that a CPU trains it in minutes: the network of the demo
    and of quick experiments (165,888 binary weights).

    Example:
        ```python
        model = zoo.ResNet8(num_codewords=32)
        ```

    Arguments:
        num_codewords: Codewords that each binary convolution may use, 1 to 512, or `None` for plain
            1-bit kernels (`ste_sign`).
        selection: Who chooses them: see `larq_sks.selections`.
        input_shape: Height, width and channels of the images; height and width divisible by 8.
        num_classes: Number of classes, 1 or more.

    Returns:
        A Keras model from preprocessed images to logits `(batch, num_classes)`.

    Raises:
        ValueError: If `input_shape` or `num_codewords` is out of range.

    References:
        - [Deep Residual Learning for Image Recognition](https://arxiv.org/abs/1512.03385), section 4.2
        - [Bi-Real Net](https://arxiv.org/abs/1808.00278): a shortcut around each convolution
    """
    return _resnet(
        "resnet8", (24, 48, 96), 2, 2, num_codewords, selection, input_shape, num_classes
    )


def _resnet(
    name, widths, convolutions, stem_stride, num_codewords, selection, input_shape, num_classes
):
    layers = tf.keras.layers
    # Where a stage halves an odd size, the convolution and its shortcut would disagree.
    divisor = stem_stride * 2 ** (len(widths) - 1)
    if any(size is None or size % divisor for size in input_shape[:2]):
        raise ValueError(
            f"`input_shape` must have height and width divisible by {divisor}. "
            f"Received: input_shape={tuple(input_shape)}."
        )
    image = layers.Input(input_shape)
    x = layers.Conv2D(widths[0], 3, stem_stride, padding="same", use_bias=False, name="stem")(image)
    x = layers.BatchNormalization(momentum=0.9, name="stem_norm")(x)
    for stage, filters in enumerate(widths):
        for number in range(convolutions):
            strides = 2 if stage > 0 and number == 0 else 1
            prefix = f"stage{stage + 1}_{number + 1}"
            x = _unit(x, filters, strides, num_codewords, selection, prefix)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return tf.keras.Model(image, layers.Dense(num_classes, name="logits")(x), name=name)


def _unit(x, filters, strides, num_codewords, selection, prefix):
    """Sign → binary convolution → batch norm, plus a shortcut of full precision, then PReLU."""
    layers = tf.keras.layers
    shortcut = x
    if strides > 1:
        shortcut = layers.AveragePooling2D(strides, name=f"{prefix}_shortcut_pool")(shortcut)
        shortcut = layers.Conv2D(filters, 1, use_bias=False, name=f"{prefix}_shortcut")(shortcut)
        shortcut = layers.BatchNormalization(momentum=0.9, name=f"{prefix}_shortcut_norm")(shortcut)
    options = dict(
        strides=strides,
        padding="same",
        pad_values=1.0,
        input_quantizer="ste_sign",
        kernel_constraint="weight_clip",
        use_bias=False,
        name=f"{prefix}_conv",
    )
    if num_codewords is None:
        convolution = lq.layers.QuantConv2D(filters, 3, kernel_quantizer="ste_sign", **options)
    else:
        convolution = sks.layers.SKSConv2D(
            filters, 3, num_codewords=num_codewords, selection=selection, **options
        )
    x = layers.BatchNormalization(momentum=0.9, name=f"{prefix}_norm")(convolution(x))
    x = layers.Add(name=f"{prefix}_add")([x, shortcut])
    # A slope of 0 (Keras' default) would make every input of the next sign +1.
    slope = tf.keras.initializers.Constant(0.25)
    return layers.PReLU(slope, shared_axes=[1, 2], name=f"{prefix}_prelu")(x)
