"""Checks of arguments that several modules share: each returns a valid value or raises a ValueError."""

from __future__ import annotations

import math
import numbers

import numpy as np
from numpy.typing import ArrayLike

from larq_sks import codebook


def check_num_codewords(
    num_codewords: int, block_size: int = codebook.MAX_BLOCK_SIZE, name: str = "num_codewords"
) -> int:
    """Returns a number of codewords if a codebook can have that many, else raises a ValueError."""
    if not is_integer(num_codewords) or not 1 <= num_codewords <= 2**block_size:
        raise ValueError(
            f"`{name}` must be an integer from 1 to {2**block_size}, the number of sign patterns of "
            f"{block_size} weights. Received: {name}={num_codewords!r}."
        )
    return int(num_codewords)


def check_indices(
    indices: ArrayLike,
    num_patterns: int = 2**codebook.MAX_BLOCK_SIZE,
    num_codewords: int | None = None,
    name: str = "indices",
) -> np.ndarray:
    """Returns a selection as int32 `(n,)` if it is one, else raises a ValueError."""
    try:
        array = np.asarray(indices)
    except ValueError:  # rows of unequal length
        array = np.asarray(None)
    wanted = (
        "different integers" if num_codewords is None else f"{num_codewords} different integers"
    )
    problem = None
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
        problem = f"shape {array.shape} and dtype {array.dtype}"
    elif array.min() < 0 or array.max() >= num_patterns:
        problem = f"values from {array.min()} to {array.max()}"
    elif len(np.unique(array)) < len(array):
        values, counts = np.unique(array, return_counts=True)
        problem = f"{values[counts > 1][0]} more than once"
    elif num_codewords is not None and len(array) != num_codewords:
        problem = f"{len(array)} of them"
    if problem:
        raise ValueError(
            f"`{name}` must be a list of {wanted} from 0 to {num_patterns - 1}. Received: {problem}."
        )
    return array.astype(np.int32)


def check_number(name: str, value: float, positive: bool = False) -> float:
    """Returns a number as float if it is finite and not negative (or positive), else raises."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < 0 or (positive and value == 0):
        raise ValueError(
            f"`{name}` must be a finite number {'above 0' if positive else 'of 0 or more'}. "
            f"Received: {name}={value!r}."
        )
    return float(value)


def check_seed(seed: int | None) -> int | None:
    """Returns a seed if NumPy takes it, else raises a ValueError."""
    if seed is not None and (not is_integer(seed) or not 0 <= seed < 2**32):
        raise ValueError(
            f"`seed` must be `None` or an integer from 0 to 2^32 - 1. Received: seed={seed!r}."
        )
    return seed


def is_integer(value) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
