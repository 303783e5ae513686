"""Versions of the policies: what came into force when, by whom, and back again.

The catalog has what is in force, with its texts; the folder is where the next version is written. The
two differ from the first edit until ``hsm policy activate``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from hsm.catalog import activations
from hsm.catalog.engine import Catalog
from hsm.errors import ConfigError, Refused
from hsm.log import get_logger
from hsm.policyrun import burden
from hsm.policyrun.frozen import frozen
from hsm.pools import Pools
from policies import PolicyErrors, PolicySet, Schedule, load_folder, load_texts
from policies.schedule import DEFAULT

log = get_logger(__name__)

MISFIT = b"misfit"
"""In place of the digest of a set that is in force in name only."""
EMPTY = load_texts({}, ()).digest
"""Of a folder without policies."""


class Versions:
    """The folder, and the activations in the catalog."""

    def __init__(self, catalog: Catalog, pools: Pools, folder: Path, default: Schedule = DEFAULT) -> None:
        self._catalog = catalog
        self._pools = pools
        self.folder = folder
        self.default = default
        self._marks: tuple[tuple[str, int, int, int], ...] | None = None
        self._seen: tuple[int, bytes] = (0, b"")

    def begin(self, by: str) -> tuple[int | None, PolicySet]:
        """What is in force at a start. Where nothing was ever activated the folder's policies come into
        force, so that a new archive needs no further step; an empty folder waits for its first policy.

        A version that does not fit the configuration any more is not in force: nothing is copied or
        released until another one is activated, and `hsm status` says so. Studies come in all the same.

        :raises ConfigError: the folder's policies, which should come into force, are wrong.
        """
        with self._catalog.read() as session:
            there = activations.active(session)
        if there is None:
            loaded = self.read_folder()
            return (self._record(loaded, by, "first start"), loaded) if loaded.policies else (None, loaded)
        try:
            return there.number, self.load(there.number)
        except ConfigError as error:
            log.error("policies: activation %d is not in force: %s", there.number, error)
            return there.number, self.none()

    def none(self) -> PolicySet:
        """What is in force where a version does not fit: nothing."""
        return PolicySet(digest=MISFIT, pools=self._pools.infos)

    def load(self, number: int) -> PolicySet:
        """The policies of one activation.

        :raises ConfigError: they do not fit the configuration any more.
        :raises NotFound: there is no such activation.
        """
        with self._catalog.read() as session:
            there = activations.get(session, number)
        return self._parse(there.texts)

    def at(self, moment: datetime) -> PolicySet:
        """What was in force then; nothing before the first activation.

        :raises ConfigError: it does not fit the configuration any more.
        """
        with self._catalog.read() as session:
            there = activations.at(session, moment)
        return self.none() if there is None else self._parse(there.texts)

    def read_folder(self) -> PolicySet:
        """:raises ConfigError: one report of everything that is wrong with the folder's policies."""
        try:
            return load_folder(self.folder, self._pools.infos, self.default)
        except PolicyErrors as error:
            raise ConfigError(str(error)) from error

    def texts_loaded(self, texts: Mapping[str, str]) -> PolicySet:
        """:raises ConfigError: one report of everything that is wrong with them."""
        return self._parse(texts)

    def activate(self, by: str, comment: str, version: int | None, digest: str = "") -> tuple[int, PolicySet]:
        """Put the folder's policies, or those of an earlier activation, into force.

        :returns: the number of the activation in force; the one there was if nothing changes.
        :raises ConfigError, NotFound: nothing is changed.
        :raises Refused: they do not have the digest that was asked for; nothing is changed.
        """
        loaded = self.read_folder() if version is None else self.load(version)
        if digest not in ("", loaded.digest.hex()):
            raise Refused("the folder's policies are others than when this was asked for: ask again")
        with self._catalog.read() as session:
            there = activations.active(session)
        if there is not None and there.digest == loaded.digest:
            return there.number, loaded
        return self._record(loaded, by, comment, version), loaded

    def history(self, limit: int) -> list[dict[str, Any]]:
        """The activations, the last first, with their texts."""
        with self._catalog.read() as session:
            found = activations.history(session, limit)
        return [
            {
                "activation": each.number,
                "at": each.at,
                "by": each.actor,
                "comment": each.comment,
                "digest": each.digest.hex(),
                "restores": each.restores,
                "in_force": number == 0,
                "texts": dict(each.texts),
            }
            for number, each in enumerate(found)
        ]

    def number(self, session: Session) -> int | None:
        """Of the activation in force."""
        there = activations.active(session)
        return there.number if there is not None else None

    def problems(self, in_force: PolicySet, number: int | None) -> list[str]:
        """What differs between the folder and what is in force, in words."""
        if in_force.digest == MISFIT:
            return [
                f"policies: activation {number} does not fit the configuration: nothing is copied or "
                "released; mend the folder and `hsm policy activate`"
            ]
        errors, there = self._look()
        if errors:
            return [f"policies: the folder has {errors} errors and is not active: hsm policy check"]
        if there == in_force.digest or (number is None and there == EMPTY):
            return []
        return ["policies: the folder has changed and is not active: hsm policy diff, hsm policy activate"]

    def _look(self) -> tuple[int, bytes]:
        """How many errors the folder has, and its digest; read again only when a file has changed."""
        try:
            files = sorted((each.name, each.stat()) for each in self.folder.glob("*.yaml"))
            marks = tuple((name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in files)
        except OSError:
            marks = None
        if marks is None or marks != self._marks:
            try:
                found = load_folder(self.folder, self._pools.infos, self.default)
                self._seen = (0, found.digest)
            except PolicyErrors as error:
                self._seen = (len(error.errors), b"")
            self._marks = marks
        return self._seen

    def check(self, texts: Mapping[str, str] | None) -> dict[str, Any]:
        """Check texts, or the folder, without putting anything into force."""
        try:
            if texts is None:
                found = load_folder(self.folder, self._pools.infos, self.default)
            else:
                found = load_texts(texts, self._pools.infos, self.default)
        except PolicyErrors as error:
            return {"ok": False, "errors": [each.render() for each in error.errors], "warnings": []}
        with frozen(self._catalog) as session:
            heavy = burden.warnings(session, found, self._catalog.clock.now())
        return {
            "ok": True,
            "errors": [],
            "warnings": [each.render() for each in (*found.warnings, *heavy)],
            "notes": [str(each) for each in found.notes],
            "policies": [policy.name for policy in found.policies],
        }

    def _parse(self, texts: Mapping[str, str]) -> PolicySet:
        try:
            return load_texts(texts, self._pools.infos, self.default)
        except PolicyErrors as error:
            raise ConfigError(str(error)) from error

    def _record(self, loaded: PolicySet, by: str, comment: str, restores: int | None = None) -> int:
        now = self._catalog.clock.now()
        texts = {Path(name).name: text for name, text in loaded.texts.items()}
        with self._catalog.write() as session:
            number = activations.activate(session, now, by, loaded.digest, texts, comment, restores)
        log.info("policies: activation %d by %s is in force", number, by)
        return number
