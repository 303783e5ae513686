"""Volumes that are read at the same time, and the one order in which what they hold is believed.

Of each study the first volume by number is believed first, in the order in which it holds the study's
packages, and the others are compared with it, as if they had been read one after the other: so several
drives make the catalog that one makes, also where media contradict each other. Only where both media have
noted the same digest of the package whose turn it is does it not matter which is read, and whoever comes
first reads: of two cartridges with the same packages each drive reads half of the manifests.

A volume waits only for volumes before it, and for whoever is taking something of the very study in: nobody
waits in a circle.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass


class Stopped(BaseException):
    """Another one of the volumes that are read has ended all of it. Not an Exception: it is no trouble of
    this volume."""


@dataclass(frozen=True, slots=True)
class Noted:
    """A package as its medium's index names it."""

    size: int
    digest: bytes | None
    """Of the whole, as it was noted when it was written; None where nobody has."""


Left = dict[str, dict[str, Noted]]
"""By study: what a volume still has to give of it, in the order in which it lies there."""


class Abreast:
    """Which packages which volume may take in now. Used by one thread a volume."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._left: dict[int, Left | None] = {}
        """By volume under way; None: it was not listed yet."""
        self._taking: dict[str, int] = {}
        """Study -> the volume that a package of it is being taken in from."""
        self._stopped = False

    def announce(self, number: int) -> None:
        """A volume is under way, and whoever comes later hears it first. :meth:`over` must follow."""
        with self._news:
            self._left[number] = None

    def over(self, number: int) -> None:
        """Nobody waits for this volume any more, however it ended."""
        with self._news:
            self._left.pop(number, None)
            self._taking = {name: by for name, by in self._taking.items() if by != number}
            self._news.notify_all()

    def listed(self, number: int, packages: Mapping[str, Noted]) -> None:
        """What a volume holds, in the order in which it is read; then wait until those before it are listed,
        too.

        :raises Stopped: see :meth:`stop`.
        """
        left: Left = {}
        for package, noted in packages.items():
            left.setdefault(_study(package), {})[package] = noted
        with self._news:
            self._left[number] = left
            self._news.notify_all()
            self._wait_until(lambda: all(self._left[other] is not None for other in self._before(number)))

    def begin(self, number: int, package: str, noted: Noted, *, wait: bool) -> bool:
        """Take a package in from this volume; :meth:`end` must follow. False: not now, others first.

        :param wait: until it may be.
        :raises Stopped: see :meth:`stop`.
        """
        with self._news:
            if wait:
                self._wait_until(lambda: self._may(number, package, noted))
            self._go_on()
            if not self._may(number, package, noted):
                return False
            self._taking[_study(package)] = number
            return True

    def end(self, number: int, package: str, noted: Noted | None) -> None:
        """A volume is done with a package.

        :param noted: it is in the catalog now as this says; None: it is not to be had from this volume.
        """
        with self._news:
            if self._taking.get(_study(package)) == number:
                del self._taking[_study(package)]
            for other, left in self._left.items():
                of_study = (left or {}).get(_study(package), {})
                has = of_study.get(package)
                if other == number or (has is not None and has.digest is not None and has == noted):
                    of_study.pop(package, None)
            self._news.notify_all()

    def stop(self) -> None:
        """Everybody ends at the next package."""
        with self._news:
            self._stopped = True
            self._news.notify_all()

    def _before(self, number: int) -> list[int]:
        return [other for other in self._left if other < number]

    def _may(self, number: int, package: str, noted: Noted) -> bool:
        study = _study(package)
        if study in self._taking:
            return False
        for other in self._before(number):
            left = self._left[other]
            if left is None:
                return False
            first = next(iter(left.get(study, {}).items()), None)
            if first is not None and (noted.digest is None or first != (package, noted)):
                return False
        return True

    def _wait_until(self, true: Callable[[], bool]) -> None:
        self._go_on()
        while not true():
            self._news.wait()
            self._go_on()

    def _go_on(self) -> None:
        if self._stopped:
            raise Stopped


def _study(package: str) -> str:
    return package.rpartition(".p")[0]
