"""How long things may take, as configured."""

from __future__ import annotations

from dataclasses import dataclass, field

from hsm.config.operators import OperatorConfig
from hsm.operators.reach import Feet


@dataclass(frozen=True, slots=True)
class Manners:
    """How long things may take, in seconds."""

    acknowledged: float = 1800.0
    """Until somebody who is on the way is not taken to be any more."""
    hold: float = 7200.0
    """How long a retrieve is held at most: after that, whoever asked has gone."""
    feet: Feet = field(default_factory=Feet)

    @classmethod
    def of(cls, config: OperatorConfig, hold: float) -> Manners:
        """As configured; ``hold`` is that of retrieves."""
        return cls(config.acknowledged_for, hold, Feet(config.walk, config.other_site))
