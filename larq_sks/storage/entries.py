"""What a manifest says about each kernel, and the parts of the sections that belong to it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from larq_sks._checks import check_num_codewords
from larq_sks.codebook import MAX_BLOCK_SIZE
from larq_sks.storage import coding, kernels
from larq_sks.storage.kernels import Codes

NOTHING = np.zeros(0, np.uint8)
"""A section that is left out."""

_MAX_AXES = 5


@dataclass(frozen=True)
class Entry:
    """What the manifest says about a kernel."""

    name: str
    shape: tuple[int, ...]
    block_shape: tuple[int, ...]
    num_codewords: int
    num_bytes: int

    @property
    def block_size(self) -> int:
        return math.prod(self.block_shape)

    @property
    def counts(self) -> tuple[int, int]:
        return kernels.block_counts(self.shape, self.block_shape)

    @property
    def codebook_bytes(self) -> int:
        return kernels.codebook_bytes(self.block_size, self.num_codewords)


def read_entries(manifest: dict, sections: Mapping[str, np.ndarray]) -> list[Entry]:
    """Reads what a manifest says about kernels, as far as the sections bear it out.

    Raises:
        ValueError: If it makes no sense, or claims more than the sections can hold.
    """
    entries: list[Entry] = []
    names: set[str] = set()
    for name, shape, block_shape, num_codewords, num_bytes in manifest.get("kernels", []):
        entry = Entry(name, tuple(shape), tuple(block_shape), num_codewords, num_bytes)
        if not isinstance(name, str) or name in names:
            raise ValueError(f"Kernels have different names. Received: {name!r}.")
        names.add(name)
        sizes = [*entry.shape, *entry.block_shape, num_bytes]
        if not all(type(size) is int and 0 < size < 2**32 for size in sizes):
            raise ValueError(f"The sizes of kernel '{name}' must be positive integers.")
        fits = len(shape) == len(block_shape) <= _MAX_AXES and all(
            size % part == 0 for size, part in zip(shape, block_shape, strict=True)
        )
        if not fits or entry.block_size > MAX_BLOCK_SIZE:
            raise ValueError(f"The blocks of kernel '{name}' must fit into it.")
        check_num_codewords(num_codewords, entry.block_size)
        if math.prod(entry.counts) > coding.MAX_BLOCKS_PER_BYTE * num_bytes:
            raise ValueError(f"Kernel '{name}' is too large for its {num_bytes} bytes.")
        entries.append(entry)
    for section, size in (
        ("indices", sum(entry.num_bytes for entry in entries)),
        ("codebooks", sum(entry.codebook_bytes for entry in entries)),
    ):
        found = sections.get(section, NOTHING)
        if found.dtype != np.uint8 or len(found) != size:
            raise ValueError(f"The kernels must take all of '{section}'.")
    return entries


def read_codes(
    entries: Sequence[Entry], indices: np.ndarray, codebooks: np.ndarray
) -> Iterator[Codes]:
    """Decodes the kernels one after the other."""
    for entry in entries:
        part, indices = np.split(indices, [entry.num_bytes])
        book, codebooks = np.split(codebooks, [entry.codebook_bytes])
        codewords = kernels.unpack_codebook(book, entry.block_size, entry.num_codewords)
        decoded = coding.decode(part.tobytes(), entry.counts, entry.num_codewords)
        yield Codes(entry.shape, entry.block_shape, codewords, decoded)
