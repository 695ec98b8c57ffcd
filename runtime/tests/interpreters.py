"""The interpreters that are here: Larq Compute Engine's, and stock ones with the delegate."""

from __future__ import annotations

import importlib

import numpy as np

import larq_sks_runtime


def _find(module: str):
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


_litert = _find("ai_edge_litert.interpreter")
_tflite = _find("tflite_runtime.interpreter")
_tf = _find("tensorflow")

STOCK = {
    name: interpreter
    for name, interpreter in (
        ("tensorflow", _tf and _tf.lite.Interpreter),
        ("ai_edge_litert", _litert and _litert.Interpreter),
        ("tflite_runtime", _tflite and _tflite.Interpreter),
    )
    if interpreter
}
"""The stock interpreters that are installed."""

_lce = _find("larq_compute_engine.tflite.python.interpreter")
LCE = _lce and _lce.Interpreter
"""Larq Compute Engine's interpreter, or `None`."""


class Ours:
    """A stock interpreter with the delegate, resized to what it is given."""

    def __init__(self, data: bytes, threads: int = 1, stock: str | None = None, **settings):
        self.interpreter = STOCK[stock or next(iter(STOCK))](
            model_content=data,
            num_threads=threads,
            experimental_delegates=[larq_sks_runtime.load_delegate(**settings)],
        )
        self.interpreter.allocate_tensors()

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        details = self.interpreter.get_input_details()
        if any(tuple(detail["shape"]) != value.shape for detail, value in zip(details, inputs)):
            for detail, value in zip(details, inputs):
                self.interpreter.resize_tensor_input(detail["index"], value.shape)
            self.interpreter.allocate_tensors()
        for detail, value in zip(details, inputs):
            self.interpreter.set_tensor(detail["index"], value)
        self.interpreter.invoke()
        return [
            self.interpreter.get_tensor(d["index"]) for d in self.interpreter.get_output_details()
        ]


def lce(data: bytes, *inputs: np.ndarray, **settings) -> list[np.ndarray]:
    """What Larq Compute Engine computes, by default with its reference kernels, image by image."""
    settings = settings or {"use_reference_bconv": True}
    outputs = LCE(data, **settings).predict(list(inputs))
    return outputs if isinstance(outputs, list) else [outputs]


def _supported(isa: str) -> bool:
    try:
        larq_sks_runtime.load_delegate(isa=isa)
    except ValueError:
        return False
    return True


ISAS = [isa for isa in ("portable", "popcnt", "avx2", "avx512", "neon") if _supported(isa)]
"""The instruction sets that can be tested here."""
