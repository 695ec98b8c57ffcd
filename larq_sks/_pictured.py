"""The numbers that pictures show: pure functions, without matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from larq_sks._figures import LayerSummary
from larq_sks._power_law import PowerLaw
from larq_sks.models import Codewords

ABSENT, MANY, FIRST, LATER = range(4)
"""What a codeword is to a kernel in an epoch, see `band`."""


def chosen_codewords(used: Mapping[str, Codewords]) -> dict[str, Codewords]:
    """Leaves out the kernels that may use every codeword there is."""
    return {
        name: kernel
        for name, kernel in used.items()
        if len(kernel.indices) < 2 ** kernel.patterns[0].size
    }


def flat_blocks(patterns: np.ndarray) -> np.ndarray:
    """Arranges blocks of any number of axes as `(count, height, width)`, slices side by side."""
    if patterns.ndim < 3:
        return patterns.reshape(len(patterns), 1, -1)
    return np.moveaxis(patterns, 2, -1).reshape(*patterns.shape[:2], -1)


def squares(places: Sequence[tuple[float, float]], height: int, width: int) -> np.ndarray:
    """Returns the corners of the squares of size 1 that fill tiles, given each tile's left and top.

    Returns:
        An array `(tiles * height * width, 4, 2)`, row after row within each tile.
    """
    corners = [
        [(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1)]
        for left, top in places
        for y in top + np.arange(height)
        for x in left + np.arange(width)
    ]
    return np.array(corners)


def rank_shares(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ranks of the codewords in use, from 1, and the share of the blocks that each has."""
    shares = np.sort(counts[counts > 0])[::-1] / counts.sum()
    return np.arange(1, len(shares) + 1), shares


def law_counts(law: PowerLaw) -> tuple[np.ndarray, np.ndarray]:
    """Computes the counts that a fitted power law expects at the first and last rank that it covers.

    Of its t codewords with counts from s on, a share of ((c - 1/2) / (s - 1/2))^(1 - alpha) has a count of c
    or more, but for the error of an integral in place of a sum; the rank r is where the share is r / t.
    Between the two the line is straight, but for the half, on logarithmic axes.
    """
    ranks = np.array([1, law.tail])
    counts = 0.5 + (law.smallest - 0.5) * (ranks / law.tail) ** (-1 / (law.alpha - 1))
    return ranks, counts


def band(epochs: Sequence[np.ndarray]) -> np.ndarray:
    """Arranges what a kernel selected in each epoch as a picture.

    Arguments:
        epochs: The selected codewords of each epoch.

    Returns:
        A row for each codeword and a column for each epoch: `ABSENT` where it was not selected, `MANY` in
            epochs with more codewords than in the last, as with the whole codebook; else `FIRST` if it was
            among the first choice and `LATER` if not. Codewords that were never chosen among few have no
            row. Rows are in the order in which the codewords came, then left.
    """
    many = np.array([len(epoch) > len(epochs[-1]) for epoch in epochs])
    few = [epoch for epoch, more in zip(epochs, many, strict=True) if not more]
    codewords = np.unique(np.concatenate(few))
    there = np.stack([np.isin(codewords, epoch) for epoch in epochs], axis=1)
    kind = np.where(np.isin(codewords, few[0]), FIRST, LATER)[:, np.newaxis]
    rows = np.where(there, np.where(many, MANY, kind), ABSENT)
    chosen = rows >= FIRST
    came = chosen.argmax(axis=1)
    left = -chosen[:, ::-1].argmax(axis=1)
    return rows[np.lexsort((left, came))]


class Parts(NamedTuple):
    """What a layer takes, in bits."""

    indices: float
    """Its binary kernels."""
    codebook: float
    kernels: float
    """Its other kernels."""
    rest: float
    """Biases, multipliers, statistics."""

    @property
    def total(self) -> float:
        return sum(self)


def layer_parts(layer: LayerSummary) -> tuple[Parts, Parts]:
    """Divides the size of a layer; returns that of the layer as it is, and with one bit a binary weight."""
    binary = [kernel for kernel in layer.kernels if kernel.codewords is not None]
    others = sum(kernel.cost.bits for kernel in layer.kernels if kernel.codewords is None)
    return (
        Parts(
            sum(kernel.cost.bits for kernel in binary),
            sum(kernel.cost.codebook_bits for kernel in binary),
            others,
            layer.other_bits,
        ),
        Parts(sum(kernel.at_one_bit.bits for kernel in binary), 0, others, layer.other_bits),
    )
