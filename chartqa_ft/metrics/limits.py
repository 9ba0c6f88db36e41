"""`MeanLimits`: the limits of accuracies by one of the three kinds of intervals."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .clustered import clustered_interval, clustered_mean_interval
from .intervals import bootstrap_means, mean, mean_of_wilson_intervals, percentile_interval, wilson_interval

if TYPE_CHECKING:
    import numpy as np

INTERVALS = ("wilson", "bootstrap", "clustered")


class Group(NamedTuple):
    """The verdicts on the questions of a group."""

    name: str
    """Its name, by which bootstrap samples of groups are independent."""
    verdicts: Sequence[float]
    charts: Sequence[Hashable]
    """The chart of each question; used for clustered intervals only."""


@dataclass(frozen=True)
class MeanLimits:
    """Computes the limits of mean verdicts.

    Args:
        interval: `"wilson"`, `"bootstrap"` or `"clustered"`; see `relaxed_accuracy`.
        confidence: the confidence level.
        n_resamples, seed: of the bootstrap.

    Example:
        >>> low, high = MeanLimits("wilson").of(Group("human", [1.0, 1.0, 0.0], []))
        >>> round(low, 3), round(high, 3)
        (0.208, 0.939)
    """

    interval: str
    confidence: float = 0.95
    n_resamples: int = 10_000
    seed: int = 0

    def of(self, group: Group) -> tuple[float, float] | None:
        """Return the limits of the mean of a group, or None if nothing can be estimated."""
        verdicts = group.verdicts
        if self.interval == "wilson":
            return wilson_interval(mean(verdicts), len(verdicts), confidence=self.confidence)
        if self.interval == "clustered":
            return clustered_interval(verdicts, group.charts, confidence=self.confidence)
        return percentile_interval(self._samples(group), confidence=self.confidence)

    def of_mean(self, groups: Sequence[Group]) -> tuple[float, float] | None:
        """Return the limits of the plain mean of the accuracies of some groups."""
        if self.interval == "wilson":
            parts = [(mean(group.verdicts), len(group.verdicts)) for group in groups]
            return mean_of_wilson_intervals(parts, confidence=self.confidence)
        if self.interval == "clustered":
            sides = [(group.verdicts, group.charts) for group in groups]
            return clustered_mean_interval(sides, confidence=self.confidence)
        samples = sum((self._samples(group) for group in groups[1:]), start=self._samples(groups[0])) / len(groups)
        return percentile_interval(samples, confidence=self.confidence)

    def _samples(self, group: Group) -> np.ndarray:
        return bootstrap_means(group.verdicts, n_resamples=self.n_resamples, seed=self.seed, stream=group.name)
