"""``hsm audit verify``: copies are read back because somebody asks, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hsm.catalog import media, requesting, scrubbing
from hsm.catalog.engine import Catalog
from hsm.catalog.scrubbing import SAMPLE_OF, Verification
from hsm.errors import BadInput, NotFound
from hsm.model import Place, Priority
from hsm.pools import Pools
from hsm.scrub import request_key, verifications
from hsm.states import CopyState, RequestState
from hsm.wake import Bell

Record = dict[str, Any]

COPIES_MAX = 10_000
"""Copies that are read back for one asking; it says when there are more."""
BAD = ("does not match", "cannot be read")
"""Results after which an audit has found something."""


@dataclass(frozen=True, slots=True)
class AskedFor:
    """What shall be read back: the copies of one study, on one volume, or a sample of all."""

    study: str = ""
    volume: str = ""
    percent: float = 0.0
    pool: str = ""
    """Only in this pool."""
    urgent: bool = False
    """Somebody waits for it."""

    def __post_init__(self) -> None:
        """:raises BadInput: not exactly one of the three, or no percentage."""
        if bool(self.study) + bool(self.volume) + (self.percent != 0) != 1:
            raise BadInput("name one: a study, a volume, or a sample")
        if not (math.isfinite(self.percent) and 0 <= self.percent <= 100):
            raise BadInput(f"a sample of {self.percent:g}%; expected more than 0% and at most 100%")


class VerifyAudit:
    """Queues verifications and says how far they are."""

    def __init__(self, catalog: Catalog, pools: Pools, bell: Bell) -> None:
        self._catalog = catalog
        self._pools = pools
        self._bell = bell

    def ask(self, asked: AskedFor, by: str) -> Record:
        """Queue them: ``requests`` (their numbers), ``copies``, ``waiting_for_a_person`` (of those), ``cold``
        (copies left out, which would cost hours and money) and ``more`` (true: only the first are queued).

        :raises NotFound: there is no such study, volume or pool, or no copy.
        """
        with self._catalog.write() as session:
            now = self._catalog.clock.now()
            study_pk = volume_pk = None
            if asked.study:
                study_pk = scrubbing.study_key(session, asked.study)
                if study_pk is None:
                    raise NotFound(f"the catalog has no study {asked.study}")
            if asked.volume:
                volume_pk = media.volume(session, asked.volume).pk
            if asked.pool and asked.pool not in self._pools.names:
                known = ", ".join(sorted(self._pools.names))
                raise NotFound(f"there is no pool {asked.pool!r}; configured: {known}")
            found = scrubbing.asked_for(
                session,
                study_pk=study_pk,
                volume_pk=volume_pk,
                pools=[asked.pool] if asked.pool else [],
                per_million=round(asked.percent * SAMPLE_OF / 100) if asked.percent else SAMPLE_OF,
                salt=int(now.timestamp()),
                limit=COPIES_MAX + 1,
            )
            more = len(found) > COPIES_MAX
            cold = [each for each in found if self._is_cold(each.volume_pk)]
            wanted = [each for each in found[:COPIES_MAX] if each not in cold]
            if not found:
                raise NotFound("there is no copy to read back: none was made yet, or the sample is too small")
            places = {each.pk: each.place for each in media.volumes(session)}
            priority = Priority.BULK if asked.urgent else Priority.SCRUB
            requesting.enqueue_many(session, now, by, verifications(wanted, priority, f"asked for by {by}"))
            keys = [request_key(each.package, each.volume) for each in wanted]
            requests = sorted(scrubbing.hasten(session, keys, priority).values())
        self._bell.ring()
        away = (Place.SHELF, Place.UNKNOWN)
        return {
            "requests": requests,
            "copies": len(wanted),
            "waiting_for_a_person": sum(places[each.volume_pk] in away for each in wanted),
            "cold": len(cold),
            "more": more,
        }

    def _is_cold(self, volume_pk: int) -> bool:
        pool = self._pools.disk_by_volume(volume_pk)
        return pool is not None and pool.cold

    def progress(self, requests: Sequence[int]) -> Record:
        """How far these are: ``copies`` (``request state result error study package volume pool bytes``),
        ``left`` (that have not ended), ``waiting`` (of those, for a person), ``bytes``, ``good`` (none that
        has ended was found bad).

        :raises BadInput: too many.
        """
        if len(requests) > COPIES_MAX:
            raise BadInput(f"{len(requests)} requests; expected at most {COPIES_MAX}")
        with self._catalog.read() as session:
            found = scrubbing.verifications(session, sorted(set(requests)))
        copies = [_record(each) for each in found]
        ended = [each for each in copies if each["result"]]
        return {
            "copies": copies,
            "left": len(copies) - len(ended),
            "waiting": sum(each["state"] == RequestState.WAITING for each in copies),
            "bytes": sum(each["bytes"] for each in ended),
            "good": not any(each["result"] in BAD for each in ended),
        }


def _record(each: Verification) -> Record:
    return {
        "request": each.pk,
        "state": each.state,
        "result": _result(each),
        "error": each.error,
        "study": each.study_uid,
        "package": each.package,
        "volume": each.volume,
        "pool": each.pool,
        "bytes": each.size,
    }


def _result(each: Verification) -> str:
    """In words; empty while it is under way. What failed and was made good since is cancelled, and has its
    error still."""
    if each.state == RequestState.DONE:
        return "matches"
    if each.state == RequestState.FAILED:
        return BAD[0] if each.copy_state != CopyState.VERIFIED else BAD[1]
    if each.state == RequestState.CANCELLED:
        return BAD[0] if each.error else "cancelled"
    return ""
