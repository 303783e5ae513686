"""What an archive costs: a price list, and bills made with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MONTH_SECONDS = 30.4375 * 86_400
TB = 10**12


@dataclass(frozen=True, slots=True)
class PoolPrice:
    """Of the bytes in a pool."""

    tb_month: float = 0.0
    """For each TB (10^12 bytes) kept for a month; of removable pools for what lies on volumes."""
    tb_read: float = 0.0
    """For each TB read back, as object storage charges."""
    thousand_writes: float = 0.0
    """For a thousand studies written, as object storage charges requests."""
    thousand_reads: float = 0.0
    """For a thousand studies read back."""

    def __post_init__(self) -> None:
        if min(self.tb_month, self.tb_read, self.thousand_writes, self.thousand_reads) < 0:
            raise ValueError("a price is not negative")


@dataclass(frozen=True, slots=True)
class PriceList:
    currency: str = "EUR"
    pools: Mapping[str, PoolPrice] = field(default_factory=dict)
    """By pool; what is not here, by kind."""
    kinds: Mapping[str, PoolPrice] = field(default_factory=dict)
    """By kind: disk, s3, tape, optical."""
    cartridge: Mapping[str, float] = field(default_factory=dict)
    """For each new volume, by kind."""
    drive_year: Mapping[str, float] = field(default_factory=dict)
    """For each drive and year, by kind: depreciation and service."""
    mount: float = 0.0
    """Wear of one mount."""
    operator_hour: float = 0.0

    def __post_init__(self) -> None:
        numbers = [*self.cartridge.values(), *self.drive_year.values(), self.mount, self.operator_hour]
        if any(number < 0 for number in numbers):
            raise ValueError("a price is not negative")

    def of_pool(self, name: str, kind: str) -> PoolPrice:
        return self.pools.get(name) or self.kinds.get(kind) or PoolPrice()


@dataclass(frozen=True, slots=True)
class Item:
    """One line of a bill."""

    what: str
    quantity: float
    unit: str
    price: float
    """For one unit."""

    @property
    def amount(self) -> float:
        return self.quantity * self.price


NO_PRICES = PriceList()
