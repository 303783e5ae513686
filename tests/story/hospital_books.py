"""What must be in the books at the end of the day: deliveries, prompts, journal, places."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsm.catalog import chaincheck
from hsm.catalog.check import check
from hsm.catalog.engine import Catalog, open_engine
from hsm.clock import SystemClock
from hsm.states import Outcome
from tests.story.hospital import Hospital, title
from tests.story.hospital_script import DCMTK_STATIONS
from tests.story.hospital_stations import Receipt, Request, Stations
from tests.story.hospital_studies import MadeStudy


@dataclass(frozen=True, slots=True)
class Account:
    """What was wrong, and the figures of the report."""

    faults: tuple[str, ...]
    figures: Mapping[str, Any]


def deliveries(stations: Stations, kills: Sequence[float]) -> Account:
    """Every request that was owed its study got every instance of it, once, with the right bytes."""
    counted: Counter[str] = Counter()
    studies = {study.uid: study for study in stations.studies}
    digests = {uid: digest for study in stations.studies for uid, digest in study.digests.items()}
    faults = [
        f"other bytes: {receipt}"
        for receipt in stations.receipts
        if digests.get(receipt.uid) != receipt.digest
    ]
    by_request: dict[tuple[int, int], list[Receipt]] = defaultdict(list)
    for receipt in stations.receipts:
        by_request[receipt.station, receipt.message_id].append(receipt)
    waits = []
    for request in stations.requests:
        counted[request.end] += 1
        if request.station in DCMTK_STATIONS:
            continue
        got = by_request.pop((request.station, request.message_id), [])
        problem = _one(request, got, studies[request.study], kills, counted)
        if problem:
            faults.append(problem)
        elif request.owed and got:
            waits.append(max(each.at for each in got) - request.at)
    faults += [f"nobody asked for {found[0]}" for key, found in by_request.items() if key[1]]
    faults += list(_dcmtk(stations, studies, by_request, kills, counted))
    figures = {"requests": len(stations.requests), **counted, "receipts": len(stations.receipts)}
    return Account(tuple(faults), figures | _percentiles(waits))


def missing(stations: Stations) -> int:
    """How many deliveries of pynetdicom's workstations are still owed."""
    got = Counter((each.station, each.message_id) for each in list(stations.receipts))
    sizes = {study.uid: len(study.instances) for study in stations.studies}
    return sum(
        request.owed and got[request.station, request.message_id] < sizes[request.study]
        for request in list(stations.requests)
        if request.station not in DCMTK_STATIONS
    )


def _one(
    request: Request, got: Sequence[Receipt], study: MadeStudy, kills: Sequence[float], counted: Counter[str]
) -> str:
    """What is wrong with one request; empty when nothing is."""
    times: dict[str, list[float]] = defaultdict(list)
    for receipt in got:
        times[receipt.uid].append(receipt.at)
    lacking, strange = set(study.digests) - set(times), set(times) - set(study.digests)
    if strange:
        return f"{request}: was sent {sorted(strange)} besides"
    if request.owed and lacking:
        return f"{request}: never got {len(lacking)} of {len(study.digests)}"
    for uid, at in times.items():
        if len(at) > 1 and not any(at[0] <= kill <= at[-1] for kill in kills):
            return f"{request}: got {uid} {len(at)} times at {at}"
        counted["instances sent again after a kill"] += len(at) - 1
    if not request.owed and times and not lacking:
        counted["delivered although nobody was promised it"] += 1
    if request.end == "success" and any(at[0] > request.ended for at in times.values()):
        return f"{request}: success came before its instances"
    if request.owed and request.end != "success":
        counted["delivered later"] += 1
    return ""


def _dcmtk(
    stations: Stations,
    studies: Mapping[str, MadeStudy],
    by_request: Mapping[tuple[int, int], list[Receipt]],
    kills: Sequence[float],
    counted: Counter[str],
) -> Iterator[str]:
    """storescp does not tell for which request: as many as were owed, and no more than asked."""
    for number in DCMTK_STATIONS:
        got = Counter(receipt.uid for receipt in by_request.get((number, 0), []))
        asked = [request for request in stations.requests if request.station == number]
        for uid in sorted({request.study for request in asked}):
            of_it = [request for request in asked if request.study == uid]
            owed = sum(request.owed for request in of_it)
            for instance in studies[uid].digests:
                if not owed <= got[instance] <= len(of_it) + len(kills):
                    yield f"{title(number)} got {instance} {got[instance]} times: {owed} owed of {len(of_it)}"
                counted["to DCMTK"] += got[instance]


def _percentiles(waits: Sequence[float]) -> dict[str, Any]:
    if not waits:
        return {"p50": None, "p95": None}
    ordered = sorted(waits)
    return {
        "p50": f"{ordered[len(ordered) // 2]:.0f} s",
        "p95": f"{ordered[int(len(ordered) * 0.95)]:.0f} s",
    }


def books(hospital: Hospital, stations: Stations) -> Account:
    """The catalog of a daemon that has stopped: prompts, records, deliveries, places."""
    engine = open_engine(hospital.catalog_url)
    try:
        with Catalog(engine, SystemClock()).read() as session:
            faults = [
                *(f"journal: {problem}" for problem in chaincheck.verify(session)),
                *(f"catalog: {finding}" for finding in check(session)),
                *_prompts(session),
                *_records(session),
                *_delivered(session, stations),
                *_left(session),
                *_ways(session),
                *_places(session, hospital),
            ]
            prompts = {
                str(state): int(count)
                for state, count in session.execute(
                    text("SELECT state, count(*) FROM mount_request GROUP BY state")
                )
            }
            mounts = session.scalar(text("SELECT count(*) FROM journal"))
    finally:
        engine.dispose()
    return Account(tuple(faults), {"prompts": prompts, "records": mounts})


def _prompts(session: Session) -> Iterator[str]:
    """Each is closed with a name and a time, and the journal says when it was opened and closed."""
    opened = _counted(session, ["mount requested"])
    closed = _counted(session, [f"mount request {outcome.value}" for outcome in Outcome])
    rows = session.execute(
        text(
            "SELECT volume.name, mount_request.state, answered_by, answered_at FROM mount_request "
            "JOIN volume ON volume.pk = mount_request.volume_pk"
        )
    ).all()
    for name, state, by, at in rows:
        if state == "open" or not by or not at:
            yield f"the prompt for {name} is {state}, answered by {by!r} at {at}"
    for name, count in Counter(row[0] for row in rows).items():
        if opened[name] != count or closed[name] != count:
            yield f"{count} prompts for {name}, but {opened[name]} were recorded and {closed[name]} answers"


def _records(session: Session) -> Iterator[str]:
    """Each request's records, one a state, lead from its beginning to where it stands."""
    records: dict[str, list[str]] = defaultdict(list)
    for subject, verb in session.execute(
        text("SELECT subject, verb FROM journal WHERE kind = 'request' ORDER BY seq")
    ):
        records[subject].append(verb)
    for pk, kind, state in session.execute(text("SELECT pk, kind, state FROM request")):
        found = records.get(str(pk), [])
        if not found or found[0] != "queued":
            yield f"request {pk} ({kind}, {state}) has no record of its beginning: {found}"
        elif found[-1] != state:
            yield f"request {pk} ({kind}) is {state}, and its last record says {found[-1]}"


def _delivered(session: Session, stations: Stations) -> Iterator[str]:
    """Each C-MOVE that the archive has heard is one request in the catalog, done; or failed, as it said."""
    kept: dict[tuple[str, int], list[str]] = defaultdict(list)
    for detail, state in session.execute(text("SELECT detail, state FROM request WHERE kind = 'deliver'")):
        found = json.loads(detail)
        kept[found["calling"], int(found["message_id"])].append(str(state))
    for request in stations.requests:
        if request.station in DCMTK_STATIONS:
            continue
        states = kept.pop((title(request.station), request.message_id), [])
        wanted = ["failed"] if request.end == "failed" else ["done"]
        if states != wanted and (request.heard or states):
            yield f"{request}: in the catalog it is {states}, expected {wanted}"
    for (calling, number), states in kept.items():
        if calling not in {title(each) for each in DCMTK_STATIONS}:
            yield f"the catalog has a delivery that nobody asked for: {calling} #{number} {states}"


def _left(session: Session) -> Iterator[str]:
    """Nothing that somebody waits for is left over."""
    rows = session.execute(
        text(
            "SELECT pk, kind, state, reason, error FROM request WHERE kind IN ('recall', 'deliver') "
            "AND state IN ('queued', 'active', 'waiting')"
        )
    )
    for row in rows:
        yield f"left over: {tuple(row)}"


def _ways(session: Session) -> Iterator[str]:
    """Nothing is still on its way: it has arrived, or the way was given up."""
    for name, kind, state in session.execute(
        text(
            "SELECT volume.name, movement.kind, movement.state FROM movement "
            "JOIN volume ON volume.pk = volume_pk"
        )
    ):
        if state not in ("arrived", "undone"):
            yield f"the {kind} of {name} is {state}"


def _places(session: Session, hospital: Hospital) -> Iterator[str]:
    """The catalog has each cartridge where it is, and no two in one place."""
    seen = {each.barcode: each.address for each in hospital.hands().inventory().elements if each.barcode}
    held: Counter[tuple[str, int]] = Counter()
    for name, place, library, element in session.execute(
        text("SELECT name, place, library, element FROM volume WHERE removable")
    ):
        inside = place in ("slot", "mail", "drive")
        if inside:
            held[library, element] += 1
        if inside != (name in seen) or (inside and seen[name] != element):
            yield f"{name} is {place} {element} in the catalog and {seen.get(name, 'not in the library')}"
    for where, count in held.items():
        if count > 1:
            yield f"{count} cartridges in {where}"


def _counted(session: Session, verbs: Sequence[str]) -> Counter[str]:
    """How many records with one of these verbs each volume has."""
    rows = session.execute(text("SELECT subject, verb FROM journal WHERE kind = 'volume'"))
    return Counter(str(subject) for subject, verb in rows if verb in verbs)
