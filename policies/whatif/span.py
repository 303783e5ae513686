"""The time that a simulation is about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

LONGEST = timedelta(days=366 * 20)


@dataclass(frozen=True, slots=True)
class Span:
    """The time of interest: what the history has before it is the stock at its beginning."""

    begin: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.begin.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("a simulation's times need a time zone")
        if not timedelta(0) < self.end - self.begin <= LONGEST:
            raise ValueError(
                f"from {self.begin:%Y-%m-%d} to {self.end:%Y-%m-%d}: "
                "the end must be later, by 20 years at most"
            )
