"""What the API asks of the daemon, as protocols: it builds nothing and owns nothing itself.

Every method may raise the errors of :mod:`hsm.errors`; :mod:`hsm.api.problems` says what a client
sees of each. ``by`` names the person for the journal, as :mod:`hsm.api.identity` found out.
Returned dictionaries hold plain values, enumerations and aware datetimes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO, Any, Protocol

from hsm.audit.copies import Asked
from hsm.audit.verify import AskedFor
from hsm.availability import Reach
from hsm.catalog.engine import Catalog
from hsm.catalog.journal import Wanted as WantedRecords
from hsm.catalog.views import Page, PoolFact
from hsm.model import Priority
from hsm.prefetch import Wanted as PrefetchWanted
from hsm.repack import Wanted
from hsm.states import Outcome

Record = dict[str, Any]


class Custody(Protocol):
    """Where volumes are: libraries, the shelf, and what an operator answers."""

    def inventory(self, library: str | None) -> list[Record]:
        """Look into one library or all. Each element: library, kind, address, barcode, and what the
        catalog knows of the volume (pool, state) where there is one."""
        ...

    def operator_done(self, barcode: str, by: str, comment: str = "") -> Record: ...

    def operator_refuse(self, barcode: str, by: str, comment: str) -> Record: ...

    def export(self, barcode: str, shelf: str, by: str) -> Record: ...

    def import_(self, barcode: str, by: str) -> Record: ...

    def load(self, barcode: str, drive: int, by: str) -> Record: ...

    def unload(self, library: str, drive: int, by: str) -> Record: ...

    def clean(self, library: str, drive: int, by: str) -> Record: ...


class Operators(Protocol):
    """What a person is asked for, and what they answer."""

    def prompts(self, *, every: bool = False, page: Page | None = None) -> list[Record]:
        """As :func:`hsm.catalog.views.mounts`, with into (where to put it), deadline, and alternatives:
        barcode, where, site, state, packages, bytes, seconds."""
        ...

    def picklist(self) -> Record:
        """at, open (how many), walks: number, stops: site, shelf, items (prompts)."""
        ...

    def acknowledge(
        self, barcode: str, by: str, seconds: float | None = None, *, take: bool = False
    ) -> Record: ...

    def release(self, barcode: str, by: str) -> Record: ...

    def answer(
        self,
        barcode: str,
        outcome: Outcome,
        by: str,
        comment: str = "",
        *,
        number: int | None = None,
        site: str = "",
        instead: str = "",
    ) -> Record:
        """answered, outcome, answered_by, answered_at, comment; others, switched, left."""
        ...

    def scan(self, barcode: str, by: str) -> Record:
        """barcode, verdict (done, put in, again, not wanted, unknown), text."""
        ...


class Movements(Protocol):
    """Cartridges that leave for a shelf or vault, or come back. A record: id, list, barcode, kind, state,
    open, from, to, library, site, shelf, pool, volume_state, and who planned, took and ended it, and when."""

    def export(
        self,
        barcodes: Sequence[str],
        shelf: str,
        by: str,
        site: str = "",
        *,
        plan_only: bool = False,
        force: bool = False,
    ) -> list[Record]: ...

    def bring_back(self, barcodes: Sequence[str], by: str) -> list[Record]: ...

    def left(self, barcode: str, by: str, comment: str = "") -> Record: ...

    def arrived(self, barcode: str, by: str, comment: str = "", shelf: str = "") -> Record: ...

    def undo(self, barcode: str, by: str, comment: str = "") -> Record: ...

    def listing(self, *, number: int = 0, every: bool = False) -> list[Record]: ...


class Trash(Protocol):
    """Deleted studies. A record: study, state, reason, code, deleted_at, deleted_by, approved_by, due_at,
    kept (why its end is not now, where something forbids it), refuses_late, packages, bytes,
    bytes_on_removable, ended_at, ended_by, ended_reason."""

    def delete(
        self, uid: str, reason: str, by: str, *, refuse_late: bool = False, approved_by: str = ""
    ) -> Record: ...

    def undelete(self, uid: str, reason: str, by: str) -> Record: ...

    def listing(self, limit: int, offset: int = 0, *, every: bool = False) -> list[Record]: ...

    def revoke(self, uid: str, reason: str, by: str, note: str = "") -> Record:
        """study, revoked (how many notes)."""
        ...

    def rejections(self, limit: int, offset: int = 0) -> list[Record]:
        """study, code, title, note, instances, rejected_at, rejected_by."""
        ...


class Recall(Protocol):
    """Bringing packages back to where they can be read. ``eta`` says in words where a recall is and how long
    it takes, ``eta_seconds`` and ``eta_at`` the same in figures (None where nobody can say)."""

    def request_study(self, uid: str, priority: Priority, who: str) -> Record:
        """``uid`` is of a study, series or instance. Returns packages, readable_now, requests (their
        numbers), eta; too_large (packages that are never staged) where there are such."""
        ...

    def progress(self, request_pks: Sequence[int]) -> list[Record]:
        """One record a request: id, package, state, error, bytes, bytes_done, eta, waiters (who; instances
        and instances_done where known). Of all that are under way, when none is named."""
        ...


class Prefetches(Protocol):
    """What scheduled work will want."""

    def ask(
        self, key: str, wanted: PrefetchWanted, scheduled: datetime, by: str, margin: timedelta = ...
    ) -> Record:
        """key, state (planned, asked, withdrawn), wanted, begins_at, deadline, by, studies, readable_now,
        requests (id, state, error), comment; changed: whether this call changed anything."""
        ...

    def show(self, key: str) -> Record: ...

    def withdraw(self, key: str, by: str) -> Record: ...


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


class Queue(Protocol):
    """Acts on single requests.

    :raises Refused: no such request, or its state does not allow it.
    """

    def cancel(self, pk: int, by: str) -> None: ...

    def retry(self, pk: int, by: str) -> None: ...


class Volumes(Protocol):
    """Acts on single volumes."""

    def label(self, barcode: str, pool: str, by: str, overwrite: str = "") -> Record:
        """Without a pool the only one that may have the volume. ``overwrite`` is the barcode typed out;
        the answer says then what the volume ``was``."""
        ...

    def retire(self, barcode: str, by: str, reason: str = "") -> Record | None: ...

    def recycle(self, barcode: str, by: str, reason: str = "") -> Record | None: ...

    def lost(self, barcode: str, by: str, reason: str) -> Record:
        """copies (that were lost), requests (copies that are queued for it), without_copy (packages that
        nobody can read any more), named (some of those)."""
        ...

    def verify(self, barcode: str, by: str) -> Record:
        """Queue a read-back of every copy on the volume: barcode, requests (how many)."""
        ...

    def move(self, barcode: str, shelf: str, by: str) -> Record | None: ...


class Exports(Protocol):
    """Patient discs and sticks."""

    def begin(
        self, target: str, uids: list[str], user: str, by: str, *, anonymise: bool, udf: bool
    ) -> Record:
        """Start an export to where ``user`` may write; a record as :meth:`show` gives."""
        ...

    def show(self, pk: int) -> Record:
        """id, target, kind, by, state (active, done, failed, cancelled), instances, instances_done, bytes,
        bytes_done, waiting_for, error, burned_in (how many may show who the patient is), unlisted."""
        ...

    def cancel(self, pk: int, by: str) -> Record: ...


class Scan(Protocol):
    """Cartridges that are looked at."""

    def scan(self, barcode: str, by: str, *, adopt: bool = False, pool: str = "") -> Record:
        """barcode, says, known, left_over, unknown, missing, adopted, refused (numbers), named (lists)."""
        ...


class Repack(Protocol):
    """Cartridges that are emptied."""

    def start(self, wanted: Wanted, by: str, *, dry_run: bool = False) -> Record:
        """dry_run, volumes: volume, state, pool, to_pool, then, packages, bytes, used; without dry_run also
        left, queued, failed, refused (package, why)."""
        ...

    def stop(self, barcode: str, by: str) -> Record: ...


class Drives(Protocol):
    """Drives of libraries, and what each did with each cartridge."""

    def set_service(self, library: str, drive: int, in_service: bool, by: str, reason: str) -> Record: ...

    def report(self, library: str) -> Record:
        """library, drives (drive, in_service, reason, since, fails_with), uses (the counters of each pair
        of drive and volume, with blame and why)."""
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


class Storage(Protocol):
    """Pools, and volumes that need no drive."""

    def listing(self) -> list[Record]:
        """One record a pool: name, tier, kind, driver, layout, site, library, state, reason, volumes."""
        ...

    def show(self, name: str) -> Record: ...

    def test(self, name: str, volume: str) -> list[Record]:
        """Try each volume of a pool, or one: pool, volume, ok, steps, problems."""
        ...

    def drain(self, volume: str, by: str) -> Record:
        """Begin to empty a volume: volume, left (packages)."""
        ...

    def stop_drain(self, volume: str, by: str) -> Record:
        """Give that up: volume, cancelled (requests)."""
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


Turns = Callable[[Sequence[int]], Mapping[int, Record]]
"""Of these requests those that need a drive, each with its turn: position (0: under way, 1: next on its
drive), library, drive, volume, starts_at, finishes_at, why, ahead (request, why), ahead_total."""


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


@dataclass(frozen=True)
class Services:
    """Everything the API is joined to."""

    catalog: Catalog
    pools: Callable[[], Sequence[PoolFact]]
    """The pools of the configuration in force, in its order."""
    reach: Callable[[], Reach]
    """What can be read now, and how."""
    custody: Custody
    recall: Recall
    prefetches: Prefetches
    policies: Policies
    queue: Queue
    volumes: Volumes
    drives: Drives
    repack: Repack
    scan: Scan
    daemon: Daemon
    exports: Exports
    storage: Storage
    backups: Backups
    drills: Drills
    operators: Operators
    movements: Movements
    audit: Audit
    trash: Trash
    turns: Turns = lambda _requests: {}
