"""What was written computes what the model computes."""

import numpy as np
from numpy.typing import NDArray

from stockpot.errors import ModelError

TOLERANCE = 1e-4  # of probabilities, and of other values where they reach 1


def check_same(what: str, found: NDArray[np.floating], expected: NDArray[np.floating], remedy: str) -> None:
    """Compare values.

    Args:
        what: they are, in words.
        found: computed from what was written.
        expected: computed by the model.
        remedy: what to do if they differ.

    Raises:
        ModelError: they differ.
    """
    difference, largest = float(np.abs(found - expected).max()), max(1.0, float(np.abs(expected).max()))
    if not difference < TOLERANCE * largest:
        raise ModelError(
            f"{what} differ from the model's by {difference:.1e} where they reach {largest:.0f}: {remedy}, and "
            f"report this."
        )
