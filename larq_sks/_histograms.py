"""Histograms of codewords and their figures: pure functions on counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from larq_sks import accounting, codebook

TOP = (8, 16, 32, 64, 128)
"""Numbers n for which the share of the n most used codewords is measured."""

_DRAWS = 20


@dataclass(frozen=True)
class Figures:
    """The figures of a histogram, or their means over several."""

    entropy: float
    """Entropy of the codewords in bits a block, from 0 to the block's size."""
    never_used: float
    """Number of codewords that no block has."""
    top: dict[int, float]
    """Share of the blocks, 0 to 1, that the n most used codewords have, for each n of `TOP`."""
    opposite: float
    """Share of the blocks that form pairs, one with the signs of the other turned round."""
    rank_slope: float
    """Slope of log count against log rank: see `rank_slope`."""


def histogram(kernel: np.ndarray, codeword_shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Counts how often each codeword occurs in a kernel.

    Example:
        ```python
        counts = histogram(layer.kernel.numpy())
        counts[511]  # blocks of nine +1
        ```

    Arguments:
        kernel: Latent or binary weights; 0 counts as +1.
        codeword_shape: The block's size along each axis of the kernel, `None` for the default.

    Returns:
        An int64 array `(2^K,)`, whose sum is the number of blocks.

    Raises:
        ValueError: If the kernel cannot be cut into such blocks.
    """
    kernel = np.asarray(kernel)
    shape = codeword_shape or codebook.default_codeword_shape(kernel.shape)
    shape = codebook.check_codeword_shape(shape, kernel.shape)
    blocks = codebook.to_blocks(tf.constant(kernel >= 0), shape).numpy()
    return np.bincount(
        codebook.to_codewords(np.where(blocks.T, 1, -1)), minlength=2 ** math.prod(shape)
    )


def top_share(counts: np.ndarray, number: int) -> float:
    """Computes which share of the blocks the most used codewords have.

    Example:
        ```python
        top_share(np.array([1, 6, 3]), 2)  # 0.9
        ```

    Arguments:
        counts: Number of blocks with each codeword, not all 0.
        number: How many of the most used codewords.

    Returns:
        A number from 0 to 1.
    """
    return float(np.sort(counts)[::-1][:number].sum() / counts.sum())


def opposite_share(counts: np.ndarray) -> float:
    """Computes which share of the blocks can be paired with one of the opposite signs.

    Codeword i is opposite to 2^K - 1 - i. At 1 the histogram is symmetric, at 0 no codeword is used
    whose opposite is used, too.

    Example:
        ```python
        opposite_share(np.array([3, 0, 5, 1]))  # 2/9: one of 3 with the one of the last
        ```

    Arguments:
        counts: Number of blocks with each codeword, `(2^K,)`, not all 0.

    Returns:
        A number from 0 to 1.
    """
    return float(np.minimum(counts, counts[::-1]).sum() / counts.sum())


def rank_slope(counts: np.ndarray) -> float:
    """Computes the slope of the line through log count against log rank: Zipf's picture.

    An ordinary least-squares line through all codewords in use, the most used at rank 1. It describes the
    picture; it tests nothing, and its many points of high rank count most.

    Example:
        ```python
        rank_slope(np.array([100, 50, 33, 25, 20]))  # -1.0: count ~ 1 / rank
        ```

    Arguments:
        counts: Number of blocks with each codeword.

    Returns:
        The slope, 0 or below; 0 if fewer than two codewords are used.
    """
    used = np.sort(counts[counts > 0])[::-1]
    if len(used) < 2:
        return 0.0
    return min(float(np.polyfit(np.log(np.arange(1, len(used) + 1)), np.log(used), 1)[0]), 0.0)


def figures(counts: np.ndarray) -> Figures:
    """Computes the figures of a histogram.

    Example:
        ```python
        figures(histogram(kernel)).entropy  # up to 9.0
        ```

    Arguments:
        counts: Number of blocks with each codeword, `(2^K,)`, not all 0.

    Returns:
        The figures.
    """
    return Figures(
        accounting.entropy(counts),
        float(np.sum(counts == 0)),
        {number: top_share(counts, number) for number in TOP},
        opposite_share(counts),
        rank_slope(counts),
    )


def at_random(blocks: int, patterns: int = 512, seed: int = 0) -> Figures:
    """Estimates the figures that a kernel has whose signs are drawn by lot.

    Even then few blocks use the codewords unequally, by chance; only what lies beyond that is the network's.

    Example:
        ```python
        at_random(256).never_used  # about 310 of 512
        ```

    Arguments:
        blocks: Number of blocks of the kernel, 1 or more.
        patterns: Number of codewords, 2^K.
        seed: Seed of the draws.

    Returns:
        Means over 20 kernels.
    """
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(blocks, np.full(patterns, 1 / patterns), _DRAWS)
    drawn = [figures(counts) for counts in draws]

    def mean(values):
        return float(np.mean(list(values)))

    return Figures(
        mean(each.entropy for each in drawn),
        mean(each.never_used for each in drawn),
        {number: mean(each.top[number] for each in drawn) for number in TOP},
        mean(each.opposite for each in drawn),
        mean(each.rank_slope for each in drawn),
    )
