"""Named arrays as bytes and back: a safetensors file with a version and a checksum for each array.

Everything in the file is determined by the arrays, to the last byte, and a reader makes the header
anew and compares it. So no byte can change unseen, and the same arrays are always the same bytes.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np

VERSION = 1
"""The version that is written. Every version up to this one is read."""

_KEY = "sks"
_MAX_HEADER = 2**16
# In this order, the last first: each array is then aligned to the size of its elements.
_DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "I16": "<i2", "U16": "<u2", "F16": "<f2", "I32": "<i4",
    "U32": "<u4", "F32": "<f4", "F64": "<f8", "I64": "<i8", "U64": "<u8",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}


class FormatError(ValueError):
    """A file that is no .sks file, is damaged, is too new, or asks for what is not allowed."""


def pack(sections: dict[str, np.ndarray]) -> bytes:
    """Writes arrays as the bytes of a file.

    Example:
        ```python
        data = pack({"architecture": np.frombuffer(b"...", np.uint8)})
        ```

    Arguments:
        sections: Arrays of booleans, integers or floats by name.

    Returns:
        A whole safetensors file: equal arrays give equal bytes.

    Raises:
        ValueError: If the dtype of an array cannot be stored.
    """
    for name, array in sections.items():
        if array.dtype not in _NAMES:
            raise ValueError(
                f"The dtype of a weight must be one of {', '.join(map(str, _NAMES))} to be stored. "
                f"Received: {array.dtype} in '{name}'."
            )
    ordered = _ordered(sections)
    buffers = [np.ascontiguousarray(array).data.cast("B") for array in ordered.values()]
    header = _header(ordered, VERSION, _checksums(ordered, buffers))
    return b"".join([len(header).to_bytes(8, "little"), header, *buffers])


def unpack(data: bytes) -> tuple[int, dict[str, np.ndarray]]:
    """Reads the arrays of a file after checking all of it.

    Example:
        ```python
        version, sections = unpack(path.read_bytes())
        ```

    Arguments:
        data: A whole file.

    Returns:
        The file's version, and its arrays by name, which share the memory of `data`.

    Raises:
        FormatError: If it is not exactly what `pack` of this or an older version writes.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= length <= min(_MAX_HEADER, len(data) - 8):
        raise FormatError(
            "This is no .sks file, or only its beginning: it does not begin as a whole safetensors file."
        )
    header, body = data[8 : 8 + length], memoryview(data)[8 + length :]
    try:
        entries = json.loads(header)
        version, *checksums = entries.pop("__metadata__")[_KEY].split(" ")
        version = int(version)
    except Exception as error:
        raise FormatError("This is no .sks file: its header does not say so.") from error
    if not 1 <= version <= VERSION:
        raise FormatError(
            f"The version of the file must be 1 to {VERSION}. Received: {version}. "
            "Install a newer larq_sks to read it."
        )
    try:
        end = max(entry["data_offsets"][1] for entry in entries.values())
        if end > len(body):
            raise FormatError(
                f"The file is cut off: {len(body)} bytes follow its header, which tells of {end}."
            )
        sections = {name: _view(body, **entry) for name, entry in entries.items()}
        buffers = [array.data.cast("B") for array in sections.values()]
        same = _header(sections, version, checksums) == header
        whole = list(sections) == list(_ordered(sections)) and sum(map(len, buffers)) == len(body)
    except FormatError:
        raise
    except Exception as error:
        raise FormatError("The header of the file is damaged.") from error
    if not same or not whole:
        raise FormatError("The header of the file is damaged, or the file has another length.")
    for name, expected, found in zip(
        sections, checksums, _checksums(sections, buffers), strict=True
    ):
        if expected != found:
            raise FormatError(f"The file is damaged: the checksum of '{name}' does not match.")
    return version, sections


def _ordered(sections: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Sorts arrays as the safetensors library does: by dtype, the widest first, then by name."""
    ranks = list(_NAMES)
    return dict(sorted(sections.items(), key=lambda item: (-ranks.index(item[1].dtype), item[0])))


def _view(body: memoryview, dtype: str, shape: list[int], data_offsets: list[int]) -> np.ndarray:
    begin, end = data_offsets
    return np.frombuffer(body[begin:end], _DTYPES[dtype]).reshape(shape)


def _entry(name: str, array: np.ndarray, begin: int) -> dict:
    return {
        "dtype": _NAMES[array.dtype],
        "shape": list(array.shape),
        "data_offsets": [begin, begin + array.nbytes],
    }


def _header(sections: dict[str, np.ndarray], version: int, checksums: list[str]) -> bytes:
    # A single key, because the library writes several in no fixed order.
    entries: dict[str, dict] = {"__metadata__": {_KEY: " ".join([str(version), *checksums])}}
    begin = 0
    for name, array in sections.items():
        entries[name] = _entry(name, array, begin)
        begin += array.nbytes
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    return header.ljust(-(-len(header) // 8) * 8)


def _checksums(sections: dict[str, np.ndarray], buffers: list[memoryview]) -> list[str]:
    """Sums each array up in 16 hexadecimal digits, its name, dtype and shape included."""
    sums = []
    for (name, array), buffer in zip(sections.items(), buffers, strict=True):
        digest = hashlib.blake2b(digest_size=8)
        digest.update(f"{name} {_NAMES[array.dtype]} {list(array.shape)}\n".encode())
        digest.update(buffer)
        sums.append(digest.hexdigest())
    return sums
