"""ImageNet for training and testing, read from the files of TensorFlow Datasets as they are needed.

Images stay JPEG until they are cropped, and at most two windows of 2,048 of them (about 450 MB) are held
at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from larq_sks._checks import check_seed, is_integer
from larq_sks_zoo.training.datasets import Data, folder_of, missing

_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)
_CENTRAL = 224 / 256
"""The central crop of a test image as a part of its short side."""
_AREA, _ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)

_WINDOW = 2048
"""Records that are shuffled among each other."""
_FILES_AT_ONCE = 16
# What a random number decides, so that no two are drawn alike.
_ORDER_OF_FILES, _ORDER_IN_WINDOW, _CROP, _MIRROR = range(4)


def read(data_dir: str | Path | None, image_size: int = 224) -> Data:
    """Reads ImageNet (ILSVRC 2012) as TensorFlow Datasets' `imagenet2012` keeps it.

    For training, a random part of each image (8 to 100 % of its area, aspect 3:4 to 4:3) is decoded, resized
    and mirrored at random; for testing, its central square of 7/8 of the short side is. Resizing and
    scaling of the pixels are larq-zoo's.

    Every random choice is a function of the seed and the number of the step: the order of the files in a
    pass, the order of the records within windows of 2,048, crops and mirrors. The last incomplete batch of
    a pass is dropped. `first_step` skips to where a run stopped: whole passes at once, in the last pass
    by reading records without decoding them, which takes minutes on full ImageNet.

    Example:
        ```python
        data = read("/data/tfds")
        model.fit(data.batches(256, seed=0), steps_per_epoch=data.train_images // 256)
        ```

    Arguments:
        data_dir: Folder of TensorFlow Datasets; `None` for its default, `~/tensorflow_datasets`.
        image_size: Height and width of the images that come out, in pixels, 1 or more.

    Returns:
        The data: float32 images `(image_size, image_size, 3)` and labels from 0 to 999; `test` is the
            validation split, as the test split has no labels.

    Raises:
        ValueError: If the data set is not there, or `image_size` is out of range; from `batches`, if a batch
            is larger than the data set or `first_step` is negative.

    References:
        - [ImageNet Large Scale Visual Recognition Challenge](https://arxiv.org/abs/1409.0575)
    """
    if not is_integer(image_size) or image_size < 1:
        raise ValueError(
            f"`image_size` must be an integer of 1 or more. Received: image_size={image_size!r}."
        )
    import tensorflow_datasets as tfds

    # Any version of the same examples: 5.0.0 differs from 5.1.0 in the test split alone.
    builder = tfds.builder("imagenet2012:5.*.*", data_dir=data_dir)
    splits = builder.info.splits
    if "train" not in splits or "validation" not in splits:
        raise missing("imagenet2012", folder_of(data_dir))
    train_files, test_files = (
        [str(path) for path in splits[name].filepaths] for name in ("train", "validation")
    )
    count = splits["train"].num_examples

    def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        jpeg = {"image": tfds.decode.SkipDecoding()}
        example = builder.info.features.deserialize_example(record, decoders=jpeg)
        return example["image"], example["label"]

    def batches(batch_size: int, seed: int, first_step: int = 0) -> tf.data.Dataset:
        check_seed(seed)
        if not 1 <= batch_size <= count:
            raise ValueError(
                f"`batch_size` must be between 1 and the number of images ({count}). "
                f"Received: batch_size={batch_size}."
            )
        if first_step < 0:
            raise ValueError(f"`first_step` must be 0 or more. Received: first_step={first_step}.")

        def example(position: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            jpeg, label = parse(record)
            return _for_training(jpeg, image_size, seed, position), label

        used = count // batch_size * batch_size
        first_pass, skipped = divmod(first_step * batch_size, used)
        passes = tf.data.Dataset.counter(first_pass)
        records = passes.flat_map(
            lambda number: _shuffled(train_files, count, seed, number).take(used)
        )
        records = records.enumerate(first_pass * used).skip(skipped)
        examples = records.map(example, num_parallel_calls=tf.data.AUTOTUNE)
        return _with_options(examples.batch(batch_size, drop_remainder=True))

    def test(batch_size: int) -> tf.data.Dataset:
        def example(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            jpeg, label = parse(record)
            return _for_testing(jpeg, image_size), label

        records = tf.data.TFRecordDataset(test_files)
        examples = records.map(example, num_parallel_calls=tf.data.AUTOTUNE)
        return _with_options(examples.batch(batch_size))

    return Data(
        name="imagenet2012",
        image_shape=(image_size, image_size, 3),
        num_classes=builder.info.features["label"].num_classes,
        train_images=count,
        test_images=splits["validation"].num_examples,
        batches=batches,
        test=test,
    )


def _with_options(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # By files, the batches would depend on the number of workers.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options).prefetch(2)


def _key(choice: int, seed: int, number: tf.Tensor) -> tf.Tensor:
    """Makes the seed of a stateless operation."""
    return tf.stack([tf.constant(seed + (choice << 32), tf.int64), number])


def _permutation(count: int | tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    return tf.argsort(tf.random.stateless_uniform([count], key, alg="philox"))


def _shuffled(files: Sequence[str], count: int, seed: int, number: tf.Tensor) -> tf.data.Dataset:
    """Lists all records, undecoded, in the order of a pass over the data."""
    order = _permutation(len(files), _key(_ORDER_OF_FILES, seed, number))
    records = tf.data.Dataset.from_tensor_slices(tf.gather(tf.constant(files), order)).interleave(
        tf.data.TFRecordDataset,
        cycle_length=_FILES_AT_ONCE,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    # Keras' and tf.data's own shuffling depends on the global seed too.
    windows = -(-count // _WINDOW)

    def shuffle(window_number: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
        key = _key(_ORDER_IN_WINDOW, seed, number * windows + window_number)
        return tf.gather(window, _permutation(tf.shape(window)[0], key))

    return records.batch(_WINDOW).enumerate().map(shuffle).prefetch(1).unbatch()


def _for_training(jpeg: tf.Tensor, size: int, seed: int, position: tf.Tensor) -> tf.Tensor:
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.image.extract_jpeg_shape(jpeg),
        bounding_boxes=tf.zeros((1, 0, 4)),
        seed=_key(_CROP, seed, position),
        min_object_covered=0.0,
        aspect_ratio_range=_ASPECT,
        area_range=_AREA,
        use_image_if_no_bounding_boxes=True,
    )
    image = _cropped(jpeg, begin[0], begin[1], extent[0], extent[1], size)
    draw = tf.random.stateless_uniform([], _key(_MIRROR, seed, position), alg="philox")
    return tf.where(draw < 0.5, image[:, ::-1], image)


def _for_testing(jpeg: tf.Tensor, size: int) -> tf.Tensor:
    shape = tf.image.extract_jpeg_shape(jpeg)
    side = tf.cast(_CENTRAL * tf.cast(tf.minimum(shape[0], shape[1]), tf.float32), tf.int32)
    top, left = (shape[0] - side + 1) // 2, (shape[1] - side + 1) // 2
    return _cropped(jpeg, top, left, side, side, size)


def _cropped(jpeg: tf.Tensor, top, left, height, width, size: int) -> tf.Tensor:
    """Decodes a part of an image, resizes it and scales its pixels."""
    image = tf.image.decode_and_crop_jpeg(jpeg, [top, left, height, width], channels=3)
    # Not `tf.image.resize`, whose bicubic curve and pixel centres are others than larq-zoo's.
    image = tf.raw_ops.ResizeBicubic(images=image[tf.newaxis], size=[size, size])[0]
    return (tf.ensure_shape(image, (size, size, 3)) - _MEAN) / _STD
