"""What all tests share."""

import random
import sys

import numpy as np
import tensorflow as tf


def _set_random_seed(seed):
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global generator is what is to be seeded
    tf.random.set_seed(seed)


# tf-keras 2.18 draws seeds with `randint(1, 1e9)` after its own function was called, and Python 3.12
# refuses a float there.
if sys.version_info >= (3, 12):
    tf.keras.utils.set_random_seed = _set_random_seed
