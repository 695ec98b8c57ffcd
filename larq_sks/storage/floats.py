"""All weights that are no binary kernels as arrays: exact, or in float16 or 8 bits where that does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

FORMS = ("float32", "float16", "int8")
"""How float32 weights may be stored."""

_MAX_ERROR = {"float16": 2.0**-10, "int8": 1 / 127}
_FEWEST_FOR_INT8 = 16
DTYPES = {"float32_as_float16": "float16", "float32_as_int8": "int8", "float32_scales": "float32"}
"""The dtypes of sections that are not named after theirs."""


def split(shape: Sequence[int], form: str) -> str:
    """Tells how a float32 weight of a shape is stored if it can be: batch norm is never in 8 bits.

    Arguments:
        shape: Shape of the weight.
        form: `"float32"`, `"float16"` or `"int8"`.

    Returns:
        One of them.
    """
    if form == "int8" and (len(shape) < 2 or math.prod(shape[:-1]) < _FEWEST_FOR_INT8):
        return "float32"
    return form


def pack(weights: Sequence[np.ndarray], form: str) -> tuple[dict[str, np.ndarray], list[int], list]:
    """Joins weights to one array for each dtype.

    Arguments:
        weights: The weights in the order of the model.
        form: How those in float32 are stored.

    Returns:
        The arrays by section; the positions of weights that had to stay exact, counted among those in
            float32; and for each weight the largest error relative to its largest magnitude.
    """
    parts: dict[str, list[np.ndarray]] = {}
    exact: list[int] = []
    errors = []
    position = 0
    for weight in weights:
        name, arrays, error = weight.dtype.name, {weight.dtype.name: weight}, 0.0
        if name == "float32":
            wanted = split(weight.shape, form)
            if wanted != "float32":
                reduced, error = _reduce(weight, wanted)
                if error <= _MAX_ERROR[wanted]:
                    arrays = reduced
                else:
                    error = 0.0
                    exact.append(position)
            position += 1
        errors.append(error)
        for section, array in arrays.items():
            parts.setdefault(section, []).append(array.reshape(-1))
    return {section: np.concatenate(arrays) for section, arrays in parts.items()}, exact, errors


def _reduce(weight: np.ndarray, form: str) -> tuple[dict[str, np.ndarray], float]:
    with np.errstate(all="ignore"):  # what overflows or is no number shows in the error
        if form == "float16":
            arrays = {"float32_as_float16": weight.astype(np.float16)}
            restored = arrays["float32_as_float16"].astype(np.float32)
        else:
            scale = np.abs(weight).max(axis=tuple(range(weight.ndim - 1))) / np.float32(127)
            scale = np.where(scale > 0, scale, np.float32(1))
            values = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
            arrays = {"float32_as_int8": values, "float32_scales": scale}
            restored = _from_int8(values, scale)
        error = float(
            np.abs(restored - weight).max(initial=0.0) / (np.abs(weight).max(initial=0.0))
        )
    if not np.any(weight):
        error = 0.0
    return arrays, error if math.isfinite(error) else math.inf


def _from_int8(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return values.astype(np.float32) * scale


def check(
    sections: dict[str, np.ndarray],
    shapes: Iterable[tuple[Sequence[int], str]],
    form: str,
    exact: set[int],
) -> None:
    """Refuses sections that do not hold weights of given shapes and dtypes, and nothing else.

    Raises:
        ValueError: If so.
    """
    wanted: dict[str, int] = {}
    for plan in _plan(shapes, form, exact):
        for section, shape in plan.items():
            wanted[section] = wanted.get(section, 0) + math.prod(shape)
    for section in wanted.keys() | sections.keys():
        found = sections.get(section, np.zeros(0, DTYPES.get(section, section)))
        if len(found) != wanted.get(section) or found.dtype != DTYPES.get(section, section):
            raise ValueError(
                f"The section '{section}' must hold {wanted.get(section, 0)} weights of the architecture. "
                f"Received: {len(found)} in {found.dtype}."
            )


def unpack(
    sections: dict[str, np.ndarray],
    shapes: Sequence[tuple[Sequence[int], str]],
    form: str,
    exact: set[int],
) -> Iterable[np.ndarray]:
    """Cuts sections into the weights again, one after the other.

    Arguments:
        sections: The arrays that `pack` made.
        shapes: Shape and dtype of each weight in the order of the model.
        form: As given to `pack`.
        exact: As returned by it.

    Returns:
        The weights.
    """
    begins = dict.fromkeys(sections, 0)
    for (_, dtype), plan in zip(shapes, _plan(shapes, form, exact), strict=True):
        arrays = []
        for section, shape in plan.items():
            begin, count = begins[section], math.prod(shape)
            begins[section] += count
            arrays.append(sections[section][begin : begin + count].reshape(shape))
        yield _from_int8(*arrays) if len(arrays) == 2 else arrays[0].astype(dtype)


def _plan(shapes, form: str, exact: set[int]) -> Iterable[dict[str, Sequence[int]]]:
    """Tells for each weight which sections hold it, and in which shape."""
    position = 0
    for shape, dtype in shapes:
        how = dtype
        if dtype == "float32":
            how = "float32" if position in exact else split(shape, form)
            position += 1
        if how == dtype:
            yield {dtype: shape}
        elif how == "float16":
            yield {"float32_as_float16": shape}
        else:
            yield {"float32_as_int8": shape, "float32_scales": shape[-1:]}
