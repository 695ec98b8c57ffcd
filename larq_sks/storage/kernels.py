"""The binary kernels of a model as codewords and indices, and back as latent weights."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from larq_sks import codebook, quantizers
from larq_sks.layers import ROLES, kernel_name, sparse_kernels
from larq_sks.quantizers import SparseKernelSign

LATENT = 0.05
"""The size of all latent weights of a network that was stored without its own."""


@dataclass(frozen=True)
class Kernel:
    """A kernel with a quantizer."""

    name: str
    layer: tf.keras.layers.Layer
    role: str
    quantizer: Callable

    @property
    def variable(self):
        return getattr(self.layer, ROLES[self.role])

    def latent(self) -> np.ndarray:
        """Returns the latent weights in float32."""
        return np.asarray(self.variable.numpy(), np.float32)

    def seen(self) -> np.ndarray:
        """Returns them as the quantizer sees them: in mixed precision rounded to float16 before."""
        if self.layer.compute_dtype == "float32":
            return self.latent()
        return tf.cast(tf.cast(self.latent(), self.layer.compute_dtype), tf.float32).numpy()


@dataclass(frozen=True)
class Codes:
    """What is stored of a kernel: its codebook, and which codeword each block is."""

    shape: tuple[int, ...]
    block_shape: tuple[int, ...]
    codewords: np.ndarray
    """The codebook, int32 `(n,)`; the most used codeword first, or in order where it is whole."""
    indices: np.ndarray
    """Positions in the codebook, `(blocks over all axes but the last, blocks over the last)`."""


def block_counts(shape: Sequence[int], block_shape: Sequence[int]) -> tuple[int, int]:
    """Counts the blocks of a kernel over all axes but the last, and over the last."""
    counts = [size // part for size, part in zip(shape, block_shape, strict=True)]
    return math.prod(counts[:-1]), counts[-1]


def quantized_kernels(model: tf.keras.Model) -> list[Kernel]:
    """Lists the kernels of a model that have a quantizer, in the order of its layers."""
    sparse_kernels(model)  # refuses a quantizer that two layers share
    found = []
    names: Counter[str] = Counter()
    for layer in model._flatten_layers():
        for role, weight in ROLES.items():
            quantizer = getattr(layer, f"{role}_quantizer", None)
            if quantizer is None or not hasattr(layer, weight):
                continue
            name = kernel_name(layer, role, names)
            found.append(Kernel(name, layer, role, quantizer))
    return found


def encode(kernel: Kernel) -> Codes | None:
    """Finds the codewords of a kernel in inference.

    Returns:
        The codewords, or `None` if the quantizer gives something other than signs.

    Raises:
        ValueError: If a weight is no number, or the quantizer multiplies the signs by something that it
            computes from the latent weights.
    """
    latent = kernel.seen()
    quantizer = kernel.quantizer
    signs = latent
    if isinstance(quantizer, SparseKernelSign):
        if not np.isfinite(latent).all():
            raise ValueError(
                f"The weights of a kernel must be finite. Received: kernel '{kernel.name}' with others."
            )
        block_shape = quantizer.block_shape
        codewords = quantizer.selected()
        if len(codewords) < 2 ** math.prod(block_shape):
            return _ordered(latent, block_shape, codewords, quantizer)
    else:
        signs = np.asarray(quantizer(tf.constant(latent)))
        if not _is_sign(quantizer, signs):
            _refuse_scale(kernel, latent)
            return None
        try:
            block_shape = codebook.default_codeword_shape(latent.shape)
        except ValueError:
            block_shape = (1,) * latent.ndim
    codewords = np.arange(2 ** math.prod(block_shape), dtype=np.int32)
    indices = _signs_as_codewords(signs, block_shape)
    return Codes(
        latent.shape,
        block_shape,
        codewords,
        indices.reshape(block_counts(latent.shape, block_shape)),
    )


def _ordered(latent, block_shape, codewords, quantizer) -> Codes:
    """Finds the nearest codeword of each block, and orders the codebook by use."""
    blocks = codebook.to_blocks(tf.constant(latent), block_shape)
    assigned = quantizers.nearest(blocks, quantizer.selection.codewords(training=False)).numpy()
    counts = np.bincount(assigned, minlength=len(codewords))
    order = np.argsort(-counts, kind="stable")
    positions = np.empty(len(order), np.int32)
    positions[order] = np.arange(len(order), dtype=np.int32)
    indices = positions[assigned].reshape(block_counts(latent.shape, block_shape))
    return Codes(latent.shape, block_shape, codewords[order], indices)


def _signs_as_codewords(signs: np.ndarray, block_shape: Sequence[int]) -> np.ndarray:
    # As bytes, not as float32 blocks: an eighth of the memory of `codebook.to_codewords`.
    blocks = codebook.to_blocks(tf.constant((signs >= 0).astype(np.uint8)), block_shape).numpy()
    codewords = np.zeros(blocks.shape[1], np.int32)
    for place, bits in enumerate(blocks):
        codewords |= bits.astype(np.int32) << place
    return codewords


def _is_sign(quantizer, quantised: np.ndarray) -> bool:
    """Tells whether a quantizer gave signs, and gives the same for the latent weights of `decode`."""
    if not (np.abs(quantised) == 1).all():
        return False
    weights = np.float32(LATENT) * quantised.astype(np.float32)
    return np.array_equal(np.asarray(quantizer(tf.constant(weights))), quantised)


def _refuse_scale(kernel: Kernel, latent: np.ndarray) -> None:
    """Refuses a quantizer that scales the signs of any kernel, by a factor for each channel."""
    random = np.random.default_rng(0).standard_normal(latent.shape).astype(np.float32)
    for weights in (latent, random):
        quantised = np.asarray(kernel.quantizer(tf.constant(weights)))
        scale = np.abs(quantised).reshape(-1, quantised.shape[-1])
        signs = np.where(weights >= 0, 1, -1)
        if not (scale == scale[:1]).all() or not np.array_equal(np.sign(quantised), signs):
            return
    raise ValueError(
        "A kernel quantizer must not compute a multiplier from the latent weights, which are not stored. "
        f"Received: {_name(kernel.quantizer)} in layer '{kernel.layer.name}'. Make the multiplier a "
        f"weight, with equal outputs: `sks.sparsify(model, 512, where=['{kernel.layer.name}', …])`."
    )


def _name(quantizer) -> str:
    return getattr(quantizer, "__name__", type(quantizer).__name__)


def pack_codebook(codes: Codes) -> bytes:
    """Writes the codewords with as many bits as a block has weights; a whole codebook takes none."""
    size = math.prod(codes.block_shape)
    if len(codes.codewords) == 2**size:
        return b""
    bits = codes.codewords[:, np.newaxis] >> np.arange(size) & 1
    return np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little").tobytes()


def codebook_bytes(block_size: int, num_codewords: int) -> int:
    """Counts the bytes that `pack_codebook` writes."""
    return 0 if num_codewords == 2**block_size else -(-num_codewords * block_size // 8)


def unpack_codebook(data: np.ndarray, block_size: int, num_codewords: int) -> np.ndarray:
    """Reads what `pack_codebook` wrote.

    Raises:
        ValueError: If a codeword is there twice.
    """
    if num_codewords == 2**block_size:
        return np.arange(num_codewords, dtype=np.int32)
    bits = np.unpackbits(data, count=num_codewords * block_size, bitorder="little")
    codewords = bits.reshape(num_codewords, block_size) @ (1 << np.arange(block_size))
    if len(np.unique(codewords)) < num_codewords:
        raise ValueError("The codewords of a kernel must be different.")
    return codewords.astype(np.int32)


def decode(kernel: Kernel, codes: Codes) -> None:
    """Gives a kernel latent weights of equal size that quantise to the stored codewords."""
    _check(kernel, codes)
    size = math.prod(codes.block_shape)
    rows = np.float32(LATENT) * codebook.to_signs(codes.codewords, size).T
    blocks = tf.gather(rows, codes.indices.reshape(-1), axis=1)
    _assign(kernel, codebook.from_blocks(blocks, codes.shape, codes.block_shape))
    if isinstance(kernel.quantizer, SparseKernelSign) and kernel.quantizer.uses_selection:
        kernel.quantizer.selection._indices.assign(codes.codewords)


def restore(kernel: Kernel, codes: Codes, latent: np.ndarray) -> None:
    """Gives a kernel its own latent weights, of which rounding must not change the codewords.

    Rounded to float16, a small negative weight becomes 0, which counts as positive, and a block between
    two codewords may tip over. Such a block is moved towards its codeword until it is nearest again.
    """
    _check(kernel, codes)
    if not np.isfinite(latent).all():
        raise ValueError(f"The latent weights of kernel '{kernel.name}' must be finite.")
    _assign(kernel, tf.constant(latent.astype(np.float32)))
    wanted = codes.codewords[codes.indices.reshape(-1)]
    size = math.prod(codes.block_shape)
    step = float(np.finfo(np.float16).smallest_subnormal)
    while len(wrong := np.flatnonzero(_codewords(kernel, codes) != wanted)):
        blocks = codebook.to_blocks(tf.constant(kernel.latent()), codes.block_shape).numpy()
        blocks[:, wrong] += np.float32(step) * codebook.to_signs(wanted[wrong], size).T
        _assign(kernel, codebook.from_blocks(tf.constant(blocks), codes.shape, codes.block_shape))
        step *= 2.0
        if step > 2.0**17:  # above any float16
            raise ValueError(f"The codewords of kernel '{kernel.name}' are not those it may use.")


def _codewords(kernel: Kernel, codes: Codes) -> np.ndarray:
    """Returns the codeword of each block as the kernel quantises it now."""
    if isinstance(kernel.quantizer, SparseKernelSign):
        found = encode(kernel)
        assert found is not None
        return found.codewords[found.indices.reshape(-1)]
    signs = np.asarray(kernel.quantizer(tf.constant(kernel.seen())))
    return _signs_as_codewords(signs, codes.block_shape)


def _check(kernel: Kernel, codes: Codes) -> None:
    """Refuses codes of another kernel than that which the architecture made."""
    quantizer = kernel.quantizer
    problem = tuple(kernel.variable.shape) != codes.shape
    if isinstance(quantizer, SparseKernelSign):
        count = len(quantizer.selected())
        problem |= quantizer.block_shape != codes.block_shape or count != len(codes.codewords)
    else:
        problem |= len(codes.codewords) != 2 ** math.prod(codes.block_shape)
    if problem:
        raise ValueError(f"The stored kernel '{kernel.name}' is not that of the architecture.")


def _assign(kernel: Kernel, weights: tf.Tensor) -> None:
    kernel.variable.assign(tf.cast(weights, kernel.variable.dtype))
