import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from larq_sks.storage import coding


def entropy_bytes(indices):
    """Order-0 entropy of indices in bytes."""
    _, counts = np.unique(indices, return_counts=True)
    shares = counts / counts.sum()
    return -(counts * np.log2(shares)).sum() / 8


def power_law(count, num_symbols, seed=0):
    shares = 1.0 / np.arange(1, num_symbols + 1)
    generator = np.random.default_rng(seed)
    return generator.choice(num_symbols, (count // 100, 100), p=shares / shares.sum())


@st.composite
def cases(draw):
    num_symbols = draw(st.sampled_from([1, 2, 3, 5, 8, 32, 100, 512, 4096, 65536]))
    shape = (draw(st.integers(0, 40)), draw(st.integers(0, 40)))
    few = draw(st.integers(1, num_symbols))  # so that some are worth coding
    seed = draw(st.integers(0, 2**32 - 1))
    return np.random.default_rng(seed).integers(0, few, shape), num_symbols


@settings(deadline=None, max_examples=200)
@given(cases())
def test_indices_come_back_and_never_take_more_than_packed(case):
    indices, num_symbols = case
    data = coding.encode(indices, num_symbols)
    again = coding.decode(data, indices.shape, num_symbols)
    np.testing.assert_array_equal(again, indices)
    assert again.dtype == np.int32
    width = int(np.ceil(np.log2(num_symbols)))
    bound = max(-(-indices.size * width // 8), -(-indices.size // coding.MAX_BLOCKS_PER_BYTE))
    assert len(data) <= 1 + bound


def test_the_bytes_of_packed_indices():
    """3 + 0·4 + 1·16 + 3·64 = 211, after the byte that says 'packed'."""
    assert coding.encode(np.array([[3, 0], [1, 3]]), 4) == bytes([0, 211])


@pytest.mark.parametrize("num_symbols, allowed", [(8, 1.002), (32, 1.003), (512, 1.015)])
def test_skewed_indices_take_little_more_than_their_entropy(num_symbols, allowed):
    indices = power_law(30_000, num_symbols)
    data = coding.encode(indices, num_symbols)
    assert data[0] == 1 and len(data) <= allowed * entropy_bytes(indices)


def test_uniform_indices_are_packed():
    indices = np.random.default_rng(0).integers(0, 32, (10, 100))
    assert len(coding.encode(indices, 32)) == 1 + 1000 * 5 // 8


@pytest.mark.parametrize("num_symbols", [1, 32])
def test_no_byte_stands_for_more_than_32_indices(num_symbols):
    """All equal: the entropy is 0."""
    indices = np.zeros((100, 100), int)
    data = coding.encode(indices, num_symbols)
    assert len(data) >= 1 + 10_000 / 32
    np.testing.assert_array_equal(coding.decode(data, (100, 100), num_symbols), indices)


def test_a_claim_that_would_fill_the_memory_is_refused_at_once():
    with pytest.raises(ValueError, match="take at least"):
        coding.decode(bytes(100), (10**9, 10**9), 1)


@pytest.mark.parametrize(
    "data, count, num_symbols, message",
    [
        (b"", 4, 32, "at least"),
        (bytes([0]) + bytes(2), 4, 32, "do not fit"),
        (bytes([4]) + bytes(9), 4, 32, "way \\[4\\]"),
        (bytes([2]) + bytes(9), 4, 24, "way \\[2\\]"),
        (bytes([1]) + bytes(9), 4, 1, "way \\[1\\]"),
        (bytes([0]) + b"\xff" * 9, 4, 24, "below 24. Received: 31"),
    ],
)
def test_what_cannot_be_indices_is_refused(data, count, num_symbols, message):
    with pytest.raises(ValueError, match=message):
        coding.decode(data, (2, count // 2), num_symbols)


@settings(deadline=None, max_examples=300)
@given(
    st.binary(max_size=200),
    st.tuples(st.integers(0, 20), st.integers(0, 20)),
    st.one_of(st.integers(1, 600), st.sampled_from([2, 4, 256, 512])),
)
def test_any_bytes_decode_to_indices_in_range_or_are_refused(data, shape, num_symbols):
    try:
        indices = coding.decode(data, shape, num_symbols)
    except ValueError:
        return
    assert indices.shape == shape and (indices < num_symbols).all() and (indices >= 0).all()
