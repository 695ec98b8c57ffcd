import numpy as np
import pytest
import tensorflow as tf

import larq_sks as sks
from larq_sks import layers
from larq_sks.models import codewords
from larq_sks.selections import Fixed, Permutation


def test_codewords_are_counted_and_the_most_used_come_first():
    layer = layers.SKSConv2D(
        3, 3, num_codewords=4, selection=Fixed([511, 0, 7, 56]), name="conv", use_bias=False
    )
    layer.build((None, 8, 8, 2))
    rows = np.array([[1 if i >> k & 1 else -1 for k in range(9)] for i in (511, 0, 7, 56)])
    used = [1, 1, 1, 2, 2, 0]  # of each block the row
    layer.kernel.latent_variable.assign(0.3 * rows[used].T.reshape(3, 3, 2, 3))
    (name, chosen), *rest = codewords(layer).items()
    assert name == "conv" and not rest
    assert chosen.indices.tolist() == [0, 7, 511, 56]
    assert chosen.counts.tolist() == [3, 2, 1, 0]
    np.testing.assert_array_equal(chosen.patterns, rows[[1, 2, 0, 3]].reshape(4, 3, 3))
    shares = np.array([3, 2, 1]) / 6
    np.testing.assert_allclose(chosen.entropy, -(shares * np.log2(shares)).sum())


def test_names_and_shapes_of_all_kernels():
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Input((8, 8, 8)),
            layers.SKSSeparableConv2D(
                8, 3, depthwise_num_codewords=5, pointwise_num_codewords=3, name="separable"
            ),
            layers.SKSConv2D(4, 1, num_codewords=6, codeword_shape=(1, 1, 4, 2), name="pointwise"),
            tf.keras.layers.Flatten(),
            layers.SKSDense(3, num_codewords=256, name="dense"),
        ]
    )
    found = sks.codewords(model)
    assert {name: chosen.patterns.shape for name, chosen in found.items()} == {
        "separable/depthwise": (5, 3, 3),
        "separable/pointwise": (3, 8),
        "pointwise": (6, 4, 2),
        "dense": (256, 8),
    }
    blocks = {"separable/depthwise": 8, "separable/pointwise": 8, "pointwise": 4, "dense": 54}
    for name, chosen in found.items():
        assert chosen.counts.sum() == blocks[name]
        assert np.all(np.diff(chosen.counts) <= 0)
        assert len(set(chosen.indices.tolist())) == len(chosen.indices)


def test_the_first_phase_shows_the_whole_codebook():
    layer = layers.SKSConv2D(8, 3, num_codewords=4, selection=Permutation(start=[0, 1, 2, 3]))
    layer.build((None, 8, 8, 8))
    (kernel,) = layers.sparse_kernels(layer)
    kernel.quantizer.selection.phase = "whole"
    (chosen,) = codewords(layer).values()
    assert sorted(chosen.indices) == list(range(512))
    signs = np.where(kernel.latent() >= 0, 1, -1).reshape(9, -1).T
    _, counts = np.unique(signs, axis=0, return_counts=True)
    assert sorted(chosen.counts[chosen.counts > 0]) == sorted(counts)
    kernel.quantizer.selection.phase = "learn"
    (chosen,) = codewords(layer).values()
    assert sorted(chosen.indices) == [0, 1, 2, 3]


def test_one_codeword_has_no_entropy():
    layer = layers.SKSDense(4, num_codewords=1)
    layer.build((None, 16))
    (chosen,) = codewords(layer).values()
    assert chosen.entropy == 0.0 and chosen.counts.tolist() == [8]


@pytest.mark.parametrize(
    "model", [tf.keras.layers.Dense(3, name="plain"), layers.SKSDense(8, name="plain")]
)
def test_models_without_a_sparse_kernel_are_an_error(model):
    """Among them those that have not been built."""
    with pytest.raises(ValueError, match="`model` must be a built model.*Received: plain"):
        codewords(model)


def test_layers_of_nested_models_that_share_a_name_are_told_apart():
    def part():
        layer = sks.layers.SKSConv2D(4, 3, num_codewords=4, selection="fixed", name="same")
        return tf.keras.Sequential([tf.keras.Input((8, 8, 4)), layer])

    model = tf.keras.Sequential([tf.keras.Input((8, 8, 4)), part(), part()])
    assert list(sks.codewords(model)) == ["same", "same#2"]
