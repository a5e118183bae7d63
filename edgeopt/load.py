"""Load: how many requests at once, and how large, as asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeopt.errors import InputError

__all__ = ["Load"]

_MOST_THREADS = 256
_LONGEST_S = 86_400.0
_SPARE_S = 20.0
_MOST_REQUESTS = 350_000  # the agent keeps 400 000, and chance may draw more than the mean


@dataclass(frozen=True, kw_only=True)
class Load:
    """`concurrency` interpreters in as many threads of one process, for `time_s` seconds.

    `batch` None: the model's own, and what is counted is inferences. `rate` 0: a closed loop, each
    thread asks again when it is answered; else so many requests a second on average, at random
    times (a Poisson process), whoever is free takes the next.
    """

    concurrency: int = 1
    batch: int | None = None
    rate: float = 0.0
    time_s: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.concurrency <= _MOST_THREADS:
            raise InputError(f"--concurrency must be 1 to {_MOST_THREADS}, not {self.concurrency}.")
        if self.batch is not None and not 1 <= self.batch < 1 << 20:
            raise InputError(f"--batch must be at least 1, not {self.batch}.")
        if not 0 <= self.rate < math.inf or not 0 < self.time_s <= _LONGEST_S:
            raise InputError("--rate and --load-time must be above 0, the time at most a day.")
        if self.rate * self.time_s > _MOST_REQUESTS:
            raise InputError(
                f"--rate {self.rate:g} for {self.time_s:g} s is over {_MOST_REQUESTS} requests.",
                f"Give --load-time {_MOST_REQUESTS / self.rate:.3g} or less.",
            )

    @property
    def needed_s(self) -> float:
        """Of a process's deadline: the load, one thread alone before and after, and the loading."""
        return 2 * self.time_s + _SPARE_S

    def check_timeout(self, timeout_s: float) -> None:
        """Raises InputError for a deadline that ends it before its end."""
        if timeout_s < self.needed_s:
            raise InputError(
                f"--load-time {self.time_s:g} takes twice as long, with one thread alone before"
                f" and after: more than --timeout {timeout_s:g} leaves.",
                f"Give --timeout {self.needed_s:g} or more.",
            )
