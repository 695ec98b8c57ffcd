import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from larq_sks import starts
from larq_sks.starts import STARTS, exchanged_coverage, greedy_coverage, most_frequent

BLOCKS = {
    (3, 3, 2, 5): (3, 3, 1, 1),
    (1, 1, 8, 6): (1, 1, 4, 1),
    (8, 7): (4,),
}


def blocks_of(kernel, shape):
    """Cuts a kernel into rows, without the library: one loop a block."""
    shape = tuple(shape) + (1,) * (kernel.ndim - len(shape))
    rows = []
    for corner in np.ndindex(
        *(size // part for size, part in zip(kernel.shape, shape, strict=True))
    ):
        window = tuple(
            slice(i * part, (i + 1) * part) for i, part in zip(corner, shape, strict=True)
        )
        rows.append(kernel[window].ravel())
    return np.array(rows)


def latent_kernel(shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rows_of(size):
    return np.array([[1 if i >> k & 1 else -1 for k in range(size)] for i in range(2**size)])


def reached(blocks, rows, score):
    """What a set of codewords is worth: the sum over blocks of the best score."""
    blocks = np.where(blocks >= 0, 1.0, -1.0) if score == "hamming" else blocks.astype(np.float64)
    return (blocks @ rows.T).max(axis=1).sum()


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(list(BLOCKS.items())), st.integers(1, 16), st.integers(0, 99))
def test_most_frequent_counts_binarised_blocks(shapes, num_codewords, seed):
    kernel = latent_kernel(shapes[0], seed)
    signs = blocks_of(kernel, shapes[1]) >= 0
    uses = dict.fromkeys(range(2 ** signs.shape[1]), 0)
    for row in signs:
        uses[sum(int(bit) << k for k, bit in enumerate(row))] += 1
    expected = sorted(uses, key=lambda i: (-uses[i], i))[:num_codewords]
    found = most_frequent(kernel, num_codewords, shapes[1])
    assert found.tolist() == expected and found.dtype == np.int32


@settings(deadline=None, max_examples=20)
@given(
    st.sampled_from(list(BLOCKS.items())),
    st.integers(1, 6),
    st.integers(0, 99),
    st.sampled_from(["latent", "hamming"]),
)
def test_greedy_coverage_adds_the_codeword_that_gains_most(shapes, num_codewords, seed, score):
    kernel = latent_kernel(shapes[0], seed)
    blocks = blocks_of(kernel, shapes[1])
    rows = rows_of(blocks.shape[1])
    found = greedy_coverage(kernel, num_codewords, shapes[1], score)
    assert len(set(found.tolist())) == num_codewords and found.dtype == np.int32
    for count in range(1, num_codewords + 1):
        before = list(found[: count - 1])
        best = max(reached(blocks, rows[[*before, i]], score) for i in range(len(rows)))
        np.testing.assert_allclose(reached(blocks, rows[found[:count]], score), best, rtol=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(list(BLOCKS.items())), st.integers(1, 6), st.integers(0, 99))
def test_no_exchange_raises_exchanged_coverage(shapes, num_codewords, seed):
    kernel = latent_kernel(shapes[0], seed)
    blocks = blocks_of(kernel, shapes[1])
    rows = rows_of(blocks.shape[1])
    found = exchanged_coverage(kernel, num_codewords, shapes[1])
    assert len(set(found.tolist())) == num_codewords and found.dtype == np.int32
    value = reached(blocks, rows[found], "latent")
    greedy = greedy_coverage(kernel, num_codewords, shapes[1])
    assert value >= reached(blocks, rows[greedy], "latent") * (1 - 1e-6)
    for dropped in range(num_codewords):
        kept = np.delete(found, dropped)
        best = max(
            reached(blocks, rows[[*kept, added]], "latent")
            for added in np.setdiff1d(np.arange(len(rows)), found)
        )
        assert best <= value * (1 + 1e-5)


def test_an_exchange_mends_what_was_chosen_first():
    # One codeword covers both pairs of blocks by half; of two, one for each pair covers all.
    a, b, between = [1, 1, 1, 1], [1, 1, -1, -1], [1, 1, 1, -1]
    blocks = np.array([a, a, b, b], np.float32) + 0.1 * np.array(between, np.float32)
    assert greedy_coverage(blocks.T, 2, (4,)).tolist()[0] == 0b0111
    assert sorted(exchanged_coverage(blocks.T, 2, (4,))) == [0b0011, 0b1111]


def test_exchanges_do_not_depend_on_how_blocks_are_taken_in_parts(monkeypatch):
    kernel = latent_kernel((3, 3, 8, 16), 0)
    whole = exchanged_coverage(kernel, 8)
    assert whole.tolist() != greedy_coverage(kernel, 8).tolist()
    monkeypatch.setattr(starts, "_SCORES", 512 * 7)
    np.testing.assert_array_equal(exchanged_coverage(kernel, 8), whole)


def test_starts_take_variables_and_default_shapes():
    kernel = tf.Variable(latent_kernel((3, 3, 2, 5), 0))
    for choose in STARTS.values():
        np.testing.assert_array_equal(choose(kernel, 4), choose(kernel, 4, (3, 3, 1)))


def test_the_whole_codebook_is_found():
    kernel = latent_kernel((8, 7), 0)
    for choose in STARTS.values():
        assert sorted(choose(kernel, 16, (4,))) == list(range(16))


@pytest.mark.parametrize("start", STARTS.values())
def test_bad_starts_are_named(start):
    kernel = latent_kernel((3, 3, 2, 5), 0)
    for bad in (0, 513, 2.5, "32", True):
        with pytest.raises(
            ValueError, match=f"`num_codewords` must be .*512.*num_codewords={bad!r}"
        ):
            start(kernel, bad)
    with pytest.raises(ValueError, match=r"`codeword_shape` must divide.*\(2, 3, 1\)"):
        start(kernel, 4, (2, 3, 1))
    with pytest.raises(ValueError, match="`codeword_shape` has no default"):
        start(latent_kernel((5, 5, 3, 2), 0), 4)
    with pytest.raises(ValueError, match="`codeword_shape` has no default"):
        start(np.zeros(9), 3)


def test_bad_score_is_named():
    with pytest.raises(ValueError, match="`score` must be 'latent' or 'hamming'.*score='l2'"):
        greedy_coverage(latent_kernel((3, 3, 2, 5), 0), 4, score="l2")
