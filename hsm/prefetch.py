"""Prefetches from scheduled work: a patient's earlier studies are here when the examination is read.

Who schedules says patient, modality, body part and time, under a key of its own; the same again is the same
prefetch, another time under that key moves it. Recalls are asked for some hours before the deadline, not
weeks: what is fetched too early is evicted before anybody reads it. They have the lowest priority of recalls,
and a deadline that the planner keeps in view.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from hsm.catalog import facts, placement, prefetching, queue, queuelooks
from hsm.catalog.engine import Catalog
from hsm.catalog.facts import Candidate
from hsm.catalog.prefetching import PrefetchRef
from hsm.errors import BadInput, NotFound
from hsm.log import get_logger
from hsm.model import Priority
from hsm.recall import Recall

log = get_logger(__name__)

MARGIN = timedelta(minutes=30)
"""So long before the scheduled time everything is to be here, where the caller says nothing else."""
LEAD = timedelta(hours=12)
"""So long before its deadline a prefetch begins."""
AT_MOST, AT_MOST_MAX = 3, 50
KEY_CHARS_MAX, TEXT_CHARS_MAX = 200, 200
AHEAD_MAX = timedelta(days=400)
ROUND_MAX = 100
"""Prefetches that one round begins."""
KEPT = timedelta(days=30)
"""After its deadline a prefetch is forgotten."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the priors have in common with the examination; what is empty does not matter."""

    patient_id: str
    issuer: str = ""
    modality: str = ""
    body_part: str = ""
    accession: str = ""
    """Studies of this accession number are wanted too, whatever their modality."""
    at_most: int = AT_MOST

    def __post_init__(self) -> None:
        texts = (self.patient_id, self.issuer, self.modality, self.body_part, self.accession)
        if not self.patient_id.strip():
            raise BadInput("patient_id is empty: whose studies?")
        if any(len(each) > TEXT_CHARS_MAX or not each.isprintable() for each in texts):
            raise BadInput(f"expected printable texts of up to {TEXT_CHARS_MAX} characters")
        if not 1 <= self.at_most <= AT_MOST_MAX:
            raise BadInput(f"at_most {self.at_most}: expected 1 to {AT_MOST_MAX} studies")

    def chosen(self, studies: list[tuple[Candidate, str]]) -> list[Candidate]:
        """Of a patient's studies, the newest first, with their accession numbers: those to fetch. Pure.

        What is not known of a study is not alike.
        """
        own = [each for each, accession in studies if self.accession and accession == self.accession]
        alike = [each for each, _ in studies if each not in own and self._alike(each)]
        return [*own, *alike][: self.at_most]

    def _alike(self, study: Candidate) -> bool:
        modalities = str(study.values.get("modalities") or "").split("\\")
        parts = study.values.get("body_parts") or ()
        known = {str(part).casefold() for part in parts} if isinstance(parts, (tuple, frozenset)) else set()
        return (not self.modality or self.modality.upper() in modalities) and (
            not self.body_part or self.body_part.casefold() in known
        )


class Prefetches:
    """One for each daemon."""

    def __init__(self, catalog: Catalog, recall: Recall) -> None:
        self._catalog = catalog
        self._recall = recall

    def ask(
        self, key: str, wanted: Wanted, scheduled: datetime, by: str, margin: timedelta = MARGIN
    ) -> dict[str, object]:
        """Plan a prefetch, or change the one with this key; it begins at once where its time has come.

        :raises BadInput: no key, a negative margin, or a time without zone or years ahead.
        """
        now = self._catalog.clock.now()
        if not 1 <= len(key) <= KEY_CHARS_MAX or not key.isprintable():
            raise BadInput(f"key: expected 1 to {KEY_CHARS_MAX} printable characters")
        if scheduled.tzinfo is None:
            raise BadInput("scheduled: expected a time with its zone, such as 2026-03-01T08:30:00+01:00")
        if margin < timedelta(0) or scheduled - now > AHEAD_MAX:
            raise BadInput(f"expected a margin of 0 or more, and a time at most {AHEAD_MAX.days} days ahead")
        deadline = max(scheduled - margin, now.replace(microsecond=0))
        with self._catalog.write() as session:
            known = prefetching.get(session, key)
            if known is not None and deadline <= now and known.wanted == asdict(wanted):
                deadline = known.deadline  # said again when its time is over: nothing new
            begins = min(max(deadline - LEAD, now), deadline)
            kept, changed = prefetching.put(session, key, asdict(wanted), begins, deadline, now, by)
        if changed and kept.begins_at <= now:
            self._begin(kept)
        return self.show(key) | {"changed": changed}

    def show(self, key: str) -> dict[str, object]:
        """:raises NotFound: there is no such prefetch."""
        with self._catalog.read() as session:
            kept = prefetching.get(session, key)
            if kept is None:
                raise NotFound(f"there is no prefetch {key!r}")
            states = queuelooks.outcome(session, kept.found.get("requests", []))
        requests = [{"id": pk, "state": state.value, "error": why} for pk, (state, why) in states.items()]
        return {
            "key": kept.key,
            "state": kept.state,
            "wanted": kept.wanted,
            "begins_at": kept.begins_at,
            "deadline": kept.deadline,
            "by": kept.requested_by,
            "studies": kept.found.get("studies", []),
            "readable_now": kept.found.get("readable_now", 0),
            "requests": requests,
            "comment": kept.comment,
        }

    def withdraw(self, key: str, by: str) -> dict[str, object]:
        """Nobody wants it any more; its recalls that have not begun and nobody else wants are cancelled.

        :raises NotFound: there is no such prefetch.
        """
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            kept = prefetching.get(session, key)
            if kept is None:
                raise NotFound(f"there is no prefetch {key!r}")
            if prefetching.withdraw(session, key, now, by):
                for pk in prefetching.only_prefetched(
                    session, kept.found.get("requests", []), Priority.PREFETCH
                ):
                    queue.withdraw_unbegun(session, pk, now, by)
        return self.show(key)

    def round(self) -> int:
        """Begin those whose time has come; how many."""
        now = self._catalog.clock.now()
        with self._catalog.read() as session:
            ready = prefetching.due(session, now, ROUND_MAX)
        for each in ready:
            self._begin(each)
        with self._catalog.write() as session:
            prefetching.forget(session, now - KEPT)
        return len(ready)

    def _begin(self, kept: PrefetchRef) -> None:
        wanted = Wanted(**kept.wanted)
        with self._catalog.read() as session:
            of_patient = prefetching.studies_of(session, wanted.patient_id, wanted.issuer)
            accessions = dict(of_patient)
            found = list(facts.read(session, [pk for pk, _ in of_patient]))
            chosen = wanted.chosen([(each, accessions[each.study_pk]) for each in found])
            packages = placement.packages_of_studies(session, [each.study_pk for each in chosen])
        requests, here = self._recall.request_packages(
            packages,
            Priority.PREFETCH,
            f"prefetch {kept.key}",
            waits=False,
            deadline=kept.deadline,
        )
        comment = "" if chosen else "the archive has no study of this patient that fits"
        result = {
            "studies": [each.uid for each in chosen],
            "requests": requests,
            "readable_now": here,
        }
        with self._catalog.write() as session:
            prefetching.begun(session, kept.key, result, comment, self._catalog.clock.now())
        log.info("prefetch %s: %d studies, %d recalls", kept.key, len(chosen), len(requests))
