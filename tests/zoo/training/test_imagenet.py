"""The input path of ImageNet, on a small generated set that TensorFlow Datasets itself made from tars."""

import io
import json
import re
import shutil
import tarfile

import larq_zoo as lqz
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from larq_zoo.training.data import preprocess_image_bytes
from PIL import Image

from larq_sks_zoo.training import datasets, imagenet
from larq_sks_zoo.training.optimizers import adam_and_sgd

CLASSES = ["n01440764", "n01443537", "n01484850", "n15075141"]
LABELS = [0, 1, 2, 999]
NUM_TRAIN, GREY = 26, 25
SIZE = 32
BLUE = 9
"""Blue of a training image divided by its number."""


def jpeg(pixels, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", quality=96, **options)
    return file.getvalue()


def position_image(number):
    """An image whose red is the row, green the column, and blue its number."""
    rng = np.random.default_rng(number)
    height, width = rng.integers(60, 250, 2)
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(height)[:, None], np.arange(width)
    pixels[..., 2] = BLUE * number
    return pixels


def texture(number):
    """An image like a photograph: smooth spots and some fine grain."""
    rng = np.random.default_rng(100 + number)
    height, width = rng.integers(100, 300, 2)
    spots = Image.fromarray(rng.integers(0, 256, (9, 11, 3), np.uint8))
    pixels = np.asarray(spots.resize((width, height), Image.Resampling.BICUBIC), np.int64)
    return np.clip(pixels + rng.integers(-9, 10, pixels.shape), 0, 255).astype(np.uint8)


def add(tar, name, data):
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data in the form of ImageNet, by the way that its users go: two tars and `tfds build`."""
    tars, data = tmp_path_factory.mktemp("tars"), tmp_path_factory.mktemp("tfds")
    with tarfile.open(tars / "ILSVRC2012_img_train.tar", "w") as train:
        for position, name in enumerate(CLASSES):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as tar:
                for number in range(position, NUM_TRAIN, len(CLASSES)):
                    mode = {GREY: "L", 24: "CMYK"}.get(number, "RGB")
                    chroma = {} if mode == "L" else {"subsampling": 2 * (number % 2)}
                    add(tar, f"{name}_{number}.JPEG", jpeg(position_image(number), mode, **chroma))
            add(train, f"{name}.tar", inner.getvalue())
    with tarfile.open(tars / "ILSVRC2012_img_val.tar", "w") as validation:
        for number in range(7):
            mode = "L" if number == 3 else "RGB"
            add(validation, f"ILSVRC2012_val_{number + 1:08d}.JPEG", jpeg(texture(number), mode))
    config = tfds.download.DownloadConfig(manual_dir=tars, try_download_gcs=False, num_shards=4)
    builder = tfds.builder("imagenet2012", data_dir=data)
    builder.download_and_prepare(download_dir=tars / "downloads", download_config=config)
    return data


def pixels(images):
    return np.asarray(images) * [58.395, 57.12, 57.375] + [123.675, 116.28, 103.53]


def numbers(images):
    """Which training image each of a batch is a part of."""
    found = []
    for image in pixels(images):
        grey = np.abs(image - image[..., :1]).max() < 1e-3
        found.append(GREY if grey else round(image[..., 2].mean() / BLUE))
    return found


def take(batches, count):
    return [(images.numpy(), labels.numpy()) for images, labels in batches.take(count)]


def assert_same_batches(batches, expected):
    for batch, other in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(batch[0], other[0])
        np.testing.assert_array_equal(batch[1], other[1])


def test_tells_what_it_holds(folder):
    data = datasets.read("imagenet2012", str(folder))
    assert (data.name, data.num_classes, data.image_shape) == ("imagenet2012", 1000, (224, 224, 3))
    assert (data.train_images, data.test_images) == (NUM_TRAIN, 7)
    spec = imagenet.read(str(folder), SIZE).batches(4, seed=0).element_spec
    assert spec[0].shape == (4, SIZE, SIZE, 3) and spec[0].dtype == tf.float32
    assert spec[1].shape == (4,) and spec[1].dtype.is_integer


def test_each_pass_shows_every_image_once_with_its_label(folder, monkeypatch):
    monkeypatch.setattr(imagenet, "_WINDOW", 8)  # several windows, the last one not full
    orders = []
    batches = take(imagenet.read(folder, SIZE).batches(NUM_TRAIN, seed=5), 3)
    for images, labels in batches:
        order = numbers(images)
        assert sorted(order) == list(range(NUM_TRAIN))
        assert labels.tolist() == [LABELS[number % len(LABELS)] for number in order]
        orders.append(order)
    assert orders[0] != orders[1] != orders[2]
    # The last, incomplete batch of a pass is left out.
    shown = [numbers(images) for images, _ in take(imagenet.read(folder, SIZE).batches(8, 5), 4)]
    assert [number for part in shown[:3] for number in part] == orders[0][:24]
    assert shown[3] == orders[1][:8]


def test_batches_depend_on_the_seed_alone(folder):
    batches = []
    for seed, of_all in [(1, 3), (1, 4), (2, 3)]:
        tf.keras.utils.set_random_seed(of_all)
        batches.append(take(imagenet.read(folder, SIZE).batches(10, seed), 5))
    assert_same_batches(batches[0], batches[1])
    assert [numbers(b) for b, _ in batches[0]] != [numbers(b) for b, _ in batches[2]]
    first, other = (
        {number: image for images, _ in run[:2] for number, image in zip(numbers(images), images)}
        for run in (batches[0], batches[2])
    )
    common = first.keys() & other.keys()
    assert common and not any(np.array_equal(first[number], other[number]) for number in common)


@pytest.mark.parametrize("first_step", [1, 2, 5])
def test_first_step_goes_on_where_a_run_stopped(folder, monkeypatch, first_step):
    monkeypatch.setattr(imagenet, "_WINDOW", 8)
    data = imagenet.read(folder, SIZE)
    whole = take(data.batches(10, seed=3), 7)
    rest = take(data.batches(10, seed=3, first_step=first_step), 7 - first_step)
    assert_same_batches(rest, whole[first_step:])


def test_training_images_are_random_parts_of_the_area_and_aspect_of_the_recipe(folder):
    areas, aspects, mirrored = [], [], []
    for images, _ in take(imagenet.read(folder, 64).batches(13, seed=0), 16):
        for number, image in zip(numbers(images), pixels(images), strict=True):
            if number == GREY:
                continue
            height, width = position_image(number).shape[:2]
            # Red grows by a row of the source at a time, green by a column; the border repeats.
            rows, columns = image[2:-3, :, 0].mean(1), image[:, 2:-3, 1].mean(0)
            row_step, top = np.polyfit(np.arange(2, 61), rows, 1)
            column_step, left = np.polyfit(np.arange(2, 61), columns, 1)
            mirrored.append(column_step < 0)
            if mirrored[-1]:
                column_step, left = -column_step, left + 63 * column_step
            part_height, part_width = 64 * row_step, 64 * column_step
            assert top > -2 and top + part_height < height + 2, number
            assert left > -2 and left + part_width < width + 2, number
            areas.append(part_height * part_width / (height * width))
            aspects.append(part_width / part_height)
            # The same part by PIL, whose curve is another, which does not show on a slope.
            source = Image.fromarray(position_image(number))
            box = (left, top, left + part_width, top + part_height)
            box = np.clip(box, 0, [width, height, width, height])
            expected = np.asarray(source.resize((64, 64), Image.Resampling.BILINEAR, box), float)
            seen = image[:, ::-1] if mirrored[-1] else image
            # Half a pixel of the source lies between their grids.
            shift = [column_step / 2, row_step / 2]
            difference = np.abs(seen - expected)[4:-4, 4:-4].reshape(-1, 3).mean(0)
            assert difference[0] < shift[1] + 2 and difference[1] < shift[0] + 2, number
            assert difference[2] < 2, number
    assert len(areas) == 200
    assert 0.075 < min(areas) < 0.15 and 0.85 < max(areas) < 1.05
    assert 0.70 < min(aspects) < 0.85 and 1.2 < max(aspects) < 1.40
    assert 0.4 < np.mean(mirrored) < 0.6


def cubic_weights(size, part):
    """How a row of `size` outputs is made of `part` inputs: Keys' curve, a = -0.75, corners aligned."""
    weights = np.zeros((size, part))
    for output in range(size):
        position = output * part / size
        for tap in range(int(position) - 1, int(position) + 3):
            x = abs(position - tap)
            near = 1.25 * x**3 - 2.25 * x**2 + 1
            far = -0.75 * (x**3 - 5 * x**2 + 8 * x - 4)
            weights[output, np.clip(tap, 0, part - 1)] += near if x <= 1 else far if x < 2 else 0
    return weights


def test_test_images_are_central_crops_as_pil_and_numpy_make_them(folder):
    data = imagenet.read(folder, SIZE)
    batches = list(data.test(3))
    assert [len(labels) for _, labels in batches] == [3, 3, 1]
    images = np.concatenate([pixels(images) for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    stored = tfds.load("imagenet2012", split="validation", data_dir=folder, download=False)
    seen = []
    for image, label, example in zip(images, labels, stored.as_numpy_iterator(), strict=True):
        number = int(re.search(rb"_0*(\d+)\.JPEG", example["file_name"])[1]) - 1
        seen.append(number)
        assert label == example["label"]
        source = jpeg(texture(number), "L" if number == 3 else "RGB")
        decoded = np.asarray(Image.open(io.BytesIO(source)).convert("RGB"), float)
        height, width = decoded.shape[:2]
        side = int(0.875 * min(height, width))
        top, left = (height - side + 1) // 2, (width - side + 1) // 2
        weights = cubic_weights(SIZE, side)
        part = decoded[top : top + side, left : left + side]
        expected = np.einsum("ir,rcd,jc->ijd", weights, part, weights)
        # TensorFlow's default decoder is a fast one; a window one pixel off is 5 levels off in the mean.
        difference = np.abs(image - expected)
        assert difference.max() < 15 and difference.mean() < 3, number
    assert sorted(seen) == list(range(7))


def test_test_images_are_those_of_larq_zoo(folder):
    stored = tfds.load(
        "imagenet2012",
        split="validation",
        data_dir=folder,
        download=False,
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    images = np.concatenate([images for images, _ in imagenet.read(folder).test(4)])
    for image, example in zip(images, stored, strict=True):
        np.testing.assert_allclose(image, preprocess_image_bytes(example["image"]), atol=1e-5)


def test_a_network_of_larq_zoo_learns_from_it(folder):
    tf.keras.utils.set_random_seed(0)
    data = imagenet.read(folder, SIZE)
    model = lqz.sota.QuickNetSmall(weights=None, input_shape=data.image_shape)
    optimizer = adam_and_sgd(1e-3, lambda rate: rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(
        data.batches(13, seed=0),
        steps_per_epoch=4,
        epochs=2,
        validation_data=data.test(4),
        verbose=0,
    ).history
    assert history["loss"][1] < history["loss"][0] < 10
    assert 0 <= history["val_accuracy"][1] <= 1


def test_files_of_the_earlier_version_are_read(folder, tmp_path):
    new, old = (path / "imagenet2012" for path in (folder, tmp_path))
    shutil.copytree(new / "5.1.0", old / "5.0.0")
    path = old / "5.0.0" / "dataset_info.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "version": "5.0.0"}))
    data = imagenet.read(tmp_path, SIZE)
    assert data.train_images == NUM_TRAIN
    assert_same_batches(
        take(data.batches(9, 0), 1), take(imagenet.read(folder, SIZE).batches(9, 0), 1)
    )


def test_missing_data_and_wrong_arguments_are_refused(folder, tmp_path):
    with pytest.raises(
        ValueError, match=f"no data set 'imagenet2012' in '{tmp_path}'.*image-net.org.*tfds build"
    ) as error:
        imagenet.read(tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="`image_size` must be an integer.*image_size=0"):
        imagenet.read(folder, image_size=0)
    data = imagenet.read(folder, SIZE)
    with pytest.raises(ValueError, match="`batch_size`.*images.*26.*batch_size=27"):
        data.batches(27, seed=0)
    with pytest.raises(ValueError, match="`first_step` must be 0 or more.*-1"):
        data.batches(4, seed=0, first_step=-1)
    with pytest.raises(ValueError, match="`seed`"):
        data.batches(4, seed=-1)
