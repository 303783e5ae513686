"""Defects to plant, each one breaking a promise: a chaos that does not find them proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hsm.catalog.placement
import hsm.catalog.queue
import hsm.copysource
import hsm.ingest.incoming
import hsm.proof
import hsm.ranges
import hsm.reader
import hsm.remake
import hsm.staging
from hsm.guard import may_release
from hsm.ranges import Range, unchecked
from hsm.states import RequestState


def _guard_agrees() -> list[tuple[Any, str, Any]]:
    def agrees(mine: Any, others: Any, _goals: Any, _kept: Any, *more: Any) -> Any:
        return may_release(mine, others, (), "", *more)

    return [(hsm.catalog.placement.guard, "may_release", agrees)]


def _verify_reads_nothing() -> list[tuple[Any, str, Any]]:
    return [(each, "verify_stream", lambda *_: None) for each in (hsm.copysource, hsm.proof, hsm.remake)]


def _flush_left_out() -> list[tuple[Any, str, Any]]:
    return [(hsm.ingest.incoming.Incoming, "flush", lambda _: None)]


def _pin_stays() -> list[tuple[Any, str, Any]]:
    return [(hsm.staging.Staging, "unpin", lambda *_: None)]


def _served_unchecked() -> list[tuple[Any, str, Any]]:
    def believed(source: Range, _digest: bytes, _damage: Callable[[], None]) -> Range:
        return unchecked(source)

    return [(hsm.reader, "checked", believed)]


def _not_on_record() -> list[tuple[Any, str, Any]]:
    append = hsm.catalog.queue.journal.append

    def forgets(session: Any, at: Any, actor: Any, verb: str, *rest: Any) -> int:
        return 0 if verb == RequestState.ACTIVE else append(session, at, actor, verb, *rest)

    return [(hsm.catalog.queue.journal, "append", forgets)]


def _left_active() -> list[tuple[Any, str, Any]]:
    return [(hsm.catalog.queue, "give_back_all_active", lambda *_: 0)]


DEFECTS: dict[str, Callable[[], list[tuple[Any, str, Any]]]] = {
    "the guard forgets what policy and law demand": _guard_agrees,
    "what was written is not read back": _verify_reads_nothing,
    "an arrival is not flushed": _flush_left_out,
    "a pin is never taken back": _pin_stays,
    "what is served is not digested": _served_unchecked,
    "taking a request is not on record": _not_on_record,
    "a new daemon forgets what the dead one worked on": _left_active,
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """One of :data:`DEFECTS`, or none under an empty name."""
    changes = DEFECTS[name]() if name else []
    old = [(where, what, getattr(where, what)) for where, what, _ in changes]
    try:
        for where, what, new in changes:
            setattr(where, what, new)
        yield
    finally:
        for where, what, before in old:
            setattr(where, what, before)
