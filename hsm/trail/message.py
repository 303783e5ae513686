"""DICOM audit messages, PS3.15 section A.5: values, and the XML of its schema (A.5.1). Pure."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Final
from xml.etree import ElementTree as ET

TEXT_MAX = 1000
"""Characters of any value; what a peer said is cut there."""


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value: code, coding scheme, meaning."""

    code: str
    meaning: str
    system: str = "DCM"

    def element(self, tag: str) -> ET.Element:
        values = {"csd-code": self.code, "codeSystemName": self.system, "originalText": self.meaning}
        return ET.Element(tag, values)


class Event:
    """What happened: CID 400 of PS3.16."""

    APPLICATION_ACTIVITY: Final = Code("110100", "Application Activity")
    AUDIT_LOG_USED: Final = Code("110101", "Audit Log Used")
    BEGIN_TRANSFERRING: Final = Code("110102", "Begin Transferring DICOM Instances")
    INSTANCES_ACCESSED: Final = Code("110103", "DICOM Instances Accessed")
    INSTANCES_TRANSFERRED: Final = Code("110104", "DICOM Instances Transferred")
    STUDY_DELETED: Final = Code("110105", "DICOM Study Deleted")
    EXPORT: Final = Code("110106", "Export")
    IMPORT: Final = Code("110107", "Import")
    QUERY: Final = Code("110112", "Query")
    SECURITY_ALERT: Final = Code("110113", "Security Alert")
    USER_AUTHENTICATION: Final = Code("110114", "User Authentication")


class EventType:
    """Of what kind: CID 401 of PS3.16."""

    APPLICATION_START: Final = Code("110120", "Application Start")
    APPLICATION_STOP: Final = Code("110121", "Application Stop")
    LOGIN: Final = Code("110122", "Login")
    NODE_AUTHENTICATION: Final = Code("110126", "Node Authentication")
    SOFTWARE_CONFIGURATION: Final = Code("110131", "Software Configuration")
    RESTRICTED_FUNCTION: Final = Code("110132", "Use of Restricted Function")
    OBJECT_SECURITY: Final = Code("110135", "Object Security Attributes Changed")
    SECURITY_ROLES: Final = Code("110136", "Security Roles Changed")


class Role:
    """What somebody did in it: CID 402 of PS3.16."""

    APPLICATION: Final = Code("110150", "Application")
    LAUNCHER: Final = Code("110151", "Application Launcher")
    DESTINATION: Final = Code("110152", "Destination Role ID")
    SOURCE: Final = Code("110153", "Source Role ID")
    DESTINATION_MEDIA: Final = Code("110154", "Destination Media")
    SOURCE_MEDIA: Final = Code("110155", "Source Media")


STUDY_UID = Code("110180", "Study Instance UID")
SOP_CLASS_UID = Code("110181", "SOP Class UID")
NODE_ID = Code("110182", "Node ID")
PATIENT_NUMBER = Code("2", "Patient Number", "RFC-3881")
URI = Code("12", "URI", "RFC-3881")
MEDIA = Code("removable", "Removable media", "99HSM")


class Outcome(Enum):
    SUCCESS = "0"
    MINOR = "4"
    SERIOUS = "8"
    MAJOR = "12"


@dataclass(frozen=True, slots=True)
class Participant:
    """Who took part: a person, a process, a peer, a medium."""

    user_id: str
    requestor: bool = False
    roles: tuple[Code, ...] = ()
    alternative_id: str = ""
    address: str = ""
    """An IP address or a host's name."""
    media: Code | None = None

    def element(self) -> ET.Element:
        found = ET.Element("ActiveParticipant", {"UserID": clean(self.user_id)})
        if self.alternative_id:
            found.set("AlternativeUserID", clean(self.alternative_id))
        found.set("UserIsRequestor", "true" if self.requestor else "false")
        if self.address:
            found.set("NetworkAccessPointID", clean(self.address))
            numeric = self.address.replace(".", "").isdigit() or ":" in self.address
            found.set("NetworkAccessPointTypeCode", "2" if numeric else "1")
        found.extend([each.element("RoleIDCode") for each in self.roles])
        if self.media is not None:
            ET.SubElement(found, "MediaIdentifier").append(self.media.element("MediaType"))
        return found


@dataclass(frozen=True, slots=True)
class Object:
    """What it was about."""

    id: str
    id_type: Code
    type: str
    """1 person, 2 system object."""
    role: str
    """1 patient, 3 report, 13 security resource (A.5.1.2.2)."""
    name: str = ""
    """One or the other is said: the schema wants a name or a query. Without a name the ID stands for it."""
    query: bytes | None = None
    details: tuple[tuple[str, str], ...] = ()
    sop_classes: tuple[tuple[str, int], ...] = ()
    """SOP Class UIDs, each with its number of instances."""
    life_cycle: str = ""

    def element(self) -> ET.Element:
        found = ET.Element(
            "ParticipantObjectIdentification",
            {
                "ParticipantObjectID": clean(self.id),
                "ParticipantObjectTypeCode": self.type,
                "ParticipantObjectTypeCodeRole": self.role,
            },
        )
        if self.life_cycle:
            found.set("ParticipantObjectDataLifeCycle", self.life_cycle)
        found.append(self.id_type.element("ParticipantObjectIDTypeCode"))
        if self.query is not None:
            ET.SubElement(found, "ParticipantObjectQuery").text = base64.b64encode(self.query).decode()
        else:
            ET.SubElement(found, "ParticipantObjectName").text = clean(self.name or self.id)
        for kind, value in self.details:
            data = base64.b64encode(value[:TEXT_MAX].encode()).decode()
            ET.SubElement(found, "ParticipantObjectDetail", {"type": kind, "value": data})
        if self.sop_classes:
            description = ET.SubElement(found, "ParticipantObjectDescription")
            for uid, count in self.sop_classes:
                ET.SubElement(description, "SOPClass", {"UID": uid, "NumberOfInstances": str(count)})
        return found


@dataclass(frozen=True, slots=True)
class Message:
    """One audit message."""

    event: Code
    """One of :class:`Event`."""
    action: str
    """C, R, U, D or E."""
    at: datetime
    outcome: Outcome
    participants: Sequence[Participant]
    objects: Sequence[Object] = ()
    types: tuple[Code, ...] = ()
    outcome_text: str = ""

    def xml(self, source: str, site: str = "") -> str:
        """One line of XML, without a declaration.

        :param source: of the audit: this archive's AE title.
        :param site: the enterprise site, if that is said.
        """
        root = ET.Element("AuditMessage")
        at = self.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        event = ET.SubElement(
            root,
            "EventIdentification",
            {
                "EventActionCode": self.action,
                "EventDateTime": at,
                "EventOutcomeIndicator": self.outcome.value,
            },
        )
        event.append(self.event.element("EventID"))
        event.extend([each.element("EventTypeCode") for each in self.types])
        if self.outcome_text:
            ET.SubElement(event, "EventOutcomeDescription").text = clean(self.outcome_text)
        root.extend([each.element() for each in self.participants])
        reporting = ET.SubElement(root, "AuditSourceIdentification")
        if site:
            reporting.set("AuditEnterpriseSiteID", clean(site))
        reporting.set("AuditSourceID", clean(source))
        ET.SubElement(reporting, "AuditSourceTypeCode", {"csd-code": "4"})  # an application server
        root.extend([each.element() for each in self.objects])
        return ET.tostring(root, encoding="unicode")


def clean(text: str) -> str:
    """One line that XML 1.0 can hold, not too long."""
    return "".join(each if each.isprintable() else " " for each in text)[:TEXT_MAX]
