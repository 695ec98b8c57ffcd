"""Prints, as JSON, how much memory an interpreter takes for a file: run by files.py, a process for each.

python memory.py {LCE,larq-sks-runtime,int8} SMALL.tflite NET.tflite

Beyond what the process has after a run of the small network, which brings in the interpreter's own code.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import sys
from pathlib import Path

import numpy as np


def status() -> dict[str, int]:
    """KiB that are resident: private ones, those of files, both together, and the most that there were."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    wanted = {"anonymous": "RssAnon", "of files": "RssFile", "resident": "VmRSS", "peak": "VmHWM"}
    return {name: int(fields[field].split()[0]) for name, field in wanted.items()}


def lce(path: str):
    """Runs a file in Larq Compute Engine's interpreter, which takes its bytes; returns what must be kept."""
    module = importlib.import_module("larq_compute_engine.tflite.python.interpreter")
    data = Path(path).read_bytes()
    interpreter = module.Interpreter(data, 1, use_indirect_bgemm=True, use_xnnpack=True)
    interpreter.predict([np.zeros(shape, np.float32) for shape in interpreter.input_shapes])
    return data, interpreter


def stock(path: str, delegates):
    """Runs a file in LiteRT's interpreter, which maps it into memory; returns what must be kept."""
    module = importlib.import_module("ai_edge_litert.interpreter")
    interpreter = module.Interpreter(path, num_threads=1, experimental_delegates=delegates)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    interpreter.invoke()
    return interpreter


def run(engine: str, path: str):
    """Runs a file in an interpreter."""
    if engine == "LCE":
        return lce(path)
    if engine == "int8":
        return stock(path, None)
    return stock(path, [importlib.import_module("larq_sks_runtime").load_delegate()])


def main() -> None:
    """Measures one file."""
    engine, small, path = sys.argv[1:]
    run(engine, small)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status()
    kept = run(engine, path)
    after = status()
    del kept
    before["peak"] = before["resident"]
    json.dump({name: after[name] - before[name] for name in after}, sys.stdout)


if __name__ == "__main__":
    main()
