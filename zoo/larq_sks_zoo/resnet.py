"""Residual binary networks for small images, with a shortcut around each binary convolution."""

from __future__ import annotations

import os

import tensorflow as tf

from larq_sks_zoo import _blocks, pretrained


def ResNet20(
    *,
    num_codewords: int | None = None,
    selection="permutation",
    weights: str | os.PathLike | None = None,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    include_top: bool = True,
) -> tf.keras.Model:
    """Builds the binary ResNet-20 for small images: 18 binary 3×3 convolutions of 16 to 64 channels.

    Example:
        ```python
        model = zoo.ResNet20(num_codewords=32, weights="cifar10")
        ```

    Arguments:
        num_codewords: Codewords that each binary convolution may use, 1 to 512, or `None` for plain
            1-bit kernels (`ste_sign`).
        selection: Who chooses them: see `larq_sks.selections`.
        weights: `None` for random ones; `"cifar10"` for those that come with the package; or the path of
            a .sks or .h5 file of this network.
        input_shape: Height, width and channels of the images; height and width divisible by 4.
        num_classes: Number of classes, 1 or more.
        include_top: Whether to end in logits, not in the last feature map.

    Returns:
        A Keras model from preprocessed images to logits `(batch, num_classes)`, or without the top to
            features `(batch, height / 4, width / 4, 64)`.

    Raises:
        ValueError: If `input_shape` or `num_codewords` is out of range, or there are no such weights.

    References:
        - [Deep Residual Learning for Image Recognition](https://arxiv.org/abs/1512.03385), section 4.2
        - [Bi-Real Net](https://arxiv.org/abs/1808.00278): a shortcut around each convolution
    """
    model = _blocks.residual_network(
        "resnet20",
        widths=(16, 32, 64),
        convolutions=6,
        stem_stride=1,
        num_codewords=num_codewords,
        selection=selection,
        input_shape=input_shape,
        num_classes=num_classes,
        include_top=include_top,
    )
    return pretrained.with_weights(model, weights, "ResNet20", num_codewords, include_top)


def ResNet8(
    *,
    num_codewords: int | None = None,
    selection="permutation",
    weights: str | os.PathLike | None = None,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    include_top: bool = True,
) -> tf.keras.Model:
    """Builds a small, fast binary ResNet: 6 binary 3×3 convolutions of 24 to 96 channels.

    Its first convolution halves the image, so that a CPU trains it in minutes: the network of quick
    experiments (165,888 binary weights).

    Example:
        ```python
        model = zoo.ResNet8(num_codewords=32)
        ```

    Arguments:
        num_codewords: Codewords that each binary convolution may use, 1 to 512, or `None` for plain
            1-bit kernels (`ste_sign`).
        selection: Who chooses them: see `larq_sks.selections`.
        weights: As for `ResNet20`.
        input_shape: Height, width and channels of the images; height and width divisible by 8.
        num_classes: Number of classes, 1 or more.
        include_top: Whether to end in logits, not in the last feature map.

    Returns:
        A Keras model from preprocessed images to logits `(batch, num_classes)`, or without the top to
            features `(batch, height / 8, width / 8, 96)`.

    Raises:
        ValueError: If `input_shape` or `num_codewords` is out of range, or there are no such weights.

    References:
        - [Deep Residual Learning for Image Recognition](https://arxiv.org/abs/1512.03385), section 4.2
        - [Bi-Real Net](https://arxiv.org/abs/1808.00278): a shortcut around each convolution
    """
    model = _blocks.residual_network(
        "resnet8",
        widths=(24, 48, 96),
        convolutions=2,
        stem_stride=2,
        num_codewords=num_codewords,
        selection=selection,
        input_shape=input_shape,
        num_classes=num_classes,
        include_top=include_top,
    )
    return pretrained.with_weights(model, weights, "ResNet8", num_codewords, include_top)
