import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from larq_sks.selections import Permutation
from larq_sks.sinkhorn import MAX_ITERATIONS, sinkhorn, slack_sinkhorn

# Few shapes, so that each is traced once for the whole file.
SHAPES = [(2, 1), (8, 3), (8, 7)]


def _reference(logits: tf.Tensor, iterations: int) -> tf.Tensor:
    """The slack form by its definition: float64, log domain, columns of mass 1, …, 1, N - n."""
    rows, columns = logits.shape
    log_mass = np.log([1.0] * columns + [rows - columns])
    plan = tf.concat([tf.cast(logits, tf.float64), tf.zeros((rows, 1), tf.float64)], axis=1)
    for _ in range(iterations):
        plan += log_mass - tf.reduce_logsumexp(plan, axis=0)
        plan -= tf.reduce_logsumexp(plan, axis=1, keepdims=True)
    return tf.exp(plan)


def _square_reference(logits: tf.Tensor, iterations: int) -> tf.Tensor:
    """The N×N form that merges the columns from n on, those of equal logits."""
    rows, columns = logits.shape
    equal = tf.zeros((rows, rows - columns), logits.dtype)
    plan = sinkhorn(tf.concat([logits, equal], axis=1), iterations)
    slack = tf.reduce_sum(plan[:, columns:], axis=1, keepdims=True)
    return tf.concat([plan[:, :columns], slack], axis=1)


def _with_gradient(form, jit_compile=None):
    def run(logits, iterations, weights):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            plan = form(logits, iterations)
            loss = tf.reduce_sum(weights * tf.cast(plan, weights.dtype))
        return plan, tape.gradient(loss, logits)

    return tf.function(run, jit_compile=jit_compile), run


SLACK, SLACK_EAGER = _with_gradient(slack_sinkhorn)
FULL, FULL_EAGER = _with_gradient(sinkhorn)
REFERENCE, _ = _with_gradient(_reference)
SQUARE_REFERENCE, _ = _with_gradient(_square_reference)


def _weights(rows: int, columns: int, seed: int = 0) -> tf.Tensor:
    """What the loss puts on each entry of a plan."""
    return tf.constant(np.random.default_rng(seed).normal(size=(rows, columns)))


def _numbers(*tensors: tf.Tensor) -> list[np.ndarray]:
    return [tf.cast(tensor, tf.float64).numpy() for tensor in tensors]


def _agree(actual, expected, tolerance: float) -> None:
    for one, other in zip(_numbers(*actual), _numbers(*expected), strict=True):
        assert np.isfinite(one).all() and np.isfinite(other).all()
        np.testing.assert_allclose(one, other, rtol=0.0, atol=tolerance)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    data=st.data(),
    shape=st.sampled_from(SHAPES),
    iterations=st.sampled_from([1, 10]),
    temperature=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_slack_form_equals_the_log_domain(data, shape, iterations, temperature):
    logits = data.draw(arrays(np.float32, shape, elements=st.floats(-1e4, 1e4, width=32)))
    logits = tf.constant(logits / temperature, tf.float64)
    weights = _weights(shape[0], shape[1] + 1)
    actual = SLACK(logits, iterations, weights)
    # Logits of 1e7 resolve to 2e-9 in float64, where the reference adds numbers of that size.
    _agree(actual, REFERENCE(logits, iterations, weights), 1e-5 if temperature < 1.0 else 1e-9)
    np.testing.assert_allclose(tf.reduce_sum(actual[0], axis=1), 1.0, rtol=0.0, atol=1e-12)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    data=st.data(),
    shape=st.sampled_from(SHAPES),
    iterations=st.sampled_from([1, 10]),
    bound=st.sampled_from([1e-2, 10.0, 1e4]),
)
def test_slack_form_equals_the_full_one_where_columns_tie(data, shape, iterations, bound):
    logits = data.draw(arrays(np.float64, shape, elements=st.floats(-bound, bound)))
    weights = _weights(shape[0], shape[1] + 1)
    actual = SLACK(tf.constant(logits), iterations, weights)
    _agree(actual, SQUARE_REFERENCE(tf.constant(logits), iterations, weights), 1e-9)


@pytest.mark.parametrize("form, columns", [("slack", 3), ("slack", 7), ("full", 8)])
@pytest.mark.parametrize("temperature", [1e-3, 1.0])
def test_finite_in_float32(form, columns, temperature):
    run = SLACK if form == "slack" else FULL
    rng = np.random.default_rng(0)
    for values in ([-1e4, 1e4], [-1e4, 0.0, 1e4], [1e4], [-1e4], [1e4, 1e4 - 1]):
        logits = tf.constant(rng.choice(values, (8, columns)) / temperature, tf.float32)
        weights = tf.cast(_weights(8, columns + (form == "slack")), tf.float32)
        plan, gradient = run(logits, 10, weights)
        assert plan.dtype == gradient.dtype == tf.float32
        assert np.isfinite(plan).all() and np.isfinite(gradient).all()
        assert np.min(plan) >= 0.0
        np.testing.assert_allclose(tf.reduce_sum(plan, axis=1), 1.0, rtol=0.0, atol=1e-6)


def _adversarial() -> dict[str, np.ndarray]:
    """Matrices of 512 × 511 in which scales move far and entries underflow."""
    rng = np.random.default_rng(0)
    row, column = np.arange(512)[:, None], np.arange(511)
    return {
        # All columns compete for row 0; the others catch up by a factor of 512 an iteration, and
        # reach it at the end, just before it, or never.
        "one row, near": np.where(row == 0, 230.0, 0.0) + rng.normal(size=(512, 511)),
        "one row, at the limit": np.where(row == 0, 250.0, 0.0) + rng.normal(size=(512, 511)),
        "one row, far": np.where(row == 0, 1e4, 0.0) + rng.normal(size=(512, 511)),
        "a few rows": np.where(row < 5, 200.0, 0.0) + rng.normal(size=(512, 511)),
        "one row none wants": np.where(row == 0, -1e4, 0.0) + 0.0 * column,
        "triangle": np.where(row <= column, 500.0, -500.0),
        "triangle, near": np.where(row <= column, 60.0, -60.0) + rng.normal(size=(512, 511)),
        "steps, steep": -5.0 * np.abs(row - column // 2),
        "steps": -1.4 * np.abs(row - column // 2),
        "products": 700.0 * (row / 511) * (column / 510),
        "extreme": rng.choice([-1e4, 0.0, 1e4], (512, 511)),
        "extreme, cold": 1e7 * rng.uniform(-1.0, 1.0, (512, 511)),
    }


ADVERSARIAL = _adversarial()


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_range_of_the_slack_form(name):
    logits, weights = tf.constant(ADVERSARIAL[name]), _weights(512, 512)
    actual = SLACK(logits, MAX_ITERATIONS, weights)
    expected = REFERENCE(logits, MAX_ITERATIONS, weights)
    _agree(actual, expected, 1e-9)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(data=st.data(), shape=st.sampled_from(SHAPES))
def test_a_constant_on_a_column_changes_nothing(data, shape):
    logits = data.draw(arrays(np.float64, shape, elements=st.floats(-5.0, 5.0)))
    shifts = data.draw(arrays(np.float64, shape[1], elements=st.floats(-1e3, 1e3)))
    weights = _weights(shape[0], shape[1] + 1)
    shifted = SLACK(tf.constant(logits + shifts), 10, weights)
    _agree(shifted, SLACK(tf.constant(logits), 10, weights), 1e-9)


@pytest.mark.parametrize("iterations", [1, 2, 5])
@pytest.mark.parametrize(
    "form, shape", [("slack", (6, 2)), ("slack", (8, 7)), ("slack", (2, 1)), ("full", (5, 5))]
)
def test_gradients_by_central_differences(form, shape, iterations):
    run = SLACK if form == "slack" else FULL
    logits = 2.0 * np.random.default_rng(0).normal(size=shape)
    weights = _weights(shape[0], shape[1] + (form == "slack"))
    _, gradient = run(tf.constant(logits), iterations, weights)

    def loss(logits):
        return np.sum(weights * run(tf.constant(logits), iterations, weights)[0])

    differences = np.zeros(shape)
    for index in np.ndindex(shape):
        step = np.zeros(shape)
        step[index] = 1e-5
        differences[index] = (loss(logits + step) - loss(logits - step)) / 2e-5
    assert np.abs(differences).max() > 1e-2
    np.testing.assert_allclose(gradient, differences, rtol=0.0, atol=1e-8)


@pytest.mark.parametrize("form", ["slack", "full"])
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_eager_graph_and_xla_agree(form, dtype):
    function, shape = (slack_sinkhorn, (64, 16)) if form == "slack" else (sinkhorn, (64, 64))
    logits = tf.constant(3.0 * np.random.default_rng(0).normal(size=shape), dtype)
    weights = tf.cast(_weights(64, 17 if form == "slack" else 64), dtype)
    graph, eager = _with_gradient(function)
    compiled, _ = _with_gradient(function, jit_compile=True)
    expected = graph(logits, 10, weights)
    tolerance = 1e-5 if dtype == tf.float32 else 1e-12
    for run in (eager, compiled):
        actual = run(logits, 10, weights)
        assert actual[0].dtype == actual[1].dtype == dtype
        _agree(actual, expected, tolerance)


@pytest.mark.parametrize("rows, columns", [(512, 8), (512, 32), (512, 256), (256, 32), (256, 128)])
@pytest.mark.parametrize(
    "noise, tolerance", [("none", 1e-4), ("uniform", 0.02), ("normal", 0.02), ("gumbel", 0.15)]
)
def test_column_sums_in_the_range_of_the_defaults(rows, columns, noise, tolerance):
    """Permutation's boost for the start, its iterations, and changes of up to the boost."""
    defaults = Permutation().get_config()
    boost = defaults["boost"] / defaults["temperature"]
    rng = np.random.default_rng(columns)
    for _ in range(3):
        logits = {
            "none": np.zeros((rows, columns)),
            "uniform": rng.uniform(-boost, boost, (rows, columns)),
            "normal": rng.normal(size=(rows, columns)),
            "gumbel": rng.gumbel(size=(rows, columns)),
        }[noise]
        logits[rng.permutation(rows)[:columns], np.arange(columns)] += boost
        plan = slack_sinkhorn(tf.constant(logits, tf.float32), defaults["iterations"])
        sums = tf.reduce_sum(tf.cast(plan, tf.float64), axis=0).numpy()
        np.testing.assert_allclose(sums[:-1], 1.0, rtol=0.0, atol=tolerance)
        np.testing.assert_allclose(sums[-1], rows - columns, rtol=min(tolerance, 1e-3))


@pytest.mark.parametrize("iterations", [1, 3])
def test_three_rows_in_plain_numbers(iterations):
    """The definition on the matrix itself; two columns select nothing."""
    matrix = np.array([[3.0, 1.0, 1.0], [1.0, 1.0, 1.0], [0.5, 1.0, 1.0]])
    logits = tf.constant(np.log(matrix))
    plan = matrix
    for _ in range(iterations):
        plan = plan / plan.sum(axis=0)
        plan = plan / plan.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(sinkhorn(logits, iterations), plan, rtol=1e-12)
    merged = np.stack([plan[:, 0], plan[:, 1] + plan[:, 2]], axis=1)
    np.testing.assert_allclose(slack_sinkhorn(logits[:, :1], iterations), merged, rtol=1e-12)


@pytest.mark.parametrize("iterations", [0, -1, 2.0, "3"])
@pytest.mark.parametrize("operator", [sinkhorn, slack_sinkhorn])
def test_wrong_iterations_are_named(operator, iterations):
    logits = tf.zeros((4, 4 if operator is sinkhorn else 2))
    with pytest.raises(
        ValueError, match=f"`iterations` must be an integer.*iterations={iterations!r}"
    ):
        operator(logits, iterations)


def test_the_slack_form_names_its_limits():
    with pytest.raises(ValueError, match="from 1 to 40.*iterations=41"):
        slack_sinkhorn(tf.zeros((4, 2)), 41)
    with pytest.raises(ValueError, match="fewer columns than rows.*4, 4"):
        slack_sinkhorn(tf.zeros((4, 4)), 10)
