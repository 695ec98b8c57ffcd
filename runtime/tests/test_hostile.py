"""Files that are wrong: each gives an error that says what is wrong, and never more than that."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
from flatbuffers import flexbuffers
from hypothesis import given, settings
from hypothesis import strategies as st

from interpreters import LCE, STOCK, Ours
from tflite_file import File, conv_model, conv_options, read, schema, write

RNG = np.random.default_rng(0)
SIGNS = RNG.choice([-1.0, 1.0], (8, 3, 3, 40))
IMAGES = RNG.normal(size=(1, 6, 5, 40)).astype(np.float32)
COMPACT = {"compact": {"inverted": np.arange(8) % 3 == 0}}
ERRORS = (RuntimeError, ValueError)


def _patterns(codewords):
    """3x3 kernels of codewords."""
    return 1.0 - 2 * (codewords[:, np.newaxis] >> np.arange(9) & 1).reshape(-1, 3, 3)


def _conv(**arguments):
    return read(conv_model(SIGNS, IMAGES.shape, **arguments))


def _operator(model, place=1):
    return model.subgraphs[0].operators[place]


def _tensor(model, place, operator=1):
    """An input of the convolution, or with place -1 its output."""
    numbers = _operator(model, operator)
    return model.subgraphs[0].tensors[numbers.outputs[0] if place < 0 else numbers.inputs[place]]


def _set_options(model, options, operator=1):
    builder = flexbuffers.Builder()
    builder.MapFromElements(options)
    _operator(model, operator).customOptions = np.frombuffer(bytes(builder.Finish()), np.uint8)


def _options(model, operator=1):
    return flexbuffers.Loads(bytes(_operator(model, operator).customOptions))


def _change(model, place, byte, bits):
    """Sets bits in a byte of a constant."""
    buffer = _buffer(model, place)
    buffer.data = np.array(buffer.data)
    buffer.data[byte] |= bits


def _run(model, *inputs):
    return Ours(write(model))(*(inputs or (IMAGES,)))


def _fails(model, match, *inputs):
    with pytest.raises(ERRORS, match=match or None):
        _run(model, *inputs)


@pytest.mark.parametrize("arguments", [{}, COMPACT])
def test_the_untouched_files_run(arguments):
    assert _run(_conv(**arguments))[0].shape == (1, 6, 5, 8)


def test_a_tensor_that_becomes_of_another_type():
    # The interpreter's ADD gives its output the type of its inputs: fewer bytes than the declared floats.
    file = File()
    numbers = [file.tensor((1, 4, 4, 32), np.int8, scale=1.0, zero_point=0) for _ in range(2)]
    total = file.tensor((1, 4, 4, 32), np.float32, scale=2.0, zero_point=0)
    file.builtin("ADD", "Add", numbers, total, fusedActivationFunction=0)
    bits = file.tensor((1, 4, 4, 1), np.int32)
    file.op("LceQuantize", [total], bits)
    values = np.ones((1, 4, 4, 32), np.int8)
    with pytest.raises(ERRORS, match="is float32 in the file, and became int8"):
        Ours(file.finish(numbers, [bits]))(values, values)


def test_padding_of_a_whole_batch():
    file = File()
    options = conv_options(1, padding=0, dilation_height_factor=4000, dilation_width_factor=4000)
    bits = file.tensor((8, 1, 1, 1), np.int32)
    ones = file.constant(np.ones(1, np.float32))
    result = file.tensor((8, 1, 1, 1), np.float32)
    filters = file.constant(np.zeros((1, 3, 3, 1), np.int32))
    file.op("LceBconv2d", [bits, filters, ones, ones, -1], result, options)
    with pytest.raises(ERRORS, match="too large with its padding, 8x8001x8001"):
        Ours(file.finish([bits], [result]))(np.zeros((8, 1, 1, 1), np.int32))


OPTION_ERRORS = [
    ("channels_in", None, "channels_in is missing"),
    ("channels_in", 0, "channels_in must be from 1"),
    ("channels_in", -(2**62), "channels_in must be from 1"),
    ("channels_in", 70, r"must have|no groups|must have shape"),
    ("channels_in", 39, r"filter has bits beyond its 39|must have shape"),
    ("padding", 2, "padding must be from 0 to 1, and is 2"),
    ("padding", "SAME", "padding is missing, or no integer"),
    ("pad_values", 2, "pad_values must be from 0 to 1"),
    ("stride_height", 0, "stride_height must be from 1"),
    ("stride_width", -1, "stride_width must be from 1"),
    ("stride_width", 2**40, "stride_width must be from 1"),
    ("dilation_height_factor", 0, "dilation_height_factor must be from 1"),
    ("dilation_width_factor", 2**15, "too large with its padding"),
    ("dilation_width_factor", 2**31 - 1, "dilation_width_factor must be from 1"),
    ("fused_activation_function", 4, "fused_activation_function must be from 0 to 3"),
    ("fused_activation_function", -1, "fused_activation_function must be from 0 to 3"),
]


@pytest.mark.parametrize("arguments", [{}, COMPACT], ids=["plain", "compact"])
@pytest.mark.parametrize("key, value, match", OPTION_ERRORS)
def test_options(arguments, key, value, match):
    model = _conv(**arguments)
    options = _options(model)
    options[key] = value
    if value is None:
        del options[key]
    if "too large" in match:
        options["dilation_height_factor"] = value
    _set_options(model, options)
    _fails(model, match)


@pytest.mark.parametrize(
    "key, value, match",
    [
        ("channels_out", 0, "channels_out must be from 1"),
        ("channels_out", 9, "indices must have shape"),
        ("channels_out", 2**20, "indices must have shape"),
        ("filter_height", 2**20, "filter_height must be from 1 to 31"),
        ("filter_height", 4, "blocks must"),
        ("filter_width", 6, "indices must have shape"),
        ("groups", 0, "groups must be from 1"),
        ("groups", 2, "2 groups must"),
        ("groups", None, "groups is missing"),
        ("codeword_height", 2, "blocks must"),
        ("codeword_channels", 16, "blocks must"),
        ("codeword_channels", -1, "codeword_channels must be from 1"),
        ("codeword_width", 1, "codebook must have"),
    ],
)
def test_compact_options(key, value, match):
    model = _conv(**COMPACT)
    options = _options(model)
    options[key] = value
    if value is None:
        del options[key]
    _set_options(model, options)
    _fails(model, match)


def test_a_filter_too_large_to_unpack():
    model = _conv(**COMPACT)
    _set_options(
        model, _options(model) | {"channels_out": 2**20, "filter_height": 30, "filter_width": 30}
    )
    _fails(model, "filter must have at most")


@pytest.mark.parametrize(
    "options",
    [
        b"",
        b"\0",
        b"\0\0\1",
        b"\xff" * 40,
        b"\x24\x01",
        bytes(5000),
        struct.pack("<QBBB", 2**63, 0, 36 + 3, 8),
    ],
)
def test_options_that_are_no_map(options):
    model = _conv()
    _operator(model).customOptions = np.frombuffer(options, np.uint8)
    _fails(model, "custom options|option ")


@settings(max_examples=120)
@given(st.data())
def test_options_with_other_bytes(data):
    model = _conv()
    options = bytearray(bytes(_operator(model).customOptions))
    for _ in range(data.draw(st.integers(1, 4))):
        options[data.draw(st.integers(0, len(options) - 1))] = data.draw(st.integers(0, 255))
    options = (
        options[: data.draw(st.integers(0, len(options)))] if data.draw(st.booleans()) else options
    )
    _operator(model).customOptions = np.frombuffer(bytes(options), np.uint8)
    with contextlib.suppress(*ERRORS):  # unless the bytes mean what is allowed
        _run(model)


def _buffer(model, place):
    return model.buffers[_tensor(model, place).buffer]


TENSOR_ERRORS = [
    (1, {"shape": [8, 3, 3, 3]}, ""),  # the interpreter itself sees that the bytes do not fit
    (1, {"shape": [8, 3, 6]}, "filter must have 4 dimensions"),
    (1, {"shape": [16, 3, 3, 1]}, "no groups|must have shape"),
    (1, {"shape": [8, 9, 1, 2], "type": schema.TensorType.FLOAT32}, "filter must be int32"),
    (1, {"shape": [4, 36, 1, 1]}, "filter must be at most 31|no groups"),
    (1, {"buffer": 0}, "filter must be a dense constant"),
    (2, {"shape": [2, 4]}, r"multiplier must have shape \[8\]"),
    (2, {"type": schema.TensorType.INT32}, "multiplier must be float32, and is int32"),
    (3, {"buffer": 0}, "bias must be a dense constant"),
    (3, {"shape": [7]}, ""),
    (-1, {"type": schema.TensorType.BOOL}, "output must be float32, int8 or int32, and is bool"),
    (
        -1,
        {"type": schema.TensorType.FLOAT64},
        "output must be float32, int8 or int32, and is another type",
    ),
    (-1, {"type": schema.TensorType.INT8}, "output must have a scale above 0"),
    (-1, {"type": schema.TensorType.INT32}, "thresholds is missing"),
    (0, {"type": schema.TensorType.FLOAT32}, "must be int32, and is float32"),
]


@pytest.mark.parametrize("place, changes, match", TENSOR_ERRORS)
def test_tensors(place, changes, match):
    model = _conv()
    for name, value in changes.items():
        setattr(_tensor(model, place), name, value)
    _fails(model, match)


COMPACT_TENSOR_ERRORS = [
    (1, {"shape": [-1]}, ""),
    (1, {"type": schema.TensorType.INT8}, "codebook must be uint8, and is int8"),
    (1, {"buffer": 0}, "codebook must be a dense constant"),
    (2, {"buffer": 0}, "indices must be a dense constant"),
    (2, {"type": schema.TensorType.BOOL}, "indices must be uint8, and is bool"),
    (3, {"type": schema.TensorType.INT8}, "inverted must be uint8"),
    (4, {"type": schema.TensorType.INT32}, "multiplier must be float32"),
]


@pytest.mark.parametrize("place, changes, match", COMPACT_TENSOR_ERRORS)
def test_compact_tensors(place, changes, match):
    model = _conv(**COMPACT)
    for name, value in changes.items():
        setattr(_tensor(model, place), name, value)
    _fails(model, match)


def test_bits_beyond_the_channels():
    model = _conv()
    _change(model, 1, 7, 1)  # channel 56 of 40
    _fails(model, "filter has bits beyond its 40 input channels")


def test_codeword_beyond_its_block():
    model = _conv(**COMPACT)
    _change(model, 1, 1, 2)
    _fails(model, "codeword 0 has bits beyond the 9 of a block")


def test_codebook_larger_than_all_patterns():
    model = _conv(**COMPACT)
    _tensor(model, 1).shape = [513, 2]
    _buffer(model, 1).data = np.zeros(1026, np.uint8)
    _fails(model, "codebook must have at most 512 codewords for blocks of 9 weights, and has 513")


def test_index_beyond_the_codebook():
    patterns = _patterns(np.arange(8))
    signs = patterns[np.arange(8 * 40).reshape(8, 40) % 8].transpose(0, 2, 3, 1)
    model = read(conv_model(signs, IMAGES.shape, compact={}))
    assert list(_tensor(model, 1).shape) == [8, 2]
    _tensor(model, 1).shape = [5, 2]  # of 3 bits still
    _buffer(model, 1).data = _buffer(model, 1).data[:10]
    _fails(model, "index 5 is beyond the codebook, which has 5 codewords")


def test_bits_after_the_last_index():
    signs = np.where(RNG.random((3, 3, 3, 1)) < 0.5, -1.0, 1.0)
    model = read(conv_model(signs, (1, 4, 4, 1), compact={}))
    assert _tensor(model, 2).shape == [1]
    _change(model, 2, 0, 0x80)
    _fails(model, "indices must end with bits of 0", np.zeros((1, 4, 4, 1), np.float32))


@pytest.mark.parametrize("size", [0, 1, 4])
def test_number_of_inputs(size):
    model = _conv()
    _operator(model).inputs = _operator(model).inputs[:size]
    _fails(model, "must have 5 inputs and 1 output")


@pytest.mark.parametrize(
    "place, match",
    [(0, "input is missing"), (1, "filter is missing"), (2, "multiplier is missing")],
)
def test_inputs_that_are_absent(place, match):
    model = _conv()
    _operator(model).inputs = [
        -1 if i == place else t for i, t in enumerate(_operator(model).inputs)
    ]
    _fails(model, match)


def test_two_outputs():
    model = _conv()
    model.subgraphs[0].tensors.append(_tensor(model, -1))
    _operator(model).outputs = [_operator(model).outputs[0], len(model.subgraphs[0].tensors) - 1]
    _fails(model, "must have 5 inputs and 1 output")


@pytest.mark.parametrize("shape", [(1, 6, 5, 32), (1, 6, 5, 65), (1, 6, 5, 1)])
def test_input_of_other_channels(shape):
    model = _conv()
    _fails(
        model,
        "input must have 4 dimensions, the last of 2 words for 40 channels",
        np.zeros(shape, np.float32),
    )


def test_image_smaller_than_a_filter_without_padding():
    model = _conv(padding=1)
    _fails(model, "output has an empty dimension", np.zeros((1, 2, 5, 40), np.float32))


def _two_writers(order):
    """Two convolutions of one input with outputs of different sizes in one tensor."""
    file = File()
    pixels = file.tensor((1, 6, 6, 32), np.float32)
    bits = file.tensor((1, 6, 6, 1), np.int32)
    file.op("LceQuantize", [pixels], bits)
    filter = file.constant(np.zeros((4, 1, 1, 1), np.int32))
    scale = file.constant(np.ones(4, np.float32))
    result = file.tensor((1, 6, 6, 4), np.float32)
    for stride in order:
        options = conv_options(32, stride_height=stride, stride_width=stride)
        file.op("LceBconv2d", [bits, filter, scale, scale, -1], result, options)
    return file.finish([pixels], [result])


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_two_writers_of_a_tensor(order):
    with pytest.raises(ERRORS, match="node 2 is the second to write tensor 4"):
        Ours(_two_writers(order))


@pytest.mark.parametrize("kind", ["constant", "variable"])
def test_writing_what_is_not_to_be_written(kind):
    model = _conv()
    if kind == "variable":
        _tensor(model, -1).isVariable = True
    else:
        bias = _operator(model).inputs[3]
        _operator(model).outputs = model.subgraphs[0].outputs = [bias]
    _fails(model, "node 1 writes tensor [0-9]+, which is a constant or a variable")


def test_operators_in_another_order():
    model = _conv()
    model.subgraphs[0].operators.reverse()
    _fails(model, "tensor 1 is read before node 1 writes it")


def test_an_operator_that_reads_its_own_output():
    model = _conv()
    _operator(model, 0).inputs = _operator(model, 0).outputs
    _fails(model, "tensor 1 is read before node 0 writes it")


def test_more_pixels_than_fit():
    interpreter = Ours(write(_conv())).interpreter
    interpreter.resize_tensor_input(0, (1, 2**14, 2**13, 40))
    with pytest.raises(ERRORS, match="too many elements|too large"):
        interpreter.allocate_tensors()


POOL = {"filter_height": 2, "filter_width": 2, "stride_height": 2, "stride_width": 2, "padding": 1}


def _pool_model(
    options=POOL, dtype=np.int32, out_channels=40, out_dtype=np.float32, **quantization
):
    file = File()
    pixels = file.tensor(IMAGES.shape, np.float32)
    bits = file.tensor((1, 6, 5, 2), np.int32)
    file.op("LceQuantize", [pixels], bits)
    pooled = file.tensor((1, 3, 2, 2), dtype)
    file.op("LceBMaxPool2d", [bits], pooled, options)
    result = file.tensor((1, 3, 2, out_channels), out_dtype, **quantization)
    file.op("LceDequantize", [pooled], result)
    return read(file.finish([pixels], [result]))


@pytest.mark.parametrize(
    "arguments, match",
    [
        *(
            ({"options": POOL | {key: 0}}, f"{key} must be from 1")
            for key in POOL
            if key != "padding"
        ),
        *(
            ({"options": {k: v for k, v in POOL.items() if k != key}}, f"{key} is missing")
            for key in POOL
        ),
        ({"options": POOL | {"padding": 3}}, "padding must be from 0 to 1"),
        ({"options": POOL | {"filter_height": 7}}, "output has an empty dimension"),
        ({"options": POOL | {"filter_height": 2**31}}, "filter_height must be from 1"),
        ({"dtype": np.float32}, "input and output must be int32, and are int32 and float32"),
        ({"out_channels": 32}, "input must have 1 words for 32 channels, and has 2"),
        ({"out_channels": 65}, "input must have 3 words for 65 channels, and has 2"),
        ({"out_dtype": np.uint8}, "output must be float32, int8 or bool, and is uint8"),
        ({"out_dtype": np.int8}, "output must have a scale above 0"),
        ({"out_dtype": np.int8, "scale": -1.0}, "output must have a scale above 0"),
        ({"out_dtype": np.int8, "scale": 1.0, "zero_point": 400}, "zero point from -128 to 127"),
    ],
)
def test_pools_and_dequantize(arguments, match):
    _fails(_pool_model(**arguments), match)


def test_the_untouched_pool_runs():
    assert _run(_pool_model())[0].shape == (1, 3, 2, 40)


@pytest.mark.parametrize("shape", [[], [1], [1, 6, 5, 2, 1], [2**15, 2**15, 2**15, 1]])
def test_shapes_in_the_file_are_not_believed(shape):
    model = _conv()
    _tensor(model, 0).shape = shape
    assert _run(model)[0].shape == (1, 6, 5, 8)


def test_quantize_of_other_types():
    file = File()
    values = file.tensor((1, 32), np.int32)
    bits = file.tensor((1, 1), np.int32)
    file.op("LceQuantize", [values], bits)
    _fails(
        read(file.finish([values], [bits])),
        "input must be float32, int8 or bool, and is int32",
        np.zeros((1, 32), np.int32),
    )


def test_what_is_not_run_is_named():
    model = _conv()
    _set_options(model, _options(model) | {"pad_values": 3})
    with pytest.raises(ERRORS) as failure:
        _run(model)
    text = str(failure.value)
    assert (
        "larq-sks-runtime cannot run node 1 (LceBconv2d): option pad_values must be from 0 to 1, and is 3"
        in text
    )
    assert "LceBconv2d" in text.split("and is 3")[1]  # from the interpreter


@pytest.mark.skipif(LCE is None, reason="larq-compute-engine is not installed")
def test_compact_file_in_lce():
    with pytest.raises(RuntimeError):
        LCE(conv_model(SIGNS, IMAGES.shape, **COMPACT))


@pytest.mark.parametrize("stock", sorted(STOCK))
def test_compact_file_without_the_delegate(stock):
    with pytest.raises(ERRORS, match="unresolved custom op: (LceQuantize|LarqSksBconv2d)"):
        STOCK[stock](model_content=conv_model(SIGNS, IMAGES.shape, **COMPACT)).allocate_tensors()
