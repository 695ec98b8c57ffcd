"""What does a choice of codewords cost a trained VGG16, before any fine-tuning?

Needs the VGG16 and CIFAR-10 of the shared data (see networks.py).

    python zoo/evidence/vgg16_codewords.py
"""

from __future__ import annotations

import networks
import numpy as np

import larq_sks as sks

IMAGES = 500


def main() -> None:
    """Prints the accuracy on the first test images, and the share of signs that the choice flips."""
    images, labels = networks.cifar10_test(IMAGES)
    inputs = networks.xnor_inputs(images)
    source = networks.xnor_vgg16()

    def accuracy(model):
        return 100 * np.mean(model.predict(inputs, verbose=0).argmax(axis=1) == labels)

    print(f"source: {accuracy(source):.1f} % of {IMAGES} images")
    for start, count in [
        ("coverage", 512),
        ("coverage", 128),
        ("coverage", 64),
        ("coverage", 32),
    ] + [
        ("frequent", 32),
        (None, 32),
    ]:
        selection = sks.selections.Fixed(seed=0)
        model = sks.sparsify(source, count, selection=selection, start=start)
        kernels = [kernel for kernel in model.sparsify_report.kernels if kernel.changed]
        sizes = [np.prod(kernel.kernel_shape) for kernel in kernels]
        flipped = np.average([kernel.signs_flipped for kernel in kernels], weights=sizes)
        name = start or "random"
        print(
            f"n = {count}, {name}: {accuracy(model):.1f} %, {100 * flipped:.1f} % of the signs flipped"
        )


if __name__ == "__main__":
    main()
