import lzma

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from larq_sks.storage import compression

arrays = hnp.arrays(
    st.sampled_from([np.float32, np.float16, np.int64, np.int8, np.bool_]), st.integers(0, 200)
)


@given(arrays, st.booleans())
@settings(deadline=None, max_examples=200)
def test_numbers_come_back_to_the_bit(array, repeat):
    array = np.tile(array, 5) if repeat else array
    folded = compression.fold({"some": array, "other": array[:3]})
    again = compression.unfold(folded, {"some": array.dtype.name, "other": array.dtype.name})
    assert list(again) == ["some", "other"]
    assert again["some"].dtype == array.dtype and again["some"].tobytes() == array.tobytes()
    assert sum(part.nbytes for part in folded.values()) <= array.nbytes + array[:3].nbytes


def test_weights_shrink_by_a_sixth():
    weights = np.random.default_rng(0).normal(scale=0.1, size=20_000).astype(np.float32)
    (name, packed), *_ = compression.fold({"float32": weights}).items()
    assert name == "float32.lzma" and packed.nbytes < 0.86 * weights.nbytes
    # By hand: planes of bytes, the least significant first.
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 2**20, "lc": 0, "lp": 0, "pb": 0}]
    planes = lzma.decompress(packed.tobytes(), lzma.FORMAT_RAW, filters=filters)
    bits = sum(
        np.frombuffer(planes[20_000 * i : 20_000 * (i + 1)], np.uint8).astype(np.uint32) << 8 * i
        for i in range(4)
    )
    np.testing.assert_array_equal(bits.view(np.float32), weights)


def test_no_byte_stands_for_more_than_32():
    zeros = np.zeros(100_000, np.float32)
    assert list(compression.fold({"float32": zeros})) == ["float32"]
    bomb = np.frombuffer(compression.compress(zeros.tobytes()), np.uint8)
    with pytest.raises(ValueError, match=f"at most {32 * len(bomb)} bytes"):
        compression.unfold({"float32.lzma": bomb}, {})


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("float32.lzma", compression.compress(bytes(3)), "whole numbers of float32"),
        ("object.lzma", compression.compress(bytes(8)), "whole numbers of object"),
        ("float32.lzma", b"\xff" * 9, "damaged"),
        ("float32.lzma", compression.compress(bytes(8)) + b"more", "one piece"),
        ("float32.lzma", compression.compress(bytes(8))[:-3], "one piece"),
    ],
)
def test_what_cannot_be_numbers_is_refused(name, data, message):
    with pytest.raises(ValueError, match=message):
        compression.unfold({name: np.frombuffer(data, np.uint8)}, {})


def test_a_section_in_two_forms_is_refused():
    data = np.frombuffer(compression.compress(bytes(8)), np.uint8)
    with pytest.raises(ValueError, match="there twice"):
        compression.unfold({"float32": np.zeros(2, np.float32), "float32.lzma": data}, {})
    with pytest.raises(ValueError, match="must be bytes"):
        compression.unfold({"float32.lzma": data.astype(np.int8)}, {})
