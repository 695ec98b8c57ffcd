"""Whole networks as .sks files: `save`, `load` and `describe`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from larq_sks._files import write_atomically
from larq_sks.selections import Permutation, Selection
from larq_sks.storage import architecture, coding, compression, container, kernels, manifest
from larq_sks.storage import floats as _floats
from larq_sks.storage.container import FormatError
from larq_sks.storage.entries import NOTHING, Entry, read_codes, read_entries
from larq_sks.storage.kernels import Kernel

_CODINGS = ("packed", "entropy-coded", "predicted from columns", "predicted from rows")
_OTHER_FORMATS = (".h5", ".hdf5", ".keras", ".tflite")
_SURELY_FLAT = 300
"""With no more layers than that Keras does not run into Python's limit of recursion."""
_LARGEST_FLOAT16 = 65504.0


@dataclass(frozen=True)
class SaveReport:
    """What `save` wrote; as a string, a table."""

    path: Path
    size: int
    """Bytes of the file."""
    sections: dict[str, int]
    """Bytes of each section. What remains of `size` is the header."""
    kernels: dict[str, int]
    """Bytes of the indices of each binary kernel."""
    errors: dict[str, float]
    """Of each weight that was rounded the largest error, relative to the weight's largest magnitude."""

    def __str__(self) -> str:
        sizes = {**self.sections, "header": self.size - sum(self.sections.values())}
        lines = [f"{self.path}: {self.size:,} bytes, {len(self.kernels)} binary kernels"]
        lines += [f"  {name:<20}{size:>12,}" for name, size in sizes.items()]
        if self.errors:
            worst = max(self.errors, key=lambda name: self.errors[name])
            lines.append(
                f"  {len(self.errors)} weights rounded, at worst by {self.errors[worst]:.1e} of the "
                f"largest: {worst}"
            )
        return "\n".join(lines)


def save(
    model: tf.keras.Model,
    path: str | os.PathLike,
    *,
    latent: bool = False,
    floats: str = "float32",
    custom_objects: Mapping[str, object] | None = None,
) -> SaveReport:
    """Writes a network as a .sks file: its binary kernels as codewords, all other weights as they are.

    A file that was there is replaced in one step, so that a killed program leaves the old one or the new.
    Kernels of Larq's layers with a binary quantizer are stored likewise; those of other quantizers
    (ternary, several bits) as float weights. What the optimizer holds is not stored.

    Example:
        ```python
        report = sks.save(model, "net.sks")
        print(report)
        ```

    Arguments:
        model: A functional or sequential Keras model.
        path: Where to write, in a folder that exists. A file of that name is replaced; a name that ends as
            those of other formats do (`.h5`, `.keras`, `.tflite`) is refused.
        latent: Whether to keep, in float16, the latent kernels and the logits of learned selections, to
            train on as if nothing had happened. Without them the loaded network has the same outputs and
            can be fine-tuned with the codewords that it has.
        floats: How to store weights in float32: `"float32"` as they are, `"float16"`, or `"int8"` with a
            scale for each channel of the last axis, which leaves biases and batch norm exact.
        custom_objects: Classes and functions by name that the file may hold besides those of Keras, Larq
            and larq_sks: layers, activations, and TensorFlow functions (`{"math.erf": tf.math.erf}`).

    Returns:
        The sizes, and the errors of rounded weights.

    Raises:
        ValueError: If the model cannot be loaded again from a file without code (a subclassed model, a
            `Lambda` layer, a class that is not known), or a kernel quantizer multiplies by what it computes
            from the latent weights; nothing is written then.
        OSError: If the file cannot be written.
    """
    if floats not in _floats.FORMS:
        raise ValueError(f"`floats` must be one of {_floats.FORMS}. Received: floats={floats!r}.")
    path = Path(path)
    if path.suffix in _OTHER_FORMATS:
        raise ValueError(
            "`path` must not end as files of another format do. "
            f"Received: path={str(path)!r}. End it in .sks."
        )
    if not path.parent.is_dir():
        raise ValueError(f"`path` must be in a folder that exists. Received: path={str(path)!r}.")
    architecture.require_model(model)
    stored, entries, parts = _encode(model)
    described = architecture.describe(model, latent, custom_objects)
    _try(model, described, custom_objects)
    logits, rest = _parts(model, stored, latent)
    numbers, exact, errors = _floats.pack([weight.numpy() for weight in rest], floats)
    if latent:
        kept = [kernel.latent() for kernel in stored] + [weight.numpy() for weight in logits]
        numbers["latent"] = np.concatenate([NOTHING.astype(np.float16), *map(_to_float16, kept)])
    sections = compression.fold(numbers)
    sections |= {name: np.frombuffer(part, np.uint8) for name, part in parts.items() if part}
    content: dict[str, object] = {"model": described}
    if entries:
        content["kernels"] = [
            [entry.name, entry.shape, entry.block_shape, entry.num_codewords, entry.num_bytes]
            for entry in entries
        ]
    content |= {"latent": True} if latent else {}
    content |= {"floats": floats, "exact": exact} if floats != "float32" else {}
    sections["architecture"] = manifest.pack(content)
    data = container.pack(sections)
    write_atomically(path, data)
    return SaveReport(
        path=path,
        size=len(data),
        sections={name: section.nbytes for name, section in sections.items()},
        kernels={entry.name: entry.num_bytes for entry in entries},
        errors={weight.name: error for weight, error in zip(rest, errors, strict=True) if error},
    )


def load(
    path: str | os.PathLike, *, custom_objects: Mapping[str, object] | None = None
) -> tf.keras.Model:
    """Reads a network from a .sks file. No code of the file is run, whatever it holds.

    Outputs, quantised kernels and float weights are exactly those that were saved. From a file with latent
    weights training goes on. From one without, selections are `larq_sks.selections.Fixed` and all latent
    weights are +0.05 or -0.05 (`larq_sks.storage.LATENT`): near enough to 0 to change sign in fine-tuning, and
    far enough not to do so by noise alone.

    Example:
        ```python
        model = sks.load("net.sks")
        ```

    Arguments:
        path: The file.
        custom_objects: Classes and functions by name, as given to `save`.

    Returns:
        A Keras model that is not compiled.

    Raises:
        FormatError: If the file is no .sks file, is damaged or too new, names a class or function that is
            not allowed, or does not make sense.
        OSError: If it cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        return _load(data, custom_objects)
    except MemoryError:
        raise
    except Exception as error:
        raise FormatError(f"'{path}' cannot be loaded. {str(error)[:1000]}") from error


def describe(path: str | os.PathLike) -> dict:
    """Tells what a .sks file holds, without making the network.

    Example:
        ```python
        sks.storage.describe("net.sks")["kernels"][0]["coding"]  # "entropy-coded"
        ```

    Arguments:
        path: The file.

    Returns:
        `version`; `latent`, whether latent weights are kept; `floats`, how weights in float32 are stored;
            `size` of the file and of its `sections` in bytes; `kernels`, a list of `name`, `shape`,
            `codeword_shape`, `num_codewords`, `coding` and `bytes` (without the codebook).

    Raises:
        FormatError: If the file is no .sks file, or damaged.
        OSError: If it cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        version, sections = container.unpack(data)
        content = manifest.unpack(sections["architecture"])
        entries = read_entries(content, sections)
        starts = np.cumsum([0] + [entry.num_bytes for entry in entries])[:-1]
        codings = [_CODINGS[sections["indices"][start]] for start in starts]
    except Exception as error:
        raise FormatError(f"'{path}' cannot be read. {str(error)[:1000]}") from error
    return {
        "version": version,
        "latent": content.get("latent", False),
        "floats": content.get("floats", "float32"),
        "size": len(data),
        "sections": {name: section.nbytes for name, section in sections.items()},
        "kernels": [
            {
                "name": entry.name,
                "shape": list(entry.shape),
                "codeword_shape": list(entry.block_shape),
                "num_codewords": entry.num_codewords,
                "coding": coding,
                "bytes": entry.num_bytes,
            }
            for entry, coding in zip(entries, codings, strict=True)
        ],
    }


def _encode(model: tf.keras.Model) -> tuple[list[Kernel], list[Entry], dict[str, bytes]]:
    """Finds the binary kernels of a model, and writes their codebooks and indices."""
    stored, entries, parts = [], [], {"codebooks": b"", "indices": b""}
    for kernel in kernels.quantized_kernels(model):
        codes = kernels.encode(kernel)
        if codes is None:
            continue
        count = len(codes.codewords)
        indices = coding.encode(codes.indices, count)
        parts["codebooks"] += kernels.pack_codebook(codes)
        parts["indices"] += indices
        stored.append(kernel)
        entries.append(Entry(kernel.name, codes.shape, codes.block_shape, count, len(indices)))
    return stored, entries, parts


def _try(
    model: tf.keras.Model, described: dict, custom_objects: Mapping[str, object] | None
) -> None:
    """Refuses a model of which Keras makes no other from JSON; of few known layers it always does."""
    deep = sum(1 for _ in model._flatten_layers()) > _SURELY_FLAT
    if not deep and not architecture.has_foreign_code(described, custom_objects):
        return
    elements = sum(math.prod(weight.shape) for weight in model.weights)
    try:
        architecture.build(described, elements, custom_objects)
    except Exception as error:
        raise ValueError(
            "`model` must be one that Keras can make again from JSON. "
            f"Received: '{model.name}', with the error: {error}"
        ) from error


def _load(data: bytes, custom_objects: Mapping[str, object] | None) -> tf.keras.Model:
    _, sections = container.unpack(data)
    if any(section.ndim != 1 for section in sections.values()):
        raise ValueError("Sections have one axis.")
    sections = compression.unfold(sections, {**_floats.DTYPES, "latent": "float16"})
    content = manifest.unpack(sections.pop("architecture"))
    entries = read_entries(content, sections)
    latent, form = content.get("latent", False), content.get("floats", "float32")
    exact = set(content.get("exact", []))
    indices, codebooks = (sections.pop(name, NOTHING) for name in ("indices", "codebooks"))
    latents = sections.pop("latent", NOTHING)
    if latent and latents.dtype != np.float16:
        raise ValueError("Latent weights are in float16.")

    # What the sections hold is all that the layers may ask for.
    in_kernels = sum(math.prod(entry.shape) for entry in entries)
    kept = len(latents) if latent else in_kernels + sum(entry.num_codewords for entry in entries)
    scales = len(sections.get("float32_scales", NOTHING))
    elements = kept + sum(map(len, sections.values())) - scales
    model = architecture.build(content["model"], elements, custom_objects)

    found = {kernel.name: kernel for kernel in kernels.quantized_kernels(model)}
    stored = [found[entry.name] for entry in entries]
    logits, rest = _parts(model, stored, latent)
    shapes = [(tuple(weight.shape), tf.as_dtype(weight.dtype).name) for weight in rest]
    _floats.check(sections, shapes, form, exact)
    for weight, value in zip(rest, _floats.unpack(sections, shapes, form, exact), strict=True):
        weight.assign(value)
    wanted = [kernel.variable for kernel in stored] + logits
    if latent and len(latents) != sum(math.prod(weight.shape) for weight in wanted):
        raise ValueError("The stored latent weights are not those of the architecture.")
    kept_weights = _cut(latents, wanted) if latent else iter(())
    for kernel, codes in zip(stored, read_codes(entries, indices, codebooks), strict=True):
        if latent:
            kernels.restore(kernel, codes, next(kept_weights))
        else:
            kernels.decode(kernel, codes)
    for weight, value in zip(logits, kept_weights, strict=True):
        weight.assign(value.astype(np.float32))
    for layer in model._flatten_layers():
        if isinstance(layer, tf.keras.layers.Normalization):
            layer.finalize_state()  # it computes with copies of its weights
    return model


def _parts(model: tf.keras.Model, stored: Sequence[Kernel], latent: bool) -> tuple[list, list]:
    """Returns the logits to store in float16, and all weights that are stored as they are."""
    logits, special = [], {id(kernel.variable) for kernel in stored}
    for layer in model._flatten_layers():
        if not isinstance(layer, Selection) or not layer.built:
            continue
        if not latent:
            special |= {id(weight) for weight in layer.weights}
        elif isinstance(layer, Permutation):
            logits.append(layer._logits)
    special |= {id(weight) for weight in logits}
    return logits, [weight for weight in model.weights if id(weight) not in special]


def _to_float16(weights: np.ndarray) -> np.ndarray:
    return np.clip(weights.reshape(-1), -_LARGEST_FLOAT16, _LARGEST_FLOAT16).astype(np.float16)


def _cut(values: np.ndarray, weights: Sequence) -> Iterator[np.ndarray]:
    begin = 0
    for weight in weights:
        count = math.prod(weight.shape)
        yield values[begin : begin + count].reshape(weight.shape)
        begin += count
