import json
import re
import subprocess
import sys
import textwrap

import larq as lq
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from larq_sks import codebook, quantizers
from larq_sks.quantizers import SparseKernelSign, nearest, sparse_kernel_sign
from larq_sks.selections import Fixed, Permutation

# Kernel shapes and block shapes of every kind of layer.
SHAPES = {
    "convolution": ((3, 3, 4, 6), (3, 3, 1, 1)),
    "pointwise": ((1, 1, 8, 5), (1, 1, 4, 1)),
    "depthwise": ((3, 3, 7, 1), (3, 3, 1, 1)),
    "dense": ((12, 5), (6, 1)),
    "across outputs": ((2, 4, 4, 6), (1, 2, 2, 2)),
}


def windows(kernel_shape, block_shape):
    """Where each block lies in the kernel, in row-major order."""
    for corner in np.ndindex(
        *(size // part for size, part in zip(kernel_shape, block_shape, strict=True))
    ):
        yield tuple(
            slice(i * part, (i + 1) * part) for i, part in zip(corner, block_shape, strict=True)
        )


def reference(kernel, codewords, block_shape, gradient, clip_value):
    """Forward and backward of METHOD's sections 2 and 4 in float64 loops."""
    quantised = np.zeros(kernel.shape)
    sums = np.zeros(codewords.shape)
    for window in windows(kernel.shape, block_shape):
        scores = codewords.astype(np.float64) @ kernel[window].ravel().astype(np.float64)
        best = int(scores.argmax())
        quantised[window] = codewords[best].reshape(block_shape)
        sums[best] += gradient[window].ravel()
    passes = True if clip_value is None else np.abs(kernel) <= clip_value
    return quantised, gradient * passes, sums


def example(name, seed, num_codewords=5, scale=1.0):
    kernel_shape, block_shape = SHAPES[name]
    rng = np.random.default_rng(seed)
    size = int(np.prod(block_shape))
    chosen = rng.permutation(2**size)[:num_codewords]
    codewords = codebook.to_signs(chosen, size)
    kernel = (scale * rng.normal(size=kernel_shape)).astype(np.float32)
    gradient = rng.normal(size=kernel_shape).astype(np.float32)
    return kernel, codewords, block_shape, gradient


def run(kernel, codewords, block_shape, gradient, clip_value=1.0):
    kernel, codewords = tf.convert_to_tensor(kernel), tf.convert_to_tensor(codewords)
    with tf.GradientTape() as tape:
        tape.watch([kernel, codewords])
        quantised = sparse_kernel_sign(kernel, codewords, block_shape, clip_value)
    return quantised, *tape.gradient(quantised, [kernel, codewords], gradient)


def layer(quantizer, filters=6, **options):
    return lq.layers.QuantConv2D(
        filters,
        3,
        kernel_quantizer=quantizer,
        kernel_constraint="weight_clip",
        input_quantizer="ste_sign",
        **options,
    )


def blocks_of(kernel, block_shape=(3, 3, 1, 1)):
    return {kernel[window].tobytes() for window in windows(kernel.shape, block_shape)}


# Nearest codeword and straight-through gradient


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(list(SHAPES)),
    st.integers(0, 999),
    st.sampled_from([1, 2, 5, 13]),
    st.sampled_from([0.5, 1.0, 1.25, None]),
)
def test_values_and_gradients_equal_the_formulas(name, seed, num_codewords, clip_value):
    case = example(name, seed, num_codewords)
    quantised, to_kernel, to_codewords = run(*case, clip_value)
    expected = reference(*case, clip_value)
    np.testing.assert_array_equal(quantised, expected[0])
    np.testing.assert_array_equal(to_kernel, expected[1].astype(np.float32))
    np.testing.assert_allclose(to_codewords, expected[2], rtol=1e-4, atol=1e-5)


def test_the_limit_itself_still_learns():
    kernel = np.full((3, 3, 1, 2), 1.0, np.float32)
    kernel[..., 1] = np.nextafter(np.float32(1), np.float32(2))
    _, to_kernel, _ = run(
        kernel, codebook.to_signs([0, 511], 9), (3, 3, 1, 1), np.ones_like(kernel)
    )
    assert np.all(to_kernel[..., 0] == 1) and np.all(to_kernel[..., 1] == 0)


def test_the_first_of_equally_near_codewords_is_taken():
    codewords = codebook.to_signs([1, 2, 3], 2)
    assert nearest(tf.constant([[0.0, 0.5], [0.0, 0.5]]), codewords).numpy().tolist() == [0, 2]


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(list(SHAPES)), st.integers(0, 999))
def test_all_codewords_are_a_plain_sign(name, seed):
    kernel, _, block_shape, gradient = example(name, seed)
    patterns = codebook.patterns(int(np.prod(block_shape)))
    quantised, to_kernel, _ = run(kernel, patterns, block_shape, gradient)
    np.testing.assert_array_equal(quantised, np.sign(kernel))
    np.testing.assert_array_equal(to_kernel, gradient * (np.abs(kernel) <= 1))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_blocks_in_parts_equal_all_at_once(name, compiled, monkeypatch):
    case = example(name, seed=3)
    whole = run(*case)
    # Parts of three blocks; the last one is not full.
    monkeypatch.setattr(quantizers, "_MAX_SCORES", 15)
    maps = []
    monkeypatch.setattr(tf, "map_fn", lambda *a, f=tf.map_fn, **k: maps.append(1) or f(*a, **k))
    parts = tf.function(run, jit_compile=compiled)(*case) if compiled else run(*case)
    assert maps
    for first, second in zip(whole, parts, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(whole[0], parts[0])


def test_large_kernels_do_not_need_memory_for_all_scores():
    """512×512 slices against 256 codewords are 268 MB of scores, and more with their gradients."""
    code = r"""
        import re
        import numpy as np, tensorflow as tf
        from larq_sks import codebook
        from larq_sks.quantizers import sparse_kernel_sign

        @tf.function
        def step(kernel, codewords):
            with tf.GradientTape() as tape:
                tape.watch([kernel, codewords])
                loss = tf.reduce_sum(sparse_kernel_sign(kernel, codewords, (3, 3, 1, 1)) ** 2)
            return tape.gradient(loss, [kernel, codewords])

        def peak():
            # Not ru_maxrss, which begins at the parent's.
            status = open("/proc/self/status").read()
            return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024

        codewords = tf.constant(codebook.to_signs(np.arange(256), 9))
        step(tf.zeros((3, 3, 8, 8)), codewords)
        kernel = tf.random.stateless_normal((3, 3, 512, 512), (0, 0))
        before = peak()
        step(kernel, codewords)
        print(peak() - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    # The kernel is 9 MiB; all scores at once would be 256 MiB, and their gradients as much again.
    assert float(result.stdout.split()[-1]) < 220


# The quantizer in a layer of Larq's


@pytest.mark.parametrize(
    "quantizer",
    [
        "sparse_kernel_sign",
        SparseKernelSign(4),
        SparseKernelSign(4, Fixed([0, 3, 400, 511])),
        SparseKernelSign(20, codeword_shape=(1, 1, 8)),
        SparseKernelSign(300, Permutation(noise=0.5)),
    ],
    ids=["alias", "permutation", "fixed", "other blocks", "many"],
)
def test_quantises_a_convolution(quantizer):
    conv = layer(quantizer, use_bias=False)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 8)).astype(np.float32)
    outputs = conv(images, training=True)
    quantizer = conv.kernel_quantizer
    with lq.context.quantized_scope(True):
        (kernel,) = (w for w in conv.get_weights() if w.shape == (3, 3, 8, 6))
    assert set(np.unique(kernel)) == {-1.0, 1.0}
    found = blocks_of(kernel, quantizer.block_shape)
    allowed = codebook.to_signs(quantizer.selected(), int(np.prod(quantizer.block_shape)))
    assert found <= {row.tobytes() for row in allowed}
    assert len(allowed) == len({row.tobytes() for row in allowed}) == quantizer.num_codewords
    signs = np.where(images >= 0, 1.0, -1.0).astype(np.float32)
    if quantizer.selection.name.startswith("fixed"):
        np.testing.assert_array_equal(outputs, tf.nn.conv2d(signs, kernel, 1, "VALID"))


def test_quantises_a_dense_layer():
    dense = lq.layers.QuantDense(
        5, kernel_quantizer=SparseKernelSign(6, Fixed(seed=1)), kernel_constraint="weight_clip"
    )
    outputs = dense(np.eye(16, dtype=np.float32))  # the quantised kernel itself
    assert dense.kernel_quantizer.block_shape == (8, 1)
    case = (
        dense.kernel.latent_variable.numpy(),
        dense.kernel_quantizer.selection.codewords().numpy(),
    )
    expected, *_ = reference(*case, (8, 1), np.zeros((16, 5)), 1.0)
    np.testing.assert_array_equal(outputs, expected)


def test_the_alias_makes_a_quantizer_for_each_layer():
    first, second = layer("sparse_kernel_sign"), layer("sparse_kernel_sign")
    assert isinstance(first.kernel_quantizer, SparseKernelSign)
    assert first.kernel_quantizer is not second.kernel_quantizer
    assert first.kernel_quantizer.num_codewords == 32


@pytest.mark.parametrize("clip_value", [1.0, 1.25, None])
def test_the_whole_codebook_is_ste_sign(clip_value):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 4, 6)).astype(np.float32)
    kernel[0, 0] = 0.0
    kernel = tf.constant(kernel)
    twin = lq.quantizers.SteSign(clip_value)
    weights = rng.normal(size=kernel.shape).astype(np.float32)
    whole = SparseKernelSign(512, clip_value=clip_value)
    phase = SparseKernelSign(4, clip_value=clip_value)
    phase.build(kernel.shape)
    phase.selection.phase = "whole"
    for quantizer in (whole, phase):
        values, gradients = [], []
        for quantise in (quantizer, twin):
            with tf.GradientTape() as tape:
                tape.watch(kernel)
                values.append(quantise(kernel))
                loss = tf.reduce_sum(values[-1] * weights)
            gradients.append(tape.gradient(loss, kernel))
        np.testing.assert_array_equal(*values)
        np.testing.assert_array_equal(*gradients)
        assert quantizer.selected().tolist() == list(range(512))
    assert whole.weights == []


def test_logits_and_latent_kernel_receive_gradients():
    conv = layer(SparseKernelSign(4))
    with tf.GradientTape() as tape:
        outputs = conv(np.ones((1, 8, 8, 8), np.float32), training=True)
        loss = tf.reduce_sum(outputs * np.arange(6, dtype=np.float32))
    names = [weight.name.split("/")[-1] for weight in conv.trainable_weights]
    assert names == ["kernel:0", "bias:0", "logits:0"]
    for gradient in tape.gradient(loss, conv.trainable_weights):
        assert np.abs(gradient).max() > 0


def test_half_precision_kernels_stay_half_precision():
    quantizer = SparseKernelSign(4)
    kernel = tf.cast(tf.random.stateless_normal((3, 3, 4, 6), (0, 0)), tf.float16)
    assert quantizer(kernel, training=True).dtype == tf.float16
    assert all(weight.dtype != tf.float16 for weight in quantizer.weights)


def test_larq_summarises_it(capsys):
    conv = layer(SparseKernelSign(4), name="compact")
    model = tf.keras.Sequential([tf.keras.layers.Input((8, 8, 8)), conv])
    lq.models.summary(model)
    # 432 weights of 1 bit, 6·6·432 binary multiplications.
    assert re.search(r"compact +1 .* 432 .* 15552 ", capsys.readouterr().out)


# Multipliers


def scaled(num_codewords=4, **options):
    quantizer = SparseKernelSign(num_codewords, scale=True, **options)
    quantizer.build((3, 3, 4, 6))
    assert quantizer.multiplier.numpy().tolist() == [1] * 6
    quantizer.multiplier.assign([0.5, 1.0, 1 / 3, 2.0, 7.0, 0.25])
    return quantizer


@pytest.mark.parametrize("num_codewords", [4, 512])
@pytest.mark.parametrize("clip_value", [0.5, None])
def test_multipliers_scale_values_and_gradients(num_codewords, clip_value):
    quantizer = scaled(num_codewords, clip_value=clip_value)
    rng = np.random.default_rng(0)
    kernel = tf.constant(rng.normal(size=(3, 3, 4, 6)), tf.float32)
    gradient = rng.normal(size=kernel.shape).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        values = quantizer(kernel, training=True)
    watched = [kernel, *quantizer.trainable_weights]
    names = [weight.name.rpartition("/")[2] for weight in quantizer.trainable_weights]
    gradients = dict(zip(["kernel", *names], tape.gradient(values, watched, gradient)))
    assert set(gradients) == {"kernel", "multiplier:0", *["logits:0"][: num_codewords < 512]}

    multiplier = quantizer.multiplier.numpy()
    codewords = codebook.to_signs(quantizer.selected(), 9)
    signs, to_kernel, _ = reference(
        kernel.numpy(), codewords, (3, 3, 1, 1), gradient * multiplier, clip_value
    )
    np.testing.assert_array_equal(quantizer.signs(kernel), signs)
    np.testing.assert_array_equal(values, signs.astype(np.float32) * multiplier)
    np.testing.assert_allclose(gradients["kernel"], to_kernel, rtol=1e-6)
    expected = (gradient.astype(np.float64) * signs).sum((0, 1, 2))
    np.testing.assert_allclose(gradients["multiplier:0"], expected, rtol=1e-5, atol=1e-5)
    if num_codewords < 512:
        plain = SparseKernelSign(4, Permutation(start=quantizer.selected()), clip_value=clip_value)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(plain(kernel, training=True) * gradient * multiplier)
        (logits,) = tape.gradient(loss, plain.trainable_weights)
        np.testing.assert_allclose(gradients["logits:0"], logits, rtol=1e-4, atol=1e-5)
        assert np.abs(logits).max() > 0


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_multipliers_survive_files(suffix, tmp_path):
    conv = layer(SparseKernelSign(4, scale=True), pad_values=1.0, padding="same")
    model = tf.keras.Sequential([tf.keras.layers.Input((8, 8, 4)), conv])
    conv.kernel_quantizer.multiplier.assign([0.5, 1.0, 1 / 3, 2.0, 7.0, 0.25])
    model.save(tmp_path / f"model{suffix}")
    loaded = tf.keras.models.load_model(tmp_path / f"model{suffix}")
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype(np.float32)
    np.testing.assert_array_equal(model(images), loaded(images))
    quantizer = loaded.layers[0].kernel_quantizer
    assert quantizer.scale is True
    np.testing.assert_array_equal(quantizer.multiplier, conv.kernel_quantizer.multiplier)


def test_multipliers_round_to_half_precision_with_the_kernel():
    quantizer = scaled()
    kernel = tf.cast(tf.random.stateless_normal((3, 3, 4, 6), (0, 0)), tf.float16)
    values = quantizer(kernel)
    assert values.dtype == quantizer.signs(kernel).dtype == tf.float16
    assert quantizer.multiplier.dtype == tf.float32
    third = np.abs(values.numpy()[..., 2])
    assert np.all(third == np.float16(1 / 3))


def test_multipliers_learn_with_the_network():
    conv = layer(SparseKernelSign(4, scale=True), use_bias=False)
    model = tf.keras.Sequential([tf.keras.layers.Input((8, 8, 4)), conv])
    model.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    model.fit(rng.normal(size=(8, 8, 8, 4)), rng.normal(size=(8, 6, 6, 6)), verbose=0)
    assert np.all(conv.kernel_quantizer.multiplier != 1)


def test_without_scale_there_is_no_multiplier():
    quantizer = SparseKernelSign(512)
    quantizer.build((3, 3, 4, 6))
    assert quantizer.weights == [] and not hasattr(quantizer, "multiplier")


# Configs and arguments


@pytest.mark.parametrize(
    "quantizer",
    [
        SparseKernelSign(),
        SparseKernelSign(
            4, Permutation(start=[1, 2, 3, 4], temperature=0.5), (1, 1, 8), clip_value=None
        ),
        SparseKernelSign(3, Fixed([1, 2, 3]), clip_value=1.25),
        SparseKernelSign(3, scale=True),
    ],
)
def test_configs_survive_json(quantizer):
    config = json.loads(json.dumps(quantizer.get_config()))
    copy = SparseKernelSign.from_config(config)
    assert json.loads(json.dumps(copy.get_config())) == config
    assert type(copy.selection) is type(quantizer.selection)
    assert copy.codeword_shape == quantizer.codeword_shape
    assert copy.selection is not quantizer.selection


def test_an_object_is_used_as_it_is_and_its_selection_copied():
    selection = Fixed([0, 1, 2, 3])
    first, second = SparseKernelSign(4, selection), SparseKernelSign(4, selection)
    assert first.selection is not second.selection is not selection


def test_one_quantizer_for_two_kernels_is_refused():
    quantizer = SparseKernelSign(4)
    quantizer(tf.zeros((3, 3, 4, 6)))
    with pytest.raises(ValueError, match=r"one kernel.*\(3, 3, 4, 6\).*\(3, 3, 6, 6\).*its own"):
        quantizer(tf.zeros((3, 3, 6, 6)))


@pytest.mark.parametrize(
    "argument, value",
    [
        *(("num_codewords", value) for value in [0, -1, 2.5, "32", True, None, 2**16 + 1]),
        *(("clip_value", value) for value in [0, -1.0, float("nan"), "1"]),
        ("selection", "best"),
    ],
)
def test_bad_arguments_are_named(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` must be .*Received: {argument}={value!r}"):
        SparseKernelSign(**{argument: value})
