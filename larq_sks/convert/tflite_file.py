"""What is in a .tflite file: its operators, and the filters of its convolutions."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

BINARY = "LceBconv2d"
"""The operator of a binary convolution."""


class File(NamedTuple):
    """What is in a .tflite file."""

    ops: Counter[str]
    binary: list[np.ndarray]
    """The packed filters of its binary convolutions, uint32 (channels_out, height, width, words)."""
    other: list[np.ndarray]
    """The filters of its float convolutions, float32 (channels_out, height, width, channels_in)."""


def read(data: bytes) -> File:
    """Reads the bytes of a .tflite file."""
    from tensorflow.lite.python import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if name[0] != "_"}
    model = schema.Model.GetRootAs(data, 0)
    file = File(Counter(), [], [])
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        for operator in map(graph.Operators, range(graph.OperatorsLength())):
            code = model.OperatorCodes(operator.OpcodeIndex())
            name = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            if code.CustomCode() is not None:
                name = code.CustomCode().decode()
            file.ops[name] += 1
            for wanted, dtype, filters in (
                (BINARY, "<u4", file.binary),
                ("CONV_2D", "<f4", file.other),
            ):
                if name == wanted:
                    tensor = graph.Tensors(operator.Inputs(1))
                    buffer = model.Buffers(tensor.Buffer()).DataAsNumpy()
                    if isinstance(buffer, np.ndarray):  # it is 0 where the filter is computed
                        filters.append(buffer.view(dtype).reshape(tensor.ShapeAsNumpy()))
    return file


def is_among_binary(kernel: np.ndarray, filters: list[np.ndarray]) -> bool:
    """Tells whether a kernel is among packed filters.

    A filter holds 32 input channels in a word, the first one lowest, with 1 for a negative weight and 0
    beyond the last channel. Where its outputs are packed, too, the rows of channels with a negative
    multiplier are turned round.
    """

    def packed(negative):
        padded = np.pad(negative, [(0, 0)] * 3 + [(0, -negative.shape[-1] % 32)])
        return np.packbits(padded, axis=-1, bitorder="little").view("<u4")

    rows = np.ascontiguousarray(np.moveaxis(kernel, -1, 0))
    return _is_among([packed(rows < 0), packed(rows >= 0)], filters)


def unpacked(filter: np.ndarray, channels: int) -> np.ndarray:
    """Returns where the weights of a packed filter are negative: bool (channels_out, height, width, channels)."""
    words = np.ascontiguousarray(filter.astype("<u4")).view(np.uint8)
    return np.unpackbits(words, axis=-1, count=channels, bitorder="little").astype(bool)


def is_among_float(kernel: np.ndarray, filters: list[np.ndarray]) -> bool:
    """Tells whether a kernel is among float filters, whatever batch norm multiplied its channels by."""
    signs = np.sign(np.moveaxis(kernel, -1, 0))
    return _is_among([signs, -signs], [np.sign(filter) for filter in filters])


def _is_among(forms: list[np.ndarray], filters: list[np.ndarray]) -> bool:
    """Tells whether, in one of the filters, each row is that of one of the forms."""
    return any(
        np.any([(filter == form).all(axis=(1, 2, 3)) for form in forms], axis=0).all()
        for filter in filters
        if filter.shape == forms[0].shape
    )
