"""What a run leaves when it is done: the files of the network, its accuracy and sizes, and how it was made."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import tensorflow as tf

import larq_sks as sks
from larq_sks_zoo import pretrained
from larq_sks_zoo.training import folder
from larq_sks_zoo.training.datasets import Data

_NUMERICS = ("TF_", "OMP_", "ONEDNN_", "XLA_", "CUDA_", "NVIDIA_TF32", "CUBLAS_")
"""Beginnings of the names of environment variables that may change the last bits..."""
_NO_NUMERICS = ("TF_CONFIG", "TF_CPP_", "TF_CLI_")
"""... and of those that do not."""


def measured(model: tf.keras.Model, data: Data) -> dict:
    """Measures accuracy in percent of all test images, sizes and operations."""
    correct = sum(
        int(np.sum(model.predict_on_batch(images).argmax(axis=-1) == labels))
        for images, labels in data.test(500).as_numpy_iterator()
    )
    figures = sks.models.summary(model, print_fn=lambda line: None)
    return {
        "accuracy": 100 * correct / data.test_images,
        "test_images": data.test_images,
        "image_shape": data.image_shape,
        "num_classes": data.num_classes,
        **pretrained.figures_of(figures),
        "binary_bits": figures.cost.bits,
        "codebook_bits": figures.cost.codebook_bits,
        "model_bits": figures.bits,
    }


def write(model: tf.keras.Model, output: Path, num_codewords: int | None) -> dict:
    """Writes the network and says to which file, and if not to a .sks file, why."""
    with tempfile.TemporaryDirectory(dir=output) as aside:
        temporary = Path(aside, folder.WEIGHTS)
        model.save_weights(temporary)
        os.replace(temporary, output / folder.WEIGHTS)
    # The latent weights of 1-bit networks, for those who begin with them.
    path = output / folder.NETWORK
    note = None
    try:
        sks.save(model, path, latent=num_codewords is None)
    except ValueError as error:  # some of larq-zoo's networks hold what such a file cannot
        path, note = output / folder.WEIGHTS, f"No {folder.NETWORK}: {error}"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": digest, "note": note}


def surroundings(began: datetime.datetime) -> dict:
    """Says by what and where the run was made."""
    now = datetime.datetime.now(datetime.timezone.utc)
    gpus = [
        tf.config.experimental.get_device_details(gpu).get("device_name", "GPU")
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    packages = ("larq-sks", "larq", "tensorflow", "tensorflow-cpu", "tf-keras", "numpy")
    versions = {"python": platform.python_version()}
    for name in packages:
        with contextlib.suppress(ModuleNotFoundError):
            versions[name] = version(name)
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "began": began.isoformat(timespec="seconds"),
        "finished": now.isoformat(timespec="seconds"),
        "versions": versions,
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "system": platform.system(),
            "gpus": gpus,
        },
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(_NUMERICS) and not name.startswith(_NO_NUMERICS)
        },
    }
