"""Small colour images: the sample that travels with the package, scaling and augmentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

_DATA = Path(__file__).parent / "data"
_SIZE = 32
# Standard deviation and mean of CIFAR-10's training pixels, all channels together, in units of 255.
_MEAN, _STD = 0.473, 0.251

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
"""What the labels 0 to 9 of CIFAR-10 stand for."""


def load_cifar10_sample() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Loads the sample of real CIFAR-10 images that is part of the package.

    Example:
        ```python
        (train_images, train_labels), (test_images, test_labels) = zoo.load_cifar10_sample()
        ```

    Returns:
        Two pairs, for training and for testing: images as uint8 `(count, 32, 32, 3)` with 1,500 and
            1,000 images, and classes 0 to 9 as int64 `(count,)`, equally many of each.

    References:
        - [Learning Multiple Layers of Features from Tiny Images](https://www.cs.toronto.edu/~kriz/cifar.html)
    """
    return _read_sheet("train"), _read_sheet("test")


def _read_sheet(part: str) -> tuple[np.ndarray, np.ndarray]:
    sheet = tf.io.decode_png(tf.io.read_file(str(_DATA / f"cifar10_{part}.png"))).numpy()
    rows, columns = sheet.shape[0] // _SIZE, sheet.shape[1] // _SIZE
    images = sheet.reshape(rows, _SIZE, columns, _SIZE, 3).swapaxes(1, 2)
    digits = (_DATA / f"cifar10_{part}_labels.txt").read_text().split()
    labels = np.array([int(digit) for row in digits for digit in row], np.int64)
    return images.reshape(-1, _SIZE, _SIZE, 3), labels


def preprocess_input(images: tf.Tensor) -> tf.Tensor:
    """Scales pixels to what the networks of this zoo take: about zero mean and unit variance.

    Example:
        ```python
        scores = model.predict(zoo.preprocess_input(images))
        ```

    Arguments:
        images: Pixels from 0 to 255 of any shape and numeric dtype.

    Returns:
        A float32 tensor of the same shape.
    """
    return (tf.cast(images, tf.float32) / 255.0 - _MEAN) / _STD


def augmented(
    images: np.ndarray, labels: np.ndarray, batch_size: int, seed: int = 0, first_step: int = 0
) -> tf.data.Dataset:
    """Makes an endless dataset of shuffled, randomly mirrored and shifted batches for training.

    Every random choice is a function of `seed` and of the number of the batch alone, so the same
    seed gives the same batches on every machine. The last incomplete batch of a pass is dropped.

    Example:
        ```python
        batches = zoo.augmented(images, labels, batch_size=128)
        model.fit(batches, steps_per_epoch=len(images) // 128, epochs=5)
        ```

    Arguments:
        images: Pixels as uint8 `(count, height, width, channels)`.
        labels: Classes as integers `(count,)`.
        batch_size: Images a batch, from 1 to `count`.
        seed: An integer; other seeds give other batches.
        first_step: Number of the batch to begin with, 0 or more: those before it are not made.

    Returns:
        An endless `tf.data.Dataset` of pairs: preprocessed float32 images
            `(batch_size, height, width, channels)` and labels `(batch_size,)`.

    Raises:
        ValueError: If `batch_size` is not between 1 and the number of images, if `first_step` is below 0,
            or if the labels are not as many as the images.
    """
    count, height, width = images.shape[:3]
    if len(labels) != count:
        raise ValueError(
            f"`labels` must be as many as the images, {count}. Received: {len(labels)} labels."
        )
    if not 1 <= batch_size <= count:
        raise ValueError(
            f"`batch_size` must be between 1 and the number of images ({count}). "
            f"Received: batch_size={batch_size}."
        )
    if first_step < 0:
        raise ValueError(f"`first_step` must be 0 or more. Received: first_step={first_step}.")
    shift = 4
    border = [[0, 0], [shift, shift], [shift, shift], [0, 0]]
    # Padded as bytes, which keeps all of CIFAR-10 at a quarter of a gigabyte; grey is about zero.
    pixels = tf.pad(images, border, constant_values=round(255 * _MEAN))
    classes = tf.constant(labels)
    seed = tf.constant(seed, tf.int64)

    def shuffled(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(
            tf.range(count), tf.stack([seed, epoch]), alg="philox"
        )
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder=True)

    def make_batch(step: tf.Tensor, chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        top, left, mirror = tf.unstack(
            tf.random.stateless_uniform(
                [3, batch_size, 1],
                tf.stack([seed, step]),
                maxval=tf.int32.max,
                dtype=tf.int32,
                alg="philox",
            )
        )
        rows = top % (2 * shift + 1) + tf.range(height)
        columns = tf.where(mirror % 2 == 0, tf.range(width), tf.range(width)[::-1])
        columns += left % (2 * shift + 1)
        batch = tf.gather(tf.gather(pixels, chosen), rows, axis=1, batch_dims=1)
        batch = tf.gather(batch, columns, axis=2, batch_dims=1)
        return preprocess_input(batch), tf.gather(classes, chosen)

    passes, left = divmod(first_step, count // batch_size)
    # Skipped as numbers of images, which costs nothing.
    batches = tf.data.Dataset.counter(passes).flat_map(shuffled).skip(left)
    return batches.enumerate(first_step).map(make_batch).prefetch(2)
