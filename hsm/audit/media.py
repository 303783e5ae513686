"""``hsm audit media``: if this volume dies, these studies lose which copy; and which media need care."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from drivers.base import Reporting
from hsm.barcodes import generation
from hsm.blame import Blame, Pair, Verdict, blame
from hsm.catalog import media, mediafacts, usage
from hsm.catalog.engine import Catalog
from hsm.catalog.mediafacts import Depends, DriveRow, Use, VolumeRow
from hsm.errors import DriverError
from hsm.fixity import Scrub
from hsm.log import get_logger
from hsm.policyrun.frozen import frozen
from hsm.pools import Pools
from hsm.refresh import Medium, advice, drive_of
from hsm.states import VolumeState

log = get_logger(__name__)

Record = dict[str, Any]

PAIRS_MAX = 200
"""Pairs of drive and cartridge with errors that are named."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is read once for all volumes."""

    now: datetime
    depends: Mapping[int, Depends]
    uses: Mapping[int, Use]
    suspects: Mapping[int, int]
    verdicts: Mapping[str, Verdict]
    """Of each cartridge that fails somewhere the worst."""
    drives: Mapping[str, tuple[int, ...]]
    """Generations of the drives in service, by library."""


class MediaAudit:
    """Reads what the catalog knows of volumes and drives, and asks the drives what they are."""

    def __init__(self, catalog: Catalog, pools: Pools) -> None:
        self._catalog = catalog
        self._pools = pools

    def report(self) -> Record:
        """``volumes`` (each with what depends on it and ``advice``), ``drives``, ``pairs`` (of a drive and a
        cartridge that had errors, with who is to blame), ``needs_action`` (volumes), ``good``."""
        with frozen(self._catalog) as session:
            rows = mediafacts.volumes(session)
            known, drives = self._known(session)
            pairs = _pairs(session)
        volumes = [self._volume(row, known) for row in rows]
        act = [each for each in volumes if each["act"]]
        bad_drives = [each for each in drives if not each["in_service"]]
        return {
            "at": known.now,
            "volumes": volumes,
            "drives": drives,
            "pairs": pairs,
            "needs_action": len(act),
            "good": not act and not bad_drives,
        }

    def one(self, name: str, limit: int) -> Record:
        """One volume as in :meth:`report`, and ``studies`` that would lose a copy with it: ``study``,
        ``copies_elsewhere``, ``packages``, ``bytes``, those first that have the fewest elsewhere.

        :raises NotFound: there is no such volume.
        """
        with frozen(self._catalog) as session:
            volume = media.volume(session, name)
            row = next((each for each in mediafacts.volumes(session) if each.pk == volume.pk), None)
            known, _ = self._known(session, volume.pk)
            studies = mediafacts.studies_on(session, volume.pk, limit)
        shown = self._volume(row, known) if row is not None else _gone(volume)
        total = shown["last_copy_of"]["studies"] + shown["second_last_of"]["studies"]
        return shown | {
            "studies": [
                {
                    "study": each.uid,
                    "copies_elsewhere": each.elsewhere,
                    "packages": each.packages,
                    "bytes": each.bytes,
                }
                for each in studies
            ],
            "not_named": max(0, total - len(studies)),
        }

    def _known(self, session: Session, volume_pk: int | None = None) -> tuple[_Known, list[Record]]:
        pairs = usage.pairs(session)
        failing = [pair for pair in pairs if pair.failing]
        drives = [self._drive(each) for each in mediafacts.drives(session)]
        generations: dict[str, tuple[int, ...]] = {}
        for each in drives:
            if each["in_service"] and each["generation"]:
                generations[each["library"]] = (*generations.get(each["library"], ()), each["generation"])
        known = _Known(
            self._catalog.clock.now(),
            mediafacts.depends(session, volume_pk),
            mediafacts.uses(session),
            mediafacts.suspects(session),
            {pair.volume: _worst(pairs, failing, pair.volume) for pair in failing},
            generations,
        )
        return known, drives

    def _drive(self, drive: DriveRow) -> Record:
        product = self._product(drive.library, drive.address)
        return {
            "library": drive.library,
            "drive": drive.address,
            "in_service": drive.in_service,
            "product": product,
            "generation": drive_of(product, drive.written),
        }

    def _product(self, library: str, drive: int) -> str:
        """What the drive says it is; empty where it cannot be asked."""
        changer: object = self._pools.libraries.get(library)
        if not isinstance(changer, Reporting):
            return ""
        try:
            return changer.report(drive).product
        except DriverError as error:
            log.debug("drive %d of %s cannot be asked now: %s", drive, library, error)
            return ""

    def _volume(self, row: VolumeRow, known: _Known) -> Record:
        depends, use = known.depends.get(row.pk, Depends()), known.uses.get(row.pk, Use())
        scrub = self._pools.scrubs.get(row.pool)
        tape = self._pools.tapes.get(row.pool)
        verdict = known.verdicts.get(row.name)
        overdue = _overdue(depends.oldest, scrub, known.now)
        found = advice(
            Medium(
                row.name,
                VolumeState(row.state),
                row.removable,
                row.created_at,
                row.error,
                row.capacity,
                use.mounts,
                use.written + use.read,
                use.hard_errors,
                verdict.blame if verdict is not None else Blame.NOBODY,
                verdict.why if verdict is not None else "",
                known.suspects.get(row.pk, 0),
                overdue,
                known.drives.get(tape.library if tape is not None else row.library),
            ),
            known.now,
        )
        return {
            "name": row.name,
            "pool": row.pool,
            "state": row.state,
            "place": row.place,
            "shelf": row.shelf,
            "site": row.site,
            "generation": generation(row.name) if row.removable else "",
            "age_days": (known.now - row.created_at).days,
            "capacity": row.capacity,
            "used": row.used,
            "copies": depends.copies,
            "damaged": known.suspects.get(row.pk, 0),
            "last_copy_of": {"studies": depends.only_studies, "packages": depends.only_packages},
            "second_last_of": {"studies": depends.second_studies, "packages": depends.second_packages},
            "verified_since": depends.oldest,
            "mounts": use.mounts,
            "bytes_written": use.written,
            "bytes_read": use.read,
            "soft_errors": use.soft_errors,
            "hard_errors": use.hard_errors,
            "alerts": use.alerts,
            "last_used": use.last_at,
            "blame": verdict.blame.value if verdict is not None else "",
            "advice": [{"act": each.act, "what": each.words} for each in found],
            "act": any(each.act for each in found),
        }


def _overdue(oldest: datetime | None, scrub: Scrub | None, now: datetime) -> datetime | None:
    """When the copy was read back last that should have been again long ago: a quarter of the period late."""
    late = scrub is not None and oldest is not None and oldest < now - scrub.every * 5 / 4
    return oldest if late else None


def _gone(volume: media.VolumeRef) -> Record:
    none = {"studies": 0, "packages": 0}
    return {
        "name": volume.name,
        "pool": volume.pool or "",
        "state": volume.state.value,
        "place": volume.place.value,
        "copies": 0,
        "last_copy_of": none,
        "second_last_of": none,
        "advice": [],
        "act": False,
    }


def _worst(pairs: Sequence[Pair], failing: Sequence[Pair], volume: str) -> Verdict:
    rank = (Blame.MEDIUM, Blame.BOTH, Blame.UNKNOWN, Blame.DRIVE, Blame.NOBODY)
    near = {pair.drive for pair in failing if pair.volume == volume}
    about = [pair for pair in pairs if pair.volume == volume or pair.drive in near]
    found = [blame(about, drive, volume) for drive in sorted(near)]
    return min(found, key=lambda verdict: rank.index(verdict.blame))


def _pairs(session: Session) -> list[Record]:
    pairs = usage.pairs(session)
    found = []
    for library, address, name, use in mediafacts.troubles(session, PAIRS_MAX):
        verdict = blame(pairs, (library, address), name)
        guilty = verdict.blame is not Blame.NOBODY
        moved = use.bytes_written + use.bytes_read
        found.append(
            {
                "library": library,
                "drive": address,
                "volume": name,
                "sessions": use.sessions,
                "hard_errors": use.hard_errors,
                "soft_errors": use.soft_errors,
                "soft_errors_per_gigabyte": round(use.soft_errors * 1e9 / moved, 3) if moved else None,
                "alerts": use.alerts,
                "failing": use.failing,
                "last_at": use.last_at,
                "last_error": use.last_error,
                "blame": verdict.blame.value if guilty else "",
                "why": verdict.why if guilty else "",
            }
        )
    return found
