"""Writes what each network of the zoo takes at 1 bit a weight, for `larq-sks zoo`: building all takes too long there.

python zoo/architectures.py
"""

from __future__ import annotations

import json
from collections.abc import Callable

import tensorflow as tf

import larq_sks as sks
import larq_sks_zoo as zoo
from larq_sks._files import write_atomically
from larq_sks_zoo import pretrained


def figures(build: Callable[[], tf.keras.Model]) -> dict[str, float]:
    """Measures a network without codewords: bytes with one bit a binary weight and 32 for each other."""
    tf.keras.backend.clear_session()
    summary = sks.models.summary(build(), print_fn=lambda line: None)
    return {"bytes": int(summary.bits) // 8, **pretrained.figures_of(summary)}


def main() -> None:
    """Builds every network."""
    found = {build.__name__: figures(build) for build in zoo.NETWORKS}
    write_atomically(pretrained.ARCHITECTURES, (json.dumps(found, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
