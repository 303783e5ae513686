"""Which application entity may do what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hsm.config import AeConfig, DicomConfig

REJECT = "reject"
"""May take instances out of use by a rejection note."""
SEES_REJECTED = "see rejected"
"""May see what was rejected for quality reasons."""


@dataclass(frozen=True)
class AeBook:
    """The known AEs and what unknown ones may do. A reload replaces it whole."""

    by_title: Mapping[str, AeConfig]
    unknown_may: frozenset[str]
    unknown_move_to: tuple[str, ...] | None = None

    @classmethod
    def of(cls, config: DicomConfig) -> AeBook:
        by_title = MappingProxyType({ae.ae_title: ae for ae in config.aes})
        return cls(by_title, frozenset(config.unknown_aes), config.unknown_move_to)

    def rights(self, ae_title: str) -> frozenset[str]:
        """What a calling AE may do; empty means that its association is rejected."""
        ae = self.by_title.get(ae_title)
        return self.unknown_may if ae is None else frozenset(ae.may)

    def may_move_to(self, calling: str, destination: str) -> bool:
        """Whether a calling AE that may move may have instances moved there."""
        ae = self.by_title.get(calling)
        allowed = self.unknown_move_to if ae is None else ae.move_to
        return allowed is None or destination in allowed

    def destination(self, ae_title: str) -> AeConfig | None:
        """Where a C-MOVE to ``ae_title`` goes; None if it is not known."""
        return self.by_title.get(ae_title)
