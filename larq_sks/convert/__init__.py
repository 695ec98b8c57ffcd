"""Conversion: from a trained network to sub-bit kernels, to plain Larq, and to a device."""

from larq_sks.convert.plain import to_larq
from larq_sks.convert.sparsify import KernelReport, LayerNamesError, SparsifyReport, sparsify
from larq_sks.convert.tflite import TFLiteLayer, TFLiteReport, to_tflite

__all__ = [
    "KernelReport",
    "LayerNamesError",
    "SparsifyReport",
    "TFLiteLayer",
    "TFLiteReport",
    "sparsify",
    "to_larq",
    "to_tflite",
]
