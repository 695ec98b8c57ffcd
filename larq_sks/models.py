"""What a model holds and costs: the codewords that its kernels use, its size, its operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from larq_sks import accounting, codebook
from larq_sks._figures import Cost, KernelSummary, LayerSummary, Summary, measure
from larq_sks.layers import SparseKernel, sparse_kernels

__all__ = [
    "Codewords",
    "Cost",
    "KernelSummary",
    "LayerSummary",
    "Summary",
    "codewords",
    "summary",
]


class Codewords(NamedTuple):
    """The selected codewords of one kernel, the most used first."""

    indices: np.ndarray
    """The codewords as integers, int32 `(n,)`."""
    patterns: np.ndarray
    """Their signs, float32 `(n, *codeword_shape)` without axes of size 1."""
    counts: np.ndarray
    """How many blocks of the kernel use each, int64 `(n,)`."""

    @property
    def entropy(self) -> float:
        """Entropy of the use of the codewords in bits a block, from 0 to log2(n)."""
        return accounting.entropy(self.counts)


def codewords(model: tf.keras.layers.Layer) -> dict[str, Codewords]:
    """Tells which codewords the kernels of a model selected and how many blocks use each.

    Example:
        ```python
        for name, chosen in sks.codewords(model).items():
            print(name, chosen.indices[:3], chosen.counts[:3], chosen.entropy)
        ```

    Arguments:
        model: A built Keras model or layer.

    Returns:
        The codewords of each kernel under the name of its layer (of a separable layer, under
            `"name/depthwise"` and `"name/pointwise"`). A kernel with the whole codebook lists all 2^K.

    Raises:
        ValueError: If the model has no kernel with a `SparseKernelSign`.
    """
    kernels = sparse_kernels(model)
    if not kernels:
        raise ValueError(
            "`model` must be a built model or layer with a `SparseKernelSign` kernel quantizer, such as "
            f"`larq_sks.layers.SKSConv2D`. Received: {model.name}, which has none."
        )
    return {kernel.name: _codewords(kernel) for kernel in kernels}


def _codewords(kernel: SparseKernel) -> Codewords:
    shape = kernel.quantizer.block_shape
    size = int(np.prod(shape))
    counts = np.bincount(kernel.assigned(), minlength=2**size)
    indices = kernel.quantizer.selected()
    indices = indices[np.argsort(-counts[indices], kind="stable")]
    patterns = codebook.to_signs(indices, size).reshape(-1, *(part for part in shape if part > 1))
    return Codewords(indices, patterns, counts[indices])


def summary(model: tf.keras.Model, print_fn: Callable[[str], object] | None = None) -> Summary:
    """Prints what a model takes, in bits and operations, beside the same model with 1-bit kernels.

    The formulas are those of `larq_sks.accounting`. What only training needs (latent weights, the logits
    of a selection) does not count. The model is left as it is.

    Example:
        ```python
        figures = sks.models.summary(zoo.ResNet20(num_codewords=32))
        figures.bits / 8 / 1024  # KiB
        ```

    Arguments:
        model: A built Keras model.
        print_fn: Receives the text line by line, at most 100 characters wide. `None` prints to the
            terminal.

    Returns:
        The figures, of each layer too.

    Raises:
        ValueError: If the model has no weights yet.
    """
    if not isinstance(model, tf.keras.Model) or not model.built:
        raise ValueError(
            "`model` must be a built Keras model. "
            f"Received: model={model!r}. Call a model on data, or give it an input shape, before."
        )
    # Imported here, because not all who train print tables.
    from larq_sks import _tables

    figures = measure(model)
    _tables.show(figures, print_fn)
    return figures
