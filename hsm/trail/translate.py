"""Which audit message a record of the journal is (PS3.15 section A.5.3), if any.

Most records are of the archive's inner life (requests, copies, cartridges) and have none.
:data:`TRANSLATIONS` is the whole map; docs/audit-log.md repeats it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hsm.catalog.journal import Entry
from hsm.trail.message import (
    MEDIA,
    NODE_ID,
    PATIENT_NUMBER,
    SOP_CLASS_UID,
    STUDY_UID,
    URI,
    Code,
    Event,
    EventType,
    Message,
    Object,
    Outcome,
    Participant,
    Role,
)

LOGINS = ("come in", "log in")
"""Acts that are refused to whoever cannot say who he is: a bearer token, a user identity (PS3.7 D.3.3.7)."""
PEER = "ae:"
"""What an actor begins with that is an AE title."""
SEALER = "seal"
"""The routine that seals what peers have stored."""
LOG_URI = "hsm:journal"
RETAINED = "retained until"
"""How a verb begins that goes on with a day."""
LIFE_DELETED, LIFE_LOGICALLY = "15", "14"
STUDIES_MAX = 200
"""Studies that one message names."""


@dataclass(frozen=True, slots=True)
class About:
    """What the catalog knows of a study."""

    source_ae: str = ""
    patient_id: str = ""
    patient_name: str = ""
    sop_classes: tuple[tuple[str, int], ...] = ()


LookUp = Callable[[str], About | None]
"""Of a Study Instance UID; None: not in the catalog (any more)."""


@dataclass(frozen=True, slots=True)
class Translator:
    """Makes audit messages for one archive."""

    archive: str
    """Its AE title."""
    process: str
    """Its process, as in A.5.2.2."""
    look_up: LookUp
    patient_data: bool
    """Whether patients and what was asked for are named. Without it the patient participants, which A.5.3
    demands, are left out."""
    site: str = ""

    def __call__(self, entry: Entry) -> Message | None:
        verb = RETAINED if entry.verb.startswith(RETAINED) else entry.verb
        translate = TRANSLATIONS.get((entry.kind, verb))
        return translate(self, entry) if translate is not None else None

    def xml(self, message: Message) -> str:
        return message.xml(self.archive, self.site)

    def us(self, *roles: Code, requestor: bool = False) -> Participant:
        return Participant(self.archive, requestor, roles, alternative_id=self.process)

    def who(self, entry: Entry, *roles: Code, requestor: bool = True) -> Participant:
        """The actor: a peer, a person, or a routine of ours."""
        return Participant(entry.actor.removeprefix(PEER), requestor, roles)

    def studies(self, uids: list[str], life_cycle: str = "") -> list[Object]:
        """The studies, and their patients where they may be named."""
        found, patients = [], {}
        for uid in uids[:STUDIES_MAX]:
            about = self.look_up(uid) or About()
            found.append(
                Object(uid, STUDY_UID, "2", "3", sop_classes=about.sop_classes, life_cycle=life_cycle)
            )
            if self.patient_data and about.patient_id:
                patients[about.patient_id] = about.patient_name
        return [*found, *(Object(each, PATIENT_NUMBER, "1", "1", name) for each, name in patients.items())]


Translate = Callable[[Translator, Entry], Message | None]


def _activity(kind: Code) -> Translate:
    def translate(to: Translator, entry: Entry) -> Message:
        launcher = Participant(str(entry.detail.get("by", "")) or entry.actor, True, (Role.LAUNCHER,))
        took_part = [to.us(Role.APPLICATION), launcher]
        return Message(Event.APPLICATION_ACTIVITY, "E", entry.at, Outcome.SUCCESS, took_part, types=(kind,))

    return translate


def _log_used(to: Translator, entry: Entry) -> Message:
    log = Object(LOG_URI, URI, "2", "13", "Security Audit Log", details=_details(entry.detail))
    return Message(Event.AUDIT_LOG_USED, "R", entry.at, Outcome.SUCCESS, [to.who(entry)], [log])


def _came_in(event: Code) -> Translate:
    """A study that a peer stores: its first instance, or the sealing of what came. One that was taken in
    from a volume is imported, and told once."""

    def translate(to: Translator, entry: Entry) -> Message | None:
        if event is Event.BEGIN_TRANSFERRING and not entry.actor.startswith(PEER):
            return _import(to, entry)
        if event is Event.INSTANCES_TRANSFERRED and entry.actor != SEALER:
            return None
        about = to.look_up(entry.subject) or About()
        peer = entry.actor.removeprefix(PEER) if entry.actor.startswith(PEER) else about.source_ae
        took_part = [Participant(peer or "unknown", True, (Role.SOURCE,)), to.us(Role.DESTINATION)]
        action = "E" if event is Event.BEGIN_TRANSFERRING else "C"
        return Message(event, action, entry.at, Outcome.SUCCESS, took_part, to.studies([entry.subject]))

    return translate


def _went_out(event: Code) -> Translate:
    """A study that a peer retrieves, for itself or for a third one."""

    def translate(to: Translator, entry: Entry) -> Message:
        caller, destination = entry.actor.removeprefix(PEER), str(entry.detail.get("to") or "")
        took_part = [to.us(Role.SOURCE)]
        took_part.append(Participant(destination or caller, destination in ("", caller), (Role.DESTINATION,)))
        if destination not in ("", caller):
            took_part.append(Participant(caller, True))
        action = "E" if event is Event.BEGIN_TRANSFERRING else "R"
        return Message(event, action, entry.at, Outcome.SUCCESS, took_part, to.studies([entry.subject]))

    return translate


def _query(to: Translator, entry: Entry) -> Message:
    detail = entry.detail
    identifier = detail.get("identifier") if to.patient_data else None
    syntax = str(detail.get("transfer_syntax") or "")
    asked = Object(
        str(detail.get("sop_class") or entry.subject),
        SOP_CLASS_UID,
        "2",
        "3",
        name=f"{detail.get('level', '')} query",
        query=base64.b64decode(identifier) if isinstance(identifier, str) else None,
        details=(("TransferSyntax", syntax),) if syntax else (),
    )
    took_part = [to.who(entry, Role.SOURCE), to.us(Role.DESTINATION)]
    return Message(Event.QUERY, "E", entry.at, Outcome.SUCCESS, took_part, [asked])


def _export(outcome: Outcome) -> Translate:
    def translate(to: Translator, entry: Entry) -> Message:
        media = Participant(entry.subject, False, (Role.DESTINATION_MEDIA,), media=MEDIA)
        took_part = [to.who(entry), to.us(Role.SOURCE), media]
        uids = [str(each) for each in _listed(entry.detail.get("studies"))]
        text = str(entry.detail.get("error") or "")
        return Message(Event.EXPORT, "R", entry.at, outcome, took_part, to.studies(uids), outcome_text=text)

    return translate


def _import(to: Translator, entry: Entry) -> Message:
    medium = Participant(
        str(entry.detail.get("volume") or "unknown"), False, (Role.SOURCE_MEDIA,), media=MEDIA
    )
    took_part = [to.who(entry), to.us(Role.DESTINATION), medium]
    objects = to.studies([entry.subject])
    return Message(Event.IMPORT, "C", entry.at, Outcome.SUCCESS, took_part, objects)


def _deleted(life_cycle: str) -> Translate:
    def translate(to: Translator, entry: Entry) -> Message:
        objects = to.studies([entry.subject], life_cycle)
        return Message(Event.STUDY_DELETED, "D", entry.at, Outcome.SUCCESS, [to.who(entry), to.us()], objects)

    return translate


def _accessed(to: Translator, entry: Entry) -> Message:
    took_part, objects = [to.who(entry), to.us()], to.studies([entry.subject])
    return Message(Event.INSTANCES_ACCESSED, "U", entry.at, Outcome.SUCCESS, took_part, objects)


def _refused(to: Translator, entry: Entry) -> Message:
    """Somebody was refused at a door: a node that may not come in, or an act that it may not do."""
    act, reason = str(entry.detail.get("act") or ""), str(entry.detail.get("reason") or "")
    # An address that is locked out has failed often: that is more than one that mistyped.
    outcome = Outcome.SERIOUS if "locked out" in reason else Outcome.MINOR
    caller = Participant(entry.actor.removeprefix(PEER), True, address=str(entry.detail.get("address") or ""))
    if act in LOGINS:
        times = entry.detail.get("times")
        more = f" ({times} times)" if isinstance(times, int) and times > 1 else ""
        return _login(to, entry, caller, outcome, reason + more)
    kind = EventType.NODE_AUTHENTICATION if act in ("associate", "connect") else EventType.RESTRICTED_FUNCTION
    door = Object(entry.subject, NODE_ID, "2", "13", details=_alert(f"{act}: {reason}", entry))
    return Message(
        Event.SECURITY_ALERT,
        "E",
        entry.at,
        outcome,
        [to.us(), caller],
        [door],
        (kind,),
        reason,
    )


def _login(to: Translator, entry: Entry, caller: Participant, outcome: Outcome, text: str) -> Message:
    """User Authentication (A.5.3) wants who it was and the node where they came; the door is of that node."""
    here = Participant(to.archive, False, alternative_id=f"{entry.subject} of process {to.process}")
    types = (EventType.LOGIN,)
    return Message(
        Event.USER_AUTHENTICATION, "E", entry.at, outcome, [caller, here], types=types, outcome_text=text
    )


def _came(to: Translator, entry: Entry) -> Message:
    caller = Participant(entry.actor, True, address=str(entry.detail.get("address") or ""))
    many = f"{entry.detail.get('times', 1)} logins from many addresses" if "addresses" in entry.detail else ""
    return _login(to, entry, caller, Outcome.SUCCESS, many)


def _alert_of(kind: Code) -> Translate:
    def translate(to: Translator, entry: Entry) -> Message:
        if entry.kind == "study":
            objects = to.studies([entry.subject])
        else:
            objects = [Object(entry.subject, URI, "2", "13", f"{entry.kind} {entry.subject}")]
        said = Object(entry.subject, NODE_ID, "2", "13", details=_alert(entry.verb, entry))
        took_part = [to.us(), to.who(entry)]
        return Message(
            Event.SECURITY_ALERT, "E", entry.at, Outcome.SUCCESS, took_part, [*objects, said], (kind,)
        )

    return translate


def _alert(text: str, entry: Entry) -> tuple[tuple[str, str], ...]:
    times = entry.detail.get("times")
    more = f" ({times} times)" if isinstance(times, int) and times > 1 else ""
    why = entry.detail.get("why")
    return (("Alert Description", f"{text}{more}" + (f": {why}" if why else "")),)


def _details(detail: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((str(name), str(value)) for name, value in detail.items() if value not in ("", None))


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


TRANSLATIONS: Mapping[tuple[str, str], Translate] = {
    ("archive", "started"): _activity(EventType.APPLICATION_START),
    ("archive", "stopped"): _activity(EventType.APPLICATION_STOP),
    ("journal", "read"): _log_used,
    ("journal", "verified"): _log_used,
    ("journal", "proved"): _log_used,
    ("study", "received"): _came_in(Event.BEGIN_TRANSFERRING),
    ("study", "sealed"): _came_in(Event.INSTANCES_TRANSFERRED),
    ("study", "retrieve begun"): _went_out(Event.BEGIN_TRANSFERRING),
    ("study", "retrieved"): _went_out(Event.INSTANCES_TRANSFERRED),
    ("query", "queried"): _query,
    ("export", "export done"): _export(Outcome.SUCCESS),
    ("export", "export failed"): _export(Outcome.SERIOUS),
    ("export", "export cancelled"): _export(Outcome.MINOR),
    ("study", "tagged"): _accessed,
    ("study", "untagged"): _accessed,
    ("study", "hold placed"): _alert_of(EventType.OBJECT_SECURITY),
    ("study", "hold lifted"): _alert_of(EventType.OBJECT_SECURITY),
    ("study", "rejected"): _accessed,
    ("study", "rejected on arrival"): _accessed,
    ("study", "rejection revoked"): _accessed,
    ("study", "undeleted"): _accessed,
    ("study", "deleted"): _deleted(LIFE_LOGICALLY),
    ("study", "purged"): _deleted(LIFE_DELETED),
    ("study", RETAINED): _alert_of(EventType.OBJECT_SECURITY),
    ("study", "retention ended"): _alert_of(EventType.OBJECT_SECURITY),
    ("policies", "activated"): _alert_of(EventType.SOFTWARE_CONFIGURATION),
    ("access", "refused"): _refused,
    ("access", "came in"): _came,
    ("access", "roles changed"): _alert_of(EventType.SECURITY_ROLES),
}
