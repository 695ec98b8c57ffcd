"""Sign patterns and their integers, and the blocks of a kernel that the patterns stand for.

A *codeword* of K weights is the integer whose binary digit k, counted from the least significant
one, is 1 where weight k is +1. The 2^K codewords of a block size, in order, are its *codebook*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

MAX_BLOCK_SIZE = 16
"""The largest number of weights in a block: its codebook has 65,536 rows."""


def patterns(block_size: int) -> np.ndarray:
    """Lists every sign pattern of a block, row i being the codeword i.

    Example:
        ```python
        patterns(2)  # [[-1, -1], [1, -1], [-1, 1], [1, 1]]
        ```

    Arguments:
        block_size: Number of weights in a block, from 1 to 16.

    Returns:
        A float32 array of -1 and +1, of shape `(2**block_size, block_size)`.

    Raises:
        ValueError: If `block_size` is out of range.
    """
    if not _is_size(block_size) or block_size > MAX_BLOCK_SIZE:
        raise ValueError(
            f"`block_size` must be an integer from 1 to {MAX_BLOCK_SIZE}. "
            f"Received: block_size={block_size!r}."
        )
    return to_signs(np.arange(2**block_size), block_size)


def _is_size(value) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= 1)


def to_signs(codewords: np.ndarray, block_size: int) -> np.ndarray:
    """Writes codewords out as rows of signs.

    Example:
        ```python
        to_signs([6], 3)  # [[-1, 1, 1]]
        ```

    Arguments:
        codewords: Integers from 0 to `2**block_size - 1`, of any shape.
        block_size: Number of weights in a block, from 1 to 16.

    Returns:
        A float32 array of -1 and +1, of shape `(*codewords.shape, block_size)`.
    """
    bits = np.asarray(codewords)[..., np.newaxis] >> np.arange(block_size) & 1
    return (2 * bits - 1).astype(np.float32)


def to_codewords(blocks: np.ndarray) -> np.ndarray:
    """Binarises rows of weights and packs each into its codeword; a weight of 0 counts as +1.

    Example:
        ```python
        to_codewords([[-0.3, 0.0, 2.5]])  # [6]
        ```

    Arguments:
        blocks: Real weights of shape `(..., block_size)` with a block size from 1 to 16.

    Returns:
        An int32 array of shape `blocks.shape[:-1]`.
    """
    blocks = np.asarray(blocks)
    return ((blocks >= 0) << np.arange(blocks.shape[-1])).sum(-1).astype(np.int32)


def default_codeword_shape(kernel_shape: Sequence[int]) -> tuple[int, ...]:
    """Chooses how a kernel is cut into blocks when its owner does not say.

    A 3×3 kernel is cut into its 3×3 slices, one for each pair of input and output channel. Any other
    kernel is cut into runs of 8 along its last axis but one: the input channels of a convolution or
    dense layer, the output channels of a transposed convolution.

    Example:
        ```python
        default_codeword_shape((3, 3, 64, 128))  # (3, 3, 1, 1)
        default_codeword_shape((256, 10))  # (8, 1)
        ```

    Arguments:
        kernel_shape: Shape of a kernel: `(height, width, channels_in, channels_out)`, that of a
            depthwise or transposed convolution, or `(units_in, units_out)`.

    Returns:
        The block's size along each axis of the kernel.

    Raises:
        ValueError: If the kernel is not 3×3 and its last axis but one does not divide by 8.
    """
    kernel_shape = tuple(kernel_shape)
    if len(kernel_shape) == 4 and kernel_shape[:2] == (3, 3):
        return (3, 3, 1, 1)
    if len(kernel_shape) > 1 and kernel_shape[-2] % 8 == 0:
        return (1,) * (len(kernel_shape) - 2) + (8, 1)
    raise ValueError(
        f"`codeword_shape` has no default for a kernel of shape {kernel_shape}: it is not 3×3, and its "
        "last axis but one does not divide by 8. "
        f"Received: codeword_shape=None. Possible for this kernel: {_possible(kernel_shape)}."
    )


def check_codeword_shape(
    codeword_shape: Sequence[int], kernel_shape: Sequence[int]
) -> tuple[int, ...]:
    """Checks that a kernel can be cut into blocks of a shape, and completes that shape.

    Example:
        ```python
        check_codeword_shape((3, 3, 1), (3, 3, 64, 128))  # (3, 3, 1, 1)
        ```

    Arguments:
        codeword_shape: The block's size along each axis of the kernel, or along all axes but the
            last, where it is 1 then. Each size divides the kernel's, and their product, the block
            size, is from 1 to 16.
        kernel_shape: Shape of the kernel.

    Returns:
        The block's size along each axis of the kernel.

    Raises:
        ValueError: If `codeword_shape` does not fit; the message lists shapes that do.
    """
    kernel_shape = tuple(kernel_shape)
    full = tuple(codeword_shape) if np.iterable(codeword_shape) else ()
    if len(full) == len(kernel_shape) - 1:
        full += (1,)
    fits = len(full) == len(kernel_shape) and all(
        _is_size(part) and size % part == 0 for size, part in zip(kernel_shape, full, strict=True)
    )
    if not fits or math.prod(full) > MAX_BLOCK_SIZE:
        raise ValueError(
            f"`codeword_shape` must divide the kernel's shape {kernel_shape} axis by axis (the last "
            f"axis may be left out) and hold at most {MAX_BLOCK_SIZE} weights. "
            f"Received: codeword_shape={codeword_shape!r}. "
            f"Possible for this kernel: {_possible(kernel_shape)}."
        )
    return full


def _possible(kernel_shape: tuple[int, ...]) -> str:
    """Names the largest blocks of a kernel, those with the most weights first."""
    shapes: list[tuple[int, ...]] = [()]
    for size in kernel_shape[:-1]:
        parts = [part for part in range(1, MAX_BLOCK_SIZE + 1) if size % part == 0]
        shapes = [shape + (part,) for shape in shapes for part in parts]
    shapes = [shape for shape in shapes if 4 <= math.prod(shape) <= MAX_BLOCK_SIZE]
    shapes.sort(key=math.prod, reverse=True)
    names = ", ".join(str(shape) for shape in shapes[:8])
    return f"{names}{', …' if len(shapes) > 8 else ''}" if shapes else "none with 4 weights or more"


def to_blocks(kernel: tf.Tensor, codeword_shape: Sequence[int]) -> tf.Tensor:
    """Cuts a kernel into blocks, one a column.

    For a 3×3 convolution kernel with one block a slice this is a mere reshape, without a copy.

    Example:
        ```python
        to_blocks(kernel, (3, 3, 1, 1))  # (3, 3, 64, 128) -> (9, 8192)
        ```

    Arguments:
        kernel: A tensor of static shape.
        codeword_shape: The block's size along each axis of the kernel.

    Returns:
        A tensor of shape `(block_size, number of blocks)` and the kernel's dtype. Weights and blocks
            are in row-major order.
    """
    split, order = _axes(kernel.shape, codeword_shape)
    if order != sorted(order):
        kernel = tf.transpose(tf.reshape(kernel, split), order)
    return tf.reshape(kernel, (math.prod(codeword_shape), -1))


def from_blocks(
    blocks: tf.Tensor, kernel_shape: Sequence[int], codeword_shape: Sequence[int]
) -> tf.Tensor:
    """Puts a kernel together from its blocks: the inverse of `to_blocks`.

    Example:
        ```python
        from_blocks(to_blocks(kernel, shape), kernel.shape, shape)  # kernel
        ```

    Arguments:
        blocks: A tensor of shape `(block_size, number of blocks)`.
        kernel_shape: Shape of the kernel.
        codeword_shape: The block's size along each axis of the kernel.

    Returns:
        A tensor of shape `kernel_shape` and the blocks' dtype.
    """
    split, order = _axes(kernel_shape, codeword_shape)
    if order != sorted(order):
        blocks = tf.reshape(blocks, [split[axis] for axis in order])
        blocks = tf.transpose(blocks, np.argsort(order))
    return tf.reshape(blocks, tuple(kernel_shape))


def _axes(kernel_shape: Sequence[int], codeword_shape: Sequence[int]) -> tuple[list, list]:
    """Splits each axis of a kernel into (blocks, weights) and orders them weights first.

    Axes of size 1 are left out: moving them would hide that no data moves.
    """
    split: list[int] = []
    weights: list[int] = []
    blocks: list[int] = []
    for size, part in zip(kernel_shape, codeword_shape, strict=True):
        for length, axes in ((size // part, blocks), (part, weights)):
            if length > 1:
                axes.append(len(split))
                split.append(length)
    return split, weights + blocks
