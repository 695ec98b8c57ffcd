"""The comparison of selections (zoo/evidence/selections.py)."""

import numpy as np
import selections
import tensorflow as tf

import larq_sks as sks
import larq_sks_zoo as zoo


def test_the_first_half_at_1_bit_is_that_with_the_whole_codebook(monkeypatch):
    monkeypatch.setattr(selections, "BATCH", 32)
    images, labels = zoo.load_cifar10_sample()[1]
    data = [(images[:64], labels[:64]), (images[64:80], labels[64:80])]
    run = selections.Run("ResNet8", "from scratch", 8, 2, 0, "coverage-latent")

    def network():
        tf.keras.utils.set_random_seed(run.seed)
        child = zoo.ResNet8(num_codewords=8, selection=sks.selections.Permutation(seed=run.seed))
        callbacks = selections.prepare(run, child, data)
        selections.compile_model(child, data, run.epochs, selections.SCRATCH_RATE)
        return child, callbacks

    whole, callbacks = network()
    selections.fit(whole, data, 2, run.seed, callbacks)
    halved, callbacks = network()
    selections.go_on(halved, selections.first_half(run, data))
    selections.fit(halved, data, 2, run.seed, callbacks, first=1)
    # Of the integers one counts the draws of noise, which a network at 1 bit has none of.
    for ours, theirs in zip(halved.get_weights(), whole.get_weights(), strict=True):
        if ours.dtype == np.float32:
            np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(*map(sks.layers.sparse_kernels, (halved, whole)), strict=True):
        np.testing.assert_array_equal(ours.quantizer.selected(), theirs.quantizer.selected())
        assert len(set(ours.quantizer.selected())) == 8


def test_what_is_recorded_is_not_run_again():
    asked = (
        "ResNet8",
        ("from scratch",),
        (8, 32),
        (10,),
        (0,),
        ("1-bit", "coverage-latent", "pairs"),
    )
    every = list(selections.missing(*asked, done=set()))
    assert [(run.codewords, run.selection) for run in every] == [
        (512, "1-bit"), (8, "coverage-latent"), (32, "coverage-latent"),
    ]  # fmt: skip
    assert list(selections.missing(*asked, done=set(every[:2]))) == every[2:]
