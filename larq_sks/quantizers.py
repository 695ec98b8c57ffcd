"""A Larq kernel quantizer that rounds each block of weights to its nearest selected codeword."""

from __future__ import annotations

import math
from collections.abc import Sequence

import larq as lq
import numpy as np
import tensorflow as tf

from larq_sks import codebook, selections
from larq_sks._checks import check_indices, check_num_codewords, check_number

_MAX_SCORES = 2**22
"""The most scores of blocks against codewords that are held at a time: 16 MiB."""


def nearest(blocks: tf.Tensor, codewords: tf.Tensor) -> tf.Tensor:
    """Finds the codeword nearest to each block: the one with the largest inner product.

    Example:
        ```python
        nearest(tf.constant([[0.2], [-0.7]]), tf.constant([[1.0, 1.0], [1.0, -1.0]]))  # [1]
        ```

    Arguments:
        blocks: Latent weights as float32 `(block_size, number of blocks)`.
        codewords: Rows of -1 and +1 as float32 `(n, block_size)`.

    Returns:
        The row of each block's codeword, int32 `(number of blocks,)`; the first of equally near ones.
    """
    size, count = blocks.shape
    part = max(1, _MAX_SCORES // codewords.shape[0])

    def assign(columns):
        scores = tf.matmul(columns, codewords, transpose_a=True, transpose_b=True)
        return tf.argmax(scores, axis=1, output_type=tf.int32)

    if count <= part:
        return assign(blocks)
    parts = math.ceil(count / part)
    padded = tf.pad(blocks, [[0, 0], [0, parts * part - count]])
    padded = tf.transpose(tf.reshape(padded, (size, parts, part)), (1, 0, 2))
    rows = tf.map_fn(assign, padded, fn_output_signature=tf.int32, parallel_iterations=1)
    return tf.reshape(rows, (-1,))[:count]


def sparse_kernel_sign(
    kernel: tf.Tensor,
    codewords: tf.Tensor,
    codeword_shape: Sequence[int],
    clip_value: float | None = 1.0,
) -> tf.Tensor:
    r"""Replaces each block w of a kernel by its nearest codeword u_a, a = argmax_j <u_j, w>.

    Backward, the gradient passes straight through to latent weights of at most `clip_value`, and a
    codeword receives the sum of the gradients of all blocks that it stands for:
    dL/dw = dL/dŵ · [|w| ≤ clip_value], dL/du_j = Σ dL/dŵ over blocks with a = j.

    Example:
        ```python
        quantised = sparse_kernel_sign(kernel, codewords, (3, 3, 1, 1))
        ```

    Arguments:
        kernel: Latent weights, float32 of static shape.
        codewords: Rows of -1 and +1 as float32 `(n, block_size)`.
        codeword_shape: The block's size along each axis of the kernel.
        clip_value: Largest absolute latent weight that still learns, above 0; `None` for no limit.

    Returns:
        A tensor like `kernel` in which each block is one of the codewords.

    References:
        - [Compacting Binary Neural Networks by Sparse Kernel Selection](https://arxiv.org/abs/2303.14470)
        - [Binarized Neural Networks](https://arxiv.org/abs/1602.02830), for the clipped estimator
    """

    @tf.custom_gradient
    def quantise(kernel, codewords):
        assigned = nearest(codebook.to_blocks(kernel, codeword_shape), codewords)
        blocks = tf.transpose(tf.gather(codewords, assigned))

        def backward(gradient):
            gradient_rows = tf.transpose(codebook.to_blocks(gradient, codeword_shape))
            sums = tf.math.unsorted_segment_sum(gradient_rows, assigned, codewords.shape[0])
            if clip_value is not None:
                gradient = tf.where(tf.abs(kernel) <= clip_value, gradient, tf.zeros_like(gradient))
            return gradient, sums

        return codebook.from_blocks(blocks, kernel.shape, codeword_shape), backward

    return quantise(kernel, codewords)


@lq.utils.register_alias("sparse_kernel_sign")
@lq.utils.register_alias("SparseKernelSign")  # the name that Larq's layers look up in H5 files
@tf.keras.utils.register_keras_serializable(package="larq_sks")
class SparseKernelSign(lq.quantizers.Quantizer):
    r"""Binarises a kernel with n of the 2^K sign patterns of its blocks of K weights.

    Each block is replaced by its nearest selected codeword, so that a weight costs log2(n) / K bits:
    0.56 for 32 patterns of 3×3. With all 2^K patterns this is `ste_sign`, values and gradients. Latent
    weights learn by the clipped straight-through estimator; the selection learns as it says itself.

    One quantizer serves one kernel, as it holds that kernel's selection: two layers that share one
    cannot be loaded again. In a string
    (`kernel_quantizer="sparse_kernel_sign"`) it has its default arguments.

    Example:
        ```python
        lq.layers.QuantConv2D(
            64,
            3,
            input_quantizer="ste_sign",
            kernel_quantizer=sks.quantizers.SparseKernelSign(32),
            kernel_constraint="weight_clip",
        )
        ```

    Arguments:
        num_codewords: Number n of codewords, from 1 to 2^K.
        selection: Who chooses them: `"permutation"` (learned), `"fixed"` (a random subset), or an object
            from `larq_sks.selections`, which is copied.
        codeword_shape: The block's size along each axis of the kernel (the last may be left out), K ≤ 16
            weights in all. `None`: one codeword for each 3×3 slice; in kernels of another size one for
            each 8 weights along the last axis but one, the input channels of a convolution.
        clip_value: Largest absolute latent weight that still learns, above 0; `None` for no limit.
        scale: Whether each channel along the kernel's last axis has a trainable multiplier, which
            starts at 1 and multiplies the codewords: what `larq_sks.sparsify` makes of kernels with a
            scale, such as those of `magnitude_aware_sign`.

    Raises:
        ValueError: If an argument is out of range, or (when built) does not fit the kernel; if a second
            kernel of another shape is given to it.

    References:
        - [Compacting Binary Neural Networks by Sparse Kernel Selection](https://arxiv.org/abs/2303.14470)
    """

    precision = 1

    def __init__(
        self,
        num_codewords: int = 32,
        selection="permutation",
        codeword_shape: Sequence[int] | None = None,
        clip_value: float | None = 1.0,
        scale: bool = False,
        **kwargs,
    ):
        # Near-ties between codewords need float32; Keras must not cast the kernel before.
        kwargs["dtype"] = "float32"
        super().__init__(autocast=False, **kwargs)
        self.num_codewords = check_num_codewords(num_codewords)
        self.selection = selections.get(selection)
        # What is no shape at all is refused with the others, once the kernel is known.
        self.codeword_shape = (
            tuple(codeword_shape) if np.iterable(codeword_shape) else codeword_shape
        )
        if clip_value is not None:
            clip_value = check_number("clip_value", clip_value, positive=True)
        self.clip_value = clip_value
        self.scale = bool(scale)

    def build(self, kernel_shape) -> None:
        self.kernel_shape = tuple(kernel_shape)
        shape = self.codeword_shape
        if shape is None:
            shape = codebook.default_codeword_shape(self.kernel_shape)
        self.block_shape = codebook.check_codeword_shape(shape, self.kernel_shape)
        block_size = math.prod(self.block_shape)
        check_num_codewords(self.num_codewords, block_size)
        self.uses_selection = self.num_codewords < 2**block_size
        if self.uses_selection:
            with tf.name_scope(self.selection.name):
                self.selection.build((self.num_codewords, block_size))
        else:  # nothing to select, but what was asked for must make sense
            start = self.selection.start_indices(2**block_size, self.num_codewords)
            check_indices(start, 2**block_size, self.num_codewords)
        if self.scale:
            self.multiplier = self.add_weight(
                name="multiplier", shape=self.kernel_shape[-1:], initializer="ones"
            )
        super().build(kernel_shape)

    def call(self, kernel, training=None):
        if tuple(kernel.shape) != self.kernel_shape:
            raise ValueError(
                f"A `SparseKernelSign` quantises one kernel, here of shape {self.kernel_shape}. "
                f"Received: a kernel of shape {tuple(kernel.shape)}. Give each layer its own quantizer."
            )
        signs = self.signs(kernel, training)
        return signs * tf.cast(self.multiplier, signs.dtype) if self.scale else signs

    def signs(self, kernel: tf.Tensor, training=None) -> tf.Tensor:
        """Quantises a kernel to codewords without their multiplier: -1 and +1, in the kernel's dtype."""
        if not self.uses_selection:
            return lq.quantizers.ste_sign(kernel, clip_value=self.clip_value)
        latent = tf.cast(kernel, tf.float32)
        codewords = self.selection.codewords(training)

        def compact():
            return sparse_kernel_sign(latent, codewords, self.block_shape, self.clip_value)

        def plain():
            return lq.quantizers.ste_sign(latent, clip_value=self.clip_value)

        whole = self.selection.whole()
        quantised = compact() if whole is False else tf.cond(whole, plain, compact)
        return tf.cast(quantised, kernel.dtype)

    def selected(self) -> np.ndarray:
        """Returns the codewords that the kernel may use in inference, different integers as int32 `(n,)`."""
        if not self.uses_selection or bool(self.selection.whole()):
            return np.arange(2 ** math.prod(self.block_shape), dtype=np.int32)
        return self.selection.indices

    def get_config(self):
        return {
            **super().get_config(),
            "num_codewords": self.num_codewords,
            "selection": selections.serialize(self.selection),
            "codeword_shape": self.codeword_shape,
            "clip_value": self.clip_value,
            "scale": self.scale,
        }
