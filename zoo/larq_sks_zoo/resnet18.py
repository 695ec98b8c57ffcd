"""A wide residual binary network for small images, in the manner of ReActNet."""

from __future__ import annotations

import os

import tensorflow as tf

from larq_sks_zoo import _blocks, pretrained


def ResNet18(
    *,
    num_codewords: int | None = None,
    selection="permutation",
    weights: str | os.PathLike | None = None,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    num_classes: int = 10,
    include_top: bool = True,
) -> tf.keras.Model:
    """Builds the binary ResNet-18 for small images: 16 binary 3×3 convolutions of 64 to 512 channels.

    Each has a shortcut, a learned threshold before its sign (ReActNet's RSign) and a PReLU with learned
    shifts after the sum (RPReLU). The threshold is a batch norm without scale, which the sign would not
    see; the shift before the PReLU is that of the convolution's batch norm, and the one after it is taken
    up by what follows. So the network needs no layers of its own.

    Example:
        ```python
        model = zoo.ResNet18(num_codewords=32, num_classes=100)
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
            features `(batch, height / 8, width / 8, 512)`.

    Raises:
        ValueError: If `input_shape` or `num_codewords` is out of range, or there are no such weights.

    References:
        - [ReActNet](https://arxiv.org/abs/2003.03488)
        - [Deep Residual Learning for Image Recognition](https://arxiv.org/abs/1512.03385)
    """
    model = _blocks.residual_network(
        "resnet18",
        widths=(64, 128, 256, 512),
        convolutions=4,
        stem_stride=1,
        num_codewords=num_codewords,
        selection=selection,
        input_shape=input_shape,
        num_classes=num_classes,
        include_top=include_top,
        threshold=True,
    )
    return pretrained.with_weights(model, weights, "ResNet18", num_codewords, include_top)
