"""Whether a model is as often right as it is sure, and how to make it so.

`N` photos, `K` classes.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FEWEST = 10  # photos of a group
MOST = 10  # groups
LOWEST, HIGHEST = 0.05, 20.0  # temperatures


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


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Return what logits are to be divided by so that their softmax fits the labels best.

    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017. The labels count as sure as
    so many photos can make them, (N + 1) / (N + 2), as in Platt, "Probabilistic outputs for support vector
    machines", 1999: else photos that are all right would make a model infinitely sure.

    Args:
        logits: `(N, K)`, of photos that were not learned from; N at least 1.
        labels: `(N,)`, indices.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    rows, classes = np.arange(len(labels)), logits.shape[1]
    doubt = 1 / (len(labels) + 2)

    def loss(log_temperature: float) -> float:
        scaled = logits.astype(np.float64) / np.exp(log_temperature)
        logs = log_softmax(scaled, axis=1)
        own = logs[rows, labels]
        others = (logs.sum(axis=1) - own) / max(1, classes - 1)
        return float(-((1 - doubt) * own + doubt * others).mean())

    found = minimize_scalar(loss, bounds=np.log((LOWEST, HIGHEST)), method="bounded")
    return float(np.exp(found.x))
