import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment

from larq_sks import assignment
from larq_sks.assignment import assign

GRAPH = tf.function(assign)
COMPILED = tf.function(assign, jit_compile=True)
# Few shapes, so that each is traced once for the whole file.
SHAPES = [(1, 1), (7, 1), (6, 5), (12, 12), (64, 16)]
# The auction as it is used, cut off at once, and the augmenting paths alone.
ROUNDS = [32, 1, 0]


def _cases() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    uniform = rng.random((64, 16))
    good = np.arange(64)[:, None] < 15
    own = np.zeros((64, 16))
    own[rng.permutation(64)[:16], np.arange(16)] = 1.0
    cases = {
        "random": uniform,
        "distinct favourites": 0.5 * uniform + own,
        "negative": -1.0 - uniform,
        "constant": np.full((64, 16), 0.3),
        "all zero": np.zeros((64, 16)),
        "few values": rng.integers(0, 3, (64, 16)),
        "equal rows": np.repeat(rng.random((1, 16)), 64, axis=0),
        "equal columns": np.repeat(rng.random((64, 1)), 16, axis=1),
        "pairs of equal columns": np.repeat(rng.random((64, 8)), 2, axis=1),
        "price war": np.where(good, 1.0 - 0.2 * uniform, 0.1 * uniform),
        "flat price war": np.where(good, 1.0, 0.0) * np.ones((1, 16)),
        "products": np.outer(np.arange(64), np.arange(16)),
        "low rank": rng.normal(size=(64, 2)) @ rng.normal(size=(2, 16)),
        "large offset": 1e4 + uniform,
        "tiny differences": 1.0 + 1e-6 * uniform,
        "one outlier": np.where(uniform == uniform.max(), 1e6, uniform),
        "square": rng.normal(size=(12, 12)),
        "square products": np.outer(np.arange(12), np.arange(12)),
        "square constant": np.ones((12, 12)),
        "square, few values": rng.integers(0, 2, (12, 12)),
        "one column": rng.random((7, 1)),
        "single score": np.ones((1, 1)),
    }
    cases = {name: scores.astype(np.float32) for name, scores in cases.items()}
    # Differences near the promised tolerance, where breaking ties may decide.
    cases["float64, near ties"] = 1.0 * (uniform > 0.5) + 2.0**-42 * uniform
    cases["float64, large offset"] = 1e12 + uniform
    return cases


CASES = _cases()


def _assert_optimal(rows: tf.Tensor, scores: np.ndarray) -> None:
    rows, n = rows.numpy(), scores.shape[1]
    assert rows.dtype == np.int32 and rows.shape == (n,)
    assert len(set(rows.tolist())) == n
    # Scaled so that neither an offset nor the sum's own rounding hides a loss.
    scores = scores.astype(np.float64) - scores.min()
    best = scores[linear_sum_assignment(scores, maximize=True)].sum()
    loss = best - scores[rows, np.arange(n)].sum()
    assert loss <= n * 2.0**-40 * scores.max()


@pytest.mark.parametrize("max_rounds", ROUNDS)
@pytest.mark.parametrize("name", CASES)
def test_equals_scipy(name, max_rounds):
    _assert_optimal(GRAPH(tf.constant(CASES[name]), max_rounds), CASES[name])


@pytest.mark.parametrize("max_rounds", [32, 0])
@pytest.mark.parametrize("name", CASES)
def test_eager_graph_and_xla_agree(name, max_rounds):
    scores = tf.constant(CASES[name])
    graph = GRAPH(scores, max_rounds)
    np.testing.assert_array_equal(COMPILED(scores, max_rounds), graph)
    np.testing.assert_array_equal(assign(scores, max_rounds), graph)


@pytest.mark.parametrize("max_rounds", ROUNDS)
@pytest.mark.parametrize("shape", SHAPES[2:])
def test_columns_that_want_the_same_rows(shape, max_rounds):
    rng = np.random.default_rng(0)
    for _ in range(30):
        row, column = rng.normal(size=(shape[0], 1)), rng.normal(size=(1, shape[1]))
        scores = (row + column + 0.3 * rng.random(shape)).astype(np.float32)
        _assert_optimal(GRAPH(tf.constant(scores), max_rounds), scores)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data(), shape=st.sampled_from(SHAPES), rounds=st.sampled_from(ROUNDS))
def test_small_integers(data, shape, rounds):
    top = data.draw(st.sampled_from([1, 2, 5, 100]))
    scores = data.draw(arrays(np.float32, shape, elements=st.integers(-top, top)))
    _assert_optimal(GRAPH(tf.constant(scores), rounds), scores)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.data(), shape=st.sampled_from(SHAPES), rounds=st.sampled_from(ROUNDS))
def test_any_floats(data, shape, rounds):
    floats = st.floats(-(2.0**100), 2.0**100, width=32)
    scores = data.draw(arrays(np.float32, shape, elements=floats))
    _assert_optimal(GRAPH(tf.constant(scores), rounds), scores)


@pytest.mark.parametrize("n", [1, 16, 50, 64])
def test_equal_scores_need_one_round(n):
    values = assignment._break_ties(tf.zeros((64, n), tf.float64))
    rows, _ = assignment._auction(values, max_rounds=1)
    assert len(set(rows.numpy().tolist()) - {-1}) == n


def test_ties_in_one_run_of_rows_need_few_rounds():
    scores = np.zeros((512, 32))
    scores[100:140] = 1.0
    values = assignment._break_ties(tf.constant(scores))
    rows, _ = assignment._auction(values, max_rounds=4)
    assert set(rows.numpy().tolist()) <= set(range(100, 140))


def test_breaking_ties_adds_less_than_epsilon():
    added = assignment._break_ties(tf.zeros((50, 20), tf.float64)).numpy()
    assert added.min() >= 0.0 and added.max() < assignment._EPSILON


def test_example():
    scores = tf.constant([[0.9, 0.8], [0.7, 0.1], [0.0, 0.3]])
    assert assign(scores).numpy().tolist() == [1, 0]


def test_takes_numpy_and_lists():
    assert assign(np.eye(3)).numpy().tolist() == [0, 1, 2]
    assert assign([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).numpy().tolist() == [1, 2]


@pytest.mark.parametrize("jit_compile", [None, True])
def test_in_cond_and_with_gradients(jit_compile):
    @tf.function(jit_compile=jit_compile)
    def chosen_sum(scores, refresh):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            rows = tf.cond(refresh, lambda: assign(scores), lambda: tf.range(16))
            chosen = tf.gather_nd(scores, tf.stack([rows, tf.range(16)], axis=1))
            total = tf.reduce_sum(chosen)
        return rows, tape.gradient(total, scores)

    scores = CASES["price war"]
    for refresh, expected in [(True, GRAPH(scores)), (False, np.arange(16))]:
        rows, gradient = chosen_sum(tf.constant(scores), tf.constant(refresh))
        np.testing.assert_array_equal(rows, expected)
        # The scores' own gradient only: one at each chosen pair.
        np.testing.assert_array_equal(gradient, np.arange(64)[:, None] == np.asarray(expected))


def test_no_gradient():
    scores = tf.constant(CASES["price war"])
    with tf.GradientTape() as tape:
        tape.watch(scores)
        rows = tf.cast(assign(scores), tf.float32)
    assert tape.gradient(rows, scores) is None


def test_static_shape_and_one_trace():
    traces = []

    @tf.function
    def traced(scores):
        rows = assign(scores)
        traces.append(rows.shape)
        return rows

    for name in ("random", "price war", "constant"):
        traced(tf.constant(CASES[name]))
    assert traces == [tf.TensorShape([16])]


BAD = [np.nan, np.inf, -np.inf]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", ["random", "price war", "distinct favourites"])
@pytest.mark.parametrize("where", ["one", "row", "column", "half", "all"])
def test_not_finite_in_a_graph_still_gives_distinct_rows(bad, name, where):
    scores = CASES[name].copy()
    index = {
        "one": (3, 5),
        "row": 3,
        "column": (slice(None), 5),
        "half": np.random.default_rng(1).random(scores.shape) < 0.5,
        "all": slice(None),
    }[where]
    scores[index] = bad
    for run in (GRAPH, COMPILED):
        for max_rounds in (32, 0):
            rows = run(tf.constant(scores), max_rounds).numpy()
            assert len(set(rows.tolist())) == 16
            assert rows.min() >= 0 and rows.max() < 64


@pytest.mark.parametrize("bad", BAD)
def test_not_finite_eagerly_is_an_error(bad):
    scores = CASES["distinct favourites"].copy()
    scores[3, 5] = bad
    with pytest.raises(ValueError, match="`scores` must be finite.*NaN or infinity"):
        assign(scores)


@pytest.mark.parametrize(
    "scores, message",
    [
        (np.zeros((4, 2), np.float16), "must be float32 or float64.*dtype=float16"),
        (np.zeros((4, 2), np.int32), "must be float32 or float64.*dtype=int32"),
        (np.zeros(4), r"static shape \(N, n\).*shape=\(4,\)"),
        (np.zeros((2, 4, 2)), r"static shape \(N, n\).*shape=\(2, 4, 2\)"),
        (np.zeros((2, 4)), r"no more columns than rows.*shape=\(2, 4\).*Transpose"),
        (np.zeros((2, 0)), r"at least one column.*shape=\(2, 0\)"),
    ],
)
def test_bad_scores(scores, message):
    with pytest.raises(ValueError, match="`scores`.*" + message):
        assign(scores)


def test_shape_must_be_static():
    unknown = tf.TensorSpec([None, 2], tf.float32)
    with pytest.raises(ValueError, match=r"static shape.*\(None, 2\).*ensure_shape"):
        tf.function(assign).get_concrete_function(unknown)


@pytest.mark.parametrize("max_rounds", [-1, 1.5, None, "8"])
def test_bad_max_rounds(max_rounds):
    with pytest.raises(ValueError, match=f"`max_rounds` must.*{max_rounds!r}"):
        assign(np.eye(2), max_rounds)
