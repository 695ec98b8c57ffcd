"""Weights of the package, with their cards, and of files."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

import larq_sks as sks
import larq_sks_zoo as zoo
from larq_sks_zoo import pretrained

PROMISED = {("ResNet20", n) for n in (None, 64, 32, 16)} | {
    (network, n) for network in ("QuickNetSmall32", "VGGSmall", "ResNet18") for n in (None, 32)
}


def images(count=1000):
    pixels, labels = zoo.load_cifar10_sample()[1]
    return zoo.preprocess_input(pixels[:count]), labels[:count]


def sample_accuracy(model):
    inputs, labels = images()
    return 100 * np.mean(model.predict(inputs, verbose=0).argmax(-1) == labels)


def scores(model):
    return model.predict(images(50)[0], verbose=0)


@pytest.fixture(scope="module")
def trained():
    """A little trained networks with 1 bit and with 16 codewords, by their number of codewords."""
    found = {}
    for num_codewords in (None, 16):
        tf.keras.utils.set_random_seed(4)
        model = zoo.ResNet8(num_codewords=num_codewords)
        model.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(*images(128), batch_size=32, verbose=0)
        found[num_codewords] = zoo.ResNet8(num_codewords=num_codewords)
        found[num_codewords].set_weights(model.get_weights())
    return found


@pytest.fixture(scope="module")
def _folder(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    for num_codewords, model in trained.items():
        name = f"resnet8_cifar10_{'1bit' if num_codewords is None else f'n{num_codewords}'}"
        report = sks.save(model, folder / f"{name}.sks", latent=num_codewords is None)
        data = (folder / f"{name}.sks").read_bytes()
        card = {
            "network": "ResNet8",
            "dataset": "cifar10",
            "num_codewords": num_codewords,
            "file": f"{name}.sks",
            "sha256": hashlib.sha256(data).hexdigest(),
            "bytes": report.size,
            "latent": num_codewords is None,
            "accuracy": 12.34,
            "sample_accuracy": sample_accuracy(model),
            "test_images": 10_000,
            **pretrained.figures(model),
            "recipe": "resnet8-cifar10",
            "command": "larq-sks train resnet8-cifar10",
            "environment": {},
            "seed": 4,
            "epochs": 1,
            "started_from": None,
            "log": "resnet8.csv",
            "date": "2026-01-01",
            "machine": "test",
            "versions": {},
            "limits": "four steps",
        }
        (folder / f"{name}.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def folder(_folder, tmp_path, monkeypatch):
    """A folder of pretrained networks in place of the package's own; a test may spoil it."""
    folder = shutil.copytree(_folder, tmp_path / "pretrained")
    monkeypatch.setattr(pretrained, "FOLDER", folder)
    return folder


def test_cards_are_sorted_and_found(folder):
    assert [card.num_codewords for card in pretrained.cards()] == [None, 16]
    card = pretrained.card("ResNet8", "cifar10", 16)
    assert card.path == folder / "resnet8_cifar10_n16.sks"
    assert card.bits_a_weight == pytest.approx(4 / 9)
    assert card.parameters == zoo.ResNet8().count_params()


@pytest.mark.parametrize("selection", ["permutation", "fixed"])
def test_a_network_of_the_package_computes_what_was_trained(folder, trained, selection):
    model = zoo.ResNet8(num_codewords=16, selection=selection, weights="cifar10")
    np.testing.assert_array_equal(scores(model), scores(trained[16]))
    kinds = {"permutation": sks.selections.Permutation, "fixed": sks.selections.Fixed}
    for ours, theirs in zip(*map(sks.layers.sparse_kernels, (model, trained[16]))):
        assert type(ours.quantizer.selection) is kinds[selection]
        assert set(ours.quantizer.selected()) == set(theirs.quantizer.selected())
        if selection == "permutation":  # and learns on from there
            kept = ours.quantizer.selection.indices
            ours.quantizer.selection.codewords(training=True)
            assert set(ours.quantizer.selection.indices) == set(kept)


def test_a_1_bit_network_has_its_latent_weights(folder, trained):
    model = zoo.ResNet8(weights="cifar10")
    np.testing.assert_array_equal(scores(model), scores(trained[None]))
    for ours, theirs in zip(model.get_weights(), trained[None].get_weights()):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_without_its_top_it_has_the_weights_of_the_body(folder, trained):
    source = trained[16]
    body = zoo.ResNet8(num_codewords=16, weights="cifar10", include_top=False)
    features = tf.keras.Model(source.input, source.get_layer("stage3_2_prelu").output)
    np.testing.assert_array_equal(scores(body), scores(features))
    assert "logits" not in [layer.name for layer in body.layers]


@pytest.mark.parametrize("name", ["net.sks", "latent.sks", "net.h5", "only.h5", "only.weights.h5"])
def test_weights_of_files(trained, tmp_path, name):
    path = tmp_path / name
    if name.endswith(".sks"):
        sks.save(trained[16], path, latent=name.startswith("latent"))
    elif name.startswith("only"):
        trained[16].save_weights(path)
    else:
        trained[16].save(path)
    for weights in (path, str(path)):
        model = zoo.ResNet8(num_codewords=16, weights=weights)
        np.testing.assert_array_equal(scores(model), scores(trained[16]))


def test_a_whole_h5_file_fits_any_selection_and_a_network_without_top(trained, tmp_path):
    trained[16].save(tmp_path / "net.h5")
    options = dict(num_codewords=16, weights=tmp_path / "net.h5")
    model = zoo.ResNet8(**options, selection="fixed")
    np.testing.assert_array_equal(scores(model), scores(trained[16]))
    body = zoo.ResNet8(**options, include_top=False, input_shape=(64, 64, 3))
    for ours, theirs in zip(body.layers, trained[16].layers):
        if ours.weights and not sks.layers.sparse_kernels(ours):
            for pair in zip(ours.get_weights(), theirs.get_weights()):
                np.testing.assert_array_equal(*pair)


def test_names_that_are_not_there_are_refused_with_what_there_is(folder):
    for options, missing in [
        (dict(weights="cifar10", num_codewords=8), "num_codewords=8"),
        (dict(weights="cifar100"), "weights='cifar100' for ResNet8 with num_codewords=None"),
        (dict(weights="latest"), "weights='latest'"),
    ]:
        with pytest.raises(ValueError, match="path of a .sks or .h5 file") as error:
            zoo.ResNet8(**options)
        assert missing in str(error.value)
        assert "ResNet8, cifar10, num_codewords=16" in str(error.value)
    with pytest.raises(ValueError, match="larq-sks train resnet8-cifar10 --num-codewords 8`"):
        zoo.ResNet8(weights="cifar10", num_codewords=8)
    with pytest.raises(ValueError, match="larq-sks train vgg_small-cifar100`"):
        zoo.VGGSmall(weights="cifar100")
    with pytest.raises(ValueError, match="There are: .*No recipe"):
        zoo.ResNet8(weights="latest")


def test_files_of_another_network_are_refused_and_nothing_is_loaded(trained, folder, tmp_path):
    n16 = folder / "resnet8_cifar10_n16.sks"
    for build, complaint in [
        (lambda: zoo.ResNet8(weights=n16), "16 codewords in place of 1 bit.*sparsify"),
        (lambda: zoo.ResNet8(num_codewords=32, weights=n16), "16 codewords in place of 32"),
        (
            lambda: zoo.ResNet8(num_codewords=16, weights="cifar10", num_classes=100),
            r"'logits'.*\(96, 10\).*\(96, 100\)",
        ),
        (lambda: zoo.ResNet20(num_codewords=16, weights=n16), "layers with weights in place of"),
        (
            lambda: zoo.ResNet8(num_codewords=16, weights=n16, input_shape=(32, 32, 1)),
            r"'stem'.*\(3, 3, 3, 24\)",
        ),
        (lambda: zoo.ResNet8(weights=tmp_path / "none.h5"), "file that exists.*none.h5"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            build()
    (tmp_path / "bad.h5").write_text("bad")
    with pytest.raises(ValueError, match="must be an H5 file"):
        zoo.ResNet8(weights=tmp_path / "bad.h5")
    trained[None].save_weights(tmp_path / "only.h5")
    with pytest.raises(ValueError, match="must hold a ResNet8 with num_codewords=16"):
        zoo.ResNet8(num_codewords=16, weights=tmp_path / "only.h5")


def test_a_file_that_changed_is_refused(folder):
    path = folder / "resnet8_cifar10_n16.sks"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="sha256.*Install larq-sks anew"):
        zoo.ResNet8(num_codewords=16, weights="cifar10")


def test_the_package_has_the_networks_that_it_promises():
    cards = pretrained.cards()
    assert {(card.network, card.num_codewords) for card in cards} >= PROMISED
    assert {card.dataset for card in cards} == {"cifar10"}


@pytest.mark.parametrize(
    "card",
    # An empty list would be skipped in silence; the test above says what must be there.
    pretrained.cards(),
    ids=lambda card: card.file,
)
def test_pretrained_networks_are_what_their_cards_say(card):
    card.check()
    size = card.path.stat().st_size
    # The binary weights of a ResNet18 alone take 1.4 MB at 1 bit.
    assert size == card.bytes < (2_100_000 if card.network == "ResNet18" else 1_000_000)
    assert sks.storage.describe(card.path)["latent"] == card.latent
    model = getattr(zoo, card.network)(num_codewords=card.num_codewords, weights=card.dataset)
    # On another processor a score near a tie may turn, here of up to two images.
    assert sample_accuracy(model) == pytest.approx(card.sample_accuracy, abs=0.2)
    np.testing.assert_array_equal(scores(model), scores(sks.load(card.path)))
    for name, value in pretrained.figures(model).items():
        assert value == pytest.approx(getattr(card, name)), name
    assert card.started_from in {None, *(other.file for other in pretrained.cards())}
    assert 0 < card.accuracy < 100 and card.test_images == 10_000
