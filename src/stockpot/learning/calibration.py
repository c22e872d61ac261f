"""Whether a model is as often right as it is sure.

`N` photos.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FEWEST = 10  # photos of a group
MOST = 10  # groups


@dataclass(frozen=True)
class Group:
    """Photos of about the same probability."""

    n: int
    probability: float  # mean of the labels given
    accuracy: float
    interval: tuple[float, float]  # of the accuracy; 95 %, Wilson


@dataclass(frozen=True)
class Reliability:
    """How sure a model is beside how often it is right."""

    n: int
    mean: float  # probability of the labels given
    accuracy: float
    interval: tuple[float, float]  # of the accuracy; 95 %, Wilson
    groups: tuple[Group, ...]  # of as many photos each, the least sure first

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of accuracy and probability over the photos' groups.

        Naeini, Cooper, Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
        """
        return sum(group.n * abs(group.accuracy - group.probability) for group in self.groups) / self.n

    @property
    def answer(self) -> Literal["sure", "modest", "fits"]:
        """Tell whether the mean probability is above, below or within the interval of the accuracy."""
        low, high = self.interval
        return "sure" if self.mean > high else "modest" if self.mean < low else "fits"


def measure_reliability(probabilities: NDArray[np.floating], right: NDArray[np.bool_]) -> Reliability:
    """Return how sure a model is beside how often it is right.

    Args:
        probabilities: `(N,)`, of the labels given; N at least 1.
        right: `(N,)`, whether they are.
    """
    order = np.argsort(probabilities, kind="stable")
    parts = np.array_split(order, max(1, min(MOST, len(order) // FEWEST)))
    groups = (_group(probabilities[part], right[part]) for part in parts)
    whole = _group(probabilities, right)
    return Reliability(whole.n, whole.probability, whole.accuracy, whole.interval, tuple(groups))


def _group(probabilities: NDArray[np.floating], right: NDArray[np.bool_]) -> Group:
    from scipy.stats import binomtest

    low, high = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return Group(len(right), float(probabilities.mean()), float(right.mean()), (float(low), float(high)))
