"""Changes .sks files at random and loads them: only `FormatError` may come out, in bounded memory and time.

Run it as `python tests/storage/fuzz.py --count 100000 --seed 0`. Nine tenths of the files are changed as bytes;
a tenth as an attacker would, who changes what the sections say and computes the checksums anew.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import larq as lq
import numpy as np
import tensorflow as tf

import larq_sks as sks
from larq_sks import storage
from larq_sks.storage import compression, container, floats, manifest

SECONDS = 60
"""How long a file may take."""
MEMORY = 2**31
"""Bytes that loading may take besides what the program has at the start."""

_EVIL = [
    0, 1, 2, -1, 7, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 10**12, 10**30, -(10**12), 1.5, 1e308, -0.0, True,
    False, None, "", "a" * 3000, "\ud800", "\0", [], {}, [[]], [None], [1, 1], [2**31, 2**31], "Lambda", "os",
    "system", "builtins", "function", "same", "valid", "float32", "string", "resource", "_CONSTANT_VALUE",
    "io.write_file", "raw_ops.WriteFile", "py_function", "numpy_function", "tile", "zeros", "fill",
    "UpSampling1D", "RNN", "Embedding", "TimeDistributed", "Functional", "Sequential", "InputLayer", "Dense",
    {"class_name": "Lambda", "config": {"name": "l", "function": ["4wEAAAAA", None, None]}},
    {"class_name": "function", "config": "system", "module": "os"},
    {"class_name": "Dense", "config": {"units": 10**12, "name": "d"}},
    {"class_name": "__tuple__", "items": [1, 2]}, {"class_name": "__tuple__", "items": [4, 4, 1, 1]},
    {"class_name": "__ellipsis__"},
    {"class_name": "__lambda__", "config": {"value": "4wEAAAAA"}},
    {"class_name": "__tensor__", "config": {"value": 1, "dtype": "float32"}},
    {"class_name": "TypeSpec", "type_spec": "tf.TensorSpec", "serialized": []},
    {"class_name": "larq_sks>Permutation", "config": {"iterations": 40, "full_permutation": True}},
]  # fmt: skip
_KEYS = [
    "module",
    "registered_name",
    "build_config",
    "weights",
    "dynamic",
    "shared_object_id",
    "dtype",
]


class Hang(BaseException):
    """Loading a file took too long."""


def seeds() -> list[bytes]:
    """Makes the files that are changed: tiny networks with all that a file may hold."""
    layers = tf.keras.layers
    image = layers.Input((8, 8, 3))
    options = dict(padding="same", pad_values=1.0, input_quantizer="ste_sign", use_bias=False)
    x = layers.Conv2D(8, 3, padding="same")(image)
    y = sks.layers.SKSConv2D(8, 3, num_codewords=4, **options)(x)
    x = layers.BatchNormalization()(y) + x
    inner = tf.keras.Sequential(
        [
            layers.Input((8, 8, 8)),
            lq.layers.QuantConv2D(8, 3, kernel_quantizer="ste_sign", **options),
            layers.PReLU(shared_axes=[1, 2]),
        ]
    )
    x = layers.Concatenate()([inner(x), inner(1.0 - x)])
    quantizer = sks.quantizers.SparseKernelSign(5, "fixed", scale=True)
    x = lq.layers.QuantDense(4, kernel_quantizer=quantizer)(layers.GlobalMaxPooling2D()(x))
    functional = tf.keras.Model(image, layers.Activation("softmax")(x))
    sequential = tf.keras.Sequential(
        [
            sks.layers.SKSSeparableConv2D(8, 3, depthwise_num_codewords=2, input_shape=(6, 6, 8)),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    files = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed.sks"
        for model in (functional, sequential):
            for arguments in ({}, {"latent": True}, {"floats": "int8"}):
                storage.save(model, path, **arguments)
                files.append(path.read_bytes())
    return files


def change_bytes(random: np.random.Generator, files: list[bytes]) -> bytes:
    """Flips bits, cuts, inserts, or puts two files together."""
    data = bytearray(files[random.integers(len(files))])
    other = files[random.integers(len(files))]
    for _ in range(random.geometric(0.5)):
        # Half of the time in the header, which is small.
        begin = int(
            random.integers(len(data) + 1 if random.random() < 0.5 else min(500, len(data) + 1))
        )
        end = begin + int(random.integers(20))
        kind = random.integers(6)
        if kind == 0 and begin < len(data):
            data[begin] ^= 1 << random.integers(8)
        elif kind == 1:
            del data[begin:end]
        elif kind == 2:
            data[begin:begin] = random.bytes(end - begin)
        elif kind == 3:
            data[begin:end] = random.bytes(end - begin)
        elif kind == 4:
            del data[begin:]
        else:
            data[begin:] = other[int(random.integers(len(other))) :]
    return bytes(data)


def change_content(random: np.random.Generator, files: list[bytes]) -> bytes:
    """Changes the manifest or another section, and computes the checksums anew."""
    _, sections = container.unpack(files[random.integers(len(files))])
    _, others = container.unpack(files[random.integers(len(files))])
    if random.random() < 0.8:
        text = compression.decompress(sections["architecture"].tobytes(), manifest.MAX_JSON)
        content = json.loads(text)
        for _ in range(random.geometric(0.6)):
            _change_json(random, content)
        text = json.dumps(content).encode()
        if random.random() < 0.1:
            text = change_bytes(random, [text])
        packed = compression.compress(text)
        sections["architecture"] = np.frombuffer(packed, np.uint8)
    if random.random() < 0.25:
        if random.random() < 0.5:
            sections = compression.unfold(sections, {**floats.DTYPES, "latent": "float16"})
        _change_section(random, sections, others)
    return container.pack(sections)


def _change_section(random, sections: dict, others: dict) -> None:
    name = list(sections)[random.integers(len(sections))]
    kind = random.integers(6)
    section = sections[name]
    if kind == 0:
        del sections[name]
    elif kind == 1:
        sections[name] = others.get(name, section)
    elif kind == 2:
        sections[str(_EVIL[random.integers(len(_EVIL))])[:9].encode(errors="ignore").decode()] = (
            section
        )
    elif kind == 3:
        sections[name] = section[: random.integers(len(section) + 1)]
    elif kind == 4:
        with np.errstate(all="ignore"):
            dtype = [np.uint8, np.float16, np.float64, bool][random.integers(4)]
            sections[name] = section.astype(dtype)
    else:
        noise = np.frombuffer(random.bytes(section.nbytes), section.dtype)
        sections[name] = np.where(random.random(len(section)) < 0.1, noise, section)


def _change_json(random, content) -> None:
    """Changes one place of a JSON value, each depth being as likely."""
    places = []

    def collect(value):
        for key in value if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], (dict, list)):
                collect(value[key])

    collect(content)
    owner, key = places[random.integers(len(places))]
    source, source_key = places[random.integers(len(places))]
    kind = random.integers(7)
    if kind <= 1:
        owner[key] = copy.deepcopy(_EVIL[random.integers(len(_EVIL))])
    elif kind == 2:
        owner[key] = copy.deepcopy(source[source_key])
    elif kind == 3:
        del owner[key]
    elif kind == 4 and isinstance(owner, list):
        owner.insert(key, copy.deepcopy(owner[key]))
    elif kind == 5 and isinstance(owner, list):
        owner[key:key] = [owner[key]] * int(10 ** random.integers(1, 5))
    elif isinstance(owner, dict):
        owner[_KEYS[random.integers(len(_KEYS))]] = copy.deepcopy(
            _EVIL[random.integers(len(_EVIL))]
        )
    elif isinstance(owner[key], (int, float)):
        owner[key] *= int(random.integers(-2, 100))


def attempt(data: bytes, path: Path) -> str:
    """Loads a file and names what came of it; raises whatever should not come of any file."""
    path.write_bytes(data)
    signal.alarm(SECONDS)
    try:
        model = storage.load(path)
        return f"loaded as {type(model).__name__}"
    except storage.FormatError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, (tf.errors.ResourceExhaustedError, MemoryError)):
                raise
            cause = cause.__cause__
        return "FormatError"
    finally:
        signal.alarm(0)


def run(count: int, seed: int = 0, deep: float = 0.1, path: Path | None = None) -> Counter[str]:
    """Loads changed files.

    Arguments:
        count: How many.
        seed: Decides the changes.
        deep: Share of files whose content is changed, 0 to 1.
        path: Where each file is written, so that the last one is at hand after a crash.

    Returns:
        How often each outcome came. One that should not come is printed with its trace.
    """

    def stop(*_):
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    folder = tempfile.mkdtemp()
    path = path or Path(folder) / "changed.sks"
    files, outcomes = seeds(), Counter()
    began = time.perf_counter()
    for number in range(count):
        random = np.random.default_rng([seed, number])
        kind = "content" if random.random() < deep else "bytes"
        data = (change_content if kind == "content" else change_bytes)(random, files)
        try:
            outcome = "unchanged" if data in files else attempt(data, path)
        except (Exception, Hang) as error:
            outcome = f"BAD {type(error).__name__}"
            print(f"file {number} ({kind}):", file=sys.stderr)
            traceback.print_exc()
        outcomes[f"{kind}: {outcome}"] += 1
        if number % 500 == 499:
            # Keras never forgets the graphs in which it makes models.
            tf.keras.backend.clear_session()
        if number % 5000 == 4999:
            rate = (number + 1) / (time.perf_counter() - began)
            print(f"{number + 1} of {count} files, {rate:.0f} a second", flush=True)
    signal.signal(signal.SIGALRM, before)
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--deep", type=float, default=0.1, help="share of files changed in content")
    parser.add_argument(
        "--keep", type=Path, help="where each file is written, to see it after a crash"
    )
    arguments = parser.parse_args()
    storage_used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (storage_used + MEMORY, resource.RLIM_INFINITY))
    began = time.perf_counter()
    outcomes = run(arguments.count, arguments.seed, arguments.deep, arguments.keep)
    seconds = time.perf_counter() - began
    print(f"{arguments.count} files in {seconds:.0f} s ({arguments.count / seconds:.0f} a second):")
    for outcome, number in sorted(outcomes.items()):
        print(f"{number:>8} {outcome}")
    return int(any("BAD" in outcome for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
