"""Sub-bit binary networks for Larq: kernels of n codewords, and a learned choice of which."""

import importlib
from importlib.metadata import version

from larq_sks import _keras  # noqa: F401, before Larq is imported

# isort: split
from larq_sks import (
    analysis,
    callbacks,
    codebook,
    convert,
    latency,
    layers,
    models,
    quantizers,
    selections,
    storage,
)
from larq_sks.convert import sparsify, to_larq, to_tflite
from larq_sks.models import codewords
from larq_sks.storage import FormatError, load, save

__version__ = version("larq-sks")

__all__ = [
    "FormatError",
    "analysis",
    "callbacks",
    "codebook",
    "codewords",
    "convert",
    "latency",
    "layers",
    "load",
    "models",
    "plot",
    "quantizers",
    "save",
    "selections",
    "sparsify",
    "storage",
    "to_larq",
    "to_tflite",
]


def __getattr__(name: str):
    # Only those who draw need matplotlib, and the second that it takes to import.
    if name == "plot":
        return importlib.import_module("larq_sks.plot")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
