import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from larq_sks.storage import container
from larq_sks.storage.container import FormatError, pack, unpack

DTYPES = sorted(container._NAMES, key=str)

sections = st.dictionaries(
    st.text("abcdefgh_", min_size=1, max_size=12),
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: (
            hnp.arrays(dtype, st.integers(0, 9), elements={"allow_nan": False})
            if dtype.kind == "f"
            else hnp.arrays(dtype, st.integers(0, 9))
        )
    ),
    min_size=1,
    max_size=5,
)


def header(data):
    return data[8 : 8 + int.from_bytes(data[:8], "little")]


@given(sections)
@settings(max_examples=100, deadline=None)
def test_arrays_come_back_and_the_library_writes_the_same_bytes(arrays):
    data = pack(arrays)
    version, found = unpack(data)
    assert version == container.VERSION and found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    metadata = json.loads(header(data))["__metadata__"]
    assert safetensors.numpy.save(arrays, metadata) == data
    assert pack(dict(reversed(arrays.items()))) == data


ARRAYS = {
    "architecture": np.arange(13, dtype=np.uint8),
    "float32": np.linspace(-1, 1, 5, dtype=np.float32),
    "indices": np.arange(7, dtype=np.uint8),
}


def test_no_bit_changes_unseen():
    data = pack(ARRAYS)
    for place in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            with pytest.raises(FormatError):
                unpack(bytes(changed))


def test_no_other_length_is_read():
    data = pack(ARRAYS)
    for length in range(len(data)):
        with pytest.raises(FormatError):
            unpack(data[:length])
    with pytest.raises(FormatError, match="another length"):
        unpack(data + b"\0")


def test_equal_content_in_another_header_is_refused():
    # The same JSON with a space more, which safetensors would read.
    data = pack(ARRAYS)
    text = header(data).rstrip().replace(b'","', b'", "', 1)
    text = text.ljust(-(-len(text) // 8) * 8)
    other = len(text).to_bytes(8, "little") + text + data[8 + len(header(data)) :]
    assert safetensors.numpy.load(other).keys() == ARRAYS.keys()
    with pytest.raises(FormatError, match="header"):
        unpack(other)


def test_a_newer_version_says_so():
    data = pack(ARRAYS)
    newer = data.replace(b'{"sks":"1 ', b'{"sks":"2 ')
    with pytest.raises(
        FormatError, match=r"version of the file must be 1 to 1\. Received: 2\. Install a newer"
    ):
        unpack(newer)


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04 no such file", b"\x89HDF\r\n\x1a\n" + bytes(99)]
)
def test_other_files_are_no_sks_files(data):
    with pytest.raises(FormatError, match=r"no \.sks file"):
        unpack(data)


def test_safetensors_of_others_are_no_sks_files():
    with pytest.raises(FormatError, match="header does not say so"):
        unpack(safetensors.numpy.save(ARRAYS))


def test_a_huge_header_is_not_read():
    with pytest.raises(FormatError):
        unpack((2**62).to_bytes(8, "little") + b"{}")


def test_a_dtype_that_cannot_be_stored_is_refused_by_name():
    with pytest.raises(ValueError, match="complex128 in 'phase'"):
        pack({"phase": np.zeros(2, complex)})
