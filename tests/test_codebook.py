import math
import re
from itertools import product

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from larq_sks import codebook

KERNELS = {
    "3x3": (3, 3, 4, 2),
    "1x1": (1, 1, 16, 3),
    "5x5": (5, 5, 2, 3),
    "not square": (2, 6, 4, 3),
    "depthwise": (3, 3, 6, 1),
    "depthwise, two outputs": (2, 2, 6, 2),
    "transposed": (3, 3, 2, 8),
    "one dimension": (3, 8, 2),
    "dense": (12, 5),
    "one weight": (1, 1, 1, 1),
}


def _all_codeword_shapes(kernel_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    parts = [[part for part in range(1, size + 1) if size % part == 0] for size in kernel_shape]
    return [shape for shape in product(*parts) if math.prod(shape) <= 16]


CUTS = [(shape, cut) for shape in KERNELS.values() for cut in _all_codeword_shapes(shape)]


def _blocks_one_by_one(kernel: np.ndarray, codeword_shape: tuple[int, ...]) -> np.ndarray:
    blocks = []
    for block in np.ndindex(*np.floor_divide(kernel.shape, codeword_shape)):
        corner = np.multiply(block, codeword_shape)
        weights = [kernel[tuple(corner + weight)] for weight in np.ndindex(codeword_shape)]
        blocks.append(weights)
    return np.array(blocks).T


@pytest.mark.parametrize("block_size", range(1, 17))
def test_patterns_are_the_binary_digits(block_size):
    patterns = codebook.patterns(block_size)
    assert patterns.shape == (2**block_size, block_size) and patterns.dtype == np.float32
    for i in {0, 1, 2**block_size // 3, 2**block_size - 2, 2**block_size - 1}:
        digits = reversed(format(i, f"0{block_size}b"))
        assert patterns[i].tolist() == [1.0 if digit == "1" else -1.0 for digit in digits]
    np.testing.assert_array_equal(codebook.to_codewords(patterns), np.arange(2**block_size))


def test_patterns_takes_numpy_integers():
    assert codebook.patterns(np.int64(3)).shape == (8, 3)


@pytest.mark.parametrize("block_size", [0, 17, -1, 2.5, 2.0, True, "9", None])
def test_patterns_refuses_a_block_size(block_size):
    with pytest.raises(ValueError, match="`block_size` must be an integer from 1 to 16") as error:
        codebook.patterns(block_size)
    assert f"Received: block_size={block_size!r}." in str(error.value)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.data(), block_size=st.integers(1, 16), shape=array_shapes(min_dims=0, max_dims=3))
def test_codewords_to_signs_and_back(data, block_size, shape):
    integers = st.integers(0, 2**block_size - 1)
    codewords = data.draw(arrays(np.int32, shape, elements=integers))
    signs = codebook.to_signs(codewords, block_size)
    assert signs.dtype == np.float32 and signs.shape == (*shape, block_size)
    back = codebook.to_codewords(signs)
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back, codewords)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.data(), block_size=st.integers(1, 16), shape=array_shapes(max_dims=2))
def test_weights_to_codewords_and_back_are_the_signs(data, block_size, shape):
    floats = st.floats(-2.0, 2.0, width=32)
    weights = data.draw(arrays(np.float32, (*shape, block_size), elements=floats))
    signs = codebook.to_signs(codebook.to_codewords(weights), block_size)
    np.testing.assert_array_equal(signs, np.where(weights < 0, -1.0, 1.0))


def test_zeros_count_as_plus_one():
    assert codebook.to_codewords([[-0.3, 0.0, 2.5]]).tolist() == [6]
    assert codebook.to_codewords([0.0, -0.0, -1e-45]).tolist() == 3
    assert codebook.to_signs([6], 3).tolist() == [[-1.0, 1.0, 1.0]]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(cut=st.sampled_from(CUTS), dtype=st.sampled_from([np.float32, np.float16, np.int32]))
def test_blocks_equal_those_cut_one_by_one(cut, dtype):
    kernel_shape, codeword_shape = cut
    kernel = np.arange(math.prod(kernel_shape)).reshape(kernel_shape).astype(dtype)
    blocks = codebook.to_blocks(tf.constant(kernel), codeword_shape)
    assert blocks.dtype == dtype
    np.testing.assert_array_equal(blocks, _blocks_one_by_one(kernel, codeword_shape))
    back = codebook.from_blocks(blocks, kernel_shape, codeword_shape)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, kernel)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(data=st.data(), cut=st.sampled_from(CUTS))
def test_codewords_to_kernel_and_back(data, cut):
    kernel_shape, codeword_shape = cut
    block_size = math.prod(codeword_shape)
    count = math.prod(kernel_shape) // block_size
    integers = st.integers(0, 2**block_size - 1)
    codewords = data.draw(arrays(np.int32, count, elements=integers))
    signs = tf.constant(codebook.to_signs(codewords, block_size).T)
    kernel = codebook.from_blocks(signs, kernel_shape, codeword_shape)
    assert kernel.shape == kernel_shape
    blocks = codebook.to_blocks(kernel, codeword_shape).numpy()
    np.testing.assert_array_equal(codebook.to_codewords(blocks.T), codewords)


def test_slices_of_3x3_kernels_are_columns():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 5, 7))
    blocks = codebook.to_blocks(tf.constant(kernel), (3, 3, 1, 1)).numpy()
    np.testing.assert_array_equal(blocks[:, 2 * 7 + 4], kernel[:, :, 2, 4].ravel())


@pytest.mark.parametrize(
    "kernel_shape, codeword_shape, is_free",
    [
        ((3, 3, 64, 128), (3, 3, 1, 1), True),
        ((3, 3, 64, 1), (3, 3, 1, 1), True),
        ((1, 1, 8, 64), (1, 1, 8, 1), True),
        ((8, 10), (8, 1), True),
        ((1, 1, 64, 128), (1, 1, 8, 1), False),
        ((256, 10), (8, 1), False),
    ],
)
def test_blocks_without_a_copy(kernel_shape, codeword_shape, is_free):
    @tf.function(input_signature=[tf.TensorSpec(kernel_shape)])
    def there_and_back(kernel):
        blocks = codebook.to_blocks(kernel, codeword_shape)
        return codebook.from_blocks(tf.identity(blocks), kernel_shape, codeword_shape)

    operations = {op.type for op in there_and_back.get_concrete_function().graph.get_operations()}
    assert operations - {"Placeholder", "Const", "Identity", "NoOp"} == (
        {"Reshape"} if is_free else {"Reshape", "Transpose"}
    )


@pytest.mark.parametrize(
    "kernel_shape, expected",
    [
        ((3, 3, 64, 128), (3, 3, 1, 1)),
        ((3, 3, 5, 1), (3, 3, 1, 1)),
        ((1, 1, 64, 128), (1, 1, 8, 1)),
        ((5, 5, 16, 3), (1, 1, 8, 1)),
        ((3, 8, 2), (1, 8, 1)),
        ((256, 10), (8, 1)),
        (tf.TensorShape([3, 3, 8, 8]), (3, 3, 1, 1)),
    ],
)
def test_default_codeword_shape(kernel_shape, expected):
    assert codebook.default_codeword_shape(kernel_shape) == expected
    assert codebook.check_codeword_shape(expected, kernel_shape) == expected


@pytest.mark.parametrize("kernel_shape", [(5, 5, 3, 16), (1, 1, 12, 8), (3, 10), (3, 3)])
def test_kernels_without_default(kernel_shape):
    with pytest.raises(ValueError, match="`codeword_shape` has no default") as error:
        codebook.default_codeword_shape(kernel_shape)
    message = str(error.value)
    assert str(kernel_shape) in message and "Received: codeword_shape=None." in message
    _check_possible(message, kernel_shape)


@pytest.mark.parametrize("cut", [*CUTS[:10], ((12, 5), (4, 1)), ((12, 5), (2, 5))])
def test_codeword_shapes_that_fit(cut):
    kernel_shape, codeword_shape = cut
    assert codebook.check_codeword_shape(list(codeword_shape), kernel_shape) == codeword_shape
    if codeword_shape[-1] == 1:
        assert codebook.check_codeword_shape(codeword_shape[:-1], kernel_shape) == codeword_shape


@pytest.mark.parametrize(
    "codeword_shape",
    [
        (3, 3, 3),  # does not divide
        (2, 3, 1, 1),
        (3, 3, 2),  # 18 weights
        (1, 1, 1, 32),
        (9,),  # wrong number of axes
        (3, 3),
        (3, 3, 1, 1, 1),
        (),
        (0, 3, 1),
        (-1, 3, 1, 1),
        (-3, -3, 1),
        (1.5, 1, 1),
        (3.0, 3, 1),
        ("3", 3, 1),
        "331",
        9,
        None,
    ],
)
def test_codeword_shapes_that_do_not_fit(codeword_shape):
    kernel_shape = (3, 3, 64, 128)
    with pytest.raises(ValueError, match="`codeword_shape` must divide the kernel") as error:
        codebook.check_codeword_shape(codeword_shape, kernel_shape)
    message = str(error.value)
    assert str(kernel_shape) in message and "at most 16 weights" in message
    assert f"Received: codeword_shape={codeword_shape!r}." in message
    _check_possible(message, kernel_shape)


def _check_possible(message: str, kernel_shape: tuple[int, ...]) -> None:
    """The shapes that a message names fit, and are the largest ones."""
    listed = message.split("Possible for this kernel: ")[1]
    shapes = [
        tuple(int(part) for part in re.findall(r"\d+", shape))
        for shape in re.findall(r"\([^)]*\)", listed)
    ]
    for shape in shapes:
        assert codebook.check_codeword_shape(shape, kernel_shape) == (*shape, 1)
    fitting = [
        shape[:-1]
        for shape in _all_codeword_shapes(kernel_shape)
        if shape[-1] == 1 and math.prod(shape) >= 4
    ]
    assert len(set(shapes)) == len(shapes) == min(8, len(fitting))
    assert ("…" in listed) == (len(fitting) > 8)
    assert ("none with 4 weights or more" in listed) == (not fitting)
    sizes = sorted((math.prod(shape) for shape in fitting), reverse=True)
    assert [math.prod(shape) for shape in shapes] == sizes[:8]
