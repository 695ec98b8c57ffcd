"""What kernels of n codewords cost: bits of storage and operations, as formulas on plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["plain", "depthwise", "transposed"]


def index_bits(num_codewords: int, blocks: int) -> float:
    """Counts the bits that name the codeword of each block of a kernel: blocks · log2(n).

    Example:
        ```python
        index_bits(32, 64 * 64) / (9 * 64 * 64)  # 0.556 bit a weight
        ```

    Arguments:
        num_codewords: Number n of codewords of the kernel, 1 or more.
        blocks: Number of its blocks.

    Returns:
        Bits, not rounded to whole ones.
    """
    return blocks * math.log2(num_codewords)


def codebook_bits(num_codewords: int, block_size: int = 9) -> int:
    """Counts the bits that say which n codewords a kernel uses: n · K, or none for the whole codebook.

    Example:
        ```python
        codebook_bits(32)  # 288
        ```

    Arguments:
        num_codewords: Number n of codewords of the kernel, from 1 to 2^K.
        block_size: Number K of weights in a block.

    Returns:
        Bits.
    """
    return num_codewords * block_size if num_codewords < 2**block_size else 0


def entropy(counts: np.ndarray) -> float:
    """Computes the order-0 entropy of the use of codewords: -Σ p log2(p).

    Example:
        ```python
        entropy(np.array([8, 4, 4]))  # 1.5
        ```

    Arguments:
        counts: How often each codeword is used, not all 0.

    Returns:
        Bits a block, from 0 to log2 of the number of codewords in use.
    """
    shares = counts[counts > 0] / counts.sum()
    return float(abs((shares * np.log2(shares)).sum()))


def stored_bits(num_codewords: int, counts: np.ndarray) -> float:
    """Estimates what the indices of a kernel take in a file: packed, or coded by how often each comes.

    Packed, an index takes log2(n) bits rounded up to a whole number. An entropy coder does not know the
    frequencies before; learning them on the way costs it something on top of the entropy, much if
    there are few blocks for each codeword. Its size is that of Krichevsky and Trofimov's estimate.

    Example:
        ```python
        stored_bits(32, counts) / 8  # bytes
        ```

    Arguments:
        num_codewords: Number n of codewords of the kernel, 1 or more.
        counts: How often each is used; those that are not may be left out.

    Returns:
        Bits, not rounded to whole ones.

    References:
        - [The performance of universal encoding](https://doi.org/10.1109/TIT.1981.1056331)
    """
    blocks = int(counts.sum())
    packed = blocks * (num_codewords - 1).bit_length()
    # The estimates' product over all blocks, as a closed form.
    coded = math.lgamma(blocks + num_codewords / 2) - math.lgamma(num_codewords / 2)
    coded -= sum(math.lgamma(count + 0.5) - math.lgamma(0.5) for count in counts[counts > 0])
    return min(packed, coded / math.log(2))


def bit_operations(
    num_codewords: int,
    positions: int,
    slices: int,
    columns: int,
    block_size: int = 9,
    outputs: int = 1,
) -> float:
    """Counts the bit-operations of a layer as the published figures of sub-bit networks do.

    Each of a layer's K-bit slices of input is correlated with the n codewords once, and each output
    channel adds up the results that it needs, where an addition counts as half an operation. A codebook
    with no fewer codewords than there are blocks to share it saves nothing and is counted as 1 bit.

    With blocks of 3×3, H·W positions, cin slices and cout columns this is the published 9·H·W·cin·cout
    for n ≥ cout, H·W·cin·(9·n + cout/2) for n < cout. Other blocks and kernels are our generalisation.

    Example:
        ```python
        bit_operations(16, positions=56 * 56, slices=64, columns=64)  # 35323904.0, at 1 bit 115605504.0
        ```

    Arguments:
        num_codewords: Number n of codewords of the kernel.
        positions: Number of positions at which the kernel is applied: pixels of the output.
        slices: Number of different slices of input that meet blocks of the kernel at a position.
        columns: Number of blocks of the kernel that meet each of them.
        block_size: Number K of weights in a block.
        outputs: Number of outputs that a block adds to at a position.

    Returns:
        Bit-operations.

    References:
        - [Sub-bit Neural Networks: Learning to Compress and Accelerate Binary Neural
          Networks](https://arxiv.org/abs/2110.09195), whose repository has the figures
    """
    if num_codewords >= columns:
        return float(positions * slices * block_size * columns)
    return positions * slices * (block_size * num_codewords + columns * outputs / 2)


@dataclass(frozen=True)
class Blocks:
    """How the blocks of a kernel meet the slices of its input."""

    grid: tuple[int, ...]
    """Number of blocks along each axis of the kernel."""
    size: int
    """Number K of weights in a block."""
    columns: int
    """Number of blocks that meet one slice of input, which need each codeword's correlation only once."""
    outputs: int
    """Number of outputs that a block adds to at a position."""
    kind: Kind

    @property
    def count(self) -> int:
        """Number of blocks of the kernel."""
        return math.prod(self.grid)

    @property
    def slices(self) -> int:
        """Number of slices of input at a position."""
        return self.count // self.columns

    def distinct(self, codewords: np.ndarray) -> int:
        """Counts the different codewords that each slice of input meets, and adds them up.

        Arguments:
            codewords: The codeword of each block, `(number of blocks,)`.

        Returns:
            A number from `slices` to `count`: the correlations to compute at each position.
        """
        codewords = np.reshape(codewords, self.grid)
        if self.kind == "transposed":
            codewords = codewords.swapaxes(-1, -2)
        rows = np.sort(codewords.reshape(-1, self.columns), axis=1)
        return len(rows) + int(np.count_nonzero(np.diff(rows, axis=1)))


def blocks_of(
    kernel_shape: Sequence[int],
    codeword_shape: Sequence[int],
    kind: Kind = "plain",
    groups: int = 1,
    strides: Sequence[int] = (),
) -> Blocks:
    """Tells which blocks of a kernel meet the same slice of input and can share its correlations.

    Example:
        ```python
        blocks = blocks_of((3, 3, 64, 128), (3, 3, 1, 1))
        blocks.slices, blocks.columns  # 64, 128
        ```

    Arguments:
        kernel_shape: Shape of the kernel.
        codeword_shape: The block's size along each axis of the kernel.
        kind: `"plain"` for a convolution or a dense layer; `"depthwise"`; `"transposed"`, whose
            kernel has the output channels before the input channels.
        groups: Number of groups of channels of a plain convolution.
        strides: Strides of a transposed convolution.

    Returns:
        The numbers that the formulas of this module need.
    """
    grid = tuple(size // part for size, part in zip(kernel_shape, codeword_shape, strict=True))
    columns, outputs = grid[-1], codeword_shape[-1]
    if (
        kind == "depthwise"
    ):  # no sum over channels: each of the block's reaches an output of its own
        outputs *= codeword_shape[-2]
    elif kind == "transposed":
        # A stride of s spreads a block's taps over s outputs, as far as it has that many.
        taps = (min(s, part) for s, part in zip(strides, codeword_shape, strict=False))
        columns, outputs = grid[-2], codeword_shape[-2] * math.prod(taps)
    elif columns % groups == 0:
        columns //= groups
    else:  # blocks that reach over two groups meet two slices, which no other block does
        columns = 1
    return Blocks(grid, math.prod(codeword_shape), columns, outputs, kind)
