"""Files of each version are read for ever, by this package and by the recipe in docs/explanation/sks-format.md."""

import json
import lzma
import math

import constriction
import golden
import larq as lq
import numpy as np
import pytest
import safetensors

from larq_sks import storage


@pytest.mark.parametrize("name", ["v1", "v1_latent"])
def test_a_file_of_version_1_is_read(name):
    model = storage.load(golden.FOLDER / f"{name}.sks")
    with np.load(golden.FOLDER / f"{name}.npz") as file:
        wanted = dict(file)
    found = golden.expected(model)
    np.testing.assert_allclose(found.pop("outputs"), wanted["outputs"], rtol=1e-5, atol=1e-5)
    assert {*found, "outputs"} == {*wanted}
    for weight, values in found.items():
        # Logits alone are rounded.
        np.testing.assert_allclose(values, wanted[weight], rtol=2**-10 if "logits" in weight else 0)


def test_a_file_of_version_1_in_8_bits_is_read():
    model = storage.load(golden.FOLDER / "v1_int8.sks")
    with np.load(golden.FOLDER / "v1.npz") as file:
        wanted = dict(file)
    found = golden.expected(model)
    for weight, values in found.items():
        error = np.abs(values - wanted[weight]).max() / np.abs(wanted[weight]).max()
        if weight == "hidden/kernel:0":
            assert 0 < error <= 0.5 / 127
        elif weight != "outputs":
            assert error == 0


def test_the_files_hold_all_that_a_reader_must_know():
    told = storage.describe(golden.FOLDER / "v1.sks")
    assert told["version"] == 1
    assert {kernel["name"]: kernel["coding"] for kernel in told["kernels"]} == {
        "packed": "packed",
        "coded": "entropy-coded",
        "columns": "predicted from columns",
        "rows": "predicted from rows",
        "scaled": "packed",
    }
    assert storage.describe(golden.FOLDER / "v1_latent.sks")["latent"]


def unpack_bits(data, count, width):
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count * width, bitorder="little")
    return bits.reshape(count, width).astype(int) @ (1 << np.arange(width))


def entropy_coded(data, count, symbols):
    """Decodes indices as the page on the format says."""
    words = np.frombuffer(data[: len(data) // 4 * 4], "<u4").astype(np.uint32)
    decoder = constriction.stream.queue.RangeDecoder(words)
    counts, found = np.zeros(symbols), []
    while len(found) < count:
        length = min(count - len(found), max(16, len(found) // 4))
        odds = (counts + 0.5) / (counts.sum() + 0.5 * symbols)
        model = constriction.stream.model.Categorical(odds, perfect=False)
        run = decoder.decode(model, length)
        counts += np.bincount(run, minlength=symbols)
        found.extend(run)
    return np.array(found)


@pytest.mark.parametrize("wanted", ["packed", "coded"])
def test_a_reader_of_safetensors_decodes_a_kernel_without_this_package(wanted):
    with safetensors.safe_open(golden.FOLDER / "v1.sks", "numpy") as file:
        assert file.metadata()["sks"].split(" ")[0] == "1"
        sections = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 2**20, "lc": 0, "lp": 0, "pb": 0}]
    text = lzma.decompress(sections["architecture"].tobytes(), lzma.FORMAT_RAW, filters=filters)
    begin, book_begin = 0, 0
    for kernel in json.loads(text)["kernels"]:
        name, shape, block_shape, symbols, size = kernel
        weights = math.prod(block_shape)
        book_size = 0 if symbols == 2**weights else -(-symbols * weights // 8)
        book = sections["codebooks"][book_begin : book_begin + book_size].tobytes()
        data = sections["indices"][begin : begin + size].tobytes()
        begin, book_begin = begin + size, book_begin + book_size
        if name == wanted:
            break
    count = math.prod(shape) // weights
    codewords = unpack_bits(book, symbols, weights)
    if data[0] == 0:
        indices = unpack_bits(data[1:], count, (symbols - 1).bit_length())
    else:
        indices = entropy_coded(data[1:], count, symbols)
    # Bit k of a codeword is the sign of weight k of its block, here a 3×3 slice.
    signs = np.where(codewords[indices] >> np.arange(9)[:, np.newaxis] & 1, 1, -1).reshape(shape)
    with lq.context.quantized_scope(True):
        layer = storage.load(golden.FOLDER / "v1.sks").get_layer(wanted)
        np.testing.assert_array_equal(signs, layer.kernel.numpy())
    np.testing.assert_array_equal(signs, np.load(golden.FOLDER / "v1.npz")[f"{wanted}/kernel:0"])
