"""What the daemon says of itself: what listens where, what its drives hold, what is wrong just now."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from hsm.catalog import instances, queuelooks, restored
from hsm.daemon.foundation import version
from hsm.daemon.parts import Parts
from hsm.errors import DriverError
from hsm.log import get_logger

log = get_logger(__name__)


def status(parts: Parts, started_at: datetime | None) -> dict[str, Any]:
    """As :meth:`hsm.api.services.Daemon.status` describes it."""
    config, receivers, api = parts.base.config, parts.peers.receivers, parts.control.api
    return {
        "version": version(),
        "started_at": started_at,
        "pid": os.getpid(),
        "home": str(config.home),
        "config": str(config.source),
        "associations": receivers.associations,
        "receivers": receivers.facts(),
        "listen": {
            "ae_title": config.archive.ae_title,
            **_doors(parts),
            "api": str(config.api.socket),
            "api_tls": api.address,
        },
        "drives": _drives(parts),
        "problems": problems(parts),
    }


def problems(parts: Parts) -> list[str]:
    """What an administrator should see to, in sentences."""
    base, packages, media, control = parts.base, parts.packages, parts.media, parts.control
    found = base.pools.problems()
    with base.catalog.read() as session:
        failed = queuelooks.failed_total(session)
        damaged = instances.damaged_unsealed(session)
        if restored.is_owed(session):
            found.append(f"nothing is sealed, copied, released or labelled: {restored.OWED}")
    found += packages.recovery.problems()
    if damaged:
        found.append(
            f"{len(damaged)} instances in no package yet are damaged on {base.pools.ingest.name}, first "
            f"{damaged[0]}: send them again, or restore the file system"
        )
    tellers = (
        packages.repairs,
        packages.damage,
        packages.trash,
        packages.scrubs,
        media.media_watch,
        media.reminders,
        base.policies,
        media.anchoring,
        media.backups,
        base.trail,
        control.nightly,
        parts.peers.dicom,
    )
    for teller in tellers:
        found += teller.problems()
    found += control.api.problems(base.clock.now())
    if failed:
        found.append(f"{failed} requests have failed: hsm queue ls --state failed")
    return found


def _doors(parts: Parts) -> dict[str, Any]:
    """The DICOM listeners; the first without TLS and the first with it by themselves."""
    ports = parts.peers.receivers.ports
    doors = [
        {
            "name": door.name,
            "address": f"{door.listen}:{ports.get(door.name, door.port)}",
            "tls": door.tls is not None,
            "may": sorted(door.may),
        }
        for door in parts.base.config.dicom.doors
    ]
    plain = next((door["address"] for door in doors if not door["tls"]), None)
    tls = next((door["address"] for door in doors if door["tls"]), None)
    return {"dicom": plain or tls, "dicom_tls": tls, "doors": doors}


def _drives(parts: Parts) -> list[dict[str, Any]]:
    found = []
    off = parts.media.drive_use.out_of_service()
    for name, library in parts.base.pools.libraries.items():
        try:
            found += [
                {
                    "library": name,
                    "drive": drive.address,
                    "barcode": drive.barcode,
                    "in_service": (name, drive.address) not in off,
                }
                for drive in library.inventory().drives()
            ]
        except DriverError as error:
            log.warning("library %s: %s", name, error)
    return found
