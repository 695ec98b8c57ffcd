"""Power laws fitted to how often codewords are used, beside other distributions."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

# Fewer counts cannot tell one heavy tail from another.
_LEAST_COUNTS, _LEAST_DIFFERENT = 50, 10
# The package's own bound of 3 would cut off the steepest of real networks; from about 5 on the
# differences of its cumulative sums fall below the resolution of float64.
_ALPHA = (1.0, 5.0)


@dataclass(frozen=True)
class Comparison:
    """How well a power law describes the largest counts compared with another distribution."""

    ratio: float
    """Logarithm of the ratio of likelihoods in units of its standard deviation: below 0, the other
    distribution describes them better."""
    p: float
    """How probable such a ratio would be if both were equally good."""

    @property
    def other_is_better(self) -> bool:
        """Whether the other distribution is better by more than chance, p < 0.1."""
        return self.ratio < 0 and self.p < 0.1

    @property
    def other_is_worse(self) -> bool:
        """Whether the other distribution is worse by more than chance, p < 0.1."""
        return self.ratio > 0 and self.p < 0.1


@dataclass(frozen=True)
class PowerLaw:
    """A discrete power law, P(count) ~ count^-alpha, fitted to the largest counts of a histogram."""

    alpha: float
    """The exponent, from 1 to 5; at 5 the counts fall off faster than any power law that is tried."""
    smallest: int
    """The smallest count that the law is fitted to."""
    tail: int
    """Number of codewords with that count or a larger one."""
    distance: float
    """Largest difference of the shares below a count (Kolmogorov and Smirnov), 0 to 1, over the counts
    that occur."""
    lognormal: Comparison
    exponential: Comparison

    @property
    def verdict(self) -> str:
        """What the comparisons say, in words."""
        others = {"lognormal": self.lognormal, "exponential": self.exponential}
        better = [name for name, other in others.items() if other.other_is_better]
        worse = [name for name, other in others.items() if other.other_is_worse]
        if better:
            return f"{' and '.join(better)} better"
        return f"better than {' and '.join(worse)}" if worse else "none better or worse"


def power_law(counts: np.ndarray) -> PowerLaw | None:
    """Fits a power law to the largest counts, and compares it with a lognormal and an exponential.

    The exponent is that of most likelihood; the fit begins at the count from which the law lies
    nearest to the data (Clauset, Shalizi and Newman). The package `powerlaw` computes all of it.

    Example:
        ```python
        fit = power_law(histogram(kernel))
        fit.alpha, fit.verdict  # 2.1, "lognormal better"
        ```

    Arguments:
        counts: Number of blocks with each codeword; those that are not used do not count.

    Returns:
        The fit, or `None` if fewer than 50 codewords are used, or with fewer than 10 different counts.

    Raises:
        ImportError: If `powerlaw` is not installed.

    References:
        - [Power-law distributions in empirical data](https://arxiv.org/abs/0706.1062)
        - [powerlaw: a Python package for analysis of heavy-tailed
          distributions](https://doi.org/10.1371/journal.pone.0085777)
    """
    check_powerlaw()
    import powerlaw

    used = counts[counts > 0]
    if len(used) < _LEAST_COUNTS or len(np.unique(used)) < _LEAST_DIFFERENT:
        return None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # The package warns of its own old names, and of each start that it then leaves.
        warnings.simplefilter("ignore")
        fit = powerlaw.Fit(
            used,
            discrete=True,
            estimate_discrete=False,
            parameter_ranges={"alpha": _ALPHA},
            verbose=0,
        )
        comparisons = [
            Comparison(
                *map(float, fit.distribution_compare("power_law", other, normalized_ratio=True))
            )
            for other in ("lognormal", "exponential")
        ]
        alpha, distance = float(fit.power_law.alpha), float(fit.power_law.D)
    smallest = int(fit.xmin)
    return PowerLaw(alpha, smallest, int(np.sum(used >= smallest)), distance, *comparisons)


def check_powerlaw() -> None:
    """Raises an ImportError that says how to install the package `powerlaw` if it is not there."""
    try:
        import powerlaw  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "The power-law fit needs the package powerlaw. Install it with pip install '.[analyze]' in a "
            "checkout of larq_sks."
        ) from error
