import inspect
import math
from typing import NamedTuple

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.config import disable_op_determinism

from larq_sks import codebook, layers
from larq_sks.quantizers import SparseKernelSign
from larq_sks.selections import Fixed, Permutation, Selection


class Case(NamedTuple):
    """A layer, what it stands in for, and for each of its kernels the size of a block."""

    layer: type
    twin: type
    options: dict
    shape: tuple
    blocks: dict


CASES = {
    "conv": Case(
        layers.SKSConv2D,
        lq.layers.QuantConv2D,
        dict(filters=8, kernel_size=3, padding="same", pad_values=1.0, groups=2),
        (8, 8, 8),
        {"kernel": 9},
    ),
    "depthwise": Case(
        layers.SKSDepthwiseConv2D,
        lq.layers.QuantDepthwiseConv2D,
        dict(kernel_size=3, strides=2, depth_multiplier=2),
        (8, 8, 8),
        {"depthwise": 9},
    ),
    "separable": Case(
        layers.SKSSeparableConv2D,
        lq.layers.QuantSeparableConv2D,
        dict(filters=8, kernel_size=3, padding="same", use_bias=False),
        (8, 8, 8),
        {"depthwise": 9, "pointwise": 8},
    ),
    "transpose": Case(
        layers.SKSConv2DTranspose,
        lq.layers.QuantConv2DTranspose,
        dict(filters=8, kernel_size=3, strides=2),
        (4, 4, 8),
        {"kernel": 9},
    ),
    "dense": Case(layers.SKSDense, lq.layers.QuantDense, dict(units=8), (32,), {"kernel": 8}),
}
every_layer = pytest.mark.parametrize("case", CASES.values(), ids=CASES)

RESTLESS = Permutation(noise=0.3, boost=0.2, temperature=0.5, seed=3)
"""A selection that moves within a few steps."""


def argument(case, role, name):
    return f"{role}_{name}" if len(case.blocks) > 1 else name


def for_each_kernel(case, name, value):
    return {argument(case, role, name): value for role in case.blocks}


def sparse_layer(case, num_codewords=4, **options):
    options = {"input_quantizer": "ste_sign", "selection": RESTLESS, **case.options, **options}
    return case.layer(**for_each_kernel(case, "num_codewords", num_codewords), **options)


def classifier(layer, shape):
    return tf.keras.Sequential(
        [
            tf.keras.layers.Input(shape),
            layer,
            tf.keras.layers.Flatten(),
            tf.keras.layers.BatchNormalization(),
            tf.keras.layers.Dense(3, dtype="float32"),
        ]
    )


def data(shape):
    rng = np.random.default_rng(0)
    return rng.normal(size=(24, *shape)).astype(np.float32), np.arange(24) % 3


def train(case, **options):
    tf.keras.utils.set_random_seed(1)
    tf.config.experimental.enable_op_determinism()
    try:
        model = classifier(sparse_layer(case, name="sparse"), case.shape)
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(tf.keras.optimizers.Adam(0.01), loss, **options)
        model.fit(*data(case.shape), batch_size=8, epochs=2, shuffle=False, verbose=0)
    finally:
        disable_op_determinism()
    return model


@pytest.fixture(scope="module")
def trained():
    """Trained models, made when first asked for; tests do not change them."""
    models = {}

    def get(case):
        if case.layer not in models:
            models[case.layer] = train(case)
        return models[case.layer]

    return get


def predict(model, case):
    return model(data(case.shape)[0], training=False).numpy()


def kernels(layer):
    return {kernel.name.split("/")[-1]: kernel for kernel in layers.sparse_kernels(layer)}


def assert_selections_hold(model, num_codewords=4):
    """Promise 2, from the quantised kernels themselves."""
    for kernel in layers.sparse_kernels(model):
        quantizer = kernel.quantizer
        quantised = quantizer(tf.constant(kernel.latent())).numpy()
        assert set(np.unique(quantised)) == {-1.0, 1.0}
        blocks = codebook.to_blocks(quantised, quantizer.block_shape).numpy().T
        found = np.unique(codebook.to_codewords(blocks))
        indices = quantizer.selection.indices
        assert len(set(indices.tolist())) == num_codewords == len(indices)
        assert set(found) <= set(indices)


# Promise 1: the whole codebook is Larq's layer


@every_layer
@pytest.mark.parametrize("how", ["all codewords", "phase"])
def test_the_whole_codebook_equals_larqs_layer(case, how):
    """Outputs and the gradients of all weights and of the inputs, to the bit."""
    counts = {
        argument(case, role, "num_codewords"): 2**size if how == "all codewords" else 4
        for role, size in case.blocks.items()
    }
    layer = case.layer(**case.options, **counts, input_quantizer="ste_sign")
    twin = case.twin(
        **case.options,
        **{f"{role}_quantizer": "ste_sign" for role in case.blocks},
        **{f"{role}_constraint": "weight_clip" for role in case.blocks},
        input_quantizer="ste_sign",
    )
    for one in (layer, twin):
        one.build((None, *case.shape))
    for kernel in layers.sparse_kernels(layer):
        assert kernel.quantizer.uses_selection == (how == "phase")
        if how == "phase":
            kernel.quantizer.selection.phase = "whole"
    rng = np.random.default_rng(0)
    shared = [weight for weight in layer.trainable_weights if "logits" not in weight.name]
    assert len(shared) == len(twin.trainable_weights)
    for weight, other in zip(shared, twin.trainable_weights, strict=True):
        values = rng.normal(size=weight.shape).astype(np.float32)  # some beyond the clip value
        values.ravel()[:5] = 0.0
        weight.assign(values)
        other.assign(values)
    inputs = tf.constant(rng.normal(size=(2, *case.shape)), tf.float32)
    outputs, gradients = [], []
    for one, weights in ((layer, shared), (twin, twin.trainable_weights)):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs.append(one(inputs, training=True))
            loss = tf.reduce_sum(outputs[-1] ** 2)
        gradients.append(tape.gradient(loss, [inputs, *weights]))
    np.testing.assert_array_equal(*outputs)
    for first, second in zip(*gradients, strict=True):
        assert np.any(first)
        np.testing.assert_array_equal(first, second)


# Promise 2 and training


@every_layer
def test_training_learns_a_selection_and_keeps_it_valid(case, trained):
    layer = trained(case).get_layer("sparse")
    assert_selections_hold(layer)
    assert set(kernels(layer)) == (set(case.blocks) if len(case.blocks) > 1 else {"sparse"})
    fresh = sparse_layer(case)
    fresh.build((None, *case.shape))
    for before, after in zip(
        layers.sparse_kernels(fresh), layers.sparse_kernels(layer), strict=True
    ):
        selection = after.quantizer.selection
        assert before.quantizer.selection.indices.tolist() != selection.indices.tolist()
        assert np.abs(before.quantizer.selection._logits - selection._logits).max() > 0.02


@every_layer
def test_inference_uses_the_selected_codewords(case):
    """The kernel that the layer really convolves or multiplies with, read from its output."""
    options = {**case.options, "input_quantizer": None, "use_bias": False}
    layer = sparse_layer(case, selection=Fixed(seed=2), **options)
    inputs = np.random.default_rng(0).normal(size=(2, *case.shape)).astype(np.float32)
    outputs = layer(inputs)
    twin = case.twin(**case.options | {"use_bias": False})
    twin.build(inputs.shape)
    for role in case.blocks:
        name = layer._roles[role]
        latent = getattr(layer, name).latent_variable.numpy()
        quantizer = getattr(layer, f"{role}_quantizer")
        rows = codebook.to_signs(quantizer.selection.indices, math.prod(quantizer.block_shape))
        blocks = codebook.to_blocks(latent, quantizer.block_shape).numpy().T
        nearest = rows[(blocks @ rows.T).argmax(axis=1)]
        expected = codebook.from_blocks(nearest.T, latent.shape, quantizer.block_shape)
        getattr(twin, name).assign(expected)
    np.testing.assert_allclose(outputs, twin(inputs), rtol=1e-5, atol=1e-5)
    assert_selections_hold(layer)


# Promise 3: the same seed, the same run


@every_layer
def test_the_same_seed_gives_the_same_run(case, trained):
    first, second = trained(case), train(case)
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# Promise 4: stored integers decide


@every_layer
def test_logits_do_not_decide_inference(case):
    model = classifier(sparse_layer(case, name="sparse"), case.shape)
    before = predict(model, case)
    for kernel in layers.sparse_kernels(model):
        selection = kernel.quantizer.selection
        selection._logits.assign(np.random.default_rng(5).normal(size=selection._logits.shape))
    np.testing.assert_array_equal(predict(model, case), before)
    model(data(case.shape)[0], training=True)
    assert np.any(predict(model, case) != before)


# Promise 5: formats, clones, compilers and precisions


@every_layer
@pytest.mark.parametrize("suffix", [".h5", ".keras", ""], ids=["H5", "keras", "SavedModel"])
def test_a_saved_model_predicts_the_same(case, suffix, trained, tmp_path):
    model = trained(case)
    path = str(tmp_path / f"model{suffix}")
    model.save(path)
    loaded = tf.keras.models.load_model(path)
    layer = loaded.get_layer("sparse")
    assert type(layer) is case.layer
    for ours, theirs in zip(
        layers.sparse_kernels(model), layers.sparse_kernels(loaded), strict=True
    ):
        config = {**theirs.quantizer.get_config(), "name": ours.quantizer.name}
        assert config == ours.quantizer.get_config()
    np.testing.assert_array_equal(predict(loaded, case), predict(model, case))
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    if suffix == ".keras":
        loaded.fit(*data(case.shape), batch_size=8, verbose=0)
        assert_selections_hold(loaded)


@every_layer
def test_clones_and_configs(case, trained):
    model = trained(case)
    clone = tf.keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(predict(clone, case), predict(model, case))
    for ours, theirs in zip(
        layers.sparse_kernels(model), layers.sparse_kernels(clone), strict=True
    ):
        assert ours.quantizer is not theirs.quantizer
        assert ours.quantizer.selection is not theirs.quantizer.selection

    options = {
        **for_each_kernel(case, "codeword_shape", None),
        "clip_value": 1.25,
        "selection": Permutation(temperature=0.25, start=[3, 1, 2, 0]),
    }
    layer = sparse_layer(case, **options)
    config = layer.get_config()
    assert not any(f"{role}_quantizer" in config for role in case.blocks)
    copy = case.layer.from_config(config)
    assert copy.get_config() == config
    for role in case.blocks:
        quantizer = getattr(copy, f"{role}_quantizer")
        assert quantizer.num_codewords == 4 and quantizer.clip_value == 1.25
        assert quantizer.selection.get_config()["start"] == [3, 1, 2, 0]
        assert isinstance(getattr(copy, f"{role}_constraint"), lq.constraints.WeightClip)
    unclipped = sparse_layer(case, **{f"{role}_constraint": None for role in case.blocks})
    copy = case.layer.from_config(unclipped.get_config())
    assert all(getattr(copy, f"{role}_constraint") is None for role in case.blocks)


@every_layer
def test_compiles_with_xla(case, trained):
    """After training without XLA, because traces are shared."""
    trained(case)
    model = train(case, jit_compile=True)
    assert_selections_hold(model)
    fresh = sparse_layer(case)
    fresh.build((None, *case.shape))
    for before, after in zip(
        layers.sparse_kernels(fresh), layers.sparse_kernels(model), strict=True
    ):
        assert np.any(before.quantizer.selection._logits != after.quantizer.selection._logits)


@every_layer
def test_mixed_precision(case):
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = train(case)
        outputs = model.get_layer("sparse")(data(case.shape)[0])
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert outputs.dtype == tf.float16
    layer = model.get_layer("sparse")
    assert all(weight.dtype in (tf.float32, tf.int32, tf.int64) for weight in layer.weights)
    assert np.all(np.isfinite(predict(model, case)))
    assert_selections_hold(layer)
    copy = case.layer.from_config(layer.get_config())
    copy.build((None, *case.shape))
    assert copy.compute_dtype == "float16"
    for kernel in layers.sparse_kernels(copy):
        assert kernel.quantizer.selection._logits.dtype == tf.float32


# Signatures and default shapes


@every_layer
def test_the_twins_signature_is_there(case):
    ours = inspect.signature(case.layer).parameters
    theirs = list(inspect.signature(case.twin.__init__).parameters)[1:]
    hidden = [f"{role}_quantizer" for role in case.blocks]
    kept = [name for name in theirs if name not in [*hidden, "kwargs"]]
    assert list(ours)[: len(kept)] == kept
    added = [
        *for_each_kernel(case, "num_codewords", 0),
        "selection",
        *for_each_kernel(case, "codeword_shape", 0),
        "clip_value",
        "kwargs",
    ]
    assert list(ours)[len(kept) :] == added
    for role in hidden:
        with pytest.raises(ValueError, match=f"`{role}` is not an argument.*{role}='ste_sign'"):
            sparse_layer(case, **{role: "ste_sign"})


def test_positional_arguments_are_the_twins():
    layer = layers.SKSConv2D(8, 3, 2, "same")
    assert (layer.filters, layer.strides, layer.padding) == (8, (2, 2), "same")
    assert layer.kernel_quantizer.num_codewords == 32


def test_no_layer_warns_of_starved_weights(caplog):
    for case in CASES.values():
        sparse_layer(case)
    assert "starved" not in caplog.text


@pytest.mark.parametrize(
    "layer, shape, block",
    [
        (layers.SKSConv2D(4, 3), (9, 9, 3), (3, 3, 1, 1)),
        (layers.SKSConv2D(4, 1), (9, 9, 16), (1, 1, 8, 1)),
        (layers.SKSConv2D(4, 5), (9, 9, 8), (1, 1, 8, 1)),
        (layers.SKSConv2D(4, 5, codeword_shape=(5, 1, 3)), (9, 9, 3), (5, 1, 3, 1)),
        (
            layers.SKSConv2D(4, 2, num_codewords=9, codeword_shape=(2, 2, 1, 2)),
            (9, 9, 3),
            (2, 2, 1, 2),
        ),
        (layers.SKSConv2DTranspose(8, 5), (9, 9, 3), (1, 1, 8, 1)),
        (layers.SKSDepthwiseConv2D(5), (9, 9, 8), (1, 1, 8, 1)),
        (layers.SKSDense(3), (24,), (8, 1)),
        (layers.SKSDense(6, codeword_shape=(2, 3)), (4,), (2, 3)),
    ],
)
def test_shapes_of_codewords(layer, shape, block):
    # Small blocks allow few codewords.
    layer = type(layer).from_config({**layer.get_config(), "num_codewords": 9})
    layer.build((None, *shape))
    assert layers.sparse_kernels(layer)[0].quantizer.block_shape == block


# Promise 8: bad input


@every_layer
@pytest.mark.parametrize("value", [0, -3, 2.5, "32", True, None])
def test_bad_numbers_of_codewords_are_named_at_once(case, value):
    match = f"`num_codewords` must be an integer from 1 .*Received: num_codewords={value!r}"
    for role in case.blocks:
        with pytest.raises(ValueError, match=match):
            case.layer(**case.options, **{argument(case, role, "num_codewords"): value})


@every_layer
def test_too_many_codewords_are_named_when_built(case):
    for role, size in case.blocks.items():
        layer = case.layer(**case.options, **{argument(case, role, "num_codewords"): 2**size + 1})
        match = f"`num_codewords` must be .* 1 to {2**size},.*num_codewords={2**size + 1}"
        with pytest.raises(ValueError, match=match):
            layer.build((None, *case.shape))


@every_layer
@pytest.mark.parametrize(
    "shape", [(5,), (3, 3, 1, 1, 1), (2, 3, 1), (3, 3, 8, 1), (1, 1, 5), (64, 1), (0, 1), 9]
)
def test_bad_shapes_of_codewords_are_named(case, shape):
    """Those that don't divide the kernel, have other axes, or more than 16 weights."""
    for role in case.blocks:
        layer = case.layer(**case.options, **{argument(case, role, "codeword_shape"): shape})
        match = r"`codeword_shape` must divide.*at most 16 weights.*codeword_shape=[\(9]"
        with pytest.raises(ValueError, match=match + r".*Possible for this kernel: \("):
            layer.build((None, *case.shape))


@pytest.mark.parametrize(
    "layer, shape",
    [
        (layers.SKSConv2D(4, 5), (9, 9, 3)),
        (layers.SKSConv2D(4, 1), (9, 9, 12)),
        (layers.SKSConv2D(4, 7), (9, 9, 3)),
        (layers.SKSDepthwiseConv2D(5), (9, 9, 6)),
        (layers.SKSConv2DTranspose(6, 2), (9, 9, 8)),
        (layers.SKSSeparableConv2D(8, 3), (9, 9, 6)),
        (layers.SKSDense(8), (30,)),
    ],
)
def test_kernels_without_a_default_say_what_is_possible(layer, shape):
    match = "(?s)`codeword_shape` has no default for a kernel of shape .*Possible for this kernel: "
    with pytest.raises(ValueError, match=match):
        layer.build((None, *shape))


@pytest.mark.parametrize(
    "start, received",
    [
        ([1, 2, 2, 3], "2 more than once"),
        ([0, 1, 2, 512], "values from 0 to 512"),
        ([1, 2], "2 of them"),
    ],
)
def test_bad_starts_are_named(start, received):
    def build():
        selection = Permutation(start=start)
        layers.SKSConv2D(8, 3, num_codewords=4, selection=selection).build((None, 8, 8, 8))

    match = f"`start` must be a list of .*different integers.*{received}"
    with pytest.raises(ValueError, match=match):
        build()


@every_layer
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), "high"])
def test_bad_limits_are_named(case, value):
    with pytest.raises(ValueError, match=f"`clip_value` must be .*clip_value={value!r}"):
        sparse_layer(case, clip_value=value)


def test_too_many_logits_are_named():
    layer = layers.SKSDense(4, num_codewords=65, codeword_shape=(16,))
    match = "(?s)`num_codewords` is too large for a learned selection.*allowed are 4194304.*=65"
    with pytest.raises(ValueError, match=match):
        layer.build((None, 32))
    layers.SKSDense(4, num_codewords=65, codeword_shape=(16,), selection="fixed").build((None, 32))


# sparse_kernels


@tf.keras.utils.register_keras_serializable("tests")
class First(Selection):
    def start_indices(self, num_patterns, num_codewords):
        return np.arange(num_codewords)


def test_own_selections_work_and_survive_files(tmp_path):
    model = classifier(layers.SKSConv2D(8, 3, num_codewords=4, selection=First()), (8, 8, 8))
    for name in ("model.h5", "model.keras"):
        model.save(tmp_path / name)
        loaded = tf.keras.models.load_model(tmp_path / name)
        (kernel,) = layers.sparse_kernels(loaded)
        assert type(kernel.quantizer.selection) is First
        assert kernel.quantizer.selected().tolist() == [0, 1, 2, 3]


def test_one_selection_given_to_two_layers_is_copied():
    selection = Fixed([0, 1, 2, 3])
    first, second = (layers.SKSConv2D(8, 3, num_codewords=4, selection=selection) for _ in range(2))
    assert first.kernel_quantizer.selection is not second.kernel_quantizer.selection
    model = tf.keras.Sequential([tf.keras.layers.Input((8, 8, 8)), first, second])
    assert len({id(weight) for weight in model.weights}) == len(model.weights) == 6


def test_sparse_kernels_are_found_everywhere_in_order():
    inside = tf.keras.Sequential(
        [tf.keras.layers.Input((8, 8, 8)), layers.SKSDepthwiseConv2D(3, name="inside")],
        name="block",
    )
    shared = layers.SKSConv2D(8, 3, padding="same", name="shared")
    inputs = tf.keras.layers.Input((8, 8, 8))
    outputs = layers.SKSSeparableConv2D(8, 3, padding="same", name="first")(inputs)
    outputs = shared(shared(outputs))
    outputs = inside(outputs)
    quantizer = SparseKernelSign(8)
    outputs = lq.layers.QuantConv2D(
        4, 3, kernel_quantizer=quantizer, kernel_constraint="weight_clip", name="larq"
    )(outputs)
    outputs = lq.layers.QuantConv2D(
        4, 3, kernel_quantizer="ste_sign", kernel_constraint="weight_clip", name="plain"
    )(outputs)
    outputs = tf.keras.layers.Flatten()(outputs)
    wrapped = layers.SKSDense(4, num_codewords=8, codeword_shape=(4,), name="last")
    model = tf.keras.Model(inputs, wrapped(outputs))
    found = layers.sparse_kernels(model)
    names = ["first/depthwise", "first/pointwise", "shared", "inside", "larq", "last"]
    assert [kernel.name for kernel in found] == names
    assert found[4].quantizer is quantizer
    assert [kernel.latent().shape for kernel in found] == [
        (3, 3, 8, 1),
        (1, 1, 8, 8),
        (3, 3, 8, 8),
        (3, 3, 8, 1),
        (3, 3, 8, 4),
        (16, 4),
    ]
    assert [kernel.name for kernel in layers.sparse_kernels(shared)] == ["shared"]
    assert layers.sparse_kernels(tf.keras.layers.Dense(3)) == []


def test_assigned_codewords_are_those_of_the_quantised_kernel():
    layer = layers.SKSConv2D(6, 3, num_codewords=3, selection=Fixed([0, 7, 511]))
    layer.build((None, 8, 8, 4))
    (kernel,) = layers.sparse_kernels(layer)
    latent = kernel.latent()
    rows = codebook.to_signs([0, 7, 511], 9)
    expected = [
        [0, 7, 511][int((rows @ latent[:, :, i, o].ravel()).argmax())]
        for i in range(4)
        for o in range(6)
    ]
    assert kernel.assigned().tolist() == expected


def test_a_quantizer_between_two_layers_is_refused():
    quantizer = SparseKernelSign(4, "fixed")
    shared = [
        lq.layers.QuantConv2D(
            4, 3, kernel_quantizer=quantizer, kernel_constraint="weight_clip", name=n
        )
        for n in "ab"
    ]
    model = tf.keras.Sequential([tf.keras.Input((8, 8, 4)), *shared])
    with pytest.raises(ValueError, match="quantises one kernel.*layers 'a' and 'b'"):
        layers.sparse_kernels(model)


def test_codewords_that_contradict_the_whole_codebook_are_refused():
    layer = layers.SKSConv2D(4, 3, num_codewords=512, selection=Fixed([1, 2]))
    with pytest.raises(ValueError, match="`indices` must be a list of 512 different integers"):
        layer.build((None, 8, 8, 4))
