"""Which application entity may do what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hsm.config import AeConfig, DicomConfig

NOT_AUTHORIZED = 0x0124
"""Refused: not authorized, PS3.7 section C.5.5."""


@dataclass(frozen=True)
class AeBook:
    """The known AEs and what unknown ones may do. A reload replaces it whole."""

    by_title: Mapping[str, AeConfig]
    unknown_may: frozenset[str]

    @classmethod
    def of(cls, config: DicomConfig) -> AeBook:
        return cls(MappingProxyType({ae.ae_title: ae for ae in config.aes}), frozenset(config.unknown_aes))

    def rights(self, ae_title: str) -> frozenset[str]:
        """What a calling AE may do; empty means that its association is rejected."""
        ae = self.by_title.get(ae_title)
        return self.unknown_may if ae is None else frozenset(ae.may)

    def destination(self, ae_title: str) -> AeConfig | None:
        """Where a C-MOVE to ``ae_title`` goes; None if it is not known."""
        return self.by_title.get(ae_title)
