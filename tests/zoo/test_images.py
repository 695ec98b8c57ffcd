"""The sample of CIFAR-10, scaling and augmentation."""

import numpy as np
import pytest

import larq_sks_zoo as zoo


def test_sample_is_balanced_real_images():
    train, test = zoo.load_cifar10_sample()
    for (images, labels), count in ((train, 1500), (test, 1000)):
        assert images.shape == (count, 32, 32, 3) and images.dtype == np.uint8
        assert np.bincount(labels).tolist() == [count // 10] * 10
        # Neighbouring pixels of photographs are alike, those of a wrongly cut sheet less so.
        steps = np.abs(np.diff(images.astype(float), axis=2)).mean()
        assert steps < 15
    assert not {image.tobytes() for image in train[0]} & {image.tobytes() for image in test[0]}


def test_preprocessed_images_have_about_zero_mean_and_unit_variance():
    (images, _), _ = zoo.load_cifar10_sample()
    inputs = zoo.preprocess_input(images).numpy()
    assert inputs.dtype == np.float32
    assert abs(inputs.mean()) < 0.05 and abs(inputs.std() - 1) < 0.05


def test_augmented_batches_depend_on_the_seed_alone():
    (images, labels), _ = zoo.load_cifar10_sample()

    def first_batches(seed):
        return [image.numpy() for image, _ in zoo.augmented(images, labels, 64, seed).take(3)]

    np.testing.assert_array_equal(first_batches(1), first_batches(1))
    assert not np.array_equal(first_batches(1), first_batches(2))


def test_augmented_batches_are_shifted_and_mirrored_images_with_their_labels():
    rows, columns = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")
    images = np.zeros((40, 32, 32, 3), np.uint8)
    images[..., 0], images[..., 1] = rows, columns
    images[..., 2] = np.arange(40)[:, np.newaxis, np.newaxis]
    labels = np.arange(40)
    shifts, mirrored, seen = set(), set(), []
    for batch, batch_labels in zoo.augmented(images, labels, 20).take(8):
        # Back to pixels; the grey border is 121.
        pixels = np.round((batch.numpy() * 0.251 + 0.473) * 255).astype(int)
        seen += batch_labels.numpy().tolist()
        for image, label in zip(pixels, batch_labels.numpy(), strict=True):
            inside = (image != 121).all(-1)
            assert (image[inside][:, 2] == label).all()
            top, left = image[16, 16, 0] - 16, image[16, 16, 1]
            is_mirrored = image[16, 15, 1] > image[16, 17, 1]
            shifts.add((top, left - (15 if is_mirrored else 16)))
            mirrored.add(bool(is_mirrored))
    assert mirrored == {True, False}
    assert len(shifts) > 30 and max(max(map(abs, shift)) for shift in shifts) == 4
    # Each pass shows every image once.
    assert [sorted(seen[i : i + 40]) for i in range(0, 160, 40)] == [list(range(40))] * 4


@pytest.mark.parametrize("batch_size", [0, 1501])
def test_augmented_refuses_a_batch_that_the_images_cannot_fill(batch_size):
    (images, labels), _ = zoo.load_cifar10_sample()
    with pytest.raises(ValueError, match=f"`batch_size`.*1500.*batch_size={batch_size}"):
        zoo.augmented(images, labels, batch_size)
