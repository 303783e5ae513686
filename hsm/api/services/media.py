"""What is asked about volumes, libraries and drives, and of the people who carry cartridges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hsm.api.services.record import Record
from hsm.catalog.views import Page
from hsm.repack import Wanted
from hsm.states import Outcome


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
