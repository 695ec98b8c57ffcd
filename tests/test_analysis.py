"""How kernels use the sign patterns: histograms, figures, and power-law fits against SciPy."""

import math
import sys
from collections import Counter

import larq as lq
import matplotlib
import networks
import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize, special

import larq_sks as sks
from larq_sks import analysis

pytest.importorskip("powerlaw", reason="needs the extra `analyze`")
matplotlib.use("agg")


def zipf_like(exponent, ranks=512, largest=20000):
    return np.round(largest * np.arange(1, ranks + 1) ** -exponent).astype(int)


def test_a_histogram_counts_each_slice_of_a_kernel():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 5, 7))
    kernel[:, :, 0, 0] = 0.0  # counts as +1
    counts = analysis.histogram(kernel)
    expected = Counter(
        sum(1 << k for k, weight in enumerate(kernel[:, :, i, o].ravel()) if weight >= 0)
        for i in range(5)
        for o in range(7)
    )
    assert counts.shape == (512,) and counts.sum() == 35 and expected[511] >= 1
    assert {int(code): int(counts[code]) for code in np.flatnonzero(counts)} == expected


def test_other_kernels_are_cut_as_asked_or_by_the_default():
    kernel = np.ones((1, 1, 16, 2))
    kernel[0, 0, 8:, 1] = -1
    assert analysis.histogram(kernel)[[0, 255]].tolist() == [1, 3]
    assert analysis.histogram(kernel, (1, 1, 4, 1)).tolist() == [2] + [0] * 14 + [6]
    with pytest.raises(ValueError, match="`codeword_shape` has no default"):
        analysis.histogram(np.ones((5, 5, 3, 2)))


def test_figures_of_counts_known_by_hand():
    counts = np.array([4, 0, 1, 3] + [0] * 11 + [8])
    figures = analysis.figures(counts)
    assert figures.entropy == pytest.approx(
        -sum(share * math.log2(share) for share in (1 / 4, 1 / 16, 3 / 16, 1 / 2))
    )
    assert figures.never_used == 12
    assert analysis.top_share(counts, 1) == 0.5 and analysis.top_share(counts, 2) == 0.75
    assert figures.top == dict.fromkeys(analysis.TOP, 1.0)
    # Codewords 0 and 15 are opposite to each other, 4 and 8 blocks: 4 pairs. No other has its opposite.
    assert figures.opposite == 8 / 16


def test_the_rank_slope_of_an_exact_zipf_law_is_its_exponent():
    counts = zipf_like(0.9, largest=10**9)
    counts = np.random.default_rng(0).permutation(counts)
    assert analysis.rank_slope(counts) == pytest.approx(-0.9, abs=1e-5)
    assert analysis.rank_slope(np.full(512, 7)) == pytest.approx(0.0, abs=1e-12)
    assert analysis.rank_slope(np.array([0, 5])) == 0.0


@pytest.mark.parametrize("blocks", [256, 4096, 262144])
def test_random_signs_have_the_figures_that_probability_says(blocks):
    """Against the expectation for never used, and the expansion of Miller and Madow for entropy."""
    figures = analysis.at_random(blocks)
    assert figures.never_used == pytest.approx(512 * (1 - 1 / 512) ** blocks, abs=6)
    if blocks > 512:
        assert figures.entropy == pytest.approx(9 - 511 / (2 * blocks * math.log(2)), abs=0.01)
    # Kernels of random weights are such draws.
    kernel = np.random.default_rng(1).normal(size=(3, 3, blocks // 16, 16))
    drawn = analysis.figures(analysis.histogram(kernel))
    for number in analysis.TOP:
        assert drawn.top[number] == pytest.approx(figures.top[number], rel=0.1)
    assert drawn.opposite == pytest.approx(figures.opposite, abs=0.06)
    assert analysis.at_random(blocks) == figures


def likely_exponent(counts, smallest):
    """Finds the exponent of most likelihood of a discrete power law, by its formula."""
    tail = counts[counts >= smallest]

    def cost(alpha):
        return alpha * np.mean(np.log(tail)) + np.log(special.zeta(alpha, smallest))

    return optimize.minimize_scalar(cost, bounds=(1.01, 5.0), method="bounded").x


def distance(counts, smallest, alpha):
    values, number = np.unique(counts[counts >= smallest], return_counts=True)
    below = 1 - special.zeta(alpha, values) / special.zeta(alpha, smallest)
    share = np.cumsum(number) / number.sum()
    return max(
        np.abs(below - np.r_[0, share[:-1]]).max(),
        np.abs(1 - special.zeta(alpha, values + 1) / special.zeta(alpha, smallest) - share).max(),
    )


def test_a_power_law_is_found_where_there_is_one():
    counts = np.random.default_rng(3).zipf(2.4, 2000)
    fit = analysis.power_law(np.r_[counts, np.zeros(50, int)])
    assert fit.alpha == pytest.approx(2.4, abs=0.1)
    assert fit.alpha == pytest.approx(likely_exponent(counts, fit.smallest), abs=1e-3)
    assert fit.tail == np.sum(counts >= fit.smallest) and fit.distance < 0.02
    assert fit.exponential.other_is_worse and not fit.lognormal.other_is_better
    assert fit.verdict in ("better than exponential", "better than lognormal and exponential")


@pytest.mark.parametrize("other", ["lognormal", "exponential"])
def test_another_distribution_is_said_to_be_better_where_it_is(other):
    generator = np.random.default_rng(4)
    if other == "lognormal":
        counts = generator.lognormal(6.0, 0.3, 512)
    else:
        counts = 100 + generator.exponential(60.0, 4000)
    fit = analysis.power_law(np.round(counts).astype(int))
    assert getattr(fit, other).other_is_better and other in fit.verdict and "better" in fit.verdict


def test_counts_that_can_show_nothing_are_not_fitted():
    assert analysis.power_law(np.r_[np.arange(1, 41), np.zeros(472, int)]) is None
    assert analysis.power_law(np.full(512, 7)) is None
    assert analysis.power_law(np.repeat([1, 2, 3], 100)) is None


@pytest.mark.skipif(not networks.XNOR.exists(), reason="needs the XNOR-Net VGG16 in shared/data")
def test_the_vgg16_has_the_figures_on_record_and_no_pure_power_law():
    result = analysis.analyze(networks.xnor_vgg16())
    assert [each.name for each in result.kernels] == [f"conv{number}" for number in range(1, 13)]
    assert set(result.skipped) == {"stem", "classifier"}
    (together,) = result.together
    assert together.counts.sum() == 1634304
    assert f"{together.figures.entropy:.2f}" == "8.12"
    assert (
        f"{together.figures.top[64]:.0%}" == "48%" and f"{together.figures.top[128]:.0%}" == "66%"
    )
    np.testing.assert_array_equal(together.counts, sum(each.counts for each in result.kernels))

    fit, counts = together.power_law, together.counts
    assert fit.alpha == pytest.approx(likely_exponent(counts, fit.smallest), abs=1e-3)
    # No start that is nearer.
    assert fit.distance == pytest.approx(distance(counts, fit.smallest, fit.alpha), abs=1e-4)
    for smallest in np.unique(counts)[:-50:10]:
        other = distance(counts, smallest, likely_exponent(counts, smallest))
        assert fit.distance <= other + 1e-3
    assert "lognormal better" in fit.verdict
    assert "lognormal better" in str(result) and "conv12" in str(result)


def test_networks_with_few_codewords_and_without_are_measured():
    model = networks.resnet20(32)
    result = analysis.analyze(model)
    chosen = sks.codewords(model)
    assert [each.name for each in result.kernels] == list(chosen)
    for each in result.kernels:
        counts = np.zeros(512, int)
        counts[chosen[each.name].indices] = chosen[each.name].counts
        np.testing.assert_array_equal(each.counts, counts)
        assert each.figures.top[32] == 1.0 and each.power_law is None
    assert result.skipped["stem"] == "no binary kernel"
    part = result.as_dict()["together"][0]
    assert part["blocks"] == 29696 and sum(part["counts"]) == 29696
    assert part["power_law"]["verdict"] == result.together[0].power_law.verdict


def test_kernels_of_each_block_shape_are_summed_for_themselves():
    layers = lq.layers
    binary = dict(input_quantizer="ste_sign", kernel_quantizer="ste_sign")
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential(
        [
            tf.keras.Input((8, 8, 8)),
            layers.QuantConv2D(16, 3, name="a", **binary),
            layers.QuantConv2D(8, 1, name="b", **binary),
            layers.QuantConv2D(8, 5, name="five", **binary),
            layers.QuantSeparableConv2D(
                4, 2, name="c", depthwise_quantizer="ste_sign", pointwise_quantizer=None
            ),
            tf.keras.layers.Flatten(),
            layers.QuantDense(3, kernel_quantizer="ste_sign", name="odd"),
        ]
    )
    result = analysis.analyze(model)
    shapes = {each.name: each.codeword_shape for each in result.kernels}
    assert shapes["a"] == (3, 3, 1, 1) and shapes["b"] == (1, 1, 8, 1)
    assert shapes["five"] == shapes["c/depthwise"] == (1, 1, 8, 1)
    assert result.skipped == {
        "c/pointwise": "no binary kernel",
        "odd": "no blocks for a kernel of 4×3",
    }
    sizes = {each.codeword_shape: each.counts.sum() for each in result.together}
    assert sizes == {(3, 3, 1, 1): 8 * 16, (1, 1, 8, 1): 2 * 8 + 25 * 8 + 4}


def test_a_model_without_binary_kernels_is_refused():
    model = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(2)], name="plain")
    with pytest.raises(ValueError, match="must be a binary kernel.*Received: plain"):
        analysis.analyze(model)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "powerlaw", None)
    with pytest.raises(ImportError, match=r"pip install '\.\[analyze\]'"):
        analysis.analyze_kernels("random", {"a": np.ones((3, 3, 8, 8))})


def test_the_picture_shows_each_kernel_all_of_them_and_chance():
    kernels = {
        name: np.random.default_rng(seed).normal(0.3, 1.0, (3, 3, 32, 32))
        for seed, name in enumerate(("a", "b"))
    }
    result = analysis.analyze_kernels("net", kernels)
    *thin, thick, dashed, law = sks.plot.ranks(result).get_lines()
    for line, each in zip([*thin, thick], [*result.kernels, *result.together]):
        shares = sorted(each.counts[each.counts > 0] / each.counts.sum(), reverse=True)
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, len(shares) + 1))
        np.testing.assert_allclose(line.get_ydata(), shares)
    assert thick.get_label() == "all kernels, 3×3" and dashed.get_label() == "signs drawn by lot"
    assert dashed.get_ydata()[0] < 0.01 < thick.get_ydata()[0]
    fit = result.together[0].power_law
    assert law.get_label() == f"power law, α = {fit.alpha:.2f} ({fit.verdict})"
    np.testing.assert_array_equal(law.get_xdata(), [1, fit.tail])
    np.testing.assert_allclose(law.get_ydata()[1], fit.smallest / result.together[0].counts.sum())
