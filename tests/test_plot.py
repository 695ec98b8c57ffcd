"""Pictures: what is drawn is what was selected."""

import matplotlib
import numpy as np
import pytest

from larq_sks.codebook import to_signs
from larq_sks.models import Codewords

matplotlib.use("agg")
from larq_sks import plot

CHOSEN = Codewords(
    np.array([511, 0, 7]), to_signs([511, 0, 7], 9).reshape(3, 3, 3), np.array([6, 3, 1])
)


def test_tiles_show_the_signs_and_the_share_of_each_codeword():
    axes = plot.tiles(CHOSEN, columns=2)
    light = [image.get_array().sum(-1) > 1.5 for image in axes.get_images()]
    np.testing.assert_array_equal(light, CHOSEN.patterns > 0)
    assert [text.get_text() for text in axes.texts] == ["60.0%", "30.0%", "10.0%"]
    (first, second, third) = [image.get_extent() for image in axes.get_images()]
    assert first[0] < second[0] and first[2] == second[2] and first[2] < third[2]


def test_use_draws_the_share_of_blocks_against_rank():
    (line,) = plot.use({"conv": CHOSEN}).get_lines()
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(line.get_ydata(), [0.6, 0.3, 0.1])


def test_dense_blocks_are_drawn_as_rows():
    chosen = Codewords(np.array([3, 9]), to_signs([3, 9], 8), np.array([1, 1]))
    assert [image.get_array().shape[:2] for image in plot.tiles(chosen).get_images()] == [
        (1, 8)
    ] * 2


def test_a_row_of_no_tiles_is_refused():
    with pytest.raises(ValueError, match="`columns`.*columns=0"):
        plot.tiles(CHOSEN, columns=0)
