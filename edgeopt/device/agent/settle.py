"""When to stop warming up: the times have stopped moving, or there is no more time for it.

The host judges the whole trace again, with all the runs before it; this rule only has to be quick.
"""

from __future__ import annotations

__all__ = ["Settle"]

# A block is long enough to hold a step of a clock governor (10 to 50 ms on Linux) and, where runs
# are short, enough of them for a median that one disturbance does not move.
_BLOCK_RUNS, _BLOCK_S, _LONG_BLOCK_S = 5, 0.05, 0.5
_BLOCKS = 3
# Settled: the last blocks' medians lie within this of each other, or within their own noise.
_TOLERANCE = 0.02
_NOISE = 3.0  # standard errors of a block's median


class Settle:
    """Takes the warm-up times one by one (`add`), each in O(log of a block) amortised.

    Between the floor and the ceiling (runs and seconds of inference) it ends when the medians of
    the last three blocks agree within 2%, or within three standard errors where runs scatter more.
    A block is 5 runs and 50 ms at least, or half a second, so a slow model needs three runs.
    """

    def __init__(
        self,
        floor_runs: int = 1,
        floor_s: float = 0.0,
        ceiling_runs: int = 100000,
        ceiling_s: float = 5.0,
    ) -> None:
        self.settled = False
        self._floor = (floor_runs, floor_s * 1e9)
        self._ceiling = (ceiling_runs, ceiling_s * 1e9)
        self._runs, self._elapsed_ns = 0, 0
        self._block: list[int] = []
        self._block_ns = 0
        self._medians: list[tuple[float, float]] = []  # of the last blocks, with standard errors

    def add(self, time_ns: int) -> bool:
        """One more warm-up run; True when warming up is over (`settled` says why)."""
        self._runs += 1
        self._elapsed_ns += time_ns
        self._block.append(time_ns)
        self._block_ns += time_ns
        enough = len(self._block) >= _BLOCK_RUNS and self._block_ns >= _BLOCK_S * 1e9
        if enough or self._block_ns >= _LONG_BLOCK_S * 1e9:
            self._medians = self._medians[1 - _BLOCKS :] + [_median_and_error(self._block)]
            self._block, self._block_ns = [], 0
            self.settled = self._agree()
        if self._runs >= self._ceiling[0] or self._elapsed_ns >= self._ceiling[1]:
            return True
        if self._runs < self._floor[0] or self._elapsed_ns < self._floor[1]:
            return False
        return self.settled

    def _agree(self) -> bool:
        if len(self._medians) < _BLOCKS:
            return False
        medians = [median for median, _ in self._medians]
        # The middle one: a block that holds a step looks noisy by that.
        noise = _NOISE * sorted(error for _, error in self._medians)[_BLOCKS // 2]
        return max(medians) - min(medians) <= max(_TOLERANCE * min(medians), noise)


def _median_and_error(times_ns: list[int]) -> tuple[float, float]:
    """The error is that of a normal sample's median, 1.2533 sigma / sqrt(n), sigma from quartiles.

    None can be told of fewer than four runs: it is then 0.
    """
    ordered, size = sorted(times_ns), len(times_ns)
    median = (ordered[(size - 1) // 2] + ordered[size // 2]) / 2
    if size < 4:
        return median, 0.0
    sigma = (ordered[(3 * size) // 4] - ordered[size // 4]) / 1.349
    return median, 1.2533 * sigma / float(size) ** 0.5
