"""How much do power-law fits on 512 counts say? Plausibility of the law, and fits on counts of known law.

Needs the package powerlaw (`pip install '.[analyze]'`), and for the VGG16 the shared data (see networks.py).

    python zoo/evidence/premise.py
"""

from __future__ import annotations

import networks
import numpy as np

from larq_sks import analysis

DRAWS = 100


def fitted(counts: np.ndarray) -> analysis.PowerLaw:
    """Fits a power law to counts that are enough for it."""
    fit = analysis.power_law(counts)
    assert fit is not None
    return fit


def plausibility(counts: np.ndarray, seed: int) -> float:
    """Computes the share of samples of the fitted law that lie farther from their own fit than the data.

    Each sample has as many counts as the data: those above the fit's start are drawn from the law, the others
    from the data below it (Clauset, Shalizi and Newman, section 4.1). Below 0.1 the law is ruled out.
    """
    fit = fitted(counts)
    generator = np.random.default_rng(seed)
    used = counts[counts > 0]
    body = used[used < fit.smallest]
    farther = 0
    for _ in range(DRAWS):
        above = generator.binomial(len(used), fit.tail / len(used))
        # Their equation D.6, which rounds the continuous law.
        uniform = 1 - generator.random(above)
        law = np.floor((fit.smallest - 0.5) * uniform ** (-1 / (fit.alpha - 1)) + 0.5)
        sample = np.r_[np.minimum(law, 1e12), generator.choice(body, len(used) - above)]
        farther += fitted(sample.astype(np.int64)).distance > fit.distance
    return farther / DRAWS


def known(name: str, draw, runs: int = 20) -> None:
    """Prints what the fit says of 512 counts drawn from a known law."""
    fits = [fitted(draw(np.random.default_rng(seed))) for seed in range(runs)]
    better = sum(fit.lognormal.other_is_better or fit.exponential.other_is_better for fit in fits)
    tails = np.median([fit.tail for fit in fits])
    exponents = np.median([fit.alpha for fit in fits])
    print(
        f"{name}: another is better in {better} of {runs}, median alpha {exponents:.2f}, "
        f"median tail {tails:.0f}"
    )


def main() -> None:
    """Prints the plausibility of the trained networks' power laws, and the fits of known laws."""
    known("power law, alpha 2.2", lambda rng: np.minimum(rng.zipf(2.2, 512), 10**9))
    for deviation in (0.3, 0.5, 1.0, 1.3):
        known(
            f"lognormal, sigma {deviation}",
            lambda rng, deviation=deviation: np.round(rng.lognormal(6, deviation, 512)).astype(int),
        )
    known("random signs, 18,432 blocks", lambda rng: rng.multinomial(18432, np.full(512, 1 / 512)))
    models = [networks.resnet8(), networks.resnet20()]
    if networks.XNOR.exists():
        models.append(networks.xnor_vgg16())
    for model in models:
        (together,) = analysis.analyze(model).together
        print(
            f"{model.name}, all kernels: plausibility of a power law {plausibility(together.counts, 0):.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
