"""What of a new configuration is taken over while the daemon runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hsm import log as logs
from hsm.config import Config, accepting, differences_needing_restart, kept_dicom, load
from hsm.daemon.parts import Parts
from hsm.operators import Manners

log = logs.get_logger(__name__)

_FIXED = ("archive", "catalog", "pools", "libraries", "staging", "clock", "home")
"""What only a restart changes. It stays as it is, so that the next reload names it again."""


def reload(parts: Parts, environ: Mapping[str, str]) -> dict[str, Any]:
    """Read configuration and policies again and put what can be changed into force. One caller at a time.

    :returns: ``policies``, how many are in force, and ``needs_restart``, sentences.
    :raises ConfigError: something in them is wrong; everything stays as it was.
    """
    base = parts.base
    old, new = base.config, load(base.config.source, environ)
    later = differences_needing_restart(old, new)
    new = new.model_copy(update={"dicom": kept_dicom(old.dicom, new.dicom)})
    for door in new.dicom.doors:
        if door.tls is not None:
            accepting(door.tls)
    parts.control.api.check(new.api)
    base.reload_policies(new)
    _tell(parts, new)
    logs.set_level(new.log.level)
    kept: dict[str, Any] = {name: getattr(old, name) for name in _FIXED}
    kept["api"] = parts.control.api.reload(new.api)
    kept["audit"] = old.audit.model_copy(update={"summary": new.audit.summary})
    kept["log"] = new.log.model_copy(update={"format": old.log.format})
    base.config = new.model_copy(update=kept)
    for text in later:
        log.warning("in force only after a restart: %s", text)
    count = len(base.policies.set.policies)
    log.info("configuration and %d policies are in force", count)
    return {"policies": count, "needs_restart": later}


def _tell(parts: Parts, new: Config) -> None:
    """Each part that holds settings of its own takes the new ones over."""
    packages, media, peers = parts.packages, parts.media, parts.peers
    peers.receivers.reload(new)
    peers.deliverer.reload(new.dicom)
    peers.reporter.reload(new.dicom)
    peers.announcer.reload(new.dicom)
    packages.trash.config = new.deletion
    media.reminders.config = packages.damage.config = new.operator
    media.operators.manners = Manners.of(new.operator, new.dicom.retrieve.hold_seconds_max)
    packages.seal.quiet_seconds = new.seal.quiet_seconds
    packages.seal.package_bytes_max = new.seal.package_bytes_max
    packages.ingest.same_uid = new.dicom.same_uid
    packages.ingest.trash_seconds = new.deletion.trash
