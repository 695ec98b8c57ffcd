"""Pictures: what is drawn is what was selected, counted or measured."""

from functools import partial

import matplotlib
import networks
import numpy as np
import pytest
from matplotlib.colors import to_rgba

import larq_sks as sks
import larq_sks_zoo as zoo
from larq_sks._picture_files import drawn
from larq_sks.analysis import Analysis, Comparison, Histogram, PowerLaw, at_random, figures
from larq_sks.codebook import to_signs
from larq_sks.models import Codewords

matplotlib.use("agg")
from matplotlib import pyplot

from larq_sks import plot

CHOSEN = Codewords(
    np.array([511, 0, 7]), to_signs([511, 0, 7], 9).reshape(3, 3, 3), np.array([6, 3, 1])
)


@pytest.fixture(autouse=True)
def no_figure_stays():
    yield
    pyplot.close("all")


def cells(axes):
    """The corner and the brightness of each square."""
    (collection,) = axes.collections
    corners = np.array([path.vertices.min(axis=0) for path in collection.get_paths()])
    return corners, collection.get_facecolor()[:, :3].sum(axis=1)


# Tiles


def test_tiles_show_the_signs_and_the_share_of_each_codeword():
    axes = plot.tiles(CHOSEN, columns=2)
    corners, light = cells(axes)
    np.testing.assert_array_equal(light.reshape(3, 3, 3) > 1.5, CHOSEN.patterns > 0)
    assert [text.get_text() for text in axes.texts] == ["60.0%", "30.0%", "10.0%"]
    first, second, third = corners.reshape(3, 9, 2)
    assert first[0, 0] < second[0, 0] and first[0, 1] == second[0, 1] < third[0, 1]
    # Row after row from above, as a kernel's weights stand in memory.
    assert axes.yaxis_inverted()
    expected = [(x, y) for y in range(3) for x in range(3)]
    np.testing.assert_allclose(first - first[0], expected)


def test_dense_blocks_are_drawn_as_rows():
    chosen = Codewords(np.array([3, 9]), to_signs([3, 9], 8), np.array([1, 1]))
    corners, light = cells(plot.tiles(chosen))
    np.testing.assert_array_equal(light.reshape(2, 8) > 1.5, chosen.patterns > 0)
    assert len(set(corners[:8, 1])) == 1


def test_slices_of_blocks_with_three_axes_stand_side_by_side():
    patterns = to_signs([2, 200], 8).reshape(2, 2, 2, 2)
    corners, light = cells(plot.tiles(Codewords(np.array([2, 200]), patterns, np.array([1, 1]))))
    left = corners[:8, 0] < corners[:8, 0].min() + 2
    np.testing.assert_array_equal(light[:8][left] > 1.5, patterns[0, :, :, 0].ravel() > 0)
    np.testing.assert_array_equal(light[:8][~left] > 1.5, patterns[0, :, :, 1].ravel() > 0)


def test_a_row_of_no_tiles_is_refused():
    with pytest.raises(ValueError, match="`columns`.*columns=0"):
        plot.tiles(CHOSEN, columns=0)


# Use and ranks


def test_use_draws_the_share_of_blocks_against_rank():
    (line,) = plot.use({"conv": CHOSEN}).get_lines()
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(line.get_ydata(), [0.6, 0.3, 0.1])


def test_ranks_and_shares_stand_at_the_axes_as_plain_numbers():
    axes = plot.use({"conv": CHOSEN})
    axes.figure.draw_without_rendering()

    def shown(axis):
        low, high = sorted(axis.get_view_interval())
        labels = {tick.get_loc(): tick.label1.get_text() for tick in axis.get_major_ticks()}
        labels |= {tick.get_loc(): tick.label1.get_text() for tick in axis.get_minor_ticks()}
        return [text for place, text in sorted(labels.items()) if low <= place <= high and text]

    assert shown(axes.xaxis) == ["1", "2"]
    assert shown(axes.yaxis) == ["10%", "20%", "50%"]


def analysis_of(counts, law):
    drawn_by_lot = at_random(int(counts.sum()), len(counts))
    histogram = Histogram("all", (3, 3, 1), counts, figures(counts), drawn_by_lot, law)
    return Analysis("net", (), (histogram,), {})


@pytest.mark.parametrize("alpha", [1.8, 2.5])
def test_the_fitted_law_goes_through_counts_that_follow_it(alpha):
    """Counts at the middle quantiles of a law from 20 on, so that the line must lie on the curve."""
    codewords = 400
    upper = (np.arange(codewords) + 0.5) / codewords
    counts = np.zeros(512, np.int64)
    counts[:codewords] = np.floor(0.5 + 19.5 * upper ** (-1 / (alpha - 1)) + 0.5)
    level = Comparison(0.1, 0.9)
    law = PowerLaw(alpha, 20, codewords, 0.01, level, level)
    axes = plot.ranks(analysis_of(counts, law))
    *_, line = axes.get_lines()
    assert f"α = {alpha:.2f} (none better or worse)" in line.get_label()
    ranks, shares = line.get_data()
    np.testing.assert_array_equal(ranks, [1, codewords])
    curve = axes.get_lines()[0].get_ydata()
    middle = np.exp(
        np.interp(np.log(np.arange(5, codewords)), np.log(ranks), np.log(np.asarray(shares)))
    )
    np.testing.assert_allclose(curve[4 : codewords - 1], middle, rtol=0.15)


def test_a_histogram_without_a_fit_has_no_line_of_it():
    labels = [
        line.get_label() for line in plot.ranks(analysis_of(np.arange(512), None)).get_lines()
    ]
    assert labels == ["all kernels, 3×3", "signs drawn by lot"]


# Selection


def picture(axes):
    """The colours of `selection` as letters, row by row: the whole codebook, first, later."""
    colours = {(0.0, 0.0, 0.0, 0.0): "."}
    for handle in axes.get_legend().legend_handles:
        letter = {"whole codebook": "w", "of the first choice": "f", "came later": "l"}
        colours[tuple(np.round(handle.get_facecolor(), 3))] = letter[handle.get_label()]
    (image,) = axes.images
    return ["".join(colours[tuple(np.round(cell, 3))] for cell in row) for row in image.get_array()]


def test_selection_shows_when_codewords_came_and_left():
    whole = np.arange(512)
    history = [whole, [5, 7, 9], [7, 6, 5], [300, 400, 5], [300, 400, 5]]
    axes = plot.selection([{"conv": np.array(epoch)} for epoch in history])
    assert picture(axes) == ["wf...", "wff..", "wffff", "w.l..", "w..ll", "w..ll"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["conv  +2"]


def test_selection_draws_the_kernels_one_below_the_other():
    history = [{"a": np.array([1, 2]), "b": np.array([3])}] * 3
    axes = plot.selection(history)
    assert picture(axes) == ["fff"] * 3
    np.testing.assert_allclose(axes.get_yticks(), [1.0, 2.5])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]


def test_a_codebook_that_stays_whole_is_the_first_choice():
    assert set(picture(plot.selection([{"conv": np.arange(512)}] * 2))) == {"ff"}


@pytest.mark.parametrize("history", [[], [{"a": np.array([1])}, {"b": np.array([1])}]])
def test_a_history_without_epochs_or_of_two_models_is_refused(history):
    with pytest.raises(ValueError, match="`history` must hold.*Received: "):
        plot.selection(history)


# Accuracy and sizes


def test_accuracy_draws_points_in_order_with_their_errors():
    axes = plot.accuracy({"learned": [(1.0, 74.0), (0.5, 70.0, 0.25)], "fixed": [(0.5, 69.0)]})
    learned, fixed = axes.containers
    np.testing.assert_array_equal(learned.lines[0].get_xdata(), [0.5, 1.0])
    np.testing.assert_array_equal(learned.lines[0].get_ydata(), [70.0, 74.0])
    bars = learned.lines[2][0].get_segments()
    np.testing.assert_allclose(bars[0][:, 1], [69.75, 70.25])
    assert [fixed.get_label(), learned.get_label()] == ["fixed", "learned"]
    assert learned.lines[0].get_marker() != fixed.lines[0].get_marker()


def test_a_point_of_one_number_is_refused():
    with pytest.raises(ValueError, match=r"`points` must hold tuples.*'net': \[\(1.0,\)\]"):
        plot.accuracy({"net": [(1.0,)]})


def test_sizes_add_up_to_the_summary():
    model = networks.resnet20(32)
    summary = sks.models.summary(model, print_fn=lambda line: None)
    axes = plot.sizes(summary)
    bars = {
        bar.get_label(): [patch.get_width() for patch in bar.patches] for bar in axes.containers
    }
    assert list(bars) == ["codeword indices", "codebooks", "other kernels", "other weights"]
    kib = {name: sum(widths) for name, widths in bars.items()}
    np.testing.assert_allclose(sum(kib.values()), summary.bits / 8192)
    np.testing.assert_allclose(kib["codeword indices"], summary.cost.bits / 8192)
    np.testing.assert_allclose(kib["codebooks"], summary.cost.codebook_bits / 8192)
    ends = np.sum(list(bars.values()), axis=0)
    names = [label.get_text() for label in axes.get_yticklabels()]
    layers = {layer.name: layer for layer in summary.layers}
    for name, end in zip(names[:-1], ends):
        layer = layers[name]
        size = sum(k.cost.bits + k.cost.codebook_bits for k in layer.kernels) + layer.other_bits
        np.testing.assert_allclose(end, size / 8192)
    (lines,) = axes.collections
    saved = sum(line[0, 0] - ends[round(line[:, 1].mean())] for line in lines.get_segments())
    np.testing.assert_allclose(saved, (summary.bits_at_one_bit - summary.bits) / 8192)
    assert names[-1].endswith("layers without kernel")


def test_a_network_at_one_bit_has_no_lines_beside_its_bars():
    summary = sks.models.summary(zoo.ResNet8(), print_fn=lambda line: None)
    assert not plot.sizes(summary).collections


# All of them


def pictures():
    model = networks.resnet20(32)
    chosen = sks.codewords(model)
    summary = sks.models.summary(model, print_fn=lambda line: None)
    law = PowerLaw(2.0, 5, 300, 0.1, Comparison(-3.0, 0.01), Comparison(1.0, 0.5))
    history = [{name: each.indices for name, each in chosen.items()}]
    return {
        "tiles": (plot.tiles, chosen["stage3_2_conv"]),
        "use": (plot.use, chosen),
        "ranks": (plot.ranks, analysis_of(np.arange(512), law)),
        "selection": (plot.selection, history),
        "accuracy": (plot.accuracy, {"net": [(0.5, 70.0, 0.2)]}),
        "sizes": (plot.sizes, summary),
    }


def test_pictures_go_where_they_are_told_and_make_the_same_files_again():
    for draw, shown in pictures().values():
        for kind in ("png", "svg"):
            assert drawn(partial(draw, shown), kind) == drawn(partial(draw, shown), kind)
        assert pyplot.get_fignums() == []
        figure = matplotlib.figure.Figure()
        axes = figure.subplots()
        assert draw(shown, axes) is axes
        assert pyplot.get_fignums() == []


def test_lines_and_words_can_be_read_in_a_dark_style():
    with pyplot.style.context("dark_background"):
        for name, (draw, shown) in pictures().items():
            axes = draw(shown)
            for line in axes.get_lines():
                assert sum(to_rgba(line.get_color())[:3]) > 0.6, name
            for text in axes.texts:
                assert text.get_color() == "white"
