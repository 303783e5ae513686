"""The questions to the daemon: what is there, and the answers of operators."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from cli import text
from cli.operator import outcome_of
from cli.watch.actions import Act, Kind, Outcome
from cli.watch.values import Picture, Record, picture
from hsm.client import ApiError, Client, Unreachable

PROMPTS_MAX = 1000
"""A page of the API. More prompts than one person answers in a shift; a scan finds the others too."""
REST_SECONDS = 5.0
"""How old what changes seldom may be: drives, mail slots, and the walks while the prompts are the same."""

QUEUE_MAX = 1000
ENDED_MAX = 100
"""How many of the newest prompts are looked through for those that ended meanwhile."""

WORDS: Mapping[Kind, str] = {
    Kind.DONE: "done",
    Kind.CANNOT_FIND: "cannot-find",
    Kind.DAMAGED: "damaged",
    Kind.WRONG_SITE: "wrong-site",
    Kind.SUBSTITUTE: "substitute",
}
"""What the API calls the answers."""

LOUD = {"not wanted": "NOT WANTED", "unknown": "UNKNOWN CARTRIDGE"}
"""The verdicts on a scan that nobody may overlook, and how they are headed."""


class Looks:
    """One look after the other; what changes seldom is asked for less often."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._rest_at = float("-inf")
        self._key: object = None
        self._open: frozenset[int] = frozenset()
        self._status: Record = {}
        self._mail: Sequence[Record] = ()
        self._walks: Sequence[Record] = ()
        self._movements: Sequence[Record] = ()
        self._busy: frozenset[str] | None = frozenset()

    def look(self, *, fresh: bool = False) -> Picture:
        """Everything that the screen shows; ``fresh``: also what changes seldom.

        :raises ApiError: the daemon does not answer, or not well.
        """
        prompts = self._client.prompts(limit=PROMPTS_MAX)
        key = [(each["id"], each["acked_by"], each["into"]) for each in prompts]
        now = self._clock()
        if fresh or key != self._key or now - self._rest_at >= REST_SECONDS:
            self._walks = self._client.picklist()["walks"]
            self._status = self._client.status()
            self._mail = self._client.volumes(place="mail", limit=PROMPTS_MAX)
            self._movements = self._client.movements()
            self._busy = self._in_use()
            self._key, self._rest_at = key, now
        return picture(
            text.now(),
            prompts,
            status=self._status,
            walks=self._walks,
            mail=self._mail,
            movements=self._movements,
            busy=self._busy,
            ended=self._ended(frozenset(each["id"] for each in prompts)),
        )

    def _in_use(self) -> frozenset[str] | None:
        """Volumes that something waits for, so that nobody takes them away; None when that is not known."""
        if not any(volume.get("shelf") for volume in self._mail):
            return frozenset()
        live: set[str] = set()
        for state in ("queued", "waiting", "active"):
            rows = self._client.queue(state=state, limit=QUEUE_MAX)
            if len(rows) >= QUEUE_MAX:
                return None
            live |= {str(row["volume"]) for row in rows if row.get("volume")}
        return frozenset(live)

    def _ended(self, now_open: frozenset[int]) -> list[Record]:
        """What became of the prompts that were open at the last look, as far as one page tells."""
        gone, self._open = self._open - now_open, now_open
        if not gone:
            return []
        newest = self._client.prompts(every=True, limit=ENDED_MAX)
        return [each for each in newest if each["id"] in gone and each["state"] != "open"]


def perform(client: Client, act: Act) -> Outcome:
    """Ask the daemon for one act.

    :raises Unreachable: no daemon answers; whether it had heard of it is not known.
    """
    try:
        return _perform(client, act)
    except Unreachable:
        raise
    except ApiError as error:
        said = f"{error}. {error.hint}".rstrip(". ")
        named = said if not act.barcode or act.barcode in said else f"{act.barcode}: {said}"
        return Outcome(act, False, text.clean(named))


def _perform(client: Client, act: Act) -> Outcome:
    if act.kind is Kind.LOOK:
        held = sum(bool(each["barcode"]) for each in client.inventory())
        return Outcome(act, True, f"the libraries have been looked into: {text.plural(held, 'cartridge')}")
    if act.kind is Kind.SCAN:
        return scanned(act, client.operator_scan(act.barcode))
    if act.kind is Kind.WALK:
        client.acknowledge(act.barcode, take=act.take)
        return Outcome(act, True, f"everybody sees that you are walking for {act.barcode}")
    if act.kind is Kind.STAY:
        client.release(act.barcode)
        return Outcome(act, True, f"nobody is walking for {act.barcode} any more")
    if act.kind in (Kind.TAKEN, Kind.ARRIVED):
        done = client.movement(act.barcode, "left" if act.kind is Kind.TAKEN else "arrived")
        words = "is on its way" if done["state"] == "left" else f"is {done['state']}"
        return Outcome(act, True, text.clean(f"{act.barcode} {words}: {done['from']} to {done['to']}"))
    site, comment = (act.comment, "") if act.kind is Kind.WRONG_SITE else ("", act.comment)
    answer = client.answer(act.barcode, WORDS[act.kind], comment, id=act.id, site=site, volume=act.instead)
    return Outcome(act, True, outcome_of(act.barcode, str(act.kind), answer))


def scanned(act: Act, answer: Record) -> Outcome:
    """What came of a scan: the API's sentence, loudly where the cartridge is not a wanted one."""
    verdict, said = str(answer["verdict"]), text.clean(answer["text"])
    if verdict not in LOUD:
        return Outcome(act, verdict != "again", said)
    return Outcome(act, False, said, LOUD[verdict])
