"""A head that follows every change of the photos at once, for looking while one cleans: ridge regression.

It is not the head of a saved model, which learns by cross-entropy in `fitting`; whoever shows one of its figures
says so. The rows of X are features, those of Y are +1 for a photo's own class and -1 for all others. The inverse of

    G = X X' + c + lambda I        (c stands for the bias, which is hardly penalized)

is kept. Then A = G^-1 Y gives the weights X'A, and a head that has not seen a group B of photos says, exactly,

    F_B = Y_B - (G^-1_BB)^-1 A_B

(Rifkin and Lippert, "Notes on regularized least squares", MIT-CSAIL-TR-2007-025). Photos come and go by the inverse
of a matrix in blocks, with `n^2` operations a photo; memory is `8 n^2` bytes, three times
that while they do: 600 MB for 5,000 photos.

`n` photos, `C` channels, `K` classes.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stockpot.errors import WrongUse

PENALTIES = (1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0)  # lambda, as shares of the mean of G's diagonal
TUNED_ON = 1_000  # photos at most, by which lambda is chosen

Scores = NDArray[np.float64]


class LiveHead:
    """A ridge regression on features that is exact after every photo that is added, removed or moved."""

    def __init__(
        self,
        names: Sequence[str],
        features: NDArray[np.floating],
        labels: Sequence[str],
        groups: Sequence[str],
        class_names: Sequence[str],
        penalty: float | None = None,
    ) -> None:
        """Fit it.

        Args:
            names: of the n photos, each once.
            features: `(n, C)`.
            labels: n of them.
            groups: n of them; photos of one group are left out together.
            class_names: K, in the order of scores.
            penalty: lambda as a share of the mean squared length of the features; by default the one of `PENALTIES`
                whose left-out scores are nearest to the truth.

        Raises:
            WrongUse: a name is there twice, a label is no class, or the penalty is not above 0.
        """
        self.class_names = tuple(class_names)
        self.names: list[str] = []
        self.labels: list[str] = []
        self.groups: list[str] = []
        self.center = features.mean(axis=0, dtype=np.float64)
        self.features = np.zeros((0, features.shape[1]))
        self.inverse = np.zeros((0, 0))
        x = features - self.center
        self.constant = float((x * x).sum(axis=1).mean()) or 1.0
        if penalty is not None and penalty <= 0:
            raise WrongUse(f"penalty is {penalty}; expected more than 0.")
        self.penalty = penalty or 1.0
        if penalty is None:
            some = np.random.default_rng(0).permutation(len(x))[:TUNED_ON]
            chosen = [[values[i] for i in some] for values in (names, labels, groups)]
            self.penalty = min(PENALTIES, key=lambda one: self._tried(one, chosen, features[some]))
        self.add(names, features, labels, groups)

    def _tried(self, penalty: float, chosen: list[list[str]], features: NDArray[np.floating]) -> float:
        """Return the mean squared error of left-out scores with another penalty."""
        names, labels, groups = chosen
        head = LiveHead(names, features, labels, groups, self.class_names, penalty)
        return float(((head.left_out() - head._truth()) ** 2).mean())

    def add(
        self,
        names: Sequence[str],
        features: NDArray[np.floating],
        labels: Sequence[str],
        groups: Sequence[str],
    ) -> None:
        """Let further photos count.

        Args:
            names: of m photos that do not count yet.
            features: `(m, C)`.
            labels: m of them.
            groups: m of them.

        Raises:
            WrongUse: a name is there twice, or a label is no class.
        """
        counts = Counter([*self.names, *names])
        if twice := sorted(name for name in names if counts[name] > 1):
            raise WrongUse(f"{twice[0]!r} is there twice: give every photo once.")
        for label in labels:
            self._number(label)
        x = features - self.center
        with_old = self.features @ x.T + self.constant  # (n, m)
        own = x @ x.T + self.constant + self.penalty * self.constant * np.eye(len(x))
        shared = self.inverse @ with_old
        new = np.linalg.inv(own - with_old.T @ shared)
        corner = -shared @ new
        self.inverse = np.block([[self.inverse - corner @ shared.T, corner], [corner.T, new]])
        self.features = np.concatenate([self.features, x])
        self.names += names
        self.labels += labels
        self.groups += groups

    def remove(self, names: Sequence[str]) -> None:
        """Let photos count no more.

        Raises:
            WrongUse: one of them does not count.
        """
        gone = [self._row(name) for name in dict.fromkeys(names)]
        stay = [row for row in range(len(self.names)) if row not in set(gone)]
        across = self.inverse[np.ix_(stay, gone)]
        own = self.inverse[np.ix_(gone, gone)]
        self.inverse = self.inverse[np.ix_(stay, stay)] - across @ np.linalg.solve(own, across.T)
        self.features = self.features[stay]
        self.names, self.labels, self.groups = (
            [values[row] for row in stay] for values in (self.names, self.labels, self.groups)
        )

    def move(self, name: str, label: str) -> None:
        """Give a photo another class.

        Raises:
            WrongUse: there is no such photo, or no such class.
        """
        self._number(label)
        self.labels[self._row(name)] = label

    def left_out(self) -> Scores:
        """Return what a head says of each photo that has not seen its group: `(n, K)`, about -1 to +1."""
        truth = self._truth()
        dual = self.inverse @ truth
        errors = dual / self.inverse.diagonal()[:, None]
        members: dict[str, list[int]] = {}
        for row, group in enumerate(self.groups):
            members.setdefault(group, []).append(row)
        for rows in members.values():
            if len(rows) > 1:
                errors[rows] = np.linalg.solve(self.inverse[np.ix_(rows, rows)], dual[rows])
        return truth - errors

    def right(self) -> dict[str, bool]:
        """Return for each photo whether a head that has not seen its group classifies it correctly."""
        best = self.left_out().argmax(axis=1)
        return {
            name: self.class_names[k] == label
            for name, k, label in zip(self.names, best, self.labels, strict=True)
        }

    def scores(self, features: NDArray[np.floating]) -> Scores:
        """Return the scores `(m, K)` of features `(m, C)` of any photos."""
        dual = self.inverse @ self._truth()
        return np.asarray(
            (features - self.center) @ (self.features.T @ dual) + self.constant * dual.sum(axis=0)
        )

    def _truth(self) -> Scores:
        truth = np.full((len(self.names), len(self.class_names)), -1.0)
        truth[np.arange(len(truth)), [self._number(label) for label in self.labels]] = 1.0
        return truth

    def _number(self, label: str) -> int:
        if label not in self.class_names:
            raise WrongUse(f"{label!r} is no class; choose one of {', '.join(self.class_names)}.")
        return self.class_names.index(label)

    def _row(self, name: str) -> int:
        if name not in self.names:
            raise WrongUse(f"There is no photo {name!r} to remove or move.")
        return self.names.index(name)
