"""Defects to plant, each one breaking a promise: a chaos that does not find them proves nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import hsm.catalog.marks
import hsm.catalog.placement
import hsm.catalog.prompts
import hsm.catalog.queue
import hsm.copysource
import hsm.ingest.incoming
import hsm.proof
import hsm.reader
import hsm.release
import hsm.remake
import hsm.seal
import hsm.staging
from hsm.guard import Verdict, may_release
from hsm.package import Member, PackagePlan, plan_package
from hsm.ranges import Range, unchecked
from hsm.states import CopyState, RequestState
from tests.chaos import chaos_world
from tests.chaos.chaos_world import ChaosWorld

Change = tuple[Any, str, Any]
"""Where, what, and what instead."""


def _database_without(*names: str) -> Change:
    """Its own refusals, given up: triggers and unique indexes."""
    opened = ChaosWorld._open_engine

    def without(world: ChaosWorld) -> Any:
        with closing(sqlite3.connect(world.url.removeprefix("sqlite:///"))) as file:
            for name in names:
                for (kind,) in file.execute(
                    "SELECT type FROM sqlite_master WHERE name = ?", [name]
                ).fetchall():
                    file.execute(f"DROP {kind} {name}")
            file.commit()
        return opened(world)

    return ChaosWorld, "_open_engine", without


# 1. Acknowledged is durable.


def _flush_left_out() -> list[Change]:
    return [(hsm.ingest.incoming.Incoming, "flush", lambda _: None)]


def _no_recovery() -> list[Change]:
    return [(chaos_world, "recover", lambda *_: None)]


# 2. Verified means read back.


def _verify_reads_nothing() -> list[Change]:
    return [(each, "verify_stream", lambda *_: None) for each in (hsm.copysource, hsm.proof, hsm.remake)]


def _damage_believed_whole() -> list[Change]:
    def believes(self: hsm.remake.Remaking, copy_pk: int, *_: Any) -> bool:
        self._proofs.judge(copy_pk, CopyState.VERIFIED, "read back whole")
        return True

    return [(hsm.remake.Remaking, "is_whole", believes)]


def _repair_keeps_bad_bytes() -> list[Change]:
    """What lies there already is taken for what was to be written, and the proof for granted."""
    return [
        (hsm.remake.Remaking, "is_whole", lambda *_: False),
        (hsm.release, "delete_package", lambda *_: None),
        (hsm.proof.Proofs, "read_back", lambda *_: None),
    ]


# 3. The last good copies are untouchable.


def _guard_agrees() -> list[Change]:
    def agrees(mine: Any, others: Any, _goals: Any, _kept: Any, *more: Any) -> Any:
        return may_release(mine, others, (), "", *more)

    return [(hsm.catalog.placement.guard, "may_release", agrees)]


def _last_copy_goes() -> list[Change]:
    verdict = Verdict(True, "as you like")
    return [
        (hsm.catalog.placement.guard, "may_release", lambda *_: verdict),
        _database_without("copy_last_update", "copy_held_update"),
    ]


def _hold_forgotten() -> list[Change]:
    """By the guard, by the trash and by the database; policies still know it."""
    return [(hsm.catalog.marks, "kept_by_law", lambda *_: ""), _database_without("copy_held_update")]


# 4. No silent change.


def _served_unchecked() -> list[Change]:
    def believed(source: Range, _digest: bytes, _damage: Callable[[], None]) -> Range:
        return unchecked(source)

    return [(hsm.reader, "checked", believed)]


# 5. The media explain themselves.


def _member_left_out() -> list[Change]:
    def lacks(identity: Any, members: Iterable[Member]) -> PackagePlan:
        every = list(members)
        if len(every) < 2:
            return plan_package(identity, every)
        plan = plan_package(identity, every[:-1])
        return replace(plan, offsets=(*plan.offsets, plan.offsets[-1]))

    return [(hsm.seal, "plan_package", lacks)]


# 6. Waiting is not failing.


def _pin_stays() -> list[Change]:
    return [(hsm.staging.Staging, "unpin", lambda *_: None)]


def _left_active() -> list[Change]:
    return [(hsm.catalog.queue, "give_back_all_active", lambda *_: 0)]


def _asked_twice() -> list[Change]:
    prompts, ask = hsm.catalog.prompts, hsm.catalog.prompts.ask_for

    def asks(*args: Any) -> bool:
        found = prompts._open
        prompts._open = lambda *_: None
        try:
            return ask(*args)
        finally:
            prompts._open = found

    return [(prompts, "ask_for", asks), _database_without("uq_mount_request_open")]


# 7. Everything is accounted for.


def _journal(module: Any, change: Callable[[str, str], str]) -> list[Change]:
    """
    :param change: of a record's kind and verb the verb that is written; empty: nothing is.
    """
    append = hsm.catalog.queue.journal.append

    def appends(session: Any, at: Any, actor: str, verb: str, kind: str, *rest: Any) -> int:
        said = change(kind, verb)
        return append(session, at, actor, said, kind, *rest) if said else 0

    return [(module.journal, "append", appends)]


def _not_on_record() -> list[Change]:
    taken = ("request", RequestState.ACTIVE)
    return _journal(hsm.catalog.queue, lambda kind, verb: "" if (kind, verb) == taken else verb)


def _copy_not_on_record() -> list[Change]:
    return _journal(hsm.catalog.placement, lambda _, verb: "" if verb == "copy releasing" else verb)


def _other_state_on_record() -> list[Change]:
    queued = ("request", RequestState.QUEUED)
    return _journal(hsm.catalog.queue, lambda kind, verb: "done" if (kind, verb) == queued else verb)


def _hold_not_on_record() -> list[Change]:
    return _journal(hsm.catalog.marks, lambda _, verb: "" if verb == "hold placed" else verb)


def _record_removed() -> list[Change]:
    """By somebody with the database's password, once the daemon has gone."""
    died = ChaosWorld.again

    def again(world: ChaosWorld, dies_at: int | None) -> ChaosWorld:
        with closing(sqlite3.connect(world.url.removeprefix("sqlite:///"))) as file:
            file.execute("DROP TRIGGER IF EXISTS journal_delete")
            file.execute("DELETE FROM journal WHERE seq = (SELECT max(seq) / 2 FROM journal)")
            file.commit()
        return died(world, dies_at)

    return [(ChaosWorld, "again", again)]


DEFECTS: dict[str, Callable[[], list[Change]]] = {
    "an arrival is not flushed": _flush_left_out,
    "what a power cut left is not looked for": _no_recovery,
    "what was written is not read back": _verify_reads_nothing,
    "a damaged copy is believed to be whole": _damage_believed_whole,
    "a repair takes the damaged bytes for the new ones": _repair_keeps_bad_bytes,
    "the guard forgets what policy and law demand": _guard_agrees,
    "guard and database let the last copy go": _last_copy_goes,
    "a hold keeps nothing": _hold_forgotten,
    "what is served is not digested": _served_unchecked,
    "a package is sealed without its last member": _member_left_out,
    "a pin is never taken back": _pin_stays,
    "a new daemon forgets what the dead one worked on": _left_active,
    "a prompt is asked again and again": _asked_twice,
    "taking a request is not on record": _not_on_record,
    "a release is not on record": _copy_not_on_record,
    "a queued request is on record as done": _other_state_on_record,
    "a hold is not on record": _hold_not_on_record,
    "a record is removed": _record_removed,
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
