"""Data sets for training."""

import networks
import numpy as np
import pytest

import larq_sks_zoo as zoo
from larq_sks_zoo.training import datasets

TFDS = networks.SHARED / "tfds"


def assert_equal_batches(first, second):
    for (images, labels), (others, other_labels) in zip(first, second, strict=True):
        np.testing.assert_array_equal(images, others)
        np.testing.assert_array_equal(labels, other_labels)


@pytest.mark.parametrize("first_step", [0, 1, 10, 11, 25])
def test_batches_from_a_step_on_are_those_of_the_whole_run(first_step):
    data = datasets.read("cifar10_sample")
    # 11 batches a pass.
    whole = data.batches(128, 3).take(27).skip(first_step).as_numpy_iterator()
    later = data.batches(128, 3, first_step).take(27 - first_step).as_numpy_iterator()
    assert_equal_batches(list(whole), list(later))


def test_a_late_first_step_costs_no_time():
    data = datasets.read("cifar10_sample")
    image, _ = next(data.batches(128, 0, 10**12).as_numpy_iterator())
    assert image.shape == (128, 32, 32, 3)


def test_a_step_below_0_is_refused():
    with pytest.raises(ValueError, match="`first_step`.*-1"):
        datasets.read("cifar10_sample").batches(128, 0, -1)


def test_the_sample_is_tested_on_all_its_images_in_order():
    data = datasets.read("cifar10_sample")
    _, (images, labels) = zoo.load_cifar10_sample()
    parts = list(data.test(300).as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([p[1] for p in parts]), labels)
    np.testing.assert_array_equal(
        np.concatenate([part[0] for part in parts]), zoo.preprocess_input(images)
    )
    assert (data.test_images, data.train_images, data.num_classes) == (1000, 1500, 10)
    assert data.image_shape == (32, 32, 3)


@pytest.mark.skipif(not TFDS.is_dir(), reason="CIFAR-10 is not there")
def test_cifar10_is_read_from_the_folder_or_the_environment(monkeypatch):
    data = datasets.read("cifar10", TFDS)
    assert (data.train_images, data.test_images, data.num_classes) == (50_000, 10_000, 10)
    monkeypatch.setenv("TFDS_DATA_DIR", str(TFDS))
    again = datasets.read("cifar10")
    assert_equal_batches(
        list(data.batches(8, 0).take(2).as_numpy_iterator()),
        list(again.batches(8, 0).take(2).as_numpy_iterator()),
    )


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagenet2012"])
def test_a_missing_data_set_is_told_with_how_to_get_it(name, tmp_path, monkeypatch):
    for folder in (tmp_path, None):
        monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "there"))
        with pytest.raises(ValueError, match=f"no data set '{name}'") as error:
            datasets.read(name, folder)
        message = str(error.value)
        assert str(folder or tmp_path / "there") in message and "\n" not in message
        if name == "imagenet2012":
            assert "run: tfds build imagenet2012 --data_dir=" in message
        else:
            code = message.split('python -c "')[1].split('"')[0]
            assert f"tfds.load('{name}'" in code and compile(code, "hint", "exec")
    (tmp_path / name / "3.0.2").mkdir(parents=True)  # half of it
    with pytest.raises(ValueError, match=name):
        datasets.read(name, tmp_path)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="`name`.*cifar10.*'mnist'"):
        datasets.read("mnist")
