"""Networks of larq-zoo for ImageNet, with n codewords in their binary 3×3 kernels."""

from __future__ import annotations

import os

import tensorflow as tf
from larq_zoo.literature import birealnet, real_to_bin_nets, resnet_e
from larq_zoo.sota import quicknet
from zookeeper import factory

from larq_sks.quantizers import SparseKernelSign
from larq_sks_zoo import pretrained


def _build(
    base,
    network,
    num_codewords,
    selection,
    weights,
    input_shape,
    num_classes,
    include_top,
    **options,
) -> tf.keras.Model:
    """Builds a network of larq-zoo, with another kernel quantizer unless it is to have 1 bit."""

    class Sparse(base):
        @property
        def kernel_quantizer(self):
            # A new one each time: it holds the selection of one kernel.
            return SparseKernelSign(num_codewords, selection, **options)

    made = base if num_codewords is None else factory(Sparse)
    model = made(
        input_shape=input_shape, num_classes=num_classes, include_top=include_top, weights=None
    ).build()
    return pretrained.with_weights(model, weights, network, num_codewords, include_top)


def QuickNet(
    *,
    num_codewords: int | None = None,
    selection="permutation",
    weights: str | os.PathLike | None = None,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    include_top: bool = True,
) -> tf.keras.Model:
    """Builds QuickNet of larq-zoo: 16 binary 3×3 convolutions of 64 to 512 channels.

    Example:
        ```python
        model = zoo.QuickNet(num_codewords=32)
        ```

    Arguments:
        num_codewords: Codewords that each binary 3×3 kernel may use, 1 to 512, or `None` for larq-zoo's
            own 1-bit network.
        selection: Who chooses them: see `larq_sks.selections`.
        weights: `None` for random ones, or the path of a .sks or .h5 file of this network. There are no
            ImageNet weights: the error for `"imagenet"` says how to get some.
        input_shape: Height, width and channels of the images.
        num_classes: Number of classes, 1 or more.
        include_top: Whether to end in probabilities, not in the last feature map.

    Returns:
        A Keras model from images, scaled as `larq_zoo.preprocess_input` does, to probabilities
            `(batch, num_classes)`, or without the top to features.

    Raises:
        ValueError: If `num_codewords` is out of range, or there are no such weights.

    References:
        - [Larq Compute Engine](https://arxiv.org/abs/2011.09398), which presents QuickNet
    """
    return _build(
        quicknet.QuickNetFactory,
        "QuickNet",
        num_codewords,
        selection,
        weights,
        input_shape,
        num_classes,
        include_top,
        clip_value=1.25,
    )


def QuickNetSmall(
    *,
    num_codewords: int | None = None,
    selection="permutation",
    weights: str | os.PathLike | None = None,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    include_top: bool = True,
) -> tf.keras.Model:
    """Builds the small QuickNet of larq-zoo: 16 binary 3×3 convolutions of 32 to 512 channels.

    Example:
        ```python
        model = zoo.QuickNetSmall(num_codewords=32)
        ```

    Arguments:
        num_codewords: Codewords that each binary 3×3 kernel may use, 1 to 512, or `None` for larq-zoo's
            own 1-bit network.
        selection: Who chooses them: see `larq_sks.selections`.
        weights: `None` for random ones, or the path of a .sks or .h5 file of this network. There are no
            ImageNet weights: the error for `"imagenet"` says how to get some.
        input_shape: Height, width and channels of the images.
        num_classes: Number of classes, 1 or more.
        include_top: Whether to end in probabilities, not in the last feature map.

    Returns:
        A Keras model from images, scaled as `larq_zoo.preprocess_input` does, to probabilities
            `(batch, num_classes)`, or without the top to features.

    Raises:
        ValueError: If `num_codewords` is out of range, or there are no such weights.

    References:
        - [Larq Compute Engine](https://arxiv.org/abs/2011.09398), which presents QuickNet
    """
    return _build(
        quicknet.QuickNetSmallFactory,
        "QuickNetSmall",
        num_codewords,
        selection,
        weights,
        input_shape,
        num_classes,
        include_top,
        clip_value=1.25,
    )


def QuickNetLarge(
    *,
    num_codewords: int | None = None,
    selection="permutation",
    weights: str | os.PathLike | None = None,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    include_top: bool = True,
) -> tf.keras.Model:
    """Builds the large QuickNet of larq-zoo: 32 binary 3×3 convolutions of 64 to 512 channels.

    Example:
        ```python
        model = zoo.QuickNetLarge(num_codewords=32)
        ```

    Arguments:
        num_codewords: Codewords that each binary 3×3 kernel may use, 1 to 512, or `None` for larq-zoo's
            own 1-bit network.
        selection: Who chooses them: see `larq_sks.selections`.
        weights: `None` for random ones, or the path of a .sks or .h5 file of this network. There are no
            ImageNet weights: the error for `"imagenet"` says how to get some.
        input_shape: Height, width and channels of the images.
        num_classes: Number of classes, 1 or more.
        include_top: Whether to end in probabilities, not in the last feature map.

    Returns:
        A Keras model from images, scaled as `larq_zoo.preprocess_input` does, to probabilities
            `(batch, num_classes)`, or without the top to features.

    Raises:
        ValueError: If `num_codewords` is out of range, or there are no such weights.

    References:
        - [Larq Compute Engine](https://arxiv.org/abs/2011.09398), which presents QuickNet
    """
    return _build(
        quicknet.QuickNetLargeFactory,
        "QuickNetLarge",
        num_codewords,
        selection,
        weights,
        input_shape,
        num_classes,
        include_top,
        clip_value=1.25,
    )


def BinaryResNetE18(
    *,
    num_codewords: int | None = None,
    selection="permutation",
    weights: str | os.PathLike | None = None,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    include_top: bool = True,
) -> tf.keras.Model:
    """Builds ResNetE-18 of larq-zoo: 16 binary 3×3 convolutions of 64 to 512 channels.

    Example:
        ```python
        model = zoo.BinaryResNetE18(num_codewords=32)
        ```

    Arguments:
        num_codewords: Codewords that each binary 3×3 kernel may use, 1 to 512, or `None` for larq-zoo's
            own 1-bit network.
        selection: Who chooses them: see `larq_sks.selections`.
        weights: `None` for random ones, or the path of a .sks or .h5 file of this network. There are no
            ImageNet weights: the error for `"imagenet"` says how to get some.
        input_shape: Height, width and channels of the images.
        num_classes: Number of classes, 1 or more.
        include_top: Whether to end in probabilities, not in the last feature map.

    Returns:
        A Keras model from images, scaled as `larq_zoo.preprocess_input` does, to probabilities
            `(batch, num_classes)`, or without the top to features.

    Raises:
        ValueError: If `num_codewords` is out of range, or there are no such weights.

    References:
        - [Back to Simplicity](https://arxiv.org/abs/1906.08637)
    """
    return _build(
        resnet_e.BinaryResNetE18Factory,
        "BinaryResNetE18",
        num_codewords,
        selection,
        weights,
        input_shape,
        num_classes,
        include_top,
        clip_value=1.25,
    )


def BiRealNet(
    *,
    num_codewords: int | None = None,
    selection="permutation",
    weights: str | os.PathLike | None = None,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    include_top: bool = True,
) -> tf.keras.Model:
    """Builds Bi-Real Net of larq-zoo: 16 binary 3×3 convolutions of 64 to 512 channels.

    larq-zoo's kernels are signs times the mean magnitude of the latent weights in each output channel
    (`magnitude_aware_sign`). With codewords that factor is a weight of its own, which starts at 1, as after
    `larq_sks.sparsify`.

    Example:
        ```python
        model = zoo.BiRealNet(num_codewords=32)
        ```

    Arguments:
        num_codewords: Codewords that each binary 3×3 kernel may use, 1 to 512, or `None` for larq-zoo's
            own 1-bit network.
        selection: Who chooses them: see `larq_sks.selections`.
        weights: `None` for random ones, or the path of a .sks or .h5 file of this network. There are no
            ImageNet weights: the error for `"imagenet"` says how to get some.
        input_shape: Height, width and channels of the images.
        num_classes: Number of classes, 1 or more.
        include_top: Whether to end in probabilities, not in the last feature map.

    Returns:
        A Keras model from images, scaled as `larq_zoo.preprocess_input` does, to probabilities
            `(batch, num_classes)`, or without the top to features.

    Raises:
        ValueError: If `num_codewords` is out of range, or there are no such weights.

    References:
        - [Bi-Real Net](https://arxiv.org/abs/1808.00278)
    """
    return _build(
        birealnet.BiRealNetFactory,
        "BiRealNet",
        num_codewords,
        selection,
        weights,
        input_shape,
        num_classes,
        include_top,
        scale=True,
    )


def RealToBinaryNet(
    *,
    num_codewords: int | None = None,
    selection="permutation",
    weights: str | os.PathLike | None = None,
    input_shape: tuple[int, int, int] = (224, 224, 3),
    num_classes: int = 1000,
    include_top: bool = True,
) -> tf.keras.Model:
    """Builds the Real-to-Binary network of larq-zoo: 16 binary 3×3 convolutions of 64 to 512 channels.

    It holds `Lambda` layers, Python code that `larq_sks.save` refuses: keep it as .h5.

    Example:
        ```python
        model = zoo.RealToBinaryNet(num_codewords=32)
        ```

    Arguments:
        num_codewords: Codewords that each binary 3×3 kernel may use, 1 to 512, or `None` for larq-zoo's
            own 1-bit network.
        selection: Who chooses them: see `larq_sks.selections`.
        weights: `None` for random ones, or the path of a .sks or .h5 file of this network. There are no
            ImageNet weights: the error for `"imagenet"` says how to get some.
        input_shape: Height, width and channels of the images.
        num_classes: Number of classes, 1 or more.
        include_top: Whether to end in probabilities, not in the last feature map.

    Returns:
        A Keras model from images, scaled as `larq_zoo.preprocess_input` does, to probabilities
            `(batch, num_classes)`, or without the top to features.

    Raises:
        ValueError: If `num_codewords` is out of range, or there are no such weights.

    References:
        - [Training binary neural networks with real-to-binary convolutions](https://openreview.net/forum?id=BJg4NgBKvH)
    """
    return _build(
        real_to_bin_nets.RealToBinNetBNNFactory,
        "RealToBinaryNet",
        num_codewords,
        selection,
        weights,
        input_shape,
        num_classes,
        include_top,
    )
