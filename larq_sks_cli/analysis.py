"""Kernels from files of any kind, measured and drawn."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from larq_sks import analysis, codebook
from larq_sks._files import write_atomically
from larq_sks_cli.files import check_exists, read_model


def analyze_file(path: Path) -> analysis.Analysis:
    """Measures the binary kernels of a model of any kind or of a .npz file.

    Raises:
        ValueError: If the file cannot be read or holds no binary kernel.
        ImportError: If the package `powerlaw` is not installed.
    """
    if path.suffix == ".npz":
        return analysis.analyze_kernels(path.stem, *read_npz(path))
    return replace(analysis.analyze(read_model(path)), name=path.stem)


def read_npz(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads kernels of a .npz file: packed bits, or arrays of weights.

    `NAME.kernel_bits` with `NAME.kernel_shape` are bits as `numpy.packbits` packs them, 1 for +1. In a
    file without any, each array `NAME.kernel` or of shape `(3, 3, channels_in, channels_out)` holds
    weights whose signs count.

    Returns:
        The kernels by name, and the arrays that were left out with the reason.

    Raises:
        ValueError: If the file cannot be read or the bits do not fill the shape.
    """
    check_exists(path)
    try:
        # Opened here, because NumPy leaves a bad file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # whatever NumPy and zip meet in a bad file
        raise ValueError(f"'{path}' cannot be read as a .npz file of arrays: {error}") from error
    kernels: dict[str, np.ndarray] = {}
    skipped: dict[str, str] = {}
    packed = any(key.endswith(".kernel_bits") for key in arrays)
    for key, array in arrays.items():
        name, _, part = key.rpartition(".")
        if part == "kernel_bits" and f"{name}.kernel_shape" in arrays:
            kernels[name] = _unpacked(path, key, array, arrays[f"{name}.kernel_shape"])
        elif part == "kernel_shape" and f"{name}.kernel_bits" in arrays:
            continue
        elif array.dtype.kind not in "fiu":
            skipped[key] = "it holds no numbers"
        elif array.ndim == 4 and array.shape[:2] == (3, 3) or part == "kernel":
            # Beside packed kernels an unpacked one is a float kernel: a stem, a classifier.
            reason = "not packed, as others are" if packed else _why_not(array)
            if reason:
                skipped[key] = reason
            else:
                kernels[name if part == "kernel" else key] = array
        else:
            skipped[key] = "no kernel by its name, nor 3×3 by its shape"
    if not kernels:
        raise ValueError(
            f"'{path}' must hold a kernel: NAME.kernel_bits with NAME.kernel_shape, NAME.kernel, or an "
            f"array of shape (3, 3, channels_in, channels_out). Received: {', '.join(arrays) or 'no array'}."
        )
    return kernels, skipped


def _why_not(array: np.ndarray) -> str | None:
    """Tells why an array cannot be cut into blocks, or returns `None` if it can."""
    if not array.size:
        return "it is empty"
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return "not all its weights are finite"
    try:
        codebook.default_codeword_shape(array.shape)
    except ValueError:
        return f"no blocks for a kernel of {'×'.join(map(str, array.shape))}"
    return None


def _unpacked(path: Path, key: str, bits: np.ndarray, shape: np.ndarray) -> np.ndarray:
    sizes = [int(size) for size in shape.ravel()] if shape.dtype.kind in "iu" else []
    count = math.prod(sizes)
    if bits.dtype != np.uint8 or min(sizes, default=0) < 1 or bits.size != math.ceil(count / 8):
        raise ValueError(
            f"'{path}': `{key}` must be uint8 and hold the bits of its kernel_shape. "
            f"Received: {bits.size} of {bits.dtype} for {sizes}."
        )
    return np.where(np.unpackbits(bits.ravel(), count=count).reshape(sizes), 1, -1)


def draw(analyses: list[analysis.Analysis], path: Path) -> None:
    """Draws the rank-frequency curves of several networks side by side into a .png or .svg file."""
    from matplotlib.figure import Figure

    from larq_sks import plot
    from larq_sks._picture_files import picture_bytes

    figure = Figure(figsize=(5 * len(analyses), 4), layout="constrained")
    panels = figure.subplots(1, len(analyses), sharey=True, squeeze=False)[0]
    for each, axes in zip(analyses, panels, strict=True):
        plot.ranks(each, axes)
    write_atomically(path, picture_bytes(figure, path.suffix[1:]))
