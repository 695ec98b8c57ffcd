"""What follows a convolution and is done in it, or next to it: sums, signs, max-pooling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from interpreters import ISAS, LCE, STOCK, Ours, lce
from tflite_file import NONE, RELU, RELU6, SAME, VALID, File, conv_options, output_size, pack, words

ADDENDS = ("input", "earlier", "later", "both")


def _conv(file: File, bits: int, image, signs, options, bias) -> int:
    """Adds a convolution with float outputs."""
    size = output_size(image[1:3], signs.shape[1:3], options)
    result = file.tensor((image[0], *size, len(signs)), np.float32)
    constants = [file.constant(np.asarray(a, np.float32)) for a in (np.ones(len(signs)), bias)]
    file.op("LceBconv2d", [bits, file.constant(pack(signs)), *constants, -1], result, options)
    return result


class Block:
    """Signs, a convolution, a sum, signs of the sum, pooling: as residual networks have them, and otherwise."""

    def __init__(
        self, rng, image, addend="input", activation=NONE, swapped=False, wanted=(), **options
    ):
        channels = image[3]
        self.options = conv_options(channels, padding=SAME, **options)
        self.signs = rng.choice([-1.0, 1.0], (2, channels, 3, 3, channels))
        self.bias = rng.normal(size=(2, channels))
        self.addend, self.activation, self.wanted = addend, activation, wanted
        file = File()
        pixels, self.shape = file.tensor(image, np.float32), image
        bits = file.tensor((*image[:3], words(channels)), np.int32)
        file.op("LceQuantize", [pixels], bits)

        def second():
            return _conv(file, bits, image, self.signs[1], self.options, self.bias[1])

        other = second() if addend == "earlier" else None
        first = _conv(file, bits, image, self.signs[0], self.options, self.bias[0])
        if addend == "later":
            other = second()
        other = {"input": pixels, "both": first}.get(addend, other)
        total = file.tensor(image, np.float32)
        places = [other, first] if swapped else [first, other]
        file.builtin("ADD", "Add", places, total, fusedActivationFunction=activation)
        signs = file.tensor((*image[:3], words(channels)), np.int32)
        file.op("LceQuantize", [total], signs)
        unpacked = file.tensor(image, np.float32)
        file.op("LceDequantize", [signs], unpacked)
        pooled = file.tensor((image[0], image[1] - 1, image[2] - 1, channels), np.float32)
        file.builtin(
            "MAX_POOL_2D", "Pool2D", [total], pooled, padding=VALID, strideH=1, strideW=1,
            filterHeight=2, filterWidth=2, fusedActivationFunction=NONE,
        )  # fmt: skip
        tensors = {"conv": first, "sum": total, "signs": unpacked, "pooled": pooled}
        self.data = file.finish([pixels], [tensors[name] for name in wanted])

    def expected(self, images):
        first, second = (
            oracle.conv(
                images, signs, 1, self.options, "float32", np.ones(len(signs)), bias, None, 1.0, 0
            )
            for signs, bias in zip(self.signs, self.bias)
        )
        total = first + {"input": images, "both": first}.get(self.addend, second)
        if self.activation == RELU:
            total = np.maximum(total, 0)
        elif self.activation == RELU6:
            total = np.clip(total, 0, 6)
        corners = [total[:, y : y - 1 or None, x : x - 1 or None] for y in (0, 1) for x in (0, 1)]
        every = {
            "conv": first,
            "sum": total,
            "signs": np.where(total < 0, -1.0, 1.0).astype(np.float32),
        }
        every["pooled"] = np.max(corners, axis=0)
        return [every[name] for name in self.wanted]


@settings(max_examples=80)
@given(st.data())
def test_blocks(data):
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = (1, draw(st.integers(2, 9)), draw(st.integers(2, 9)), draw(st.integers(1, 100)))
    block = Block(
        rng, image,
        addend=draw(st.sampled_from(ADDENDS)),
        activation=draw(st.sampled_from([NONE, RELU, RELU6])),
        swapped=draw(st.booleans()),
        wanted=draw(st.permutations(["sum", "signs", "pooled", "conv"]))[: draw(st.integers(1, 4))],
        pad_values=draw(st.integers(0, 1)),
        fused_activation_function=draw(st.sampled_from([NONE, RELU])),
    )  # fmt: skip
    ours = Ours(
        block.data,
        isa=draw(st.sampled_from(ISAS)),
        kernel=draw(st.sampled_from(["auto", "classic", "shared"])),
        threads=draw(st.integers(1, 3)),
        stock=draw(st.sampled_from(sorted(STOCK))),
    )
    for batch in (1, 3, 1):
        images = rng.normal(size=(batch, *image[1:])).astype(np.float32)
        for got, wanted in zip(ours(images), block.expected(images), strict=True):
            np.testing.assert_array_equal(got, wanted, strict=True)


def _delegated(data: bytes) -> list[set[int]]:
    """The outputs of each node that a delegate made: ours, and those of the interpreter's own for other operators."""
    details = Ours(data).interpreter._get_ops_details()
    return [set(op["outputs"]) for op in details if op["op_name"] == "DELEGATE"]


@pytest.mark.parametrize("addend", ["input", "earlier", "later"])
@pytest.mark.parametrize("activation", [NONE, RELU])
def test_a_residual_block_is_one_node(addend, activation):
    block = Block(np.random.default_rng(0), (1, 4, 4, 33), addend, activation, wanted=["pooled"])
    outputs = Ours(block.data).interpreter.get_output_details()
    assert _delegated(block.data) == [{outputs[0]["index"]}]


@pytest.mark.parametrize("addend, activation", [("both", NONE), ("input", RELU6)])
def test_other_sums_are_left_to_the_interpreter(addend, activation):
    block = Block(np.random.default_rng(0), (1, 4, 4, 33), addend, activation, wanted=["pooled"])
    images = np.random.default_rng(1).normal(size=(1, 4, 4, 33)).astype(np.float32)
    np.testing.assert_array_equal(Ours(block.data)(images)[0], block.expected(images)[0])
    assert len(_delegated(block.data)) > 1


def _sum_with(other_shape) -> bytes:
    """A convolution, and a sum with an input of a shape."""
    file = File()
    shape = (1, 4, 4, 32)
    pixels, other = file.tensor(shape, np.float32), file.tensor(other_shape, np.float32)
    bits = file.tensor((1, 4, 4, 1), np.int32)
    file.op("LceQuantize", [pixels], bits)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (32, 3, 3, 32))
    conv = _conv(file, bits, shape, signs, conv_options(32, padding=SAME), np.zeros(32))
    total = file.tensor(shape, np.float32)
    file.builtin("ADD", "Add", [conv, other], total)
    return file.finish([pixels, other], [total])


@pytest.mark.parametrize("shape", [(1, 1, 1, 32), (32,), (1, 4, 4, 1)])
def test_sums_that_repeat_numbers_are_left_to_the_interpreter(shape):
    rng = np.random.default_rng(0)
    images, other = rng.normal(size=(1, 4, 4, 32)), rng.normal(size=shape)
    images, other = images.astype(np.float32), other.astype(np.float32)
    zero = np.zeros((1, 4, 4, 32), np.float32)
    data = _sum_with(shape)
    np.testing.assert_array_equal(
        Ours(data)(images, other)[0], Ours(data)(images, np.zeros_like(other))[0] + (zero + other)
    )


def test_an_addend_that_gets_another_shape():
    ours = Ours(_sum_with((1, 4, 4, 32)))
    images = np.ones((1, 4, 4, 32), np.float32)
    with pytest.raises(RuntimeError, match="another shape than what it is added to"):
        ours(images, np.ones((1, 1, 1, 32), np.float32))


def test_pooling_of_large_windows():
    rng = np.random.default_rng(0)
    file = File()
    pixels = file.tensor((1, 20, 19, 33), np.float32)
    bits = file.tensor((1, 20, 19, 2), np.int32)
    file.op("LceQuantize", [pixels], bits)
    conv = _conv(
        file,
        bits,
        (1, 20, 19, 33),
        rng.choice([-1.0, 1.0], (33, 3, 3, 33)),
        conv_options(33, padding=SAME),
        rng.normal(size=33),
    )
    pooled = file.tensor((1, 5, 6, 33), np.float32)
    file.builtin(
        "MAX_POOL_2D", "Pool2D", [conv], pooled, padding=VALID, strideH=1, strideW=2,
        filterHeight=16, filterWidth=9, fusedActivationFunction=NONE,
    )  # fmt: skip
    convolved, got = Ours(file.finish([pixels], [conv, pooled]))(
        rng.normal(size=(1, 20, 19, 33)).astype(np.float32)
    )
    for y in range(5):
        for x in range(6):
            expected = convolved[:, y : y + 16, 2 * x : 2 * x + 9].max(axis=(1, 2))
            np.testing.assert_array_equal(got[:, y, x], expected)


def test_pooling_by_several_threads():
    block = Block(np.random.default_rng(0), (1, 60, 50, 40), wanted=["sum", "pooled"])
    images = np.random.default_rng(1).normal(size=(1, 60, 50, 40)).astype(np.float32)
    for got, expected in zip(Ours(block.data, threads=3)(images), block.expected(images)):
        np.testing.assert_array_equal(got, expected)


@settings(max_examples=60)
@given(st.data())
def test_pooling(data):
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = (
        1,
        draw(st.integers(4, 9)),
        draw(st.integers(4, 9)),
        draw(st.integers(1, 40)),
    )
    window, stride = ([draw(st.integers(1, 4)) for _ in range(2)] for _ in range(2))
    padding = draw(st.sampled_from([SAME, VALID]))
    options = {"padding": padding, "stride_height": stride[0], "stride_width": stride[1]}
    size = output_size(image[1:3], window, options)
    file = File()
    pixels = file.tensor(image, np.float32)
    bits = file.tensor((*image[:3], words(image[3])), np.int32)
    file.op("LceQuantize", [pixels], bits)
    signs = rng.choice([-1.0, 1.0], (image[3], 3, 3, image[3]))
    conv = _conv(
        file, bits, image, signs, conv_options(image[3], padding=SAME), rng.normal(size=image[3])
    )
    pooled = file.tensor((image[0], *size, image[3]), np.float32)
    file.builtin(
        "MAX_POOL_2D", "Pool2D", [conv], pooled, padding=padding, strideH=stride[0], strideW=stride[1],
        filterHeight=window[0], filterWidth=window[1],
    )  # fmt: skip
    data = file.finish([pixels], [pooled])
    images = rng.normal(size=(draw(st.integers(1, 2)), *image[1:])).astype(np.float32)
    got = Ours(data, isa=draw(st.sampled_from(ISAS)), threads=draw(st.integers(1, 3)))(images)[0]
    if LCE is not None:
        np.testing.assert_array_equal(got, lce(data, images)[0], strict=True)
    assert _delegated(data) == [{Ours(data).interpreter.get_output_details()[0]["index"]}]
