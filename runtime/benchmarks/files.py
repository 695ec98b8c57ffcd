"""Measures files and memory: a file with one bit a binary weight, the compact one, and int8, each where it runs.

taskset -c 0 python files.py --models DIR --make            # makes the files: minutes
taskset -c 0 python files.py --models DIR --output results/CPU/files
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

from larq_sks import latency
from larq_sks.convert import tflite_file
from larq_sks.convert.compact_filters import COMPACT
from measure import Record
from models import NETWORKS, NUM_CODEWORDS
from tensorflow.lite.python import schema_py_generated as schema

ROUNDS = 3

MEASURED = (
    "ResNet20",
    "QuickNetSmall32",
    "ResNet18",
    "QuickNet",
    "QuickNetLarge",
    "BinaryResNetE18",
)
SMALL = "ResNet8"
"""A network with all operators that the others have, which brings in the interpreter's own code."""

RUNS = {
    "LCE": ("LCE", "plain"),
    "ours, plain": ("larq-sks-runtime", "plain"),
    "ours, compact": ("larq-sks-runtime", "compact"),
    "int8": ("int8", "int8"),
}
"""The interpreter and the file of each column."""


def make(folder: Path, name: str) -> None:
    """Writes a network's files."""
    model = NETWORKS[name]()
    files = latency.files_of(model)
    for what, data in (files | {"int8": latency.int8_twin(model)}).items():
        (folder / f"{name}_{what or 'plain'}.tflite").write_bytes(data)


def binary_bytes(data: bytes) -> int:
    """Bytes of a file's binary filters: the packed ones, and codebooks, indices and inverted channels of compact ones."""
    size = sum(filter.nbytes for filter in tflite_file.read(data).binary)
    model = schema.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    for operator in map(graph.Operators, range(graph.OperatorsLength())):
        if model.OperatorCodes(operator.OpcodeIndex()).CustomCode() == COMPACT.encode():
            tensors = [operator.Inputs(i) for i in (1, 2, 3)]
            size += sum(
                model.Buffers(graph.Tensors(tensor).Buffer()).DataLength()
                for tensor in tensors
                if tensor != -1
            )
    return size


def memory(engine: str, small: Path, path: Path) -> dict[str, float]:
    """The medians of what some fresh processes measure, in KiB."""
    command = [sys.executable, str(Path(__file__).with_name("memory.py")), engine, small, path]
    found = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(ROUNDS)
    ]
    return {name: statistics.median(each[name] for each in found) for name in found[0]}


def compare(record: Record, folder: Path, name: str) -> None:
    """Prints the figures of one network."""
    paths = {what: folder / f"{name}_{what}.tflite" for what in ("plain", "compact", "int8")}
    sizes = {what: path.stat().st_size for what, path in paths.items()}
    binary = {what: binary_bytes(paths[what].read_bytes()) for what in ("plain", "compact")}
    least = binary["plain"] * math.log2(NUM_CODEWORDS) / 9
    record.print(
        f"{name}: files {sizes['plain']}, compact {sizes['compact']} ({sizes['compact'] / sizes['plain']:.3f}), "
        f"int8 {sizes['int8']} bytes; binary filters {binary['plain']}, compact {binary['compact']} "
        f"({binary['compact'] / binary['plain']:.4f}; log2(n)/9 is {least / binary['plain']:.4f})"
    )
    figures = {"sizes": sizes, "binary": binary, "memory": {}}
    for run, (engine, what) in RUNS.items():
        found = memory(engine, folder / f"{SMALL}_{what}.tflite", paths[what])
        figures["memory"][run] = found
        record.print(
            f"  {run:14s} "
            + ", ".join(f"{part} {kib / 1024:7.2f}" for part, kib in found.items())
            + " MiB"
        )
    record.figures[name] = figures


def main() -> None:
    """Makes the files, or measures them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=MEASURED, default=MEASURED)
    parser.add_argument("--models", type=Path, required=True, help="folder of the files")
    parser.add_argument("--make", action="store_true", help="makes the files")
    parser.add_argument("--output", help="writes OUTPUT.log and OUTPUT.json")
    args = parser.parse_args()
    if args.make:
        for name in [SMALL, *args.networks]:
            make(args.models, name)
        return
    record = Record(args.output)
    record.print(f"n = {NUM_CODEWORDS}; memory is the median of {ROUNDS} fresh processes")
    for name in args.networks:
        compare(record, args.models, name)
    record.write()


if __name__ == "__main__":
    main()
