"""What the benchmarks share: interpreters, alternating rounds, the machine, the record."""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import os
import platform
import statistics
import struct
import sys
import time
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from larq_compute_engine.tflite.python.interpreter import Interpreter as LCE

import larq_sks_runtime

FEATURES = (
    "popcnt",
    "avx2",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vpopcntdq",
    "avx512vbmi",
    "asimd",
    "asimddp",
    "avx512_vnni",
    "amx_int8",
)
"""What our kernels use or might, and the last two XNNPACK's for int8, as Linux names it."""

PACKAGES = ("tensorflow", "tensorflow-cpu", "larq-compute-engine", "ai-edge-litert")


def stock_interpreter():
    """The interpreter that the delegate runs in, and int8 networks without it: LiteRT's, else TensorFlow's."""
    try:
        return importlib.import_module("ai_edge_litert.interpreter").Interpreter
    except ImportError:
        return importlib.import_module("tensorflow").lite.Interpreter


def machine() -> dict:
    """The machine and the versions, for the record."""
    info = dict(
        line.split(":", 1)
        for line in Path("/proc/cpuinfo").read_text().replace("\t", "").splitlines()
        if ":" in line
    )
    here = set(info.get("flags", info.get("Features", "")).split())
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "command": " ".join(["python", *sys.argv]),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": info.get("model name", platform.processor()).strip(),
        "cores": os.cpu_count(),
        "affinity": sorted(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "features": {name: name in here for name in FEATURES},
        "versions": versions,
    }


def lce(data: bytes, **settings):
    """A call of a network in Larq Compute Engine's own interpreter."""
    interpreter = LCE(data, num_threads=1, **settings)
    values = _noise(interpreter.input_shapes, interpreter.input_types)
    return lambda: interpreter.predict(values)


LCE_SETTINGS = {
    "LCE default": {},
    "LCE default, XNNPACK": {"use_xnnpack": True},
    "LCE indirect": {"use_indirect_bgemm": True},
    "LCE indirect, XNNPACK": {"use_indirect_bgemm": True, "use_xnnpack": True},
}


def stock(data: bytes, threads: int = 1, copies: bool = True, **settings):
    """A call of a network in a stock interpreter, with the delegate unless there are no settings.

    Without copies the call does not move inputs and outputs between Python and the interpreter.
    """
    delegates = [larq_sks_runtime.load_delegate(**settings)] if settings else None
    interpreter = stock_interpreter()(
        model_content=data, num_threads=threads, experimental_delegates=delegates
    )
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()
    values = _noise([d["shape"] for d in details], [d["dtype"] for d in details])
    output = interpreter.get_output_details()[0]["index"]

    def fill():
        for detail, value in zip(details, values, strict=True):
            interpreter.set_tensor(detail["index"], value)

    def call():
        fill()
        interpreter.invoke()
        return interpreter.get_tensor(output)

    if copies:
        return call
    fill()
    return interpreter.invoke


def _noise(shapes, types) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        rng.normal(0, 1, shape).astype(dtype) for shape, dtype in zip(shapes, types, strict=True)
    ]


def without_amx() -> None:
    """Makes Linux refuse this process the tiles of AMX, so that XNNPACK takes its kernels for AVX-512 VNNI."""
    ask = 158  # the system call arch_prctl on x86-64
    permission = 0x1023  # its ARCH_REQ_XCOMP_PERM
    load, equal, answer = 0x20, 0x15, 0x06
    steps = [
        (load, 0, 0, 0),  # the number of the system call
        (equal, 0, 3, ask),
        (load, 0, 0, 16),  # its first argument
        (equal, 0, 1, permission),
        (answer, 0, 0, 0x00050000 | errno.EPERM),
        (answer, 0, 0, 0x7FFF0000),  # allowed
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    # PR_SET_NO_NEW_PRIVS, then PR_SET_SECCOMP with a filter.
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
        raise OSError(ctypes.get_errno(), "the filter was refused")


AGAIN = 3
"""Calls of a round that are counted: those after the first, which finds in the caches what others left there."""


def alternate(
    calls: dict, seconds: float, clock=time.thread_time, again_each: int = AGAIN
) -> tuple[dict, dict]:
    """Milliseconds of calls in rounds: for each name a round's median of `again_each` calls, and its first call.

    The default clock is the calling thread's processor time.
    """
    again: dict[str, list[float]] = {name: [] for name in calls}
    first: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(again.values()))) < 10:
        for name, call in calls.items():
            times = []
            for _ in range(1 + again_each):
                start = clock()
                call()
                times.append(1000 * (clock() - start))
            first[name].append(times[0])
            again[name].append(statistics.median(times[1:]))
    return again, first


def quartiles(times: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    low, middle, high = statistics.quantiles(times, n=4)
    return low, middle, high


def ratio(times: dict[str, list[float]], slow: str, fast: str) -> float:
    """How many times as long `slow` takes, the median of the rounds: a slower minute touches both alike."""
    return statistics.median(a / b for a, b in zip(times[slow], times[fast], strict=True))


def best(times: dict[str, list[float]], names) -> str:
    """The one with the least median."""
    return min(names, key=lambda name: statistics.median(times[name]))


class Record:
    """Prints, and writes what was printed as .log and the raw figures as .json."""

    def __init__(self, output: str | None):
        self._output = output
        self._lines: list[str] = []
        self.figures: dict = {"machine": machine()}
        self.print(json.dumps(self.figures["machine"]))

    def print(self, line: str) -> None:
        print(line, flush=True)
        self._lines.append(line)

    def write(self) -> None:
        if self._output:
            Path(f"{self._output}.log").write_text("\n".join(self._lines) + "\n")
            Path(f"{self._output}.json").write_text(json.dumps(self.figures))
