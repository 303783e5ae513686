"""A site and a price list as YAML, with every error and its line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import time
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from policies import units
from policies.errors import PolicyError, PolicyErrors, did_you_mean
from policies.whatif.prices import PoolPrice, PriceList
from policies.whatif.site import Kind, Library, Operator, Pool, Site
from policies.whatif.tape import DRIVES, DriveModel
from policies.yamlsource import Entry, Node, ScalarNode, Source

T = TypeVar("T")
Entries = Mapping[str, Entry]

_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SITE = ("pools", "libraries", "operator", "staging", "quiet")
_POOL = ("name", "kind", "tier", "site", "capacity", "read", "write", "latency", "library")
_LIBRARY = ("name", "drive", "drives", "slots", "robot", "cartridges", "volume", "rate", "load", "unload")
_OPERATOR = ("walk", "handling", "cartridges a trip", "between", "weekdays", "time zone")
_PRICES = ("currency", "pools", "kinds", "mount", "operator hour")
_PRICE = ("TB and month", "TB read", "thousand writes", "thousand reads", "volume", "drive and year")


def read_site(path: str | Path) -> Site:
    """:raises PolicyErrors: with every error in the file; also if it cannot be read."""
    return _Reader(path).site()


def read_prices(path: str | Path) -> PriceList:
    """:raises PolicyErrors: with every error in the file; also if it cannot be read."""
    return _Reader(path).prices()


class _Reader:
    def __init__(self, path: str | Path) -> None:
        try:
            text = Path(path).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyErrors([PolicyError(str(path), 0, 0, f"cannot be read: {error}")]) from error
        self._source = Source(str(path), text)

    def site(self) -> Site:
        entries = self._top("a site", _SITE)
        libraries = [self._library(node) for node in self._list(entries, "libraries")]
        pools = [self._pool(node) for node in self._list(entries, "pools")]
        operator = self._operator(entries["operator"].value) if "operator" in entries else Operator()
        options = self._given(
            entries,
            {"staging": ("staging_bytes", self._size), "quiet": ("quiet_seconds", self._seconds)},
        )
        return self._finish(
            lambda: Site(
                tuple(pool for pool in pools if pool),
                tuple(library for library in libraries if library),
                operator or Operator(),
                **options,
            )
        )

    def prices(self) -> PriceList:
        entries = self._top("a price list", _PRICES)
        kinds = self._priced(entries, "kinds", tuple(kind.value for kind in Kind))
        pools = self._priced(entries, "pools", ())
        options = self._given(
            entries,
            {
                "currency": ("currency", self._text),
                "mount": ("mount", self._number),
                "operator hour": ("operator_hour", self._number),
            },
        )
        return self._finish(
            lambda: PriceList(
                pools={name: _pool_price(each) for name, each in pools.items()},
                kinds={name: _pool_price(each) for name, each in kinds.items()},
                cartridge={name: each["volume"] for name, each in kinds.items() if "volume" in each},
                drive_year={
                    name: each["drive and year"] for name, each in kinds.items() if "drive and year" in each
                },
                **options,
            )
        )

    # parts

    def _pool(self, node: Node) -> Pool | None:
        entries = self._source.entries(node, "a pool", _POOL)
        given = self._given(
            entries,
            {
                "name": ("name", self._text),
                "kind": ("kind", self._kind),
                "tier": ("tier", self._text),
                "site": ("site", self._text),
                "capacity": ("capacity", self._size),
                "read": ("read_bytes_per_second", self._rate),
                "write": ("write_bytes_per_second", self._rate),
                "latency": ("latency_seconds", self._seconds),
                "library": ("library", self._text),
            },
        )
        if "library" in given:
            given.setdefault("kind", Kind.TAPE)
            given.setdefault("tier", "offline")
        return self._made(node, "a pool", given, lambda: Pool(**given))

    def _library(self, node: Node) -> Library | None:
        entries = self._source.entries(node, "a library", _LIBRARY)
        given = self._given(
            entries,
            {
                "name": ("name", self._text),
                "drive": ("drive", self._drive),
                "drives": ("drives", self._whole),
                "slots": ("slots", self._whole),
                "robot": ("robot_seconds", self._seconds),
                "cartridges": ("cartridges", self._whole),
            },
        )
        changed = self._given(
            entries,
            {
                "volume": ("volume_bytes", self._size),
                "rate": ("bytes_per_second", self._rate),
                "load": ("load_seconds", self._seconds),
                "unload": ("unload_seconds", self._seconds),
            },
        )

        def make() -> Library:
            library = Library(**given)
            return replace(library, drive=replace(library.drive, **changed)) if changed else library

        return self._made(node, "a library", given, make)

    def _operator(self, node: Node) -> Operator | None:
        entries = self._source.entries(node, "the operator", _OPERATOR)
        given = self._given(
            entries,
            {
                "walk": ("walk_seconds", self._seconds),
                "handling": ("cartridge_seconds", self._seconds),
                "cartridges a trip": ("cartridges_a_trip", self._whole),
                "between": ("between", self._between),
                "weekdays": ("weekdays", self._weekdays),
                "time zone": ("time_zone", self._text),
            },
        )
        if "between" in given:
            given["begins"], given["ends"] = given.pop("between")
        return self._made(node, "the operator", {"name": "", **given}, lambda: Operator(**given))

    def _priced(self, entries: Entries, key: str, known: tuple[str, ...]) -> dict[str, dict[str, float]]:
        if key not in entries:
            return {}
        found = {}
        for name, entry in self._source.entries(entries[key].value, f"'{key}'", known).items():
            prices = self._source.entries(entry.value, f"the prices of {name}", _PRICE)
            found[name] = self._given(prices, {word: (word, self._number) for word in _PRICE})
        return found

    # values

    def _text(self, text: str) -> str:
        return text

    def _whole(self, text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text):
            raise ValueError(f"expected a whole number such as 2; found {text!r}")
        return int(text)

    def _number(self, text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]+)?", text):
            raise ValueError(f"expected an amount such as 9.50; found {text!r}")
        return float(text)

    def _size(self, text: str) -> int:
        return units.size(*_quantity(text, "a size such as 8 TB"))

    def _seconds(self, text: str) -> float:
        return units.duration(*_quantity(text, "a length of time such as 15 min or 0.02 s")).total_seconds()

    def _rate(self, text: str) -> float:
        size, slash, second = text.rpartition("/")
        if not slash or second.strip() not in ("s", "sec", "second"):
            raise ValueError(f"expected a rate such as 400 MB/s; found {text!r}")
        return float(units.size(*_quantity(size, "a rate such as 400 MB/s")))

    def _kind(self, text: str) -> Kind:
        try:
            return Kind(text)
        except ValueError:
            raise ValueError(f"{text!r} is no kind of pool.{did_you_mean(text, list(Kind))}") from None

    def _drive(self, text: str) -> DriveModel:
        if text not in DRIVES:
            raise ValueError(f"{text!r} is no drive that is known.{did_you_mean(text, DRIVES)}")
        return DRIVES[text]

    def _between(self, text: str) -> tuple[time, time]:
        match = re.fullmatch(r"(\d\d:\d\d) and (\d\d:\d\d)", text)
        if match is None:
            raise ValueError(f"expected times such as 07:00 and 18:00; found {text!r}")
        return time.fromisoformat(match.group(1)), time.fromisoformat(match.group(2))

    def _weekdays(self, text: str) -> frozenset[int]:
        days: set[int] = set()
        for part in text.lower().split(","):
            first, dash, last = (word.strip() for word in part.partition("-"))
            if first not in _WEEKDAYS or (dash and last not in _WEEKDAYS):
                raise ValueError(f"expected days such as mon-fri or mon, wed; found {text!r}")
            begin = _WEEKDAYS.index(first)
            end = _WEEKDAYS.index(last) if dash else begin
            days.update(day % 7 for day in range(begin, end + 1 + 7 * (end < begin)))
        return frozenset(days)

    # reading

    def _top(self, what: str, known: tuple[str, ...]) -> Entries:
        documents = self._source.documents()
        if len(documents) != 1 and not self._source.failed:
            self._source.at(0, f"expected {what} in one YAML document; found {len(documents)}")
        self._raise()
        return self._source.entries(documents[0], what, known)

    def _list(self, entries: Entries, key: str) -> list[Node]:
        if key not in entries:
            return []
        return list(self._source.items(entries[key].value, f"'{key}'"))

    def _given(
        self, entries: Entries, fields: Mapping[str, tuple[str, Callable[[str], Any]]]
    ) -> dict[str, Any]:
        """The values that are there; what cannot be read is noted and left out."""
        found: dict[str, Any] = {}
        for key, (name, read) in fields.items():
            if key not in entries:
                continue
            scalar = self._source.scalar(entries[key].value, f"'{key}'", f"{key}: ...")
            if scalar is not None:
                self._read(scalar, name, read, found)
        return found

    def _read(self, scalar: ScalarNode, name: str, read: Callable[[str], Any], found: dict[str, Any]) -> None:
        try:
            found[name] = read(str(scalar.value).strip())
        except ValueError as error:
            self._source.on(scalar, str(error))

    def _made(self, node: Node, what: str, given: Mapping[str, Any], make: Callable[[], T]) -> T | None:
        if "name" not in given:
            self._source.on(node, f"{what} needs a name: write name: ...")
        if self._source.failed:
            return None
        try:
            return make()
        except ValueError as error:
            self._source.on(node, str(error))
            return None

    def _finish(self, make: Callable[[], T]) -> T:
        self._raise()
        try:
            return make()
        except ValueError as error:
            self._source.at(0, str(error))
            self._raise()
            raise

    def _raise(self) -> None:
        if self._source.failed:
            raise PolicyErrors(self._source.findings)


def _quantity(text: str, example: str) -> tuple[Decimal, str]:
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]+)?)\s*([A-Za-z]+)", text.strip())
    if match is None:
        raise ValueError(f"expected {example}; found {text!r}")
    return Decimal(match.group(1)), match.group(2)


def _pool_price(prices: Mapping[str, float]) -> PoolPrice:
    words = ("TB and month", "TB read", "thousand writes", "thousand reads")
    return PoolPrice(*(prices.get(word, 0.0) for word in words))
