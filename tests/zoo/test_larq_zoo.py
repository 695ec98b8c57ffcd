"""The networks of larq-zoo with few codewords."""

import larq as lq
import larq_zoo
import numpy as np
import pytest
import tensorflow as tf

import larq_sks as sks
import larq_sks_zoo as zoo

SHAPE = (64, 64, 3)
NETWORKS = {
    zoo.QuickNetSmall: larq_zoo.sota.QuickNetSmall,
    zoo.QuickNet: larq_zoo.sota.QuickNet,
    zoo.QuickNetLarge: larq_zoo.sota.QuickNetLarge,
    zoo.BinaryResNetE18: larq_zoo.literature.BinaryResNetE18,
    zoo.BiRealNet: larq_zoo.literature.BiRealNet,
    zoo.RealToBinaryNet: larq_zoo.literature.RealToBinaryNet,
}


def settings(model):
    """What the sparse quantizers are, but for names and seeds."""
    found = []
    for kernel in sks.layers.sparse_kernels(model):
        config = kernel.quantizer.get_config()
        del config["name"]
        for key in ("name", "seed"):
            del config["selection"]["config"][key]
        found.append((kernel.latent().shape, config))
    return found


@pytest.mark.parametrize(
    "network",
    [
        zoo.QuickNetSmall,
        zoo.BinaryResNetE18,
        zoo.BiRealNet,
        zoo.RealToBinaryNet,
        *(pytest.param(each, marks=pytest.mark.slow) for each in (zoo.QuickNet, zoo.QuickNetLarge)),
    ],
)
def test_with_codewords_it_is_what_sparsify_makes_of_larq_zoos(network):
    theirs = NETWORKS[network](weights=None, input_shape=SHAPE)
    expected = sks.sparsify(theirs, 24, start=None)
    model = network(input_shape=SHAPE, num_codewords=24)
    changed = sum(kernel.changed for kernel in expected.sparsify_report.kernels)
    assert len(settings(model)) == changed >= 16
    assert settings(model) == settings(expected)
    shapes = [[tuple(weight.shape) for weight in each.weights] for each in (model, expected)]
    assert shapes[0] == shapes[1]
    kinds = [[type(layer) for layer in each.layers] for each in (model, expected)]
    assert kinds[0] == kinds[1]
    assert [type(layer) for layer in network(input_shape=SHAPE).layers] == kinds[0]


@pytest.mark.parametrize("network", [zoo.QuickNetSmall, zoo.BiRealNet])
def test_without_codewords_it_is_larq_zoos_own(network):
    options = dict(weights=None, input_shape=SHAPE, num_classes=5)
    theirs, model = NETWORKS[network](**options), network(**options)
    model.set_weights(theirs.get_weights())
    images = tf.random.stateless_uniform([3, *SHAPE], [0, 1], -1, 1)
    np.testing.assert_array_equal(model(images), theirs(images))
    quantizers = [
        [
            (type(layer.kernel_quantizer), type(layer.input_quantizer))
            for layer in each.layers
            if isinstance(layer, lq.layers.QuantConv2D)
        ]
        for each in (model, theirs)
    ]
    assert quantizers[0] == quantizers[1]


def test_their_options_reach_them():
    model = zoo.BinaryResNetE18(
        input_shape=(32, 32, 3), num_codewords=4, selection="fixed", num_classes=6
    )
    assert model.input_shape == (None, 32, 32, 3) and model.output_shape == (None, 6)
    kinds = {type(kernel.quantizer.selection) for kernel in sks.layers.sparse_kernels(model)}
    assert kinds == {sks.selections.Fixed}
    body = zoo.BinaryResNetE18(input_shape=(32, 32, 3), include_top=False)
    assert body.output_shape == (None, 4, 4, 512)


# Keras says so of QuickNet's initializer when it writes.
@pytest.mark.filterwarnings("ignore:The `keras.initializers.serialize:UserWarning")
@pytest.mark.parametrize(
    "network, name",
    [
        (zoo.QuickNetSmall, "net.h5"),
        (zoo.BiRealNet, "net.sks"),
        # It holds Python code, which a .sks file never does.
        (zoo.RealToBinaryNet, "net.h5"),
    ],
)
def test_weights_go_over_though_larq_zoo_numbers_its_layers_anew(network, name, tmp_path):
    options = dict(num_codewords=8, input_shape=SHAPE, num_classes=5)
    first = network(**options)
    images = tf.random.stateless_uniform([2, *SHAPE], [2, 3], -1, 1)
    sks.save(first, tmp_path / name) if name == "net.sks" else first.save(tmp_path / name)
    again = network(**options, weights=tmp_path / name)
    # Others without the file. By the weights, as outputs of a softmax without training may be 0 and 1.
    other = network(**options)
    assert any(map(np.any, map(np.not_equal, other.get_weights(), first.get_weights())))
    np.testing.assert_array_equal(again(images), first(images))


def test_imagenet_weights_are_not_there_and_the_error_says_how_to_get_some():
    with pytest.raises(ValueError, match="no ImageNet weights") as error:
        zoo.QuickNetSmall(num_codewords=64, weights="imagenet", input_shape=SHAPE)
    text = str(error.value)
    assert "larq-sks train quicknet_small-imagenet --num-codewords 64" in text
    assert "sks.sparsify(larq_zoo.sota.QuickNetSmall(), 64)" in text
    with pytest.raises(ValueError, match="no ImageNet weights") as error:
        zoo.VGGSmall(weights="imagenet")
    assert "sparsify" not in str(error.value) and "No recipe" in str(error.value)
