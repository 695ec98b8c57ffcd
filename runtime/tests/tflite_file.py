"""Writes and rewrites .tflite files with the operators of the runtime, good ones and bad ones."""

from __future__ import annotations

import importlib
import math

import flatbuffers
import numpy as np
from flatbuffers import flexbuffers


def _schema():
    for name in (
        "ai_edge_litert.schema_py_generated",
        "tensorflow.lite.python.schema_py_generated",
    ):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError(
        "the tests need the schema of .tflite files: install ai-edge-litert or tensorflow"
    )


schema = _schema()

_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.bool_): schema.TensorType.BOOL,
}

NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)
SAME, VALID = range(2)


def words(channels: int) -> int:
    return -(-channels // 32)


def pack(signs: np.ndarray) -> np.ndarray:
    """Packs the signs of the last dimension: 32 a word, the first lowest, 1 for a negative one."""
    bits = np.pad(signs < 0, [(0, 0)] * (signs.ndim - 1) + [(0, -signs.shape[-1] % 32)])
    return np.packbits(bits, axis=-1, bitorder="little").view("<i4")


def pack_numbers(numbers: np.ndarray, bits: int) -> np.ndarray:
    """Packs numbers of so many bits, lowest bits first."""
    digits = np.asarray(numbers).reshape(-1, 1) >> np.arange(bits) & 1
    return np.packbits(digits.astype(np.uint8).reshape(-1), bitorder="little")


class File:
    """A model under construction. Tensors are numbered in the order in which they are added."""

    def __init__(self):
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.operatorCodes = []
        self.model.buffers = [schema.BufferT()]
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def tensor(self, shape, dtype, data=None, scale=None, zero_point=0) -> int:
        tensor = schema.TensorT()
        tensor.name = f"tensor{len(self.graph.tensors)}"
        tensor.shape = list(shape)
        tensor.type = _TYPES[np.dtype(dtype)]
        tensor.buffer = 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data, dtype).tobytes(), np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = [scale]
            tensor.quantization.zeroPoint = [zero_point]
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, data: np.ndarray) -> int:
        return self.tensor(data.shape, data.dtype, data)

    def _operator(self, code: int, inputs: list[int], output: int, name: str | None = None):
        entry = schema.OperatorCodeT()
        entry.deprecatedBuiltinCode = entry.builtinCode = code
        entry.customCode = name
        entry.version = 1
        self.model.operatorCodes.append(entry)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = list(inputs), [output]
        self.graph.operators.append(operator)
        return operator

    def builtin(self, name: str, kind: str, inputs: list[int], output: int, **options) -> None:
        """An operator of the interpreter's own with options of a kind, `Add` or `Pool2D`."""
        operator = self._operator(getattr(schema.BuiltinOperator, name), inputs, output)
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{kind}Options")
        operator.builtinOptions = getattr(schema, f"{kind}OptionsT")()
        for option, value in options.items():
            assert hasattr(operator.builtinOptions, option)
            setattr(operator.builtinOptions, option, value)

    def op(
        self, name: str, inputs: list[int], output: int, options: dict | bytes | None = None
    ) -> None:
        operator = self._operator(schema.BuiltinOperator.CUSTOM, inputs, output, name)
        if isinstance(options, dict):
            builder = flexbuffers.Builder()
            builder.MapFromElements(options)
            options = bytes(builder.Finish())
        if options is not None:
            operator.customOptions = np.frombuffer(options, np.uint8)

    def finish(self, inputs: list[int], outputs: list[int]) -> bytes:
        self.graph.inputs, self.graph.outputs = inputs, outputs
        return write(self.model)


def write(model) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def read(data: bytes):
    return schema.ModelT.InitFromPackedBuf(data, 0)


def conv_options(channels_in: int, **changes) -> dict:
    """The options of `LceBconv2d`."""
    options = {
        "channels_in": channels_in,
        "dilation_height_factor": 1,
        "dilation_width_factor": 1,
        "fused_activation_function": NONE,
        "pad_values": 1,
        "padding": SAME,
        "stride_height": 1,
        "stride_width": 1,
    }
    assert set(changes) <= set(options)
    return {**options, **changes}


def compact_inputs(
    signs: np.ndarray, block=(3, 3, 1), inverted=None
) -> tuple[list[np.ndarray], dict]:
    """The codebook, indices and inverted channels of a filter (channels_out, height, width, channels) of -1 and
    +1, and the options that go with them; what the README says, in NumPy."""
    signs = np.array(signs)
    if inverted is not None:
        signs[inverted] *= -1
    out, height, width, channels = signs.shape
    bh, bw, bc = block
    blocks = signs.reshape(out, height // bh, bh, width // bw, bw, channels // bc, bc)
    blocks = blocks.transpose(0, 1, 3, 5, 2, 4, 6).reshape(-1, bh * bw * bc)
    codewords = (blocks < 0) @ (1 << np.arange(blocks.shape[1]))
    used, indices = np.unique(codewords, return_inverse=True)
    codebook = used.astype("<u2").view(np.uint8).reshape(-1, 2)[:, : -(-blocks.shape[1] // 8)]
    arrays = [codebook, pack_numbers(indices, max(1, math.ceil(math.log2(len(used)))))]
    arrays.append(None if inverted is None else np.packbits(inverted, bitorder="little"))
    options = dict(zip(("codeword_height", "codeword_width", "codeword_channels"), block))
    options |= {"channels_out": out, "filter_height": height, "filter_width": width}
    return arrays, options


def output_size(image, window, options: dict) -> tuple[int, int]:
    """Height and width of the outputs for those of an image and a filter."""
    sizes = []
    for pixels, size, axis in zip(image, window, ("height", "width")):
        stride = options[f"stride_{axis}"]
        reach = (size - 1) * options.get(f"dilation_{axis}_factor", 1) + 1
        sizes.append(-(-(pixels if options["padding"] == SAME else pixels - reach + 1) // stride))
    return tuple(sizes)


def conv_model(
    signs: np.ndarray,
    image: tuple[int, int, int, int],
    groups: int = 1,
    output: str = "float32",
    multiplier: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    thresholds: np.ndarray | None = None,
    scale: float = 0.5,
    zero_point: int = 0,
    compact: dict | None = None,
    **options,
) -> bytes:
    """A model of `LceQuantize`, a binary convolution, and for packed outputs `LceDequantize`.

    `signs` is the filter (channels_out, height, width, channels of a group), `image` the shape of the inputs;
    `compact` makes the convolution a `LarqSksBconv2d` with those arguments of `compact_inputs`.
    """
    out = len(signs)
    channels = image[3]
    file = File()
    pixels = file.tensor(image, np.float32)
    bits = file.tensor((*image[:3], words(channels)), np.int32)
    file.op("LceQuantize", [pixels], bits)
    settings = conv_options(channels, **options)
    multiplier = np.ones(out) if multiplier is None else multiplier
    bias = np.zeros(out) if bias is None else bias
    if output == "bits":
        tail = [-1, -1, file.constant(np.asarray(thresholds, np.int32))]
    else:
        tail = [file.constant(np.asarray(values, np.float32)) for values in (multiplier, bias)] + [
            -1
        ]
    size = output_size(image[1:3], signs.shape[1:3], settings)
    if output == "bits":
        result = file.tensor((image[0], *size, words(out)), np.int32)
    elif output == "int8":
        result = file.tensor((image[0], *size, out), np.int8, scale=scale, zero_point=zero_point)
    else:
        result = file.tensor((image[0], *size, out), np.float32)
    if compact is None:
        filter = file.constant(pack(signs))
        file.op("LceBconv2d", [bits, filter, *tail], result, settings)
    else:
        arrays, more = compact_inputs(signs, **compact)
        head = [-1 if array is None else file.constant(array) for array in arrays]
        file.op(
            "LarqSksBconv2d", [bits, *head, *tail], result, {**settings, **more, "groups": groups}
        )
    if output == "bits":
        from_bits = file.tensor((image[0], *size, out), np.float32)
        file.op("LceDequantize", [result], from_bits)
        result = from_bits
    return file.finish([pixels], [result])
