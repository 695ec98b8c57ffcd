"""The networks that the benchmarks take, and files that are made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import larq_sks as sks
import larq_sks_zoo as zoo
import larq_zoo

NUM_CODEWORDS = 32


def _sparse(network):
    return sks.sparsify(network(weights=None), NUM_CODEWORDS)


NETWORKS = {
    "QuickNet": lambda: _sparse(larq_zoo.sota.QuickNet),
    "QuickNetSmall": lambda: _sparse(larq_zoo.sota.QuickNetSmall),
    "QuickNetLarge": lambda: _sparse(larq_zoo.sota.QuickNetLarge),
    "BinaryResNetE18": lambda: _sparse(larq_zoo.literature.BinaryResNetE18),
    "ResNet18": lambda: _sparse(zoo.ResNet18),
    "ResNet8": lambda: _sparse(zoo.ResNet8),
    "ResNet20": lambda: zoo.ResNet20(num_codewords=NUM_CODEWORDS, weights="cifar10"),
    "QuickNetSmall32": lambda: zoo.QuickNetSmall32(num_codewords=NUM_CODEWORDS, weights="cifar10"),
}
"""At 0.56 bit. All but the last two have random weights; the first four take 224x224."""


def cached(path: Path, write: Callable[[Path], object]) -> bytes:
    """A file's bytes, written first if it is not there."""
    if not path.exists():
        write(path)
    return path.read_bytes()
