"""The networks for small images."""

from collections import Counter

import larq as lq
import larq_zoo
import numpy as np
import pytest
import tensorflow as tf

import larq_sks as sks
import larq_sks_zoo as zoo

NETWORKS = {
    zoo.ResNet8: (6, 165_888, (4, 4, 96)),
    zoo.ResNet20: (18, 267_264, (8, 8, 64)),
    # 4 of 64, then 1 that widens and 3 at each width.
    zoo.ResNet18: (16, 9 * (4 * 64**2 + (0.5 + 3) * (128**2 + 256**2 + 512**2)), (4, 4, 512)),
    zoo.VGGSmall: (5, 9 * (128**2 + 1.5 * (256**2 + 512**2)), (4, 4, 512)),
    zoo.QuickNetSmall32: (16, 9 * 4 * (32**2 + 64**2 + 128**2 + 256**2), (2, 2, 256)),
}


def sample(count):
    images, labels = zoo.load_cifar10_sample()[1]
    return zoo.preprocess_input(images[:count]), labels[:count]


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_have_the_same_weights_with_and_without_codewords(network):
    convolutions, binary_weights, features = NETWORKS[network]
    plain, sparse = network(), network(num_codewords=16, selection="fixed", num_classes=7)
    kernels = [layer.kernel for layer in plain.layers if isinstance(layer, lq.layers.QuantConv2D)]
    assert len(kernels) == convolutions
    assert sum(kernel.shape.num_elements() for kernel in kernels) == binary_weights
    found = sks.layers.sparse_kernels(sparse)
    assert len(found) == convolutions
    assert {type(kernel.quantizer.selection) for kernel in found} == {sks.selections.Fixed}
    assert {kernel.quantizer.num_codewords for kernel in found} == {16}
    names = [[layer.name for layer in model.layers[1:]] for model in (plain, sparse)]
    assert names[0] == names[1]
    assert plain.output_shape == (None, 10) and sparse.output_shape == (None, 7)
    body = network(include_top=False)
    assert body.output_shape == (None, *features)
    assert names[0][: len(body.layers) - 1] == [layer.name for layer in body.layers[1:]]


@pytest.mark.parametrize(
    "network, divisor",
    [(zoo.ResNet20, 4), (zoo.ResNet8, 8), (zoo.ResNet18, 8), (zoo.VGGSmall, 8)]
    + [(zoo.QuickNetSmall32, 16)],
)
def test_networks_refuse_images_that_they_cannot_halve(network, divisor):
    size = 32 + divisor // 2
    with pytest.raises(ValueError, match=rf"divisible by {divisor}.*\({size}, {size}, 3\)"):
        network(input_shape=(size, size, 3))


# What a device makes of the layers around the binary convolutions.
OPERATORS = {
    zoo.ResNet18: {"MUL": 16, "PRELU": 16, "AVERAGE_POOL_2D": 3, "CONV_2D": 4},
    # Norms are in the convolutions, and maxima are found among signs.
    zoo.VGGSmall: {"LceBMaxPool2d": 2, "MUL": 0, "ADD": 0, "CONV_2D": 1},
    # Norms and ReLUs are in the convolutions.
    zoo.QuickNetSmall32: {"ADD": 16, "MUL": 0, "RELU": 0, "DEPTHWISE_CONV_2D": 4},
}


@pytest.mark.parametrize(
    "network",
    [pytest.param(zoo.ResNet18, marks=pytest.mark.slow), zoo.VGGSmall, zoo.QuickNetSmall32],
)
def test_networks_learn_and_go_into_every_file(network, tmp_path):
    tf.keras.utils.set_random_seed(1)
    model = network(num_codewords=32)
    # Slowly: the first steps of a network without shortcuts overshoot at Adam's own rate.
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf.keras.optimizers.Adam(1e-4), loss)
    images, labels = sample(16)
    losses = [model.train_on_batch(images, labels) for _ in range(6)]
    assert min(losses[1:]) < losses[0]

    expected = model(images)
    sks.save(model, tmp_path / "net.sks")
    model.save(tmp_path / "net.h5", include_optimizer=False)
    for again in (
        sks.load(tmp_path / "net.sks"),
        tf.keras.models.load_model(tmp_path / "net.h5"),
        sks.to_larq(model),
    ):
        np.testing.assert_array_equal(again(images), expected)

    pytest.importorskip("larq_compute_engine", reason="LCE has no release for this Python")
    report = sks.to_tflite(model, tmp_path / "net.tflite", images=images[:4])
    assert report.ops["LceBconv2d"] == NETWORKS[network][0]
    expected = OPERATORS[network]
    assert {name: Counter(report.ops)[name] for name in expected} == expected


def test_quicknet_computes_what_larq_zoos_does_behind_its_stem():
    factory = larq_zoo.sota.quicknet.QuickNetFactory
    # Its stem halves twice, so that a larger image comes to the same.
    theirs = factory(
        section_filters=(32, 64, 128, 256), input_shape=(64, 64, 3), num_classes=10
    ).build()
    ours = zoo.QuickNetSmall32()
    rng = np.random.default_rng(0)
    weights = []
    for weight in theirs.weights:
        # Statistics near those of a real network; blurs stay as they are.
        low, high = (0.5, 1.5) if "variance" in weight.name or "gamma" in weight.name else (-1, 1)
        drawn = rng.uniform(low, high, weight.shape)
        weights.append(weight.numpy() if not weight.trainable and weight.shape.rank == 4 else drawn)
    theirs.set_weights(weights)
    blurs = [layer for layer in ours.layers if layer.name.endswith("_blur")]
    for blur in blurs:
        np.testing.assert_allclose(
            blur.depthwise_kernel[:, :, 0, 0], np.outer([1, 2, 1], [1, 2, 1]) / 16
        )
    assert len(blurs) == 3 and not any(blur.trainable for blur in blurs)
    ours.set_weights(weights)

    position = [layer.name for layer in ours.layers].index("stem_pointwise_norm")
    bodies = [
        tf.keras.Model(model.layers[position].output, model.layers[end].output)
        # Without theirs' softmax.
        for model, end in ((theirs, -2), (ours, -1))
    ]
    images = rng.normal(size=(4, 16, 16, 32)).astype(np.float32)
    expected, scores = (body.predict(images, verbose=0) for body in bodies)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)
    assert np.ptp(scores) > 1
    clips = [
        (layer.input_quantizer.clip_value, layer.kernel_quantizer.clip_value)
        for layer in ours.layers
        if isinstance(layer, lq.layers.QuantConv2D)
    ]
    assert set(clips) == {(1.25, 1.25)}
    sparse = sks.layers.sparse_kernels(zoo.QuickNetSmall32(num_codewords=8))
    assert {kernel.quantizer.clip_value for kernel in sparse} == {1.25}


def test_resnet18_learns_where_its_signs_change():
    model = zoo.ResNet18(input_shape=(16, 16, 3))
    for layer in model.layers:
        if not isinstance(layer, lq.layers.QuantConv2D):
            continue
        before = layer.input._keras_history.layer
        assert isinstance(before, tf.keras.layers.BatchNormalization) and not before.scale
        # A shift of a channel moves the threshold of its sign alone.
        before.moving_mean.assign(tf.random.stateless_normal(before.moving_mean.shape, [1, 2]))
        before.moving_variance.assign(tf.fill(before.moving_variance.shape, 4.0))
        before.beta.assign(tf.random.stateless_normal(before.beta.shape, [3, 4]))
        x = tf.random.stateless_normal([5, 4, 4, before.beta.shape[0]], [5, 6])
        threshold = before.moving_mean - tf.sqrt(4.0 + before.epsilon) * before.beta
        far = tf.abs(x - threshold) > 1e-5
        signs = layer.input_quantizer(before(x))
        assert np.array_equal(signs[far], tf.where(x >= threshold, 1.0, -1.0)[far])
        break
    slopes = [layer.alpha for layer in model.layers if isinstance(layer, tf.keras.layers.PReLU)]
    assert len(slopes) == 16 and all(np.all(slope == 0.25) for slope in slopes)
