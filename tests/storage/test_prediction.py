import hashlib
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from larq_sks.storage import coding, prediction


def correlated(blocks, channels, block_size, agreement, seed=0):
    """Channels of which the last half are noisy copies, or negatives, of the first."""
    generator = np.random.default_rng(seed)
    signs = generator.choice(np.array([-1, 1], np.int8), (blocks, channels, block_size))
    for channel in range(channels // 2, channels):
        source = signs[:, channel - channels // 2] * generator.choice([-1, 1])
        same = generator.random(source.shape) < agreement
        signs[:, channel] = np.where(same, source, -source)
    return signs


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 30),
    st.integers(1, 40),
    st.integers(1, 9),
    st.floats(0.5, 1.0),
    st.integers(0, 2**32 - 1),
)
def test_signs_come_back(blocks, channels, block_size, agreement, seed):
    signs = correlated(blocks, channels, block_size, agreement, seed)
    plan = prediction.plan(signs)
    data = prediction.encode(signs, plan)
    again = prediction.decode(data, blocks, channels, block_size)
    np.testing.assert_array_equal(again, signs)
    assert again.dtype == np.int8


def test_channels_are_predicted_from_those_that_they_copy():
    signs = correlated(400, 32, 9, 0.9)
    plan = prediction.plan(signs)
    for channel in range(16, 32):
        assert plan.counts[channel] >= 1
        assert plan.references[channel, 0] == channel - 16
        agree = np.mean(signs[:, channel] == signs[:, channel - 16])
        field = np.arctanh(2 * agree - 1)  # of which tanh is the mean sign, as it should be
        assert plan.weights[channel, 0] / 16 == pytest.approx(field, abs=0.25)


def test_prediction_saves_what_the_correlation_is_worth():
    """Half of the channels cost 1 bit a sign, the others the entropy of agreeing with their source."""
    signs = correlated(1000, 64, 9, 0.8)
    bits = 8 * len(prediction.encode(signs, prediction.plan(signs)))
    entropy = -(0.8 * np.log2(0.8) + 0.2 * np.log2(0.2))
    ideal = signs.size * (1 + entropy) / 2
    assert ideal * 0.99 < bits < ideal * 1.05


def test_independent_channels_promise_nothing():
    signs = correlated(1000, 64, 9, 0.5)
    assert prediction.plan(signs).gain <= 0


def test_the_first_odds_are_those_of_the_formula():
    """One channel without references: the code length is that of a count, by exact fractions."""
    generator = np.random.default_rng(3)
    signs = generator.choice(np.array([-1, 1], np.int8), (64, 1, 1), p=[0.2, 0.8])
    odds = prediction._Odds(1)
    assert list(odds.runs(64)) == [(0, 64)]
    odds.count(np.where(signs[:, 0, 0] > 0, 3, 2))
    list(odds.runs(1))
    ones = int((signs > 0).sum())
    exact = Fraction(2 * ones + 1, 2 * (64 - ones) + 1)
    assert odds.of_ones(np.ones(1, int), np.zeros(1, np.int16))[0] == pytest.approx(
        float(exact / (1 + exact))
    )
    field = odds.of_ones(np.ones(1, int), np.array([8], np.int16))[0]
    assert field == pytest.approx(float(exact) * np.e / (1 + float(exact) * np.e), rel=0.01)


def test_the_code_stays_what_it_is():
    """Files are read for ever, on every machine: these bytes may not change."""
    signs = correlated(100, 40, 9, 0.85, seed=5)
    # A plan made by hand: that of `plan` may differ between linear algebra libraries.
    counts = np.repeat([0, 1, 8], [20, 12, 8]).astype(np.int32)
    references = np.arange(40)[:, np.newaxis] // 2 - np.arange(8)
    weights = 15 * (references % 2) - np.arange(8) + 2
    named = np.arange(8) < counts[:, np.newaxis]
    plan = prediction.Plan(
        counts, (references * named).astype(np.int32), (weights * named).astype(np.int32), 1.0
    )
    data = prediction.encode(signs, plan)
    np.testing.assert_array_equal(prediction.decode(data, 100, 40, 9), signs)
    assert hashlib.sha256(data).hexdigest()[:16] == "37a94b6478d8d97c"
    signs = correlated(100, 40, 9, 0.5, seed=5)
    indices = (signs > 0) @ (1 << np.arange(9)) % 24
    data = coding.encode(indices // 3 * 2, 24)
    assert data[0] == 1
    assert hashlib.sha256(data).hexdigest()[:16] == "775b8e6bad42e92f"


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200), st.integers(1, 40), st.integers(1, 40), st.integers(1, 9))
def test_any_bytes_decode_to_signs_or_are_refused(data, blocks, channels, block_size):
    try:
        signs = prediction.decode(data, blocks, channels, block_size)
    except ValueError:
        return
    assert signs.shape == (blocks, channels, block_size) and (np.abs(signs) == 1).all()


@pytest.mark.parametrize("turned, way", [(False, 2), (True, 3)])
def test_a_whole_codebook_is_predicted_along_the_better_axis(turned, way):
    signs = correlated(200, 48, 9, 0.9)
    indices = (signs > 0) @ (1 << np.arange(9))
    indices = np.ascontiguousarray(indices.T if turned else indices)
    data = coding.encode(indices, 512)
    assert data[0] == way and len(data) < 0.85 * indices.size * 9 / 8
    np.testing.assert_array_equal(coding.decode(data, indices.shape, 512), indices)
