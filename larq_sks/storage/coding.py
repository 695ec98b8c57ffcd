"""Codeword indices as bytes: packed at log2(n) bits each, or entropy-coded where that is shorter.

The entropy coder is a range coder. Indices into a whole codebook may be predicted from other channels: see
`prediction`. Otherwise the model of n symbols is learned on the way by both sides, so no
table of frequencies is stored: the estimate of Krichevsky and Trofimov, (count + 1/2) / (seen + n/2),
made anew whenever the number of indices seen has grown by a quarter.
"""

from __future__ import annotations

import math

import constriction
import numpy as np

from larq_sks.storage import prediction

MAX_BLOCKS_PER_BYTE = 32
"""The most indices in a byte. It bounds the memory that a small file can ask for, at 1/4 bit an index."""

_PACKED, _CODED, _PREDICTED_COLUMNS, _PREDICTED_ROWS = range(4)
_SHORTEST_RUN = 16
_MAX_PREDICTED = 1024
"""The most channels that are predicted: finding references takes time with the square of their number."""


def encode(indices: np.ndarray, num_symbols: int) -> bytes:
    """Writes indices as bytes, in the shortest of four ways.

    Example:
        ```python
        encode(np.array([[3, 0], [1, 3]]), 4)  # bytes([0, 211])
        ```

    Arguments:
        indices: Integers from 0 to `num_symbols - 1` as an array `(rows, columns)`: the blocks of a kernel
            over all its axes but the last, and over the last.
        num_symbols: Number n of different symbols, 1 to 2^16. With n = 2^K those of a whole codebook are
            the codewords themselves.

    Returns:
        A byte that names the way (0 packed, 1 entropy-coded, 2 predicted from other columns, 3 from other
            rows), then the indices, in 0 and 1 in row-major order.

    References:
        - [The performance of universal encoding](https://doi.org/10.1109/TIT.1981.1056331), for the
          estimate
    """
    flat = np.ascontiguousarray(indices, np.int32).reshape(-1)
    payloads = {_PACKED: _pack(flat, num_symbols)}
    if num_symbols > 1 and len(flat):
        payloads[_CODED] = _code(flat, num_symbols)
        payloads.update(_predict(np.asarray(indices), num_symbols))
    shortest = -(-len(flat) // MAX_BLOCKS_PER_BYTE)
    way, payload = min(payloads.items(), key=lambda item: max(len(item[1]), shortest))
    return bytes([way]) + payload.ljust(shortest, b"\0")


def decode(data: bytes, shape: tuple[int, int], num_symbols: int) -> np.ndarray:
    """Reads indices back from what `encode` made of them.

    Example:
        ```python
        decode(encode(indices, 32), indices.shape, 32)  # indices
        ```

    Arguments:
        data: The bytes.
        shape: Shape of the indices, `(rows, columns)`.
        num_symbols: Number n of different symbols, 1 to 2^16.

    Returns:
        An int32 array of the given shape, with values from 0 to `num_symbols - 1`.

    Raises:
        ValueError: If the bytes cannot be such indices. Bytes that were changed may as well decode to
            other indices: a checksum has to guard them.
    """
    count = math.prod(shape)
    way, payload = data[:1], data[1:]
    if count > len(payload) * MAX_BLOCKS_PER_BYTE:
        raise ValueError(
            f"{count} indices take at least {-(-count // MAX_BLOCKS_PER_BYTE)} bytes. "
            f"Received: {len(payload)} bytes."
        )
    if way == bytes([_PACKED]):
        flat = _unpack(payload, count, num_symbols)
    elif way == bytes([_CODED]) and num_symbols > 1 and count:
        flat = _uncode(payload, count, num_symbols)
    elif way == bytes([_PREDICTED_COLUMNS]) and _predictable(num_symbols) and count:
        return _unpredict(payload, shape, num_symbols)
    elif way == bytes([_PREDICTED_ROWS]) and _predictable(num_symbols) and count:
        return np.ascontiguousarray(_unpredict(payload, shape[::-1], num_symbols).T)
    else:
        raise ValueError(
            "Indices are packed (0), entropy-coded (1) or, with 2^K symbols, predicted (2, 3). "
            f"Received: way {list(way)} for {count} indices of {num_symbols} symbols."
        )
    if count and flat.max() >= num_symbols:
        raise ValueError(f"Indices must be below {num_symbols}. Received: {flat.max()}.")
    return flat.reshape(shape)


def _width(num_symbols: int) -> int:
    return (num_symbols - 1).bit_length()


def _pack(flat: np.ndarray, num_symbols: int) -> bytes:
    """Writes each index with the same number of bits, the least significant first."""
    bits = flat[:, np.newaxis] >> np.arange(_width(num_symbols)) & 1
    return np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little").tobytes()


def _unpack(payload: bytes, count: int, num_symbols: int) -> np.ndarray:
    width = _width(num_symbols)
    if len(payload) * 8 < count * width:
        raise ValueError(f"{count} indices of {width} bits do not fit into {len(payload)} bytes.")
    bits = np.unpackbits(np.frombuffer(payload, np.uint8), count=count * width, bitorder="little")
    return bits.reshape(count, width).astype(np.int32) @ (1 << np.arange(width, dtype=np.int32))


def _runs(count: int):
    """Cuts a sequence into runs that are each coded with one model."""
    begin = 0
    while begin < count:
        end = min(count, begin + max(_SHORTEST_RUN, begin // 4))
        yield begin, end
        begin = end


def _model(counts: np.ndarray):
    probabilities = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
    return constriction.stream.model.Categorical(probabilities, perfect=False)


def _code(flat: np.ndarray, num_symbols: int) -> bytes:
    encoder = constriction.stream.queue.RangeEncoder()
    counts = np.zeros(num_symbols, np.int64)
    for begin, end in _runs(len(flat)):
        encoder.encode(flat[begin:end], _model(counts))
        counts += np.bincount(flat[begin:end], minlength=num_symbols)
    return encoder.get_compressed().astype("<u4").tobytes()


def _uncode(payload: bytes, count: int, num_symbols: int) -> np.ndarray:
    words = np.frombuffer(payload[: len(payload) // 4 * 4], "<u4").astype(np.uint32)
    decoder = constriction.stream.queue.RangeDecoder(words)
    counts = np.zeros(num_symbols, np.int64)
    flat = np.empty(count, np.int32)
    for begin, end in _runs(count):
        try:
            flat[begin:end] = decoder.decode(_model(counts), end - begin)
        except AssertionError as error:  # how constriction says so
            raise ValueError("The entropy-coded indices are damaged.") from error
        counts += np.bincount(flat[begin:end], minlength=num_symbols)
    return flat


def _predictable(num_symbols: int) -> bool:
    return num_symbols > 1 and num_symbols & (num_symbols - 1) == 0


def _predict(indices: np.ndarray, num_symbols: int) -> dict[int, bytes]:
    """Codes with prediction along the axis that promises more, if either promises anything."""
    if not _predictable(num_symbols):
        return {}
    bits = indices[..., np.newaxis] >> np.arange(_width(num_symbols)) & 1
    columns = (2 * bits - 1).astype(np.int8)
    ways = {_PREDICTED_COLUMNS: columns, _PREDICTED_ROWS: columns.swapaxes(0, 1)}
    plans = {
        way: prediction.plan(signs)
        for way, signs in ways.items()
        if signs.shape[1] <= _MAX_PREDICTED
    }
    best = max(plans, key=lambda way: plans[way].gain, default=None)
    if best is None or plans[best].gain <= 0:
        return {}
    return {best: prediction.encode(ways[best], plans[best])}


def _unpredict(payload: bytes, shape: tuple[int, int], num_symbols: int) -> np.ndarray:
    signs = prediction.decode(payload, *shape, _width(num_symbols))
    indices = np.zeros(shape, np.int32)
    # Sign by sign: a product would need four times the memory.
    for position in range(signs.shape[2]):
        indices |= (signs[:, :, position] > 0).astype(np.int32) << position
    return indices
