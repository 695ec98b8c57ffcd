"""What lies below the order-0 entropy of codeword indices in trained networks?

For each network and each idea: bits a 3×3 block under a code that learns its statistics on the way
(Dirichlet prior around the layer's histogram, with the best of several strengths; what it names beside
the indices is counted), relative to the order-0 entropy, layer by layer, which counts no statistics at all.

    python zoo/evidence/below_order0.py
"""

from __future__ import annotations

import math
from datetime import date

import networks
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table
from scipy.special import gammaln

from larq_sks import codebook, selections
from larq_sks.storage import coding

STRENGTHS = 2.0 ** np.arange(3, 17)


def layers_of(model: tf.keras.Model) -> list[np.ndarray]:
    """Returns the codewords of each binary 3×3 kernel, integers below 512 `(inputs, outputs)`."""
    found = []
    for layer in model.layers:
        if getattr(layer, "kernel_quantizer", None) is not None and layer.kernel.shape[:2] == (
            3,
            3,
        ):
            signs = np.sign(layer.kernel_quantizer(layer.kernel.latent_variable).numpy())
            blocks = codebook.to_blocks(signs, (3, 3, 1, 1)).numpy().T
            found.append(codebook.to_codewords(blocks).reshape(layer.kernel.shape[2:]))
    return found


def sparse(layers: list[np.ndarray], count: int) -> list[np.ndarray]:
    """Gives each layer its `count` codewords of best coverage; returns indices, most used first."""
    found = []
    for codewords in layers:
        signs = codebook.to_signs(codewords, 9)
        kernel = signs.transpose(2, 0, 1).reshape(3, 3, *codewords.shape)
        chosen = codebook.to_signs(selections.greedy_coverage(kernel, count), 9)
        found.append(ranked((signs @ chosen.T).argmax(axis=-1)))
    return found


def ranked(indices: np.ndarray) -> np.ndarray:
    """Numbers symbols anew: the most used becomes 0."""
    symbols, inverse, counts = np.unique(indices, return_inverse=True, return_counts=True)
    rank = np.empty(len(symbols), int)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(symbols))
    return rank[inverse].reshape(indices.shape)


def adaptive(contexts: np.ndarray, symbols: np.ndarray, n: int, prior: np.ndarray) -> float:
    """Bits of symbols whose distribution in each context is learned from a prior, at the best strength."""
    table = np.zeros((contexts.max() + 1, n))
    np.add.at(table, (contexts.reshape(-1), symbols.reshape(-1)), 1)
    sums = table.sum(axis=1)

    def bits(strength):
        alpha = strength * prior
        nats = gammaln(sums + strength) - gammaln(strength)
        return (nats.sum() - (gammaln(table + alpha) - gammaln(alpha)).sum()) / math.log(2)

    return min(bits(strength) for strength in STRENGTHS)


def ideas(layers: list[np.ndarray], n: int) -> dict[str, float]:
    """Returns bits of all layers together under each idea."""
    total: dict[str, float] = {}
    pooled = np.zeros(n)
    for x in layers:
        rows, columns = np.indices(x.shape)
        counts = np.bincount(x.reshape(-1), minlength=n)
        prior = (counts + 0.5) / (counts + 0.5).sum()
        used = counts[counts > 0]
        order0 = -(used * np.log2(used / x.size)).sum()
        first = order0 / x.size  # for the channel that has none before it
        pairs = int(math.lgamma(min(x.shape) + 1) / math.log(2))
        shared = (pooled + 0.5) / (pooled + 0.5).sum()
        values = {
            "order-0 entropy": order0,
            "fixed width": x.size * math.log2(n),
            "order-0, learned": adaptive(np.zeros_like(x), x, n, np.full(n, 1 / n)),
            "one histogram for all layers": adaptive(np.zeros_like(x), x, n, shared),
            "by input channel": adaptive(rows, x, n, prior),
            "by output channel": adaptive(columns, x, n, prior),
            "after the input channel before": adaptive(x[:-1], x[1:], n, prior)
            + first * x.shape[1],
            "after the output channel before": adaptive(x[:, :-1], x[:, 1:], n, prior)
            + first * x.shape[0],
            "channels in any order (a bound)": order0 - pairs,
            "what .sks files do": 8.0 * len(coding.encode(x, n)),
        }
        pooled += counts
        for name, value in values.items():
            total[name] = total.get(name, 0.0) + value
    return total


def main() -> None:
    """Prints the table."""
    networks_1bit = {"ResNet8": networks.resnet8(), "ResNet-20": networks.resnet20()}
    if networks.XNOR.exists():
        networks_1bit["VGG16"] = networks.xnor_vgg16()
    cases = {}
    for name, model in networks_1bit.items():
        layers = layers_of(model)
        cases[f"{name}\n512"] = (layers, 512)
        cases[f"{name}\n32"] = (sparse(layers, 32), 32)
    tuned = [ranked(x) for x in layers_of(networks.resnet20(32))]
    cases["ResNet-20\n32, tuned"] = (tuned, 32)
    table = Table(title=f"relative to the order-0 entropy, {date.today().isoformat()}")
    table.add_column("bits of all indices")
    found = {}
    for name, (layers, n) in cases.items():
        table.add_column(name, justify="right")
        found[name] = ideas(layers, n)
        found[name]["blocks"] = sum(x.size for x in layers)
    for idea in next(iter(found.values())):
        row = [idea]
        for values in found.values():
            if idea == "blocks":
                row.append(f"{values[idea]:,}")
            elif idea == "order-0 entropy":
                row.append(f"{values[idea] / values['blocks']:.3f} bit")
            else:
                row.append(f"{values[idea] / values['order-0 entropy']:.4f}")
        table.add_row(*row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
