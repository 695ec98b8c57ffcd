"""Which codewords to begin with: pure functions that choose them from the latent weights of a trained kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from larq_sks import codebook
from larq_sks._checks import check_num_codewords

_ROWS, _PART = 32, 8192
"""Codewords and blocks that `greedy_coverage` takes at a time: 1 MiB of scores, which caches hold."""

_SCORES = 2**22
"""Scores that `exchanged_coverage` computes at a time: 16 MiB."""


def most_frequent(
    kernel: np.ndarray, num_codewords: int, codeword_shape: Sequence[int] | None = None
) -> np.ndarray:
    """Finds the codewords that a kernel uses most after binarisation.

    Example:
        ```python
        start = sks.selections.most_frequent(layer.kernel, 32)
        ```

    Arguments:
        kernel: Latent weights of a trained layer.
        num_codewords: Number of codewords to find, from 1 to 2^K.
        codeword_shape: The block's size along each axis of the kernel; `None` as in
            `larq_sks.codebook.default_codeword_shape`.

    Returns:
        The codewords as an int32 array `(num_codewords,)`, the most used first; of equally used ones the
            smaller integer comes first.

    Raises:
        ValueError: If `num_codewords` or `codeword_shape` does not fit the kernel.
    """
    blocks = _latent_blocks(kernel, num_codewords, codeword_shape)
    counts = np.bincount(codebook.to_codewords(blocks), minlength=2 ** blocks.shape[1])
    return np.argsort(-counts, kind="stable")[:num_codewords].astype(np.int32)


def greedy_coverage(
    kernel: np.ndarray,
    num_codewords: int,
    codeword_shape: Sequence[int] | None = None,
    score: str = "latent",
) -> np.ndarray:
    """Finds codewords that together come close to all blocks of a kernel, one after the other.

    Each step adds the codeword that raises the sum over blocks of max_j <u_j, w> the most, w being the
    latent block (`score="latent"`) or its signs (`"hamming"`, for which the sum counts equal signs). The
    sum is submodular, so the result is within a factor 1 - 1/e of the best set's gain.

    Example:
        ```python
        start = sks.selections.greedy_coverage(layer.kernel, 32)
        ```

    Arguments:
        kernel: Latent weights of a trained layer.
        num_codewords: Number of codewords to find, from 1 to 2^K.
        codeword_shape: The block's size along each axis of the kernel; `None` as in
            `larq_sks.codebook.default_codeword_shape`.
        score: `"latent"` or `"hamming"`.

    Returns:
        The codewords as an int32 array `(num_codewords,)` in the order in which they were added.

    Raises:
        ValueError: If `num_codewords` or `codeword_shape` does not fit the kernel, or `score` is unknown.

    References:
        - [An Analysis of Approximations for Maximizing Submodular Set
          Functions](https://doi.org/10.1007/BF01588971)
    """
    blocks = _latent_blocks(kernel, num_codewords, codeword_shape)
    if score not in ("latent", "hamming"):
        raise ValueError(f"`score` must be 'latent' or 'hamming'. Received: score={score!r}.")
    weights = np.ones(len(blocks), np.float32)
    if score == "hamming":
        # Blocks with equal signs count alike: at most 2^K different ones are left.
        codewords, weights = np.unique(codebook.to_codewords(blocks), return_counts=True)
        blocks, weights = codebook.to_signs(codewords, blocks.shape[1]), weights.astype(np.float32)
    # One more coordinate holds minus a block's best score so far, at first the worst there is, so that a
    # product gives what a codeword adds to it.
    columns = np.vstack([blocks.T, np.abs(blocks.T).sum(axis=0)])
    patterns = np.insert(codebook.patterns(blocks.shape[1]), blocks.shape[1], 1.0, axis=1)
    # Less than float32 resolves: without it rounding errors would choose once all blocks are covered.
    noise = float(columns[-1] @ weights) * np.finfo(np.float32).eps
    zeros = np.zeros(
        _PART, np.float32
    )  # NumPy compares with a row three times as fast as with a number

    def gains(rows):
        total = np.zeros(len(rows))
        for first in range(0, len(weights), _PART):
            part = slice(first, first + _PART)
            raised = patterns[rows] @ columns[:, part]
            np.maximum(raised, zeros[: raised.shape[1]], out=raised)
            total += raised @ weights[part]
        return np.where(total > noise, total, 0.0)

    # What a codeword adds only shrinks as others are chosen, so an old gain bounds the present one, and
    # only those codewords that might be the best need theirs computed again, some at a time. The first
    # gains are a mere product, as no score is below the worst.
    bounds = patterns.astype(np.float64) @ (columns @ weights)
    stale = np.zeros(len(patterns), bool)
    chosen: list[int] = []
    for _ in range(num_codewords):
        while stale[top := int(bounds.argmax())]:
            rows = np.flatnonzero(stale)
            if len(rows) > _ROWS:
                rows = rows[np.argpartition(-bounds[rows], _ROWS)[:_ROWS]]
            bounds[rows] = gains(rows)
            stale[rows] = False
        chosen.append(top)
        bounds[top] = -np.inf
        stale = bounds > -np.inf
        columns[-1] = np.minimum(columns[-1], -(patterns[top, :-1] @ columns[:-1]))
    return np.array(chosen, np.int32)


def exchanged_coverage(
    kernel: np.ndarray, num_codewords: int, codeword_shape: Sequence[int] | None = None
) -> np.ndarray:
    """Finds codewords by `greedy_coverage`, then exchanges one for another as long as coverage grows.

    Coverage is the sum over latent blocks w of max_j <u_j, w>. Of all exchanges of a chosen codeword for
    one that is not, the best is made, again and again, until none raises the sum: the interchange of
    p-median problems, as k-medoids does it. It pays for few codewords, and takes a pass over all blocks
    and patterns an exchange: seconds for a kernel of 512 × 512 channels.

    Example:
        ```python
        small = sks.sparsify(trained, 8, start="exchanged")
        ```

    Arguments:
        kernel: Latent weights of a trained layer.
        num_codewords: Number of codewords to find, from 1 to 2^K.
        codeword_shape: The block's size along each axis of the kernel; `None` as in
            `larq_sks.codebook.default_codeword_shape`.

    Returns:
        The codewords as an int32 array `(num_codewords,)`, in no order that means anything.

    Raises:
        ValueError: If `num_codewords` or `codeword_shape` does not fit the kernel.

    References:
        - [Heuristic Methods for Estimating the Generalized Vertex Median of a Weighted
          Graph](https://doi.org/10.1287/opre.16.5.955)
        - [Faster k-Medoids Clustering](https://arxiv.org/abs/1810.05691): how all exchanges are weighed in
          one pass
    """
    blocks = _latent_blocks(kernel, num_codewords, codeword_shape)
    patterns = codebook.patterns(blocks.shape[1])
    chosen = greedy_coverage(kernel, num_codewords, codeword_shape)
    # Less than float32 resolves: an exchange that gains no more could be undone by the next one for ever.
    noise = float(np.abs(blocks).sum()) * np.finfo(np.float32).eps
    while num_codewords < len(patterns):
        gains = _exchange_gains(blocks, patterns, chosen)
        added, dropped = np.unravel_index(gains.argmax(), gains.shape)
        if gains[added, dropped] <= noise:
            break
        chosen[dropped] = added
    return chosen


def _exchange_gains(blocks: np.ndarray, patterns: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Computes what each exchange adds to the coverage: patterns to add × positions in `chosen` to drop."""
    gains = np.zeros((len(patterns), len(chosen)))
    part = max(1, _SCORES // len(patterns))
    for first in range(0, len(blocks), part):
        scores = patterns @ blocks[first : first + part].T
        held = scores[chosen]
        owner = held.argmax(axis=0)
        best = held.max(axis=0)
        held[owner, np.arange(len(owner))] = -np.inf
        # A block whose codeword is dropped falls back to its second best.
        second = held.max(axis=0, initial=-np.abs(blocks).sum())
        owned = np.zeros((len(owner), len(chosen)), np.float32)
        owned[np.arange(len(owner)), owner] = 1
        gains += np.maximum(scores - best, 0).sum(axis=1, keepdims=True)
        gains += (np.clip(scores, second, best) - best) @ owned
    gains[chosen] = -np.inf
    return gains


STARTS = {
    "coverage": greedy_coverage,
    "exchanged": exchanged_coverage,
    "frequent": most_frequent,
}
"""The choices by the names that `sparsify` and `SelectionSchedule` know them by."""


def _latent_blocks(kernel, num_codewords, codeword_shape) -> np.ndarray:
    """Cuts a kernel into rows `(number of blocks, K)` after checking the arguments of a start."""
    kernel = np.asarray(kernel, np.float32)
    if codeword_shape is None:
        codeword_shape = codebook.default_codeword_shape(kernel.shape)
    codeword_shape = codebook.check_codeword_shape(codeword_shape, kernel.shape)
    check_num_codewords(num_codewords, math.prod(codeword_shape))
    return codebook.to_blocks(kernel, codeword_shape).numpy().T
