"""The permutation straight-through estimator: a hard choice of codewords with a soft gradient."""

from __future__ import annotations

import tensorflow as tf

from larq_sks import assignment
from larq_sks.sinkhorn import sinkhorn, slack_sinkhorn


def relax(logits: tf.Tensor, iterations: int) -> tf.Tensor:
    """Relaxes a choice of rows to a doubly stochastic plan.

    Example:
        ```python
        plan = relax(logits / temperature, iterations=20)  # (512, 32) -> (512, 33)
        ```

    Arguments:
        logits: A float tensor of shape `(N, n)`, already divided by the temperature: the slack form
            for n < N, the full permutation for n = N.
        iterations: Number of Sinkhorn iterations, 1 or more (at most 40 in the slack form).

    Returns:
        The plan: `(N, n + 1)` with the slack column last, or `(N, N)` for the full permutation.
    """
    rows, columns = logits.shape
    return sinkhorn(logits, iterations) if rows == columns else slack_sinkhorn(logits, iterations)


def harden(plan: tf.Tensor, num_codewords: int) -> tf.Tensor:
    """Rounds a plan to the nearest permutation and returns the rows that its first columns select.

    In the slack form the share of the slack column is subtracted row by row: the N×N assignment also
    scores the rows that are left out, and each of them counts `slack / (N - n)`.

    Example:
        ```python
        indices = harden(plan, 32)  # 32 different integers from 0 to 511
        ```

    Arguments:
        plan: A plan from `relax`.
        num_codewords: Number n of rows to select.

    Returns:
        An int32 tensor of shape `(n,)` with n different rows; no gradient flows through it.
    """
    rows, columns = plan.shape
    if columns == rows:  # a full permutation, or a slack column that is one column
        scores = plan
    else:
        scores = plan[:, :num_codewords] - plan[:, num_codewords:] / (rows - num_codewords)
    return assignment.assign(scores)[:num_codewords]


@tf.custom_gradient
def straight_through(plan: tf.Tensor, indices: tf.Tensor, patterns: tf.Tensor) -> tf.Tensor:
    """Selects rows of the codebook, with the gradient that the relaxed plan would have had.

    Forward, codeword j is `patterns[indices[j]]`, which is P_h^T B with the hard permutation P_h.
    Backward, the gradient with respect to P_h is handed to the plan P_s as it is:
    dL/dP_s[i, j] = <B_i, dL/du_j>; columns that select nothing have none.

    Example:
        ```python
        plan = relax(logits / temperature, iterations=20)
        codewords = straight_through(plan, harden(plan, 32), patterns)
        ```

    Arguments:
        plan: A plan from `relax`, `(N, n + 1)` or `(N, N)`.
        indices: The n selected rows, int32 `(n,)`.
        patterns: The codebook, `(N, block_size)`, a constant.

    Returns:
        The selected codewords, `(n, block_size)` in the dtype of `patterns`.

    References:
        - [Compacting Binary Neural Networks by Sparse Kernel Selection](https://arxiv.org/abs/2303.14470)
        - [Estimating or Propagating Gradients Through Stochastic Neurons](https://arxiv.org/abs/1308.3432),
          the straight-through estimator
    """

    def backward(gradient):
        unselected = plan.shape[1] - indices.shape[0]
        selected = tf.matmul(patterns, gradient, transpose_b=True)
        return tf.pad(tf.cast(selected, plan.dtype), [[0, 0], [0, unselected]]), None, None

    return tf.gather(patterns, indices), backward


def choose(
    logits: tf.Tensor,
    noise: tf.Tensor,
    seed: tf.Tensor,
    patterns: tf.Tensor,
    iterations: int,
    count: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Chooses codewords for a training step, and those to store for inference.

    The gradient relaxes the logits a second time instead of keeping what the first time left: Sinkhorn is
    cheap, and a network of many layers then needs neither the memory nor a graph for it in each.

    Example:
        ```python
        codewords, stored = choose(logits / temperature, 0.0, [7, step], patterns, 20, 32)
        ```

    Arguments:
        logits: A float tensor of shape `(N, n)` or `(N, N)`, already divided by the temperature.
        noise: Size of the Gumbel noise, 0 or more, already divided by the temperature.
        seed: Two integers that decide the noise: the same two, the same noise.
        patterns: The codebook, `(N, block_size)`.
        iterations: Number of Sinkhorn iterations, 1 or more (at most 40 in the slack form).
        count: Number n of codewords.

    Returns:
        The codewords of this step `(n, block_size)`, through which gradients reach the logits, and the
            rows of the codebook that the logits select without noise, int32 `(n,)`.
    """
    noise = tf.convert_to_tensor(noise, logits.dtype)
    seed, patterns = tf.convert_to_tensor(seed), tf.convert_to_tensor(patterns)

    @tf.custom_gradient
    def chosen(logits):
        used, stored = _round(logits, noise, seed, iterations, count)

        def backward(gradient, _):
            return _pull_back(gradient, logits, noise, seed, used, patterns, iterations)

        return (tf.gather(patterns, used), stored), backward

    return chosen(logits)


# Functions of the graph, so that all layers whose logits have one shape share a trace.
@tf.function(autograph=False, experimental_attributes={"_noinline": True})
def _round(logits, noise, seed, iterations, count):
    """Returns the rows selected with noise, and those selected without."""

    def rows(logits):
        return harden(relax(logits, iterations), count)

    used = rows(_perturb(logits, noise, seed))
    return used, tf.cond(noise > 0.0, lambda: rows(logits), lambda: used)


@tf.function(autograph=False, experimental_attributes={"_noinline": True})
def _pull_back(gradient, logits, noise, seed, used, patterns, iterations):
    """Returns the gradient with respect to the logits, given that of the codewords."""
    perturbed = _perturb(logits, noise, seed)
    with tf.GradientTape() as tape:
        tape.watch(perturbed)
        codewords = straight_through(relax(perturbed, iterations), used, patterns)
    return tape.gradient(codewords, perturbed, output_gradients=gradient)


def _perturb(logits, noise, seed):
    """Adds Gumbel noise, a function of the seed alone."""

    def draw():
        # Integers, since compiled code turns the same bits into other floats, and Philox by name, since
        # the default depends on the device. 23 bits and a half stay clear of 0 and 1 in float32.
        bits = tf.random.stateless_uniform(
            logits.shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
        )
        uniform = (tf.cast(tf.bitwise.right_shift(bits, 9), logits.dtype) + 0.5) / 2**23
        return logits - noise * tf.math.log(-tf.math.log(uniform))

    return tf.cond(noise > 0.0, draw, lambda: logits)
