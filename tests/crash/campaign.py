"""An archive that dies again and again under load, and what must hold each time it is back."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from hsm import layout
from hsm.catalog import chaincheck, check
from hsm.catalog.engine import Catalog, open_engine
from hsm.catalog.tables import Instance, Series, Study
from hsm.clock import SystemClock
from tests.crash.load import ROOT, Modality, Stored, retrieve, stored_as
from tests.crash.power import Power
from tests.nursery import Nursery, Process
from tests.story.archive import KEEP, Archive, until

HERE = Path(__file__).parent
HOOK = HERE / "hook"
RECENT_LIVES = 2
START_SECONDS = 40.0


@dataclass(frozen=True)
class Fault:
    """What goes wrong at which step; see hook/crash_hook.py."""

    step: str
    act: str = "kill"
    when: str = "before"
    nth: int = 1
    number: int = errno.EIO
    times: int = 1

    def __str__(self) -> str:
        if self.act == "kill":
            return f"kill {self.when} {self.step}"
        return f"{errno.errorcode[self.number]} at {self.step}"


class FaultyArchive(Archive):
    """An archive whose daemon has the hook in it, with the power that can be cut."""

    def __init__(self, folder: Path, nursery: Nursery, policy: str = KEEP, receivers: int = 1) -> None:
        self.folder = folder
        self.catalog_file = folder / "catalog.db"
        self.catalog_url = f"sqlite:///{self.catalog_file}"
        super().__init__(folder / "home", self.catalog_url, policy)
        if receivers > 1:
            text = self.config.read_text().replace("dicom:\n", f"dicom:\n  receivers: {receivers}\n")
            self.config.write_text(text)
        self.power = Power(self.home, self.catalog_file)
        self._nursery = nursery
        self._daemon: Process | None = None
        self._plan = folder / "plan.json"
        self.armed, self.fired = folder / "armed", folder / "fired"
        # Its folders are made before power is ever cut.
        self.begin(None)
        self.end(signal.SIGTERM)

    def begin(self, fault: Fault | None, without: tuple[str, ...] = (), *, recorded: bool = False) -> None:
        """Start the daemon; its process exists when this returns."""
        if recorded:
            self.power.on()
        self.armed.unlink(missing_ok=True)
        self.fired.unlink(missing_ok=True)
        fault_ = None
        if fault is not None:
            fault_ = {"step": fault.step, "nth": fault.nth, "act": fault.act, "when": fault.when}
            fault_ |= {"errno": fault.number, "times": fault.times}
        plan = {
            "home": str(self.home),
            "catalog": str(self.catalog_file),
            "armed": str(self.armed),
            "fired": str(self.fired),
            "fault": fault_,
            "without": without,
            "record": str(self.power.record) if recorded else None,
            "strangers": os.getpgrp(),
        }
        self._plan.write_text(json.dumps(plan))
        environ = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        environ |= {"HSM_HOME": str(self.home), "HSM_CRASH_PLAN": str(self._plan)}
        environ["PYTHONPATH"] = f"{HOOK}:{HERE.parents[1]}"
        with open(self.home / "daemon.log", "ab") as log:
            self._daemon = self._nursery.start(["serve", "--config", str(self.config)], environ, log, log)
        self._pid = self._daemon.pid

    def until_ready(self) -> bool:
        """Whether it came to that; it may have died of its fault."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.ended():
                return False
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
                if (self.home / "hsm.sock").exists():
                    return True
            time.sleep(0.02)
        raise AssertionError(f"does not start: {self.log()}")

    def ended(self) -> bool:
        if self._daemon is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._daemon.wait(0, group=True)
                self._daemon = None
        return self._daemon is None

    def end(self, number: signal.Signals) -> None:
        """Kill or stop it; all its processes have ended when this returns."""
        if self._daemon is None:
            return
        if number == signal.SIGKILL:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._daemon.pid, number)
        else:
            assert self.until_ready(), self.log()
            os.kill(self._daemon.pid, number)
        daemon, self._daemon = self._daemon, None
        daemon.wait(group=True)


@dataclass
class Campaign:
    """Lives of one archive. Everything random comes from the dice."""

    archive: FaultyArchive
    dice: random.Random
    associations: int = 3
    acknowledged: dict[str, Stored] = field(default_factory=dict)
    kills: int = 0
    fired: int = 0
    owed: list[list[Stored]] = field(default_factory=list)
    _life: int = 0

    def life(
        self,
        fault: Fault | None,
        cut: str | None = None,
        without: tuple[str, ...] = (),
        seconds: float = 1.0,
        enough: int = 10**9,
    ) -> bool:
        """Start, check what the last life left, store until the fault has come or ``seconds`` are over, die.

        :param cut: what the power takes: None, "strict" or "torn".
        :param enough: acknowledgements after which this life is long enough.
        :returns: whether the fault happened.
        """
        archive = self.archive
        archive.begin(fault, without, recorded=cut is not None)
        assert archive.until_ready(), f"{self.story}: {archive.log()}"
        if self._life and not without:
            self.check()
        self._lives.append(f"{fault or 'kill'}, {'power cut ' + cut if cut else 'crash'}")
        archive.armed.touch()
        self._load(seconds, enough, fault)
        fired = archive.fired.exists()
        archive.end(signal.SIGKILL)
        self.kills += 1
        self.fired += fired
        if cut is not None:
            archive.power.cut(random.Random(self.dice.random()) if cut == "torn" else None)
        return fired

    def start_and_die(self, fault: Fault, cut: str | None = None) -> bool:
        """A life that ends in recovery; whether it did."""
        archive = self.archive
        self._lives.append(f"{fault} in recovery, {'power cut ' + cut if cut else 'crash'}")
        archive.begin(fault, recorded=cut is not None)
        archive.armed.touch()
        died = not archive.until_ready()
        archive.end(signal.SIGKILL)
        fired = archive.fired.exists()
        self.kills += 1
        self.fired += fired
        # Not the other way round: the step may have come right after the start.
        assert fired or not died, archive.log()
        if cut is not None:
            archive.power.cut(random.Random(self.dice.random()) if cut == "torn" else None)
        return fired

    def _load(self, seconds: float, enough: int, fault: Fault | None) -> None:
        self._life += 1
        first = 1000 * self._life
        self.owed = self.owed or [[] for _ in range(self.associations)]
        modalities = [
            Modality(self.archive.port, 100 * (first + place), owed) for place, owed in enumerate(self.owed)
        ]
        for modality in modalities:
            modality.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and sum(len(m.acknowledged) for m in modalities) < enough:
            if self.archive.ended():
                break
            if fault is not None and fault.act == "error" and self.archive.fired.exists():
                fault = None
                deadline = min(deadline, time.monotonic() + 0.4)  # it goes on after that
            time.sleep(0.01)
        self.archive.end(signal.SIGKILL)
        for modality in modalities:
            modality.stopping.set()
        for modality in modalities:
            modality.join(30)
            assert not modality.is_alive()
            for stored in modality.acknowledged:
                self.acknowledged[stored.uid] = stored
        self._last = {stored.study for modality in modalities for stored in modality.acknowledged}

    _last: set[int] = field(default_factory=set)
    _lives: list[str] = field(default_factory=list)

    @property
    def story(self) -> str:
        """The last lives, for the message of a failure."""
        return "; ".join(self._lives[-5:])

    # What must hold.

    def losses(self, *, all_files: bool = True) -> list[str]:
        """What is wrong with what was acknowledged, while the daemon runs; nothing, one hopes.

        :param all_files: read each; else those of the last lives.
        """
        wrong: list[str] = []
        rows: dict[str, list[tuple[bytes, Path]]] = {}
        unsealed: set[str] = set()
        engine = open_engine(self.archive.catalog_url)
        try:
            with Catalog(engine, SystemClock()).read() as session:
                query = select(
                    Instance.uid,
                    Instance.version,
                    Instance.digest,
                    Study.uid,
                    Series.uid,
                    Instance.package_pk,
                ).join_from(Instance, Series, Series.pk == Instance.series_pk)
                for uid, version, digest, study, series, package in session.execute(
                    query.join(Study, Study.pk == Series.study_pk)
                ):
                    path = self.archive.home / "online" / layout.instance_path(study, series, uid, version)
                    rows.setdefault(uid, []).append((bytes(digest), path))
                    if package is None:
                        unsealed.add(uid)
        finally:
            engine.dispose()
        for uid, stored in self.acknowledged.items():
            if uid not in rows:
                wrong.append(f"{uid} has no row")
            elif rows[uid][0][0] != stored.digests()[0]:
                wrong.append(f"{uid} has another digest")
        recent = 100_000 * (self._life - RECENT_LIVES)
        for uid, versions in rows.items():
            if len(versions) > 1:
                wrong.append(f"{uid} has {len(versions)} rows")
            digest, path = versions[0]
            # What is sealed may be released meanwhile; serve() asks for it.
            if uid not in unsealed or not (all_files or stored_as(uid).study >= recent):
                continue
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                wrong.append(f"{uid} has no file")
            else:
                if hashlib.sha256(content).digest() != digest:
                    wrong.append(f"the file of {uid} has other bytes")
        return wrong

    def check(self, *, last: bool = False) -> None:
        """Everything acknowledged is there, whole and once; what the last life brought is served (at the
        last check all); no leavings."""
        lost = self.losses(all_files=last)
        assert not lost, f"{len(lost)} of {len(self.acknowledged)}: {lost[:5]}; {self.story}"
        self.serve({stored.study for stored in self.acknowledged.values()} if last else self._last)
        incoming = self.archive.home / "online" / ".incoming"
        # Not at once: a look at the pool's health is a file there, for a moment.
        until(lambda: not _leavings(incoming), "nothing is left in .incoming", 5)

    def serve(self, studies: set[int]) -> None:
        """A C-GET brings every acknowledged instance of these studies, byte for byte."""
        for study in sorted(studies):
            wanted = {s.uid: s.digests()[1] for s in self.acknowledged.values() if s.study == study}
            got = retrieve(self.archive.port, f"{ROOT}.{study}")
            lost = sorted(uid for uid, value in wanted.items() if got.get(uid) != value)
            assert not lost, f"acknowledged and not served: {lost} {self.story}"
            wrong = [uid for uid in got if got[uid] != stored_as(uid).digests()[1]]
            assert not wrong, f"served and not whole: {wrong}"

    def finish(self) -> None:
        """One more start; everything is checked, and all of it served."""
        self.archive.begin(None)
        assert self.archive.until_ready(), self.archive.log()
        try:
            self.check(last=True)
        finally:
            self.archive.end(signal.SIGTERM)
        engine = open_engine(self.archive.catalog_url)
        try:
            with Catalog(engine, SystemClock()).read() as session:
                assert list(chaincheck.verify(session)) == []
                assert check.check(session) == []
        finally:
            engine.dispose()


def _leavings(incoming: Path) -> list[str]:
    """What lies in ``.incoming`` and belongs to no daemon that runs. A file made ahead is empty."""
    return sorted(
        str(path.relative_to(incoming))
        for path in incoming.rglob("*")
        if path.is_file() and _size(path) and path.parent.name != "aside"
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def campaign(folder: Path, nursery: Nursery, dice: random.Random, **settings: Any) -> Iterator[Campaign]:
    """On a new archive; its daemon ends with it."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = FaultyArchive(folder, nursery, **settings)
    try:
        yield Campaign(archive, dice)
    finally:
        archive.end(signal.SIGKILL)
