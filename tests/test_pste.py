import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp

from larq_sks import pste
from larq_sks.codebook import patterns

# Block size and number of codewords: the slack form, one slack column that is one column, and the
# full permutation.
SIZES = [(3, 1), (3, 3), (3, 7), (3, 8), (4, 6), (6, 16)]
ITERATIONS = 10


def _logits(block_size: int, columns: int, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([seed, block_size, columns])
    return scale * rng.normal(size=(2**block_size, columns))


def _upstream(block_size: int, columns: int) -> np.ndarray:
    """The gradient of the loss with respect to the codewords."""
    return np.random.default_rng(1).normal(size=(columns, block_size)).astype(np.float32)


def _plan(logits: np.ndarray) -> np.ndarray:
    """The selected columns of the plan, by the definition in NumPy."""
    rows, columns = logits.shape
    plan, log_mass = logits, np.zeros(columns)
    if columns < rows:
        plan = np.concatenate([logits, np.zeros((rows, 1))], axis=1)
        log_mass = np.log([1.0] * columns + [rows - columns])
    for _ in range(ITERATIONS):
        plan = plan + log_mass - logsumexp(plan, axis=0)
        plan = plan - logsumexp(plan, axis=1, keepdims=True)
    return np.exp(plan[:, :columns])


def _numpy_gradient(logits: np.ndarray, upstream: np.ndarray) -> np.ndarray:
    """dL/dX = the plan's Jacobian, by central differences, times dL/dP = B (dL/du)^T."""
    signs = patterns(upstream.shape[1]).astype(np.float64)
    plan_gradient = signs @ upstream.astype(np.float64).T
    gradient = np.zeros(logits.shape)
    for index in np.ndindex(logits.shape):
        step = np.zeros(logits.shape)
        step[index] = 1e-5
        difference = (_plan(logits + step) - _plan(logits - step)) / 2e-5
        gradient[index] = np.sum(plan_gradient[:, : len(upstream)] * difference[:, : len(upstream)])
    return gradient


def _padded(logits: np.ndarray) -> np.ndarray:
    """Logits of the full permutation whose unselected columns tie."""
    rows, columns = logits.shape
    return np.concatenate([logits, np.zeros((rows, rows - columns))], axis=1)


@tf.function
def _select(logits, count):
    plan = pste.relax(logits, ITERATIONS)
    return pste.harden(plan, count), plan


def _estimate(logits, upstream):
    """Codewords, selected rows and the logits' gradient without `choose`."""
    with tf.GradientTape() as tape:
        tape.watch(logits)
        plan = pste.relax(logits, ITERATIONS)
        rows = pste.harden(plan, len(upstream))
        codewords = pste.straight_through(plan, rows, patterns(upstream.shape[1]))
        loss = tf.reduce_sum(codewords * upstream)
    return codewords, rows, tape.gradient(loss, logits)


def _choose(logits, noise, seed, upstream, choose=pste.choose):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        signs = patterns(upstream.shape[1])
        codewords, stored = choose(logits, noise, seed, signs, ITERATIONS, len(upstream))
        loss = tf.reduce_sum(codewords * upstream)
    return codewords, stored, tape.gradient(loss, logits)


COMPILED_CHOOSE = tf.function(_choose, jit_compile=True)
NOISE = tf.constant(1.5)


@pytest.mark.parametrize("block_size, columns", SIZES)
def test_forward_is_the_hard_selection(block_size, columns):
    plan = pste.relax(tf.constant(_logits(block_size, columns)), ITERATIONS)
    rows = np.random.default_rng(0).permutation(2**block_size)[:columns].astype(np.int32)
    signs = patterns(block_size)
    for run in (pste.straight_through, tf.function(pste.straight_through, jit_compile=True)):
        codewords = run(plan, tf.constant(rows), tf.constant(signs))
        assert codewords.dtype == tf.float32
        np.testing.assert_array_equal(codewords, signs[rows])


@pytest.mark.parametrize("block_size, columns", SIZES)
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_backward_hands_the_gradient_to_the_plan(block_size, columns, dtype):
    plan = pste.relax(tf.constant(_logits(block_size, columns), dtype), ITERATIONS)
    upstream = _upstream(block_size, columns)
    with tf.GradientTape() as tape:
        tape.watch(plan)
        rows = pste.harden(plan, columns)
        codewords = pste.straight_through(plan, rows, patterns(block_size))
        loss = tf.reduce_sum(codewords * upstream)
    gradient = tape.gradient(loss, plan)
    assert gradient.dtype == dtype
    expected = np.zeros(plan.shape)
    for i, j in np.ndindex(2**block_size, columns):
        expected[i, j] = np.dot(patterns(block_size)[i], upstream[j])
    np.testing.assert_allclose(gradient, expected, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("scale", [0.1, 3.0])
@pytest.mark.parametrize("block_size, columns", SIZES[:5])
def test_gradient_equals_numpy(block_size, columns, scale):
    logits, upstream = _logits(block_size, columns, scale), _upstream(block_size, columns)
    codewords, rows, gradient = _estimate(tf.constant(logits), upstream)
    np.testing.assert_array_equal(codewords, patterns(block_size)[rows.numpy()])
    expected = _numpy_gradient(logits, upstream)
    assert np.abs(expected).max() > 1e-2
    # The product with float32 signs is float32.
    np.testing.assert_allclose(gradient, expected, rtol=0.0, atol=1e-5)


def test_gradient_of_the_full_form_comes_from_the_selected_columns():
    logits, upstream = _logits(3, 8), _upstream(3, 2)
    _, _, gradient = _estimate(tf.constant(logits), upstream)
    expected = _numpy_gradient(logits, upstream)
    assert np.abs(expected[:, 2:]).max() > 1e-2  # through Sinkhorn, also to the others
    np.testing.assert_allclose(gradient, expected, rtol=0.0, atol=1e-5)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    size=st.sampled_from([(3, 1), (3, 7), (4, 6), (6, 16)]),
    scale=st.sampled_from([0.01, 0.3, 1.0, 3.0, 10.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_slack_form_selects_as_the_full_one(size, scale, seed):
    logits = _logits(*size, scale, seed)
    rows, _ = _select(tf.constant(logits), size[1])
    assert rows.dtype == tf.int32
    full_rows, full_plan = _select(tf.constant(_padded(logits)), size[1])
    _, by_column = linear_sum_assignment(full_plan.numpy().T, maximize=True)
    np.testing.assert_array_equal(rows, by_column[: size[1]])
    np.testing.assert_array_equal(full_rows, by_column[: size[1]])


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("block_size, columns", [(3, 3), (4, 6), (6, 16)])
def test_slack_form_has_the_gradient_of_the_full_one(block_size, columns, scale):
    logits, upstream = _logits(block_size, columns, scale), _upstream(block_size, columns)
    codewords, _, gradient = _estimate(tf.constant(logits), upstream)
    full_codewords, _, full_gradient = _estimate(tf.constant(_padded(logits)), upstream)
    np.testing.assert_array_equal(codewords, full_codewords)
    np.testing.assert_allclose(gradient, full_gradient[:, :columns], rtol=0.0, atol=1e-5)


def _all_ways(logits, noise, seed, upstream):
    """The result of `choose` run op by op, as it is, in a graph, and compiled."""
    logits, seed = tf.constant(logits, tf.float32), tf.constant(seed, tf.int64)
    tf.config.run_functions_eagerly(True)
    try:
        results = [_choose(logits, noise, seed, upstream)]
    finally:
        tf.config.run_functions_eagerly(False)
    ways = (pste.choose, tf.function(pste.choose))
    results += [_choose(logits, noise, seed, upstream, way) for way in ways]
    # The compiled way last: what is not compiled has left its trace, which must not be in the way.
    return [*results, COMPILED_CHOOSE(logits, noise, seed, tf.constant(upstream))]


@pytest.mark.parametrize("block_size, columns", [(3, 8), (4, 6)])
def test_choose_without_noise(block_size, columns):
    logits, upstream = _logits(block_size, columns), _upstream(block_size, columns)
    expected, rows, gradient = _estimate(tf.constant(logits, tf.float32), upstream)
    for result in _all_ways(logits, tf.constant(0.0), [7, 1], upstream):
        np.testing.assert_array_equal(result[0], expected)
        np.testing.assert_array_equal(result[1], rows)
        assert result[1].dtype == tf.int32
        np.testing.assert_allclose(result[2], gradient, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("block_size, columns", [(3, 8), (4, 6)])
def test_choose_with_noise(block_size, columns):
    logits, upstream = _logits(block_size, columns), _upstream(block_size, columns)
    bits = tf.random.stateless_uniform(
        logits.shape, [7, 1], minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )
    gumbel = -np.log(-np.log((np.floor(bits.numpy() / 2**9) + 0.5) / 2**23))
    noisy = tf.constant(logits + 1.5 * gumbel, tf.float32)
    expected, used, gradient = _estimate(noisy, upstream)
    _, stored, _ = _estimate(tf.constant(logits, tf.float32), upstream)
    assert used.numpy().tolist() != stored.numpy().tolist()
    for result in _all_ways(logits, NOISE, [7, 1], upstream):
        np.testing.assert_array_equal(result[0], expected)
        np.testing.assert_array_equal(result[1], stored)
        np.testing.assert_allclose(result[2], gradient, rtol=0.0, atol=1e-4)


def test_noise_depends_on_both_numbers_of_the_seed():
    logits, signs = tf.constant(_logits(6, 16), tf.float32), tf.constant(patterns(6))

    def draw(*seed):
        seed = tf.constant(seed, tf.int64)
        codewords, stored = pste.choose(logits, NOISE, seed, signs, ITERATIONS, 16)
        assert stored.numpy().tolist() == noise_free
        assert len(np.unique(codewords, axis=0)) == 16
        return codewords.numpy().tolist()

    noise_free = pste.harden(pste.relax(logits, ITERATIONS), 16).numpy().tolist()
    draws = [draw(7, step) for step in range(5)] + [draw(seed, 1) for seed in range(5)]
    assert all(draws.count(one) == 1 for one in draws)
    assert draws == [draw(7, step) for step in range(5)] + [draw(seed, 1) for seed in range(5)]


def test_noise_is_gumbel():
    """One codeword of four: Gumbel noise on logits samples from their softmax."""
    logits, draws = tf.constant([[0.0], [1.0], [2.0], [4.0]]), 1500
    signs = tf.constant(patterns(2))
    counts = np.zeros(4)
    for step in range(draws):
        codewords, _ = pste.choose(
            logits, tf.constant(2.0), tf.constant([3, step], tf.int64), signs, 3, 1
        )
        counts += np.all(signs == codewords, axis=1)
    expected = draws * tf.nn.softmax(logits[:, 0] / 2.0).numpy()
    assert np.sum((counts - expected) ** 2 / expected) < 16.3  # chi-squared of 3, 99.9 %


def test_noise_as_a_python_number():
    logits, signs = tf.constant(_logits(3, 2), tf.float32), patterns(3)
    for noise in (0.0, 2):
        one, _ = pste.choose(logits, noise, [7, 1], signs, 1, 2)
        other, _ = pste.choose(logits, tf.constant(float(noise)), [7, 1], signs, 1, 2)
        np.testing.assert_array_equal(one, other)


def test_one_trace_for_all_steps_and_layers():
    signs = tf.constant(patterns(3))
    before = pste._round.experimental_get_tracing_count()
    for step in range(4):
        logits = tf.constant(_logits(3, 2, seed=step), tf.float32)
        pste.choose(logits, tf.constant(0.5 * step), tf.constant([1, step], tf.int64), signs, 4, 2)
    assert pste._round.experimental_get_tracing_count() == before + 1
