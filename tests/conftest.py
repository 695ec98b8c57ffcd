"""What all tests share."""

import json
import random
import socket
import sys

import numpy as np
import pytest
import tensorflow as tf


def _set_random_seed(seed):
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global generator is what is to be seeded
    tf.random.set_seed(seed)


# tf-keras 2.18 draws seeds with `randint(1, 1e9)` after its own function was called, and Python 3.12
# refuses a float there.
if sys.version_info >= (3, 12):
    tf.keras.utils.set_random_seed = _set_random_seed


@pytest.fixture
def two_workers():
    """The environment variable TF_CONFIG of two workers on this machine, on ports that are free."""
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    workers = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return [
        json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
        for index in range(2)
    ]
