"""Recipes for ImageNet, from the papers of the networks. None of them was run here.

QuickNet: the numbers of larq-zoo's own training (https://arxiv.org/abs/2011.09398): 600 epochs of 2,048 images
a step, five of them to warm up, then a cosine; Adam at 0.01 for binary kernels, SGD at 0.1 for the rest.

ReActNet (https://arxiv.org/abs/2003.03488): twice 120 epochs (600,000 steps) of 256 images, Adam from 0.0005
on a straight line to 0; at first with float kernels and weight decay 0.00001, then all binary and without.
Keras' Adam decays weights apart from the gradient, where the authors' adds the decay to it.

Fine-tuning with n codewords is ours: as long as a tenth of QuickNet's training and at ReActNet's rate.
"""

from __future__ import annotations

from larq_sks_zoo.training.recipe import Recipe, Stage

_UNTRIED = "; for several GPUs, not run by its authors: accuracy on ImageNet was not measured"

_QUICKNET = Stage(epochs=600, batch_size=2048, rate=1e-2, warmup=5, optimizer="adam_and_sgd")
_REACTNET = (
    Stage(120, 256, 5e-4, 0, decay="linear", weight_decay=1e-5, binary_kernels=False),
    Stage(120, 256, 5e-4, 0, decay="linear"),
)
_COMPACT = Stage(epochs=60, batch_size=256, rate=5e-4, warmup=0)

RECIPES: tuple[Recipe, ...] = (
    *(
        Recipe(
            f"{name}-imagenet",
            network,
            "imagenet2012",
            (_QUICKNET,),
            _COMPACT,
            "ImageNet, larq-zoo's recipe of QuickNet, 600 epochs" + _UNTRIED,
        )
        for name, network in (
            ("quicknet_small", "QuickNetSmall"),
            ("quicknet", "QuickNet"),
            ("quicknet_large", "QuickNetLarge"),
        )
    ),
    *(
        Recipe(
            f"{name}-imagenet",
            network,
            "imagenet2012",
            _REACTNET,
            _COMPACT,
            "ImageNet, the two stages of ReActNet, 2 x 120 epochs, to be given a float `--teacher`"
            + _UNTRIED,
        )
        for name, network in (
            ("binary_resnet_e18", "BinaryResNetE18"),
            ("birealnet", "BiRealNet"),
            ("real_to_binary", "RealToBinaryNet"),
        )
    ),
)
