"""The guided tour: every step of the whole road, done and shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from rich.rule import Rule
from rich.text import Text

from cli import screen, text
from cli.demo_home import DemoError, DemoHome
from cli.demo_peer import Moved, Peer, dataset_bytes
from cli.demo_studies import DemoStudy, make_studies
from cli.operator import COLUMNS, mount_row
from hsm.client import Refused

Record = dict[str, Any]

STEPS = 8
STEP_SECONDS_MAX = 60.0
POLL_SECONDS = 0.1
POOLS = ("online", "nearline", "tape")
SHELF = "room 12, shelf A3"
LOOK_SECONDS = 2.0
"""How long the operator of the demo takes, so that the waiting C-MOVE is seen to wait."""


class Tour:
    """The steps, in order. Each says what happens, does it, and shows what is where."""

    def __init__(self, home: DemoHome, peer: Peer, *, pause: bool) -> None:
        self._home = home
        self._client = home.client
        self._peer = peer
        self._pause = pause
        self._number = 0
        listen = self._client.status()["daemon"]["listen"]
        self._title = str(listen["ae_title"])
        self._port = int(str(listen["dicom"]).rpartition(":")[2])
        self._ct, self._mr = make_studies(datetime.now().astimezone())
        self._began = time.monotonic()

    def run(self) -> None:
        self._store()
        self._seal()
        self._copy()
        self._release()
        self._nearline()
        cartridge = self._shelve()
        moved = self._ask()
        self._answer(cartridge, moved)
        screen.out().print(Rule(style="dim"))
        screen.say_text(
            f"That was the whole road, in {time.monotonic() - self._began:.0f} s. Your own archive:"
            " `hsm serve`, then store into it and watch `hsm status`.",
            style="bold",
        )

    def _store(self) -> None:
        self._step("Two modalities store", "A success is sent only when the bytes are safe on disk.")
        for study in (self._ct, self._mr):
            count = self._peer.store(self._port, study.instances, self._title)
            screen.say(f"C-STORE  {study.title}: {count} images acknowledged")
        self._show()

    def _seal(self) -> None:
        self._step(
            "Quiet studies are sealed",
            "Nothing more arrives, so each study becomes a package: one tar with a manifest, the same"
            " bytes on every medium.",
        )
        self._until("both studies are sealed", lambda: all(self._study(s)["packages"] for s in self._both()))
        self._show()

    def _copy(self) -> None:
        self._step(
            "Policies copy",
            "`hsm policy run`: every study to slow disk, CTs to tape as well. Each copy is read back"
            " from its medium before it counts as verified.",
        )
        self._run_policies()
        self._show()

    def _release(self) -> None:
        self._step(
            "Policies release",
            "Now that verified copies exist, the fast disk is freed, and for the CT the slow one too."
            " The last good copies are never touched.",
        )
        self._run_policies()
        self._show()

    def _nearline(self) -> None:
        self._step(
            "Slow disk is not felt",
            "The MR is NEARLINE: a C-MOVE is served straight out of its package.",
        )
        moved = self._peer.move(self._port, self._mr.uid, self._title)
        self._until("the C-MOVE has ended", moved.ended.is_set)
        self._check_delivered(self._mr, moved)

    def _shelve(self) -> str:
        self._step("A cartridge leaves the library", "The robot hands out the tape; a person shelves it.")
        copies = self._client.locate(self._ct.uid)["copies"]
        cartridge = next(str(copy["volume"]) for copy in copies if copy["pool"] == "tape")
        screen.say(f"$ hsm library export {cartridge} --shelf '{SHELF}'")
        self._until("the robot hands it out", lambda: self._exported(cartridge))
        found = self._peer.find(self._port, self._ct.uid, self._title)
        screen.say_text(
            f"C-FIND   {self._ct.title}: Instance Availability {found.InstanceAvailability},"
            f" Storage Media File-Set ID {found.get('StorageMediaFileSetID', '')}"
        )
        self._show()
        return cartridge

    def _exported(self, cartridge: str) -> bool:
        """False while a drive still has the cartridge in use."""
        try:
            self._client.export(cartridge, SHELF)
        except Refused:
            return False
        return True

    def _ask(self) -> Moved:
        self._step(
            "A workstation asks for it all the same",
            "The C-MOVE is held with Pending responses, and a person is asked for the cartridge.",
        )
        moved = self._peer.move(self._port, self._ct.uid, self._title)
        self._until("the prompt appears", lambda: bool(self._client.mounts()))
        time.sleep(LOOK_SECONDS)
        screen.say("$ hsm operator ls")
        screen.say_table(COLUMNS, map(mount_row, self._client.mounts()))
        screen.say(f"C-MOVE   still waiting, {moved.pending} Pending responses so far")
        if moved.ended.is_set():
            raise DemoError(f"the C-MOVE did not wait for the cartridge: {_ending(moved)}")
        return moved

    def _answer(self, cartridge: str, moved: Moved) -> None:
        self._step(
            "The operator answers",
            "The cartridge goes back into the library; the robot, the drive and the C-MOVE do the rest.",
        )
        screen.say(f"$ hsm operator done {cartridge}")
        self._client.operator_done(cartridge)
        self._until("the C-MOVE has ended", moved.ended.is_set)
        self._check_delivered(self._ct, moved)
        self._show()

    # How a step is done

    def _step(self, title: str, why: str) -> None:
        if self._number and self._pause:
            screen.out().input(Text("Enter for the next step ", style="dim"))
        self._number += 1
        console = screen.out()
        console.print(Rule(Text(f"{self._number}/{STEPS}  {title}"), align="left", style="cyan"))
        screen.say_text(why, style="dim")

    def _both(self) -> tuple[DemoStudy, DemoStudy]:
        return self._ct, self._mr

    def _study(self, study: DemoStudy) -> Record:
        return self._client.study(study.uid)

    def _run_policies(self) -> None:
        for run in self._client.run_policies()["runs"]:
            for decision in run["decisions"]:
                screen.say_text(
                    f"policy {run['policy']}, rule {decision['rule']}: {text.clean(decision['reason'])}"
                )
        self._until("the queue is empty", self._idle)

    def _idle(self) -> bool:
        rows = self._client.queue(limit=50)
        for row in rows:
            if row["state"] == "failed":
                raise DemoError(f"{row['kind']} failed: {row['error']}")
        return not rows

    def _until(self, what: str, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + STEP_SECONDS_MAX
        with screen.out().status(f"waiting until {what} ..."):
            while not happened():
                if time.monotonic() > deadline:
                    raise DemoError(
                        f"waited {STEP_SECONDS_MAX:g} s until {what}; the daemon's log ends:\n"
                        f"{self._home.log_tail()}"
                    )
                time.sleep(POLL_SECONDS)

    def _check_delivered(self, study: DemoStudy, moved: Moved) -> None:
        if moved.status != 0x0000:
            raise DemoError(f"the C-MOVE of the {study.title} ended with {_ending(moved)}")
        for image in study.instances:
            if self._peer.received.get(image.SOPInstanceUID) != dataset_bytes(image):
                raise DemoError(f"instance {image.SOPInstanceUID} did not come back as it was sent")
        screen.say_text(
            f"C-MOVE   {study.title}: success, {len(study.instances)} images delivered,"
            " every dataset byte for byte as it was stored",
            style="green",
        )

    def _show(self) -> None:
        """What the archive holds where."""
        rows = []
        for study in self._both():
            shown = self._study(study)
            cells = [_cell(shown, pool) for pool in POOLS]
            where = screen.lines(screen.state(shown["availability"]), ", ".join(shown["media"]))
            rows.append((study.title, *cells, where))
        screen.say_table(["study", *POOLS, "C-FIND says"], rows)


def _cell(shown: Record, pool: str) -> Text:
    """One study's copies in one pool."""
    if shown["unsealed"]:
        return Text(f"{shown['unsealed']} files" if pool == "online" else "-")
    copies = [copy for package in shown["packages"] for copy in package["copies"] if copy["pool"] == pool]
    if not copies:
        return Text("-")
    states = (screen.state(copy["state"]) for copy in copies)
    places = {f"{copy['volume']}: {copy['where']}" for copy in copies if copy["place"] != "mounted"}
    return screen.lines(*states, *sorted(places))


def _ending(moved: Moved) -> str:
    if moved.failed:
        return moved.failed
    return "no final status" if moved.status is None else f"status 0x{moved.status:04X}"
