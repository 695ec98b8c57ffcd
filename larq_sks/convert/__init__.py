"""Conversion: from a trained network to sub-bit kernels, to plain Larq, and to a device."""

from larq_sks.convert.plain import to_larq
from larq_sks.convert.sparsify import KernelReport, SparsifyReport, sparsify

__all__ = ["KernelReport", "SparsifyReport", "sparsify", "to_larq"]
