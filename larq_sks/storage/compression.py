"""Lossless compression by LZMA: of text, and of numbers with their bytes sorted by significance.

Bytes that say how large a number is come in few values, those of its last digits in all. Sorted so that the
first byte of all numbers comes first, then the second, LZMA finds them: weights shrink by a sixth.
"""

from __future__ import annotations

import lzma

import numpy as np

_SUFFIX = ".lzma"
# Without literal contexts or alignment: the shortest of all coders in Python's library, for both uses.
_FILTERS = [
    {
        "id": lzma.FILTER_LZMA1,
        "preset": 9 | lzma.PRESET_EXTREME,
        "dict_size": 2**20,
        "lc": 0,
        "lp": 0,
        "pb": 0,
    }
]
_MAX_RATIO = 32
"""The most bytes of numbers in a byte. It bounds the memory that a small file can ask for."""


def compress(data: bytes) -> bytes:
    """Writes bytes as raw LZMA.

    Example:
        ```python
        decompress(compress(b"text"), 4)  # b"text"
        ```

    Arguments:
        data: Any bytes.

    Returns:
        The compressed bytes, which do not tell their length.
    """
    return lzma.compress(data, lzma.FORMAT_RAW, filters=_FILTERS)


def decompress(data: bytes, limit: int) -> bytes:
    """Reads what `compress` wrote, in bounded memory whatever the bytes.

    Arguments:
        data: The compressed bytes.
        limit: The most bytes that may come of them.

    Returns:
        The bytes.

    Raises:
        ValueError: If the data is damaged, has more after its end, or holds more than `limit` bytes.
    """
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS)
    try:
        found = decompressor.decompress(data, max_length=limit + 1)
    except lzma.LZMAError as error:
        raise ValueError("Compressed bytes are damaged.") from error
    if not decompressor.eof or decompressor.unused_data or len(found) > limit:
        raise ValueError(f"Compressed bytes must be one piece that holds at most {limit} bytes.")
    return found


def fold(sections: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Compresses those arrays of numbers that get smaller by it.

    Example:
        ```python
        fold({"float32": weights})  # {"float32.lzma": uint8 array}
        ```

    Arguments:
        sections: Arrays by name.

    Returns:
        The arrays, some as uint8 under a name with `.lzma` behind it.
    """
    folded = {}
    for name, array in sections.items():
        planes = array.reshape(-1, 1).view(np.uint8).T
        packed = np.frombuffer(compress(planes.tobytes()), np.uint8)
        if array.nbytes / _MAX_RATIO <= packed.nbytes < array.nbytes:
            folded[name + _SUFFIX] = packed
        else:
            folded[name] = array
    return folded


def unfold(sections: dict[str, np.ndarray], dtypes: dict[str, str]) -> dict[str, np.ndarray]:
    """Undoes `fold`.

    Arguments:
        sections: The arrays by name.
        dtypes: The dtypes of arrays that are not named after theirs.

    Returns:
        All arrays under their own names.

    Raises:
        ValueError: If they are not what `fold` makes.
    """
    unfolded: dict[str, np.ndarray] = {}
    for name, array in sections.items():
        short = name.removesuffix(_SUFFIX)
        if short in unfolded:
            raise ValueError(f"The section '{short}' is there twice.")
        if short == name:
            unfolded[name] = array
            continue
        if array.dtype != np.uint8:
            raise ValueError(f"The section '{name}' must be bytes. Received: {array.dtype}.")
        dtype = np.dtype(dtypes.get(short, short))
        planes = np.frombuffer(decompress(array.tobytes(), _MAX_RATIO * len(array)), np.uint8)
        if dtype.kind not in "bifu" or len(planes) % dtype.itemsize:
            raise ValueError(f"The section '{name}' must hold whole numbers of {dtype}.")
        ordered = np.ascontiguousarray(planes.reshape(dtype.itemsize, -1).T)
        unfolded[short] = ordered.view(dtype).reshape(-1)
    return unfolded
