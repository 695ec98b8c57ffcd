"""Rounding a relaxed selection to distinct codewords by linear assignment."""

import numpy as np
import tensorflow as tf

__all__ = ["assign"]

# For scores scaled to [0, 1]: what each bid adds, and the most that breaking ties adds.
# Far above the resolution of float64 (2^-52), far below that of float32 scores (2^-24).
_EPSILON = 2.0**-41


def assign(scores: tf.Tensor, max_rounds: int = 32) -> tf.Tensor:
    """Gives each column a row of its own such that the sum of their scores is greatest.

    The sum is within n · 2^-40 · (max(scores) - min(scores)) of the greatest one, less
    than float32 scores resolve, and the greatest one up to rounding where the columns'
    best rows all differ. If several are that good, one of them comes, always the same
    for the same `scores` and `max_rounds`.

    That the best rows all differ is the common case and costs one argmax. Otherwise the
    columns hold an auction for the rows: in each round all columns without a row bid
    for their best one, as far above its price as it beats their second best, plus
    ε = 2^-41 of the range of `scores`. Ties are broken by less than another ε. If it
    becomes a price war (more columns than good rows), shortest augmenting paths take
    over and end it in at most n phases. All of this is TensorFlow ops on static shapes:
    it runs in `tf.function`, with `jit_compile=True` and in `tf.cond`. No gradient
    flows.

    Example:
        ```python
        scores = tf.constant([[0.9, 0.8], [0.7, 0.1], [0.0, 0.3]])
        assign(scores)  # [1, 0]: 0.7 + 0.8 beats 0.9 + 0.3
        ```

    Arguments:
        scores: float32 or float64 tensor of static shape `(N, n)`, 1 ≤ n ≤ N: what
            column j gains from row i. Finite. In a graph, where this cannot be checked,
            other scores still give n different rows, but not a meaningful choice.
        max_rounds: rounds of the auction before the paths take over, 0 or more. It sets
            the time taken, not the quality.

    Returns:
        int32 tensor of shape `(n,)`: the row of each column, all different.

    Raises:
        ValueError: If `scores` has another dtype, no static shape, more columns than
            rows, or (run eagerly) a value that is not finite; if `max_rounds` is not an
            integer of 0 or more.

    References:
        - Bertsekas and Castañon, A forward/reverse auction algorithm for asymmetric
          assignment problems, Computational Optimization and Applications 1, 1992
        - [A shortest augmenting path algorithm for dense and sparse linear assignment
          problems](https://doi.org/10.1007/BF02278710)
    """
    # Keeps an eager tape from recording the loops.
    scores = tf.stop_gradient(tf.convert_to_tensor(scores))
    _validate(scores, max_rounds)
    favourites = tf.argmax(scores, axis=0, output_type=tf.int32)

    def contested() -> tf.Tensor:
        values = _break_ties(_unit_range(scores))
        rows, prices = _auction(values, max_rounds)
        return _augment(values, rows, prices)

    distinct = tf.reduce_all(_holds(favourites, scores.shape[0]))
    return tf.cond(distinct, lambda: favourites, contested)


def _validate(scores: tf.Tensor, max_rounds: int) -> None:
    if scores.dtype not in (tf.float32, tf.float64):
        raise ValueError(
            "`scores` must be float32 or float64, so that close scores stay apart. "
            f"Received: dtype={scores.dtype.name}. Cast them first."
        )
    if not scores.shape.is_fully_defined() or scores.shape.rank != 2:
        raise ValueError(
            "`scores` must have a static shape (N, n). "
            f"Received: shape={scores.shape}. Set it with `tf.ensure_shape`."
        )
    if not 1 <= scores.shape[1] <= scores.shape[0]:
        raise ValueError(
            "`scores` must have at least one column and no more columns than rows, as "
            f"each column gets a row of its own. Received: shape={scores.shape}. "
            "Transpose it if the rows are what needs assigning."
        )
    if not isinstance(max_rounds, int) or max_rounds < 0:
        raise ValueError(
            "`max_rounds` must be an integer of 0 or more. "
            f"Received: max_rounds={max_rounds!r}. Use 0 to skip the auction."
        )
    if tf.executing_eagerly() and not tf.reduce_all(tf.math.is_finite(scores)):
        raise ValueError(
            "`scores` must be finite. Received: NaN or infinity. Give a forbidden pair "
            "a low finite score, and look for NaN where the scores are computed."
        )


def _unit_range(scores: tf.Tensor) -> tf.Tensor:
    """Shifts and scales to [0, 1] in float64; what is not finite then becomes 0."""
    values = tf.cast(scores, tf.float64)
    values -= tf.reduce_min(values)
    values = tf.math.divide_no_nan(values, tf.reduce_max(values))
    return tf.where(tf.math.is_finite(values), values, tf.zeros_like(values))


def _holds(rows: tf.Tensor, num_rows: int) -> tf.Tensor:
    """True for one column among those with the same row, the last; False for row -1."""
    columns = tf.range(rows.shape[0])
    last = tf.math.unsorted_segment_max(columns, rows, num_rows)
    return (rows >= 0) & (tf.gather(last, tf.maximum(rows, 0)) == columns)


def _break_ties(values: tf.Tensor) -> tf.Tensor:
    """Adds less than epsilon, so that equal rows look different to each column.

    Without it the columns would bid for the same one of n equal rows, round by round.
    """
    num_rows, n = values.shape
    # The golden ratio's multiples spread any run of neighbouring rows evenly, and equal
    # steps from column to column then lead to different rows of it.
    order = np.argsort(np.argsort(np.arange(num_rows) * (5**0.5 - 1) / 2 % 1))
    steps = np.arange(n) * num_rows // n
    rank = tf.constant(order, tf.float64)[:, None] + tf.constant(steps, tf.float64)
    rank -= tf.where(rank < num_rows, tf.zeros_like(rank), num_rows)
    return values + rank * (_EPSILON / num_rows)


def _auction(values: tf.Tensor, max_rounds: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Forward auction: the row of each column, or -1, and the price of each row.

    Prices start at zero and only a sold row has another: where rows stay unsold, that
    is what makes the outcome optimal.
    """
    num_rows, n = values.shape
    columns = tf.range(n)
    nothing = tf.fill([n], tf.constant(-np.inf, tf.float64))

    def bid_at_once(rows: tf.Tensor, prices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        net = values - prices[:, None]
        wanted = tf.argmax(net, axis=0, output_type=tf.int32)
        pairs = tf.stack([wanted, columns], axis=1)
        # Not `top_k`, which takes milliseconds on XLA's CPU backend.
        others = tf.tensor_scatter_nd_update(net, pairs, nothing)
        bids = tf.gather_nd(values, pairs) - tf.reduce_max(others, axis=0) + _EPSILON
        bids = tf.where(rows < 0, bids, nothing)

        offers = tf.math.unsorted_segment_max(bids, wanted, num_rows)
        leads = (rows < 0) & (bids == tf.gather(offers, wanted))
        wins = _holds(tf.where(leads, wanted, -1), num_rows)
        # A bid always exceeds the price, so whoever held that row has lost it.
        held = tf.maximum(rows, 0)
        outbid = tf.gather(offers, held) > tf.gather(prices, held)
        rows = tf.where(wins, wanted, tf.where(outbid, -1, rows))
        return rows, tf.maximum(prices, offers)

    return tf.while_loop(
        lambda rows, prices: tf.reduce_any(rows < 0),
        bid_at_once,
        (tf.fill([n], -1), tf.zeros([num_rows], tf.float64)),
        maximum_iterations=max_rounds,
    )


def _augment(values: tf.Tensor, rows: tf.Tensor, prices: tf.Tensor) -> tf.Tensor:
    """Gives the columns that have no row (-1) one, by one shortest path after another.

    It takes over an auction at any moment, as it keeps what the auction keeps: a column
    gains, net of the price, at most epsilon more elsewhere than at its own row, and
    free rows cost nothing. Once all columns have a row, this bounds the loss.
    """
    num_rows, n = values.shape
    columns = tf.range(n)

    def add_column(rows: tf.Tensor, prices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        net = values - prices[:, None]
        waiting = rows < 0
        own = tf.gather_nd(net, tf.stack([tf.maximum(rows, 0), columns], axis=1))
        own = tf.where(waiting, tf.reduce_max(net, axis=0), own)
        losses = tf.maximum(own - net, 0.0)
        taken = tf.math.unsorted_segment_max(tf.ones_like(rows), rows, num_rows) > 0
        distances, via = _shortest_paths(losses, rows, taken)

        free = tf.where(taken, tf.constant(np.inf, tf.float64), distances)
        goal = tf.argmin(free, output_type=tf.int32)
        prices += tf.maximum(tf.gather(free, goal) - distances, 0.0)

        # Back along the path, each column moves on to the row that it led to.
        def move(row: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            column = tf.gather(via, row)
            moved = tf.tensor_scatter_nd_update(rows, [[column]], [row])
            return tf.gather(rows, column), moved

        _, rows = tf.while_loop(
            lambda row, rows: row >= 0, move, (goal, rows), maximum_iterations=n
        )
        return rows, prices

    rows, _ = tf.while_loop(
        lambda rows, prices: tf.reduce_any(rows < 0),
        add_column,
        (rows, prices),
        maximum_iterations=n,
    )
    return rows


def _shortest_paths(
    losses: tf.Tensor, rows: tf.Tensor, taken: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Distance of each row from the waiting columns, and the last column before it.

    A column leads to every row at its loss, a taken row leads on to its column at none.
    Bellman-Ford from all waiting columns at once: a few passes over the matrix where
    Dijkstra's method takes many small steps. Distances are right up to the nearest free
    row; those beyond it are upper bounds.
    """
    num_rows, n = losses.shape
    waiting = rows < 0
    infinity = tf.constant(np.inf, tf.float64)

    def relax(starts, distances, via, _):
        through = starts + losses
        shortest = tf.reduce_min(through, axis=1)
        # Strictly shorter, or `via` could run in a circle of zero losses.
        shorter = shortest < distances
        via = tf.where(shorter, tf.argmin(through, axis=1, output_type=tf.int32), via)
        distances = tf.minimum(distances, shortest)
        starts = tf.where(waiting, starts, tf.gather(distances, tf.maximum(rows, 0)))
        nearest = tf.reduce_min(tf.where(taken, infinity, distances))
        unsettled = tf.reduce_any(shorter & taken & (distances < nearest))
        return starts, distances, via, unsettled

    _, distances, via, _ = tf.while_loop(
        lambda starts, distances, via, unsettled: unsettled,
        relax,
        (
            tf.where(waiting, tf.zeros_like(infinity), infinity),
            tf.fill([num_rows], infinity),
            tf.fill([num_rows], -1),
            tf.constant(True),
        ),
        maximum_iterations=n + 1,
    )
    return distances, via
