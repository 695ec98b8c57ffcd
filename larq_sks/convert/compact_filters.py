"""Sub-bit filters in a .tflite file: each filter as its codebook and the packed numbers of its codewords."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from larq_sks.convert.tflite_file import BINARY, unpacked

COMPACT = "LarqSksBconv2d"
"""The operator of a binary convolution with a codebook. runtime/README.md gives the format."""


class Filter(NamedTuple):
    """A binary filter, cut into blocks that name their codewords."""

    codebook: np.ndarray
    """Codewords as bytes, lowest bits first, uint8 (n, ceil(K / 8)); a bit is 1 for a negative weight."""
    indices: np.ndarray
    """The numbers of the blocks' codewords, packed, uint8; by output channel, row, column, input channel."""
    inverted: np.ndarray | None
    """A bit for each output channel whose weights are all turned round, uint8; `None` if there is none."""
    block: tuple[int, int, int]
    """Height, width and channels of a block."""

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return sum(part.nbytes for part in self[:3] if part is not None)


def encode(negative: np.ndarray, inverted: np.ndarray) -> Filter | None:
    """Cuts a filter into blocks and numbers their codewords.

    Arguments:
        negative: Where its weights are negative, bool `(channels_out, height, width, channels_in)`.
        inverted: The output channels that are stored turned round, bool `(channels_out,)`.

    Returns:
        The filter, or `None` if its shape has no blocks of 2 to 16 weights: a whole window of one channel,
            or 8 channels of a 1×1 window.
    """
    out, height, width, channels = negative.shape
    block = (height, width, 1) if height * width > 1 else (1, 1, 8)
    if math.prod(block) > 16 or channels % block[2]:
        return None
    straight = negative ^ inverted[:, None, None, None]
    # Of a window, the channels one after the other; of 1×1, channels eight at a time.
    blocks = straight.reshape(out, height * width, -1, block[2]).swapaxes(1, 2)
    blocks = blocks.reshape(-1, math.prod(block))
    packed = np.packbits(blocks, axis=1, bitorder="little")
    codebook, numbers = np.unique(packed, axis=0, return_inverse=True)
    bits = max(1, (len(codebook) - 1).bit_length())
    digits = numbers.reshape(-1, 1) >> np.arange(bits) & 1
    indices = np.packbits(digits.ravel().astype(bool), bitorder="little")
    turned = np.packbits(inverted, bitorder="little") if inverted.any() else None
    return Filter(codebook, indices, turned, block)


def decode(filter: Filter, shape: Sequence[int]) -> np.ndarray:
    """Returns where the weights of a filter are negative, bool of the given shape."""
    out, height, width, _ = shape
    bits = max(1, (len(filter.codebook) - 1).bit_length())
    count = math.prod(shape) // math.prod(filter.block)
    digits = np.unpackbits(filter.indices, count=count * bits, bitorder="little")
    numbers = digits.reshape(-1, bits).astype(np.int64) @ (1 << np.arange(bits))
    words = np.unpackbits(filter.codebook, axis=1, count=math.prod(filter.block), bitorder="little")
    blocks = words[numbers].reshape(out, -1, height * width, filter.block[2])
    negative = blocks.swapaxes(1, 2).reshape(shape).astype(bool)
    if filter.inverted is None:
        return negative
    turned = np.unpackbits(filter.inverted, count=out, bitorder="little").astype(bool)
    return negative ^ turned[:, None, None, None]


def compacted(data: bytes, kernels: Sequence[np.ndarray]) -> bytes:
    """Rewrites a .tflite file with codebooks for those binary filters that become smaller.

    Arguments:
        data: The file, as Larq Compute Engine wrote it.
        kernels: The binary kernels of the network, of -1 and +1, `(height, width, channels_in,
            channels_out)`: they tell which output channels the file has turned round.

    Returns:
        The file with `LarqSksBconv2d` in place of `LceBconv2d` where that is smaller.
    """
    from flatbuffers import flexbuffers
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(data))
    known = [np.moveaxis(kernel, -1, 0) < 0 for kernel in kernels]
    codes = [code.customCode for code in model.operatorCodes]
    for graph in model.subgraphs:
        made: dict[int, _Made | None] = {}
        for operator in graph.operators:
            if codes[operator.opcodeIndex] != BINARY.encode():
                continue
            options = flexbuffers.Loads(bytes(operator.customOptions))
            at = operator.inputs[1]
            if at not in made:
                made[at] = _replace(model, graph, graph.tensors[at], options["channels_in"], known)
            new = made[at]
            if new is None:
                continue
            if COMPACT.encode() not in codes:
                codes.append(_add_operator_code(model))
            operator.opcodeIndex = codes.index(COMPACT.encode())
            operator.inputs = [*operator.inputs[:2], *new.inputs, *operator.inputs[2:]]
            packed = flexbuffers.Dumps({**options, **new.options})
            operator.customOptions = np.frombuffer(packed, np.uint8)
    _empty_unused(model)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


class _Made(NamedTuple):
    """What became of the tensor of a filter, which is now its codebook."""

    inputs: list[int]
    """The tensors of indices and of inverted channels, -1 where there is none."""
    options: dict[str, int]
    """What an operator with this filter has to be told."""


def _replace(model, graph, tensor, channels_in: int, known) -> _Made | None:
    """Makes the tensor of a filter its codebook and adds the other parts, if that makes it smaller."""
    out, height, width, words = map(int, tensor.shape)
    shape = (out, height, width, min(channels_in, 32 * words))
    data = np.asarray(model.buffers[tensor.buffer].data, np.uint8)
    negative = unpacked(data.view("<u4").reshape(tensor.shape), shape[3])
    filter = encode(negative, _turned(negative, known))
    if filter is None or filter.size >= data.nbytes:
        return None
    if not np.array_equal(decode(filter, shape), negative):
        raise AssertionError("A filter must be decoded to what was encoded.")
    _fill(model, tensor, filter.codebook)
    inputs = []
    for values in (filter.indices, filter.inverted):
        if values is None:
            inputs.append(-1)
            continue
        graph.tensors.append(type(tensor)())
        _fill(model, graph.tensors[-1], values)
        inputs.append(len(graph.tensors) - 1)
    sizes = ("codeword_height", "codeword_width", "codeword_channels")
    options = {
        "channels_out": out,
        "filter_height": height,
        "filter_width": width,
        "groups": channels_in // shape[3],
        **dict(zip(sizes, filter.block, strict=True)),
    }
    return _Made(inputs, options)


def _fill(model, tensor, values: np.ndarray) -> None:
    from tensorflow.lite.python import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = values.ravel()
    model.buffers.append(buffer)
    tensor.type = schema.TensorType.UINT8
    tensor.shape = list(values.shape)
    tensor.buffer = len(model.buffers) - 1


def _add_operator_code(model) -> bytes:
    from tensorflow.lite.python import schema_py_generated as schema

    code = schema.OperatorCodeT()
    code.customCode = COMPACT.encode()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.version = 1
    model.operatorCodes.append(code)
    return code.customCode


def _turned(negative: np.ndarray, known: Sequence[np.ndarray]) -> np.ndarray:
    """Finds the rows that the file holds turned round, with the kernel that the filter was made of.

    Where outputs are packed, Larq Compute Engine does so with channels of a negative multiplier. A filter of
    no known kernel is taken as it stands.
    """
    for kernel in known:
        if kernel.shape == negative.shape:
            axes = (1, 2, 3)
            same, other = (negative == kernel).all(axes), (negative != kernel).all(axes)
            if (same | other).all():
                return other
    return np.zeros(len(negative), bool)


def _empty_unused(model) -> None:
    """Takes the content from buffers that no operator reads any more."""
    used = set()
    for graph in model.subgraphs:
        read = {at for operator in graph.operators for at in (*operator.inputs, *operator.outputs)}
        read |= {*graph.inputs, *graph.outputs}
        used |= {graph.tensors[at].buffer for at in read if at >= 0}
    used |= {metadata.buffer for metadata in model.metadata or ()}
    for number, buffer in enumerate(model.buffers):
        if number not in used:
            buffer.data = None
