"""A small hospital's archive: two drives, a few slots, a mail slot, a cupboard full of cartridges, and a
daemon whose clock goes so fast that a day takes minutes."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pynetdicom import AE

from drivers.simulated.library import SimulatedLibrary
from hsm.clock import FastClock
from tests.story.archive import Archive, until
from tests.story.hospital_script import DAY_BEGINS, WORKSTATIONS, Shape
from tests.story.hospital_studies import MadeStudy

CONFIG = """\
archive: {{ae_title: HSM}}
catalog: {{url: "{catalog}"}}
dicom:
  port: {port}
  unknown_aes: []
  aes: [{aes}]
  retrieve: {{pending_seconds: {pending}, hold_seconds_max: {hold}}}
pools:
  - {{name: online, tier: online, layout: files, driver: folder, options: {{path: "{home}/online"}}}}
  - {{name: tape, tier: offline, library: robot, scratch: "HSM*"}}
  - {{name: vault, tier: offline, library: robot, scratch: "VLT*"}}
libraries:
  - name: robot
    driver: simulated
    options: {{folder: "{home}/robot", slots: {slots}, mail_slots: {mail_slots}, drives: 2,
               cartridges: [{cartridges}], capacity_bytes: {capacity}, time_factor: {factor}, hands: {hands}}}
seal: {{quiet_seconds: {quiet}}}
staging: {{path: "{home}/staging", size_max_bytes: {staging}}}
policies: {home}/policies
schedule: {{seal_seconds: {seal}, policies_seconds: {policies}, inventory_seconds: {inventory}}}
log: {{level: info, format: json}}
{clock}
"""

POLICIES = """\
policy: pictures of magnetic resonance
priority: 1
scope: modality = MR
copies: {tape: 1, vault: 1}
rules:
  - {name: to tape, copy to: tape, when: copies(tape) = 0}
  - {name: to the vault, copy to: vault, when: copies(vault) = 0}
  - {name: free online, release from: online, when: copies(tape) >= 1 and copies(vault) >= 1}
---
policy: everything else
priority: 2
copies: {tape: 1}
rules:
  - {name: to tape, copy to: tape, when: copies(tape) = 0}
  - {name: free online, release from: online, when: copies(tape) >= 1}
"""

PREPARE_SECONDS = 900.0
STORE_TRIES = 5


def title(station: int) -> str:
    """The AE title of a workstation."""
    return f"WS{station:02d}"


def steady_port() -> int:
    """A free port that the system gives to nobody who asks for any: it is still free after a crash."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Hospital(Archive):
    """The archive, its clock, and the hands and eyes that a person has beside it."""

    def __init__(self, home: Path, shape: Shape) -> None:
        self.shape = shape
        self.ports = {title(number): steady_port() for number in range(1, WORKSTATIONS + 1)}
        self.catalog_url = f"sqlite:///{home / 'catalog.db'}"
        tapes = shape.shelved + shape.inside + shape.blank
        vaults = max(5, tapes // 3)
        self.cartridges = [f"HSM{n:03d}L8" for n in range(1, tapes - vaults + 1)]
        self.cartridges += [f"VLT{n:03d}L8" for n in range(1, vaults + 1)]
        self.clock: FastClock | None = None
        super().__init__(home, self.catalog_url, POLICIES, CONFIG, **self._preparing())
        self.port = steady_port()
        self._configure(self._preparing())

    def _preparing(self) -> dict[str, Any]:
        """Before the day: everything at once, a library with a slot for each cartridge."""
        slots = len(self.cartridges) + 2
        quick = {"pending": 1, "hold": 60, "quiet": 0.3, "seal": 0.2, "policies": 0.3, "inventory": 5}
        return self._common() | quick | {
            "slots": slots, "mail_slots": 4, "factor": 0, "hands": "true", "staging": "64 MiB", "clock": "",
        }  # fmt: skip

    def _living(self, clock: FastClock, since: datetime) -> dict[str, Any]:
        """In the day: hospital seconds."""
        times = {"pending": 5, "hold": 7200, "quiet": 60, "seal": 30, "policies": 300, "inventory": 300}
        given = f'speed: {clock.speed:g}, since: "{since.isoformat()}", shows: "{DAY_BEGINS.isoformat()}"'
        text = f"clock: {{{given}}}"
        return self._common() | times | {
            "slots": self.shape.slots, "mail_slots": 1, "factor": 1 / clock.speed, "hands": "false",
            "staging": "8 MiB", "clock": text,
        }  # fmt: skip

    def _common(self) -> dict[str, Any]:
        aes = [
            f"{{ae_title: {name}, host: 127.0.0.1, port: {port}, may: [echo, store, find, move]}}"
            for name, port in self.ports.items()
        ]
        return {
            "aes": ", ".join(aes),
            "cartridges": ", ".join(self.cartridges),
            "capacity": self.shape.capacity_bytes,
        }

    # Before the day

    def prepare(self, studies: Sequence[MadeStudy]) -> None:
        """Every study is stored by C-STORE, sealed, copied and verified; most cartridges go to the shelf."""
        self.start()
        self.store(studies)
        until(lambda: self._all_copied(len(studies)), "every study on tape", PREPARE_SECONDS)
        used = sorted({copy["volume"] for copy in self.copies() if copy["state"] == "verified"})
        stay = set(used[:: max(1, len(used) // self.shape.inside)][: self.shape.inside])
        stay |= set([each for each in self.cartridges if each not in used][: self.shape.blank])
        with self.client() as client:
            for number, barcode in enumerate(each for each in self.cartridges if each not in stay):
                shelf = f"{'ABCDEF'[number // 10 % 6]}{number % 10 + 1}"
                client.export(barcode, shelf)
                client.movement(barcode, "arrived", "", shelf)
        assert self.stop() == 0, self.log()
        # Into the smaller library of the day, as hands would.
        for barcode in sorted(stay):
            self.hands().hand_remove(barcode)
        self._configure(self._preparing() | {"slots": self.shape.slots, "mail_slots": 1})
        library = SimulatedLibrary(
            self.home / "robot",
            slots=self.shape.slots,
            mail_slots=1,
            capacity_bytes=self.shape.capacity_bytes,
        )
        filler = next(each for each in self.cartridges if each not in stay)
        for barcode in (filler, *sorted(stay)):  # the first one lies in the mail slot
            library.hand_insert(barcode)
        library.hand_remove(filler)

    def begin_day(self) -> None:
        """From now on the hospital's clock is the one that counts."""
        since = datetime.now(UTC) + timedelta(seconds=1)
        self.clock = FastClock(self.shape.speed, since, DAY_BEGINS)
        self._configure(self._living(self.clock, since))
        self.start()

    def _configure(self, values: dict[str, Any]) -> None:
        text = CONFIG.format(home=self.home, catalog=self.catalog_url, port=self.port, **values)
        self.config.write_text(text)

    def _all_copied(self, studies: int) -> bool:
        found = self.ask(lambda client: client.find_studies(limit=1000))
        if len(found) < studies or any(study["unsealed"] for study in found):
            return False
        online = self.home / "online" / "studies"
        if any(name.endswith(".dcm") for _, _, names in os.walk(online) for name in names):
            return False
        with self.client() as client:
            return not any(client.queue(state=state, limit=1) for state in ("queued", "active", "waiting"))

    def store(self, studies: Sequence[MadeStudy], calling: str = "WS01") -> None:
        """By C-STORE. pynetdicom now and then drops an answer that comes while it looks the other way: what
        has none is sent again, over another association."""
        left = [image for study in studies for image in study.instances]
        modality = AE(calling)
        modality.acse_timeout = 120  # other tests may keep the disk busy
        modality.dimse_timeout = 30
        for sop_class in sorted({image.SOPClassUID for image in left}):
            modality.add_requested_context(sop_class, "1.2.840.10008.1.2.1")
        for _ in range(STORE_TRIES):
            association = modality.associate("127.0.0.1", self.port, ae_title="HSM")
            assert association.is_established
            try:
                while left and (status := association.send_c_store(left[0])):
                    assert status.Status == 0, status
                    left.pop(0)
            finally:
                association.release()
            if not left:
                return
        raise AssertionError(f"{len(left)} instances were not stored: no answer in {STORE_TRIES} tries")

    # In the day

    def seconds(self) -> float:
        """Of the hospital's clock since the day began."""
        assert self.clock is not None
        return (self.clock.now() - DAY_BEGINS).total_seconds()

    def sleep(self, seconds: float) -> None:
        """So many of the hospital's seconds."""
        assert self.clock is not None
        time.sleep(max(0.0, seconds) / self.clock.speed)

    def sleep_until(self, moment: float) -> None:
        self.sleep(moment - self.seconds())

    def hands(self) -> SimulatedLibrary:
        """What a person can do to the library and see of the shelf."""
        return SimulatedLibrary(self.home / "robot")
