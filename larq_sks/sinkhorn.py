"""The Sinkhorn operator: from logits to a doubly stochastic matrix, the relaxation of a permutation."""

from __future__ import annotations

import math

import tensorflow as tf

MAX_ITERATIONS = 40
"""The most iterations of `slack_sinkhorn`, whose documentation gives the reason."""


def sinkhorn(logits: tf.Tensor, iterations: int) -> tf.Tensor:
    """Scales the exponential of a square matrix until it is nearly doubly stochastic.

    Columns and rows are normalised in turn, columns first, in the log domain, so that the result is
    finite for logits of any finite size. Rows sum to 1 exactly (to rounding); columns do as well as
    the iterations allow. This is the reference for `slack_sinkhorn`, which does the same at 1/16 of
    the work for n = 32 of 512.

    Example:
        ```python
        plan = sinkhorn(tf.random.normal((512, 512)), iterations=20)
        ```

    Arguments:
        logits: A float tensor of shape `(N, N)`, already divided by the temperature.
        iterations: Number of column and row normalisations, 1 or more.

    Returns:
        A tensor of shape `(N, N)` and the dtype of `logits` with values from 0 to 1.

    Raises:
        ValueError: If `iterations` is out of range.

    References:
        - [Learning Latent Permutations with Gumbel-Sinkhorn Networks](https://arxiv.org/abs/1802.08665),
          section 2
    """
    _check_iterations(iterations)
    for _ in range(iterations):
        logits -= tf.reduce_logsumexp(logits, axis=0, keepdims=True)
        logits -= tf.reduce_logsumexp(logits, axis=1, keepdims=True)
    return tf.exp(logits)


def slack_sinkhorn(logits: tf.Tensor, iterations: int) -> tf.Tensor:
    """Scales the exponential of a matrix whose unselected columns are merged into one slack column.

    The N - n columns of a permutation that select nothing are interchangeable. With equal logits
    (0 here; any other number gives the same plan) they stay equal through all iterations of
    `sinkhorn`, so one column of mass N - n stands for all of them.

    The iterations scale rows and columns of `exp(logits)` in float64, after each column's largest
    logit has been subtracted, which the first column normalisation undoes. A step is then a product
    of matrix and vector instead of a logsumexp of the whole matrix, and yet the result is that of the
    log domain for logits of any finite size: an iteration raises a column's scale at most by the
    factor n + 1 and a row's at most by N / (N - n), so that after 40 iterations an entry which
    underflowed (below 1e-308) could not have reached 1e-42, and nothing overflows, for every N·n up
    to 2^22. No row is ever empty, because the slack column is not.

    Example:
        ```python
        plan = slack_sinkhorn(tf.random.normal((512, 32)), iterations=20)
        plan.shape  # (512, 33)
        ```

    Arguments:
        logits: A float tensor of shape `(N, n)` with 1 ≤ n < N and N·n ≤ 2^22, already divided by
            the temperature.
        iterations: Number of column and row normalisations, from 1 to 40.

    Returns:
        A tensor of shape `(N, n + 1)` and the dtype of `logits`, the slack column last. Rows sum to
            1, columns nearly to 1 and the slack column nearly to N - n.

    Raises:
        ValueError: If `iterations` is out of range or the matrix has no fewer columns than rows.

    References:
        - [Learning Latent Permutations with Gumbel-Sinkhorn Networks](https://arxiv.org/abs/1802.08665)
        - [Scaling Algorithms for Unbalanced Transport Problems](https://arxiv.org/abs/1607.05816), on
          when scaling needs the log domain
    """
    _check_iterations(iterations, MAX_ITERATIONS)
    rows, columns = logits.shape
    if not 1 <= columns < rows:
        raise ValueError(
            "`logits` must have fewer columns than rows, or there is no slack. "
            f"Received: shape={tuple(logits.shape)}. Use `sinkhorn` for a square matrix."
        )
    mass = tf.constant([1.0] * columns + [float(rows - columns)], tf.float64)
    slack = tf.zeros((rows, 1), tf.float64)

    @tf.custom_gradient
    def scale(logits):
        exponents = tf.concat([tf.cast(logits, tf.float64), slack], axis=1)
        kernel = tf.exp(exponents - tf.reduce_max(exponents, axis=0))
        row_scale = tf.ones(rows, tf.float64)
        steps = []
        for _ in range(iterations):
            before = row_scale
            column_scale = mass / tf.linalg.matvec(kernel, row_scale, transpose_a=True)
            row_scale = 1.0 / tf.linalg.matvec(kernel, column_scale)
            steps.append((before, column_scale, row_scale))
        plan = row_scale[:, tf.newaxis] * kernel * column_scale

        def backward(gradient):
            """Reverses the iterations; each adds one outer product to the kernel's gradient."""
            scaled = tf.cast(gradient, tf.float64) * kernel
            row_gradient = tf.linalg.matvec(scaled, column_scale)
            column_gradient = tf.linalg.matvec(scaled, row_scale, transpose_a=True)
            left, right = [], []
            for before, column, after in reversed(steps):
                row_sum = -row_gradient * after**2
                column_gradient += tf.linalg.matvec(kernel, row_sum, transpose_a=True)
                column_sum = -column_gradient * column**2 / mass
                left += [row_sum, before]
                right += [column, column_sum]
                row_gradient = tf.linalg.matvec(kernel, column_sum)
                column_gradient = 0.0
            outer = tf.matmul(tf.stack(left, axis=1), tf.stack(right))
            # d exp(x) = exp(x) dx; the gradient of the subtracted maximum is zero, since the plan
            # does not depend on it.
            total = tf.cast(gradient, tf.float64) * plan + outer * kernel
            return tf.cast(total[:, :columns], logits.dtype)

        return tf.cast(plan, logits.dtype), backward

    return scale(logits)


def _check_iterations(iterations: int, largest: float = math.inf) -> None:
    if not isinstance(iterations, int) or not 1 <= iterations <= largest:
        allowed = "1 or more" if largest == math.inf else f"from 1 to {largest}"
        raise ValueError(
            f"`iterations` must be an integer, {allowed}. Received: iterations={iterations!r}."
        )
