"""Sub-bit binary networks for Larq: kernels of n codewords, and a learned choice of which."""

import importlib
from importlib.metadata import version

from larq_sks import callbacks, codebook, layers, models, quantizers, selections
from larq_sks.models import codewords

__version__ = version("larq-sks")

__all__ = [
    "callbacks",
    "codebook",
    "codewords",
    "layers",
    "models",
    "plot",
    "quantizers",
    "selections",
]


def __getattr__(name: str):
    # Only those who draw need matplotlib, and the second that it takes to import.
    if name == "plot":
        return importlib.import_module("larq_sks.plot")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
