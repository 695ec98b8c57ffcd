"""On which devices a run computes, and with how many bits."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import tensorflow as tf

DISTRIBUTIONS = ("mirrored", "multi-worker")


def strategy(distribute: str | None) -> tf.distribute.Strategy:
    """Makes the strategy that `run.train` is asked for; workers must call it before all else."""
    if distribute is None:
        return tf.distribute.get_strategy()
    if distribute == "mirrored":
        return tf.distribute.MirroredStrategy()
    if distribute != "multi-worker":
        raise ValueError(
            f"`distribute` must be one of {DISTRIBUTIONS}, or `None`. Received: {distribute!r}."
        )
    if "TF_CONFIG" not in os.environ:
        raise ValueError(
            "The environment variable TF_CONFIG must name the workers and which of them this is, such as "
            '{"cluster": {"worker": ["host1:1234", "host2:1234"]}, "task": {"type": "worker", "index": 0}}.'
        )
    return tf.distribute.MultiWorkerMirroredStrategy()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Tells whether this process writes the files: the chief, or else the first worker."""
    resolver = strategy.cluster_resolver
    if resolver is None or "worker" not in resolver.cluster_spec().jobs:
        return True
    first = "chief" if "chief" in resolver.cluster_spec().jobs else "worker"
    return (resolver.task_type, resolver.task_id) == (first, 0)


def precision(mixed: bool) -> str:
    """Names the policy of Keras to train with: that which the device computes fast in 16 bits."""
    if not mixed:
        return "float32"
    return "mixed_float16" if tf.config.list_physical_devices("GPU") else "mixed_bfloat16"


@contextlib.contextmanager
def policy(precision: str) -> Iterator[None]:
    """Builds networks with a policy of Keras, without leaving it behind."""
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(precision)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)
