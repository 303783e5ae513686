"""The threads between the operators' screen and the daemon."""

from __future__ import annotations

import threading
from typing import Any, Self

import pytest

from cli.watch.actions import Act, Kind
from cli.watch.link import Answered, Away, Link, News, Seen, Stopped
from hsm.client import Unreachable


class Daemon:
    """Answers, or is away, or breaks the screen."""

    def __init__(self) -> None:
        self.away = False
        self.fault: Exception | None = None
        self.scanned: list[str] = []

    def __call__(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def prompts(self, **_: object) -> list[dict[str, Any]]:
        if self.away:
            raise Unreachable("no daemon answers on /x")
        if self.fault is not None:
            raise self.fault
        return []

    def picklist(self) -> dict[str, Any]:
        return {"walks": []}

    def status(self) -> dict[str, Any]:
        return {}

    def volumes(self, **_: object) -> list[dict[str, Any]]:
        return []

    movements = volumes

    def operator_scan(self, barcode: str) -> dict[str, Any]:
        if self.away:
            raise Unreachable("no daemon answers on /x")
        self.scanned.append(barcode)
        return {"barcode": barcode, "verdict": "done", "text": f"{barcode} is in lib1"}


class Ears:
    """What was told, and a wait for it."""

    def __init__(self) -> None:
        self._heard: list[News] = []
        self._change = threading.Condition()

    def __call__(self, news: News) -> None:
        with self._change:
            self._heard.append(news)
            self._change.notify_all()

    def wait(self, kind: type[News]) -> Any:
        def found() -> News | None:
            return next((each for each in self._heard if isinstance(each, kind)), None)

        with self._change:
            assert self._change.wait_for(found, 10), f"no {kind.__name__} in {self._heard}"
            heard = found()
            self._heard.clear()
            return heard


def test_acts_wait_in_their_order_while_no_daemon_answers_and_none_is_lost() -> None:
    daemon, ears = Daemon(), Ears()
    daemon.away = True
    link = Link(daemon, 0.01, ears)  # type: ignore[arg-type]
    link.start()
    try:
        assert not ears.wait(Away).answers
        for number in range(5):
            link.do(Act(Kind.SCAN, f"T{number}"))
        daemon.away = False
        assert ears.wait(Answered).outcome.good
        with_all = threading.Event()
        while len(daemon.scanned) < 5:
            with_all.wait(0.01)
        assert daemon.scanned == [f"T{number}" for number in range(5)]
    finally:
        link.end()


def test_an_answer_that_is_not_understood_is_told_and_looked_for_again() -> None:
    daemon, ears = Daemon(), Ears()
    daemon.fault = KeyError("barcode")
    link = Link(daemon, 0.01, ears)  # type: ignore[arg-type]
    link.start()
    try:
        away = ears.wait(Away)
        assert away.answers
        assert "not understood" in away.error
        daemon.fault = None
        ears.wait(Seen)
    finally:
        link.end()


def test_a_thread_never_ends_unnoticed(monkeypatch: pytest.MonkeyPatch) -> None:
    raised = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: raised.set())
    daemon, ears = Daemon(), Ears()
    daemon.fault = AssertionError("a fault of the program")
    link = Link(daemon, 0.01, ears)  # type: ignore[arg-type]
    link.start()
    try:
        assert "a fault of the program" in ears.wait(Stopped).fault
        assert raised.wait(10), "Python is told as well"
    finally:
        link.end()
