"""Times whole networks: Larq Compute Engine at each setting, and this runtime classic, shared and automatic.

taskset -c 1 python network.py --output results/CPU/network
python network.py --threads 2 --output results/CPU/threads        # on an idle machine: wall-clock time
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import larq_sks as sks
import numpy as np
from measure import LCE_SETTINGS, Record, alternate, best, lce, quartiles, ratio, stock
from models import NETWORKS, cached

TIMED = ("QuickNet", "QuickNetSmall", "ResNet20", "QuickNetSmall32")


def compare(record: Record, name: str, data: bytes, seconds: float, isa: str) -> None:
    """Prints the times of one network."""
    calls = {setting: lce(data, **settings) for setting, settings in LCE_SETTINGS.items()}
    calls |= {
        kernel: stock(data, num_threads=1, kernel=kernel, isa=isa)
        for kernel in ("classic", "shared", "auto")
    }
    expected = np.asarray(calls["LCE indirect, XNNPACK"]()).ravel()
    differences = {
        kernel: float(np.abs(calls[kernel]().ravel() - expected).max())
        for kernel in ("classic", "shared", "auto")
    }
    times, first = alternate(calls, seconds)
    record.figures[name] = {"again": times, "first": first}
    record.print(
        f"{name}, {len(times['auto'])} rounds; largest difference from LCE's outputs {max(differences.values()):.2g}"
    )
    for call in times:
        low, middle, high = quartiles(times[call])
        record.print(
            f"  {call:22s} {middle:8.3f} ({low:.3f} to {high:.3f}), first call {quartiles(first[call])[1]:8.3f}"
        )
    lce_best = best(times, LCE_SETTINGS)
    for what, of in (("takes", times), ("takes in the first call", first)):
        ratios = ", ".join(f"{kernel} {ratio(of, lce_best, kernel):.2f}" for kernel in differences)
        record.print(f"  {lce_best} {what} as long as: {ratios} times")


def compare_threads(
    record: Record, name: str, data: bytes, seconds: float, isa: str, threads: int
) -> None:
    """Prints the times of one network with one thread and with several, of the interpreter, of ours and of both."""
    numbers = {
        "one thread": (1, 1),
        f"{threads} threads": (threads, threads),
        f"{threads} of the interpreter": (threads, 1),
        f"{threads} of ours": (1, threads),
    }
    calls = {
        call: stock(data, threads=of_interpreter, num_threads=ours, isa=isa)
        for call, (of_interpreter, ours) in numbers.items()
    }
    # Threads sleep between rounds: more calls in a row, so that their awakening counts as in a stream of images.
    times, _ = alternate(calls, seconds, time.perf_counter, again_each=20)
    record.figures[name] = times
    for call in times:
        low, middle, high = quartiles(times[call])
        record.print(
            f"  {name}, {call}: {middle:8.3f} ({low:.3f} to {high:.3f}); "
            f"one thread takes {ratio(times, 'one thread', call):.2f} times as long"
        )


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=TIMED, default=TIMED)
    parser.add_argument("--seconds", type=float, default=15, help="for each network")
    parser.add_argument(
        "--threads", type=int, help="compares this many threads with one, in place of all else"
    )
    parser.add_argument(
        "--models",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="folder in which files are kept",
    )
    parser.add_argument("--isa", default="auto", help="the kernels' instruction set")
    parser.add_argument("--output", help="writes OUTPUT.log and OUTPUT.json")
    args = parser.parse_args()
    record = Record(args.output)
    record.print(
        f"n = 32, isa {args.isa}; ms, median (quartiles): "
        + ("wall clock" if args.threads else "processor time of the one thread")
    )
    for name in args.networks:
        data = cached(
            args.models / f"{name}_32.tflite",
            lambda path, name=name: sks.to_tflite(NETWORKS[name](), path),
        )
        if args.threads:
            compare_threads(record, name, data, args.seconds, args.isa, args.threads)
        else:
            compare(record, name, data, args.seconds, args.isa)
    record.write()


if __name__ == "__main__":
    main()
