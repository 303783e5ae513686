"""``hsm operator watch`` on real pseudo terminals, against a real daemon with its simulated library."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from textual.pilot import Pilot

from cli.watch.actions import Act, Kind, Outcome
from cli.watch.app import Watch
from cli.watch.ask import perform
from cli.watch.terminal import Look
from hsm.client import Client, Refused
from tests.realterminal import ENTER, F2, F3, F4, F10, TAB, Terminal
from tests.story.archive import CONFIG, Archive, until

SHELVES = ("A3", "A12", "B1", "C7")
PICTURES = os.environ.get("HSM_PICTURES", "")
"""A folder to keep pictures of the screen in, for the documentation."""
STUDIES = 14 if PICTURES else 6
LIBRARY = "slots: 16, mail_slots: 3, drives: 2, cartridges: 16,\n               capacity_bytes: 64 KiB"
"""So small that every study has a cartridge of its own."""


class Shelf:
    """The archive, and the cartridge of each study."""

    def __init__(self, archive: Archive, barcodes: dict[str, str]) -> None:
        self.archive = archive
        self._left = list(barcodes.items())

    def ask(self, count: int = 1, priority: str = "routine") -> list[str]:
        """Recall studies that were not asked for yet; the barcodes of the prompts that this opens."""
        taken, self._left = self._left[:count], self._left[count:]
        with self.archive.client() as client:
            client.recall([uid for uid, _ in taken], priority)
            wanted = {barcode for _, barcode in taken}
            until(lambda: wanted <= self.prompts(client), "the prompts are there")
        return sorted(wanted)

    @staticmethod
    def prompts(client: Client) -> set[str]:
        return {each["barcode"] for each in client.prompts()}

    def number(self, barcode: str) -> int:
        """The open prompt's for a volume; 0 when there is none."""
        with self.archive.client() as client:
            return next((each["id"] for each in client.prompts() if each["barcode"] == barcode), 0)

    def watch(self, *, size: tuple[int, int] = (80, 24), by: str = "anna", **environment: str) -> Terminal:
        """``hsm operator watch`` on a terminal of its own."""
        name = ["--by", by] if by else []
        command = [sys.executable, "-P", "-m", "cli", "--home", str(self.archive.home), "operator", "watch"]
        keep = {key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ}
        given = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "USER": "root"} | environment
        return Terminal([*command, "--interval", "0.2", *name], keep | given, *size)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """One daemon for all; everything it holds is on cartridges on the shelf."""
    home = tmp_path_factory.mktemp("operator") / "home"
    small = CONFIG.replace(
        "slots: 6, mail_slots: 2, drives: 2, cartridges: 6,\n               capacity_bytes: 64 MiB", LIBRARY
    )
    assert small != CONFIG
    archive = Archive(home, f"sqlite:///{home}/catalog.db", template=small)
    archive.start()
    try:
        paths = list(_studies(home))
        stored = archive.dcmtk("storescu", *map(str, paths))
        assert stored.returncode == 0, stored.stderr
        until(lambda: archive.all_on_tape(STUDIES), "everything is on tape")
        yield Shelf(archive, _shelved(archive))
    finally:
        archive.stop()


def _studies(home: Path) -> Iterator[Path]:
    """Studies of one image each."""
    source = get_testdata_file("CT_small.dcm")
    assert source is not None
    for number in range(STUDIES):
        image = pydicom.dcmread(source)
        image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        path = home / f"study{number}.dcm"
        image.save_as(path)
        yield path


def _shelved(archive: Archive) -> dict[str, str]:
    """Take every cartridge that holds a study out of the library; study -> barcode."""
    found = {}
    with archive.client() as client:
        for number, study in enumerate(client.find_studies(limit=100)):
            copies = client.locate(study["uid"])["copies"]
            barcode = next(copy["volume"] for copy in copies if copy["pool"] == "tape")
            found[study["uid"]] = barcode
            until(lambda: _exported(client, barcode, SHELVES[number % len(SHELVES)]), "it is taken out")  # noqa: B023
    assert len(set(found.values())) == STUDIES
    return found


def _exported(client: Client, barcode: str, place: str) -> bool:
    try:
        client.export(barcode, place)
    except Refused:
        return False  # a drive has it still
    return True


def test_a_scanned_barcode_alone_answers_the_prompt_in_the_operators_name(shelf: Shelf) -> None:
    (barcode,) = shelf.ask(priority="stat")
    with shelf.watch(by="") as terminal:
        terminal.until(lambda shown: "Who are you?" in shown, "the name is asked for")
        terminal.type("\x15anna" + ENTER)
        shown = terminal.until(lambda shown: barcode in shown, "the prompt")
        assert "STAT" in shown
        assert "shelf " in shown
        assert terminal.emulator.bells > 0
        terminal.type(barcode + ENTER)
        terminal.until(lambda shown: f"{barcode} is in library" in shown, "the answer")
        terminal.until(lambda shown: "Nothing is asked for" in shown, "the prompt has gone")
        terminal.type(F10)
        assert terminal.until_ended() == 0
        assert b"\x1b[?1049l" in terminal.raw, "the shell's screen is back"
    (last,) = shelf.archive.ask(lambda client: client.prompts(every=True, limit=1))
    assert last["barcode"] == barcode
    assert last["answered_by"].startswith("anna")


def test_two_consoles_see_each_others_answers_and_a_wrong_cartridge_is_said_loudly(shelf: Shelf) -> None:
    first, second = shelf.ask(2)
    with shelf.watch(by="anna") as anna, shelf.watch(by="bob", size=(200, 50)) as bob:
        for terminal in (anna, bob):
            terminal.until(lambda shown: first in shown and second in shown, "both prompts")
        anna.type(F2)
        anna.until(lambda shown: "Every console shows that anna is walking" in shown, "what will happen")
        anna.type(ENTER)
        bob.until(lambda shown: "anna is walking" in shown, "the other console shows who walks")
        bob.type("T99999L8" + ENTER)
        bob.until(
            lambda shown: "UNKNOWN CARTRIDGE" in shown and "is not in the catalog" in shown, "it is said"
        )
        assert "Wanted: " in bob.shown
        bob.type(second + ENTER)  # the notice is no obstacle
        bob.until(lambda shown: f"{second} is in library" in shown, "the next scan")
        anna.until(lambda shown: f"{second}: done, by bob" in shown, "the other console says who answered")
        assert second not in anna.shown.partition("──")[0]
        before = shelf.number(first)
        anna.type(F4 + "behind the radiator?" + ENTER)
        until(lambda: shelf.number(first) not in (0, before), "it is asked for anew: nothing else has it")
        anna.type(first + ENTER)  # and there it was
        anna.until(lambda shown: f"{first} is in library" in shown, "found after all")
        bob.process.send_signal(signal.SIGTERM)
        assert bob.until_ended() == 143
        assert b"\x1b[?1049l" in bob.raw, "the terminal is given back"


def test_without_the_daemon_the_last_picture_stays_and_a_scan_is_sent_when_it_is_back(shelf: Shelf) -> None:
    (barcode,) = shelf.ask()
    with shelf.watch() as terminal:
        terminal.until(lambda shown: barcode in shown, "the prompt")
        shelf.archive.kill()
        terminal.until(lambda shown: "NO DAEMON ANSWERS" in shown, "it says so")
        terminal.type(barcode + ENTER)
        shown = terminal.until(lambda shown: "NOT SENT YET" in shown, "the scan waits where it is seen")
        assert shown.count(barcode) >= 2, "in the old picture, and among what waits"
        terminal.type(F10)
        terminal.until(lambda shown: "End all the same?" in shown, "nothing is lost silently")
        terminal.type("\x1b")
        shelf.archive.start()
        terminal.until(lambda shown: f"{barcode} is in library" in shown, "it is sent")
        assert "NO DAEMON" not in terminal.shown


def test_a_cartridge_that_leaves_is_taken_and_confirmed_on_the_screen(shelf: Shelf) -> None:
    with shelf.archive.client() as client:
        barcode = next(each["name"] for each in client.volumes(place="slot", limit=50))
        client.plan_export([barcode], "9-01", "vault", plan=True)
        with shelf.watch() as terminal:
            terminal.until(lambda shown: "on their way" in shown, "the screen")
            terminal.type(TAB + TAB + TAB)
            terminal.until(lambda shown: barcode in shown and "shelf 9-01 at vault" in shown, "where it goes")
            terminal.type(F2 + ENTER)
            terminal.until(lambda shown: f"still sees {barcode}" in shown, "the library knows better")
            client.plan_export([barcode], "9-01", "vault")
            terminal.until(lambda shown: "taken, not confirmed" in shown, "it has left")
            terminal.type(F3)
            terminal.until(lambda shown: "The custody record says that anna" in shown, "what will happen")
            terminal.type(ENTER)
            terminal.until(lambda shown: f"{barcode} is arrived" in shown, "it is there")
        (last,) = [each for each in client.movements(every=True) if each["shelf"] == "9-01"]
    assert (last["state"], last["ended_by"].partition(" ")[0]) == ("arrived", "anna")


def test_an_old_terminal_gets_ascii_without_colours_and_a_hang_up_ends_it(shelf: Shelf) -> None:
    (barcode,) = shelf.ask()
    with shelf.watch(TERM="vt100", LANG="C") as terminal:
        terminal.until(lambda shown: barcode in shown, "the prompt")
        terminal.type(TAB)
        terminal.until(lambda shown: "Walk 1, now" in shown, "the pick list")
        assert terminal.raw.isascii()
        assert b"\x1b[38" not in terminal.raw
        assert not any(b"\x1b[%dm" % colour in terminal.raw for colour in range(30, 48))
        for columns, rows in ((200, 50), (30, 8), (80, 24)):
            terminal.resize(columns, rows)
            until_drawn = _until_full(columns, rows)
            terminal.until(until_drawn, f"all of {columns} by {rows} is drawn")
        terminal.hang_up()
        deadline = time.monotonic() + 10
        while terminal.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert terminal.process.poll() == -signal.SIGHUP


def _until_full(columns: int, rows: int) -> Callable[[str], bool]:
    """The foot stands in the last line of a screen of this size."""

    def seen(shown: str) -> bool:
        lines = shown.split("\n")
        last = "F2 walking" if columns >= 150 else "Enter actions"
        return len(lines) == rows and lines[-1].startswith(f" {last}"[:columns])

    return seen


def test_the_screen_on_both_sizes_shows_what_the_archive_asks(shelf: Shelf) -> None:
    urgent = shelf.ask(4 if PICTURES else 1, "stat")
    wanted = urgent + (shelf.ask(5) if PICTURES else [])
    for size in ((80, 24), (200, 50)):
        shown = asyncio.run(_walk_for(shelf, urgent[0], size))
        assert {len(each) for each in shown} == {size[0]}
        assert all(any(barcode in each for each in shown) for barcode in wanted[:4])
        assert any("anna is walking" in each for each in shown)


async def _walk_for(shelf: Shelf, barcode: str, size: tuple[int, int]) -> list[str]:
    """Say on a screen of this size that anna walks for a volume; its lines then."""
    path = shelf.archive.home / "hsm.sock"
    app = Watch(lambda name: lambda: Client(path, by=name), Look(), name="anna", interval=0.2)
    async with app.run_test(size=size) as pilot:
        await _until(pilot, lambda: barcode in app.state.order)
        while app.state.chosen != barcode:
            await pilot.press("down")
        chosen = app.state.prompt
        assert chosen is not None
        if not chosen.taken_by:
            await pilot.press("f2", "enter")
        await _until(pilot, lambda: app.state.prompt is not None and bool(app.state.prompt.taken_by))
        if PICTURES:
            _keep(app)
        lines = [app.canvas.render_line(row).text for row in range(size[1])]
        await pilot.press("f10")
    assert app.return_value == 0
    return lines


async def _until(pilot: Pilot[int], seen: Callable[[], bool]) -> None:
    for _ in range(600):
        if seen():
            return
        await pilot.pause(0.05)
    raise AssertionError("not seen within 30 s")


def _keep(app: Watch) -> None:
    size = f"{app.size.width}x{app.size.height}"
    Path(PICTURES, f"operator-{size}.svg").write_text(app.export_screenshot(title="hsm operator watch"))


def test_every_answer_is_one_that_the_daemon_knows(shelf: Shelf) -> None:
    with shelf.archive.client() as client:
        if len(shelf.prompts(client)) < 2:
            shelf.ask(2 - len(shelf.prompts(client)))
        first, second = sorted(shelf.prompts(client))[:2]

        def say(kind: Kind, barcode: str = "", **more: Any) -> Outcome:
            number = shelf.number(barcode) if barcode else 0
            return perform(client, Act(kind, barcode, id=number, **more))

        assert "walking for" in say(Kind.WALK, first, take=True).said
        assert "nobody is walking" in say(Kind.STAY, first).said
        refused = say(Kind.SUBSTITUTE, first, instead=first)
        assert not refused.good
        assert "cannot stand in for itself" in refused.said
        wrong = say(Kind.WRONG_SITE, first, comment="north")
        assert wrong.good, wrong.said
        assert client.volume(first)["where"].endswith("at north")
        damaged = say(Kind.DAMAGED, second, comment="cracked")
        assert damaged.good, damaged.said
        assert "cracked" in client.volume(second)["error"]
        assert say(Kind.LOOK).good
