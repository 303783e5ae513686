"""What is asked about the archive as a whole: its rules, its proofs, its own catalog, its process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, Protocol

from hsm.api.services.record import Record
from hsm.audit.copies import Asked
from hsm.audit.verify import AskedFor
from hsm.catalog.journal import Wanted as WantedRecords


class Policies(Protocol):
    """The rules in force."""

    def listing(self) -> list[Record]: ...

    def check(self, texts: Mapping[str, str] | None = None) -> Record:
        """Check ``texts`` (file name -> text), or the configured folder again."""
        ...

    def run(self, name: str | None, dry_run: bool, by: str) -> Record: ...

    def explain(self, study_uid: str) -> Record: ...

    def plan(self, hours: float) -> Record:
        """What the policies would do in the next hours, and what it takes."""
        ...

    def diff(self, old: int | Mapping[str, str] | None, new: int | Mapping[str, str] | None) -> Record:
        """What changes between two sets: the number of an activation, or texts by file name. ``old`` is
        what is in force when None, ``new`` the folder."""
        ...

    def folder_digest(self) -> str:
        """Of the policies in the folder, in hexadecimal; ConfigError where they are wrong."""
        ...

    def activate(self, by: str, comment: str = "", version: int | None = None, digest: str = "") -> Record:
        """Put the folder's policies, or an earlier activation's, into force; a bad one raises ConfigError
        and changes nothing. With ``digest`` only if they have it."""
        ...

    def history(self, limit: int) -> list[Record]:
        """The activations, the last first."""
        ...

    def resume(self, name: str, by: str) -> Record:
        """Let a suspended policy go on."""
        ...


class Audit(Protocol):
    """What an auditor asks."""

    def copies(self, asked: Asked) -> Record:
        """at, made_at, source, grace_seconds, policies, unsealed, under_protected, good."""
        ...

    def log(self, wanted: WantedRecords, limit: int, by: str) -> list[Record]:
        """Records of the journal, the last first; that ``by`` looked is one, too."""
        ...

    def verify_log(self, anchors: Mapping[int, bytes], volumes: Sequence[str] = (), by: str = "") -> Record:
        """at, records, digest, anchors, problems (``{seq, message}``), good."""
        ...

    def verify(self, asked: AskedFor, by: str) -> Record:
        """Queue readings back: requests, copies, waiting_for_a_person, cold, more."""
        ...

    def verified(self, requests: Sequence[int]) -> Record:
        """copies (request, state, result, error, study, package, volume, pool, bytes), left, waiting, bytes,
        good."""
        ...

    def media(self) -> Record:
        """at, volumes, drives, pairs, needs_action, good: as :class:`hsm.audit.media.MediaAudit`."""
        ...

    def medium(self, name: str, limit: int) -> Record:
        """One volume, and studies: study, copies_elsewhere, packages, bytes."""
        ...

    def prove(self, uid: str, to: IO[bytes], by: str) -> None:
        """Write a study's proof, a ZIP, into a file."""
        ...


class Backups(Protocol):
    """Backups of the catalog in pools."""

    def write(self, pool: str, by: str, keep: int = 0) -> Record:
        """pool, volume, key, bytes, sha256, journal, rows, dropped."""
        ...


class Drills(Protocol):
    """Rebuilds that are tried."""

    def drill(self, sample: int, pool: str, by: str) -> Record:
        """sample (the volumes, each with what it gave and how long that took), missing, differs, seconds,
        and what the whole archive would take."""
        ...


class Daemon(Protocol):
    """The process itself."""

    def status(self) -> Record:
        """version, started_at, listen (``{"dicom": "host:port", "ae_title": …, "api": socket}``),
        pid, problems (a list of sentences), and where known home, config, associations, drives."""
        ...

    def reload(self) -> Record:
        """Read configuration and policies again; a bad one raises ConfigError and changes nothing."""
        ...
