"""Whole stories on real data: what a user does from beginning to end."""

from pathlib import Path

import larq as lq
import networks
import numpy as np
import pytest
import tensorflow as tf

import larq_sks as sks
import larq_sks_zoo as zoo
from larq_sks import codebook

DATA = Path(__file__).parents[2] / "shared" / "data"
XNOR = DATA / "xnor_vgg16_cifar10.npz"
TFDS = DATA / "tfds"


def small_network(convolution):
    """A plain Larq network whose binary convolutions the caller makes."""
    layers = tf.keras.layers
    options = dict(padding="same", pad_values=1.0, use_bias=False, input_quantizer="ste_sign")
    return tf.keras.Sequential(
        [
            tf.keras.Input((32, 32, 3)),
            layers.Conv2D(16, 3, strides=4, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.8),
            convolution(32, 3, **options),
            layers.BatchNormalization(momentum=0.8),
            convolution(32, 3, **options),
            layers.BatchNormalization(momentum=0.8),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )


def train(model, epochs, callbacks=()):
    train_part, (images, labels) = zoo.load_cifar10_sample()
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf.keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    batches = zoo.augmented(*train_part, 100)
    model.fit(batches, steps_per_epoch=15, epochs=epochs, verbose=0, callbacks=list(callbacks))
    return model.evaluate(zoo.preprocess_input(images), labels, verbose=0)[1]


def test_a_user_swaps_one_layer_class_trains_saves_and_loads(tmp_path):
    def plain(*args, **kwargs):
        return lq.layers.QuantConv2D(
            *args, kernel_quantizer="ste_sign", kernel_constraint="weight_clip", **kwargs
        )

    def sparse(*args, **kwargs):
        return sks.layers.SKSConv2D(*args, num_codewords=16, **kwargs)

    tf.keras.utils.set_random_seed(1)
    assert train(small_network(plain), 4) > 0.2
    tf.keras.utils.set_random_seed(1)
    model = small_network(sparse)
    log = sks.callbacks.SelectionLog()
    # Chance is 0.1, with a standard error of 0.01.
    assert train(model, 4, [sks.callbacks.SelectionSchedule(whole=0.5), log]) > 0.2
    for kernel in sks.layers.sparse_kernels(model):
        assert kernel.quantizer.selection.phase == "frozen"
        assert set(kernel.assigned()) <= set(kernel.quantizer.selection.indices)

    model.save(tmp_path / "network.keras")
    again = tf.keras.models.load_model(tmp_path / "network.keras")
    images = zoo.preprocess_input(zoo.load_cifar10_sample()[1][0][:50])
    np.testing.assert_array_equal(
        model.predict(images, verbose=0), again.predict(images, verbose=0)
    )


@pytest.mark.skipif(not XNOR.exists(), reason="needs shared/data/xnor_vgg16_cifar10.npz")
def test_a_network_that_others_trained_uses_few_codewords():
    file = np.load(XNOR)
    counts = np.zeros(512, int)
    covered = []
    for name in [name for name in file.files if name.endswith("kernel_bits")]:
        shape = file[name.replace("kernel_bits", "kernel_shape")]
        signs = np.unpackbits(file[name], count=shape.prod()).reshape(shape) * 2.0 - 1.0
        blocks = codebook.to_blocks(tf.constant(signs), (3, 3, 1, 1)).numpy().T
        codewords = codebook.to_codewords(blocks)
        counts += np.bincount(codewords, minlength=512)
        chosen = sks.selections.greedy_coverage(signs, 32)
        random = np.random.default_rng(0).permutation(512)[:32]
        agree = [(blocks @ codebook.patterns(9)[i].T).max(1).mean() for i in (chosen, random)]
        covered.append(agree)
    shares = np.sort(counts)[::-1] / counts.sum()
    # Measured independently: 8.12 bits, the first 64 codewords 48 %, the first 128 66 %.
    assert -(shares * np.log2(shares)).sum() == pytest.approx(8.12, abs=0.01)
    assert shares[:64].sum() == pytest.approx(0.48, abs=0.01)
    assert shares[:128].sum() == pytest.approx(0.66, abs=0.01)
    assert len(covered) > 5 and all(ours > by_chance for ours, by_chance in covered)


@pytest.mark.skipif(not XNOR.exists(), reason="needs shared/data/xnor_vgg16_cifar10.npz")
@pytest.mark.parametrize("count", [32, 512])
def test_a_network_that_others_trained_goes_all_the_way_to_a_small_file(count, tmp_path):
    model = networks.xnor_vgg16()
    images = networks.xnor_inputs(zoo.load_cifar10_sample()[1][0][:20])
    small = sks.sparsify(model, count)
    outputs = small.predict(images, verbose=0)
    if count == 512:
        np.testing.assert_array_equal(outputs, model.predict(images, verbose=0))
    report = sks.save(small, tmp_path / "net.sks")
    again = sks.load(tmp_path / "net.sks")
    np.testing.assert_array_equal(again.predict(images, verbose=0), outputs)
    plain = sks.to_larq(again)
    np.testing.assert_array_equal(plain.predict(images, verbose=0), outputs)
    figures = sks.models.summary(small, print_fn=lambda line: None)
    assert report.size <= 1.02 * (figures.entropy_bits + figures.other_bits) / 8


@pytest.mark.slow
@pytest.mark.skipif(not TFDS.exists(), reason="needs CIFAR-10 in shared/data/tfds")
def test_a_start_from_the_kernels_of_a_trained_network_beats_a_random_one():
    import tensorflow_datasets as tfds

    data = {
        part: (loaded["image"].numpy(), loaded["label"].numpy())
        for part, loaded in tfds.load(
            "cifar10", data_dir=TFDS, download=False, batch_size=-1
        ).items()
    }
    tf.keras.utils.set_random_seed(0)
    model = zoo.ResNet8(num_codewords=32, selection=sks.selections.Permutation(seed=0))
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf.keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    kernels = sks.layers.sparse_kernels(model)
    for kernel in kernels:
        kernel.quantizer.selection.phase = "whole"
    model.fit(zoo.augmented(*data["train"], 128), steps_per_epoch=390, epochs=2, verbose=0)

    def accuracy(start):
        for kernel in kernels:
            kernel.quantizer.selection.start_from(start(kernel.latent()))
        images, labels = data["test"]
        return model.evaluate(zoo.preprocess_input(images), labels, batch_size=500, verbose=0)[1]

    covered = accuracy(lambda kernel: sks.selections.greedy_coverage(kernel, 32))
    by_chance = accuracy(lambda kernel: np.random.default_rng(0).permutation(512)[:32])
    assert covered > by_chance + 0.05
