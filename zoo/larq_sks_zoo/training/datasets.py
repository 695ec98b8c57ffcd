"""Data sets in the form in which recipes take them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from larq_sks_zoo.images import augmented, load_cifar10_sample, preprocess_input

NAMES = ("cifar10_sample", "cifar10", "cifar100", "imagenet2012")


@dataclass(frozen=True)
class Data:
    """A data set of images with classes: augmented batches to learn from, and images to test on."""

    name: str
    image_shape: tuple[int, ...]
    """Height, width and channels."""
    num_classes: int
    train_images: int
    test_images: int
    batches: Callable[..., tf.data.Dataset]
    """From `batch_size`, `seed` and `first_step=0` to an endless dataset of preprocessed images and
    integer labels, from that step on. The batch of a step depends on the seed and the step alone."""
    test: Callable[[int], tf.data.Dataset]
    """From a batch size to all test images and their labels, in order."""


def read(name: str, data_dir: str | os.PathLike | None = None) -> Data:
    """Opens a data set for training. Nothing is downloaded.

    Example:
        ```python
        data = datasets.read("cifar10_sample")
        images, labels = next(iter(data.batches(128, seed=0)))
        ```

    Arguments:
        name: `"cifar10"`, `"cifar100"` or `"imagenet2012"`, in a folder of TensorFlow Datasets; or
            `"cifar10_sample"`, 1,500 and 1,000 images that come with the package.
        data_dir: That folder. `None`: what the environment variable TFDS_DATA_DIR says, or else
            `~/tensorflow_datasets`.

    Returns:
        The data set.

    Raises:
        ValueError: If the name is unknown or the data set is not in the folder; the message says how to
            get it.
    """
    if name not in NAMES:
        raise ValueError(f"`name` must be one of {NAMES}. Received: name={name!r}.")
    if name == "cifar10_sample":
        return _in_memory(name, 10, *load_cifar10_sample())
    # An own word for "not there": TensorFlow Datasets would begin with advice on how to configure it.
    folder = folder_of(data_dir)
    if not (folder / name).is_dir():
        raise missing(name, folder)
    if name == "imagenet2012":
        from larq_sks_zoo.training import imagenet

        return imagenet.read(folder)
    import tensorflow_datasets as tfds

    try:
        parts = tfds.load(name, data_dir=folder, batch_size=-1, download=False)
    except (AssertionError, FileNotFoundError) as error:  # another version, or half of it
        raise missing(name, folder) from error
    pairs = [
        (parts[split]["image"].numpy(), parts[split]["label"].numpy())
        for split in ("train", "test")
    ]
    return _in_memory(name, {"cifar10": 10, "cifar100": 100}[name], *pairs)


def folder_of(data_dir: str | os.PathLike | None) -> Path:
    """Says where data sets are: in a folder that was named, or in the usual one."""
    folder = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    return folder.expanduser()


def missing(name: str, folder: Path) -> ValueError:
    """Makes the error that says how to get a data set that is not there."""
    if name == "imagenet2012":
        hint = (
            "get ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from https://image-net.org (which "
            f"asks you to register) into a folder TARS and run: tfds build {name} --data_dir='{folder}' "
            "--manual_dir=TARS"
        )
    else:
        call = f"tfds.load('{name}', data_dir='{folder}')"
        hint = f'get it with: python -c "import tensorflow_datasets as tfds; {call}"'
        if name == "cifar10":
            hint += " A few of its images are in the package: cifar10_sample."
    return ValueError(
        f"There is no data set '{name}' in '{folder}'. Name another folder by --data-dir or "
        f"TFDS_DATA_DIR, or {hint}"
    )


def _in_memory(name, num_classes, train, test) -> Data:
    def batches(batch_size: int, seed: int, first_step: int = 0) -> tf.data.Dataset:
        images, labels = train
        return augmented(images, labels, batch_size, seed, first_step)

    def test_batches(batch_size: int) -> tf.data.Dataset:
        images = tf.data.Dataset.from_tensor_slices(test)
        return images.batch(batch_size).map(
            lambda images, labels: (preprocess_input(images), labels)
        )

    _, *shape = np.shape(train[0])
    return Data(name, tuple(shape), num_classes, len(train[0]), len(test[0]), batches, test_batches)
