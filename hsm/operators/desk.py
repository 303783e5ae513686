"""Prompts as consoles show them, and the answers to them.

Any number of consoles may be open: everything is in the catalog, an answer is given once, and who comes
later is told who was first.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from drivers.base import SimulatedHands
from hsm.catalog import media, movements, prompts, queue, queuelooks, views
from hsm.catalog.engine import Catalog
from hsm.catalog.media import VolumeRef
from hsm.catalog.prompts import PromptRef
from hsm.catalog.views import Page
from hsm.catalog.views.prompts import Other, others
from hsm.claims import Drives
from hsm.custody import Custody
from hsm.errors import BadInput, DriverError, Refused
from hsm.model import Place
from hsm.operators.doors import LibraryDoors
from hsm.operators.manners import Manners
from hsm.operators.picklist import Walk, Wanted, pick
from hsm.operators.reach import seconds_to_read
from hsm.operators.scanning import Held, Verdict, decide
from hsm.operators.words import closed, end_of, held_since
from hsm.pools import Pools
from hsm.states import Outcome
from hsm.wake import Bell

Record = dict[str, Any]

PROMPTS_MAX = 1000
COMMENT_MAX = 1000
FAILING = (Outcome.CANNOT_FIND, Outcome.DAMAGED, Outcome.WRONG_SITE)
ANSWERS = (Outcome.DONE, Outcome.REFUSED, *FAILING, Outcome.SUBSTITUTED)
"""What a person may answer."""


class Operators:
    """The desk that consoles, scripts and scanners talk to."""

    def __init__(
        self,
        catalog: Catalog,
        pools: Pools,
        custody: Custody,
        drives: Drives,
        bell: Bell,
        manners: Manners,
    ) -> None:
        self._catalog = catalog
        self._pools = pools
        self._custody = custody
        self._bell = bell
        self.manners = manners
        self.doors = LibraryDoors(pools, drives, catalog.clock)

    # What is asked for

    def prompts(self, *, every: bool = False, page: Page | None = None) -> list[Record]:
        """Mount requests in the order to answer them; with ``every`` the answered ones too, newest first."""
        now = self._catalog.clock.now()
        return self._shown(now, self._walks(), every=every, page=page)

    def _shown(
        self,
        now: datetime,
        walks: tuple[Walk, ...],
        *,
        every: bool = False,
        page: Page | None = None,
        only: Collection[int] | None = None,
    ) -> list[Record]:
        with self._catalog.read() as session:
            shown = views.mounts(session, now, every=every, page=page, only=only)
            ways = movements.open_ones(session)
            else_where = others(session, [each["volume_pk"] for each in shown])
        into = self._places(walks)
        for each in shown:
            pk = each.pop("volume_pk")
            found = else_where[pk] if each["state"] == "open" else []
            each["moving"] = ways[pk].words if pk in ways and each["state"] == "open" else ""
            each["alternatives"] = [self._alternative(other) for other in found]
            each["into"] = into.get(each["id"], "")
            since = held_since(each["waiters"])
            each["deadline"] = since + timedelta(seconds=self.manners.hold) if since else None
        return shown

    def picklist(self) -> Record:
        """The walk to make now and the next one, with what to take from which shelf and where to put it."""
        now = self._catalog.clock.now()
        asked = self._asked()
        walks = self._pick(asked)
        carried = [item.wanted.prompt for walk in walks for item in walk.items]
        by_id = {each["id"]: each for each in self._shown(now, walks, page=Page(PROMPTS_MAX), only=carried)}
        return {
            "at": now,
            "open": len(asked),
            "walks": [
                {
                    "number": walk.number,
                    "stops": [
                        {
                            "site": stop.site,
                            "shelf": stop.shelf,
                            "items": [
                                by_id[item.wanted.prompt] | {"into": item.into}
                                for item in stop.items
                                if item.wanted.prompt in by_id
                            ],
                        }
                        for stop in walk.stops
                    ],
                }
                for walk in walks
            ],
        }

    def _walks(self) -> tuple[Walk, ...]:
        return self._pick(self._asked())

    def _asked(self) -> list[views.Asked]:
        with self._catalog.read() as session:
            return views.asked(session, PROMPTS_MAX)

    def _pick(self, asked: Sequence[views.Asked]) -> tuple[Walk, ...]:
        only = next(iter(self._pools.libraries), "") if len(self._pools.libraries) == 1 else ""
        wanted = [
            Wanted(
                each.id,
                each.barcode,
                each.library or only,
                each.site,
                each.stands,
                each.urgency,
                each.created_at,
            )
            for each in asked
        ]
        return pick(wanted, self.doors.look())

    @staticmethod
    def _places(walks: tuple[Walk, ...]) -> dict[int, str]:
        return {item.wanted.prompt: item.into for walk in walks for item in walk.items}

    def _alternative(self, other: Other) -> Record:
        seconds = seconds_to_read(other.name, Place(other.place), other.site, other.bytes, self.manners.feet)
        return {
            "barcode": other.name,
            "where": other.where,
            "site": other.site,
            "state": other.state,
            "packages": other.packages,
            "bytes": other.bytes,
            "seconds": round(seconds),
        }

    # Answers

    def acknowledge(
        self, barcode: str, by: str, seconds: float | None = None, *, take: bool = False
    ) -> Record:
        """Somebody goes for it. Said again, it lasts longer.

        :raises Refused: it is not asked for, or somebody else has gone; ``take`` goes all the same.
        """
        now = self._catalog.clock.now()
        until = now + timedelta(seconds=self.manners.acknowledged if seconds is None else seconds)
        with self._catalog.write() as session:
            volume = media.volume(session, barcode)
            prompt = self._open(session, volume)
            walker = prompt.walker(now)
            if walker not in ("", by) and not take:
                raise Refused(
                    f"{walker} has gone for {barcode}, until {prompt.acked_until:%H:%M} UTC;"
                    " say --take to go yourself"
                )
            prompts.acknowledge(session, volume.pk, now, by, until)
        return {"barcode": barcode, "acked_by": by, "acked_until": until, "instead_of": walker}

    def release(self, barcode: str, by: str) -> Record:
        """Nobody is on the way for it any more."""
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            volume = media.volume(session, barcode)
            self._open(session, volume)
            return {"barcode": barcode, "released": prompts.release(session, volume.pk, now, by)}

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
        """Answer the open mount request of a volume, or the one of this number.

        Returns ``answered`` (False: it was so already), ``outcome``, ``answered_by``, ``answered_at`` and,
        where the volume is not brought, ``others`` (volumes that are used instead), ``switched`` and ``left``
        (recalls that go on with them, and that wait on).

        :raises Refused: it was never asked for, or was answered otherwise: the message says by whom and when.
        :raises BadInput: the answer lacks something.
        """
        if outcome not in ANSWERS:
            raise BadInput(f"outcome {outcome.value!r}: expected one of {', '.join(ANSWERS)}")
        if len(comment) > COMMENT_MAX:
            raise BadInput(f"comment: {len(comment)} characters; expected {COMMENT_MAX} at most")
        with self._catalog.read() as session:
            volume = media.volume(session, barcode)
            again = self._again(session, volume, outcome, by, number)
        if again is not None:
            return again
        if outcome is Outcome.DONE:
            done = self._custody.operator_done(barcode, by, comment)
            self.doors.forget()
            return done | self._ended(volume)
        if outcome is Outcome.REFUSED:
            refused = self._custody.operator_refuse(barcode, by, comment)
            return refused | {"answered": True} | self._ended(volume)
        return self._not_brought(volume, outcome, by, comment, site, instead)

    def _not_brought(
        self, volume: VolumeRef, outcome: Outcome, by: str, comment: str, site: str, instead: str
    ) -> Record:
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            found = others(session, [volume.pk])[volume.pk]
            usable = [each for each in found if not instead or each.name == instead]
            substitute = self._substitute(session, volume, usable, found, instead, outcome)
            waiting = queuelooks.recalls_waiting(session, volume.pk)
            where = f"at site {site}" if site else ""
            said = " ".join(part for part in (where, comment) if part)
            if not prompts.answer(session, volume.pk, outcome, now, by, said, instead_pk=substitute):
                raise Refused(f"{volume.name} has just been answered by somebody else; look again")
            if outcome is Outcome.CANNOT_FIND:
                media.not_there(session, volume.pk, now, by, comment)
            elif outcome is Outcome.DAMAGED:
                media.damaged(session, volume.pk, now, by, comment)
            elif outcome is Outcome.WRONG_SITE:
                media.place_volume(
                    session,
                    volume.pk,
                    Place.SHELF,
                    now,
                    by,
                    library=volume.library,
                    shelf=volume.shelf,
                    site=site or "elsewhere",
                )
            served = {pk for each in usable for pk in each.requests}
            queue.pass_over(session, waiting, volume.name, now, by, preferred=instead)
            queue.wake_waiting(session, volume.pk, now, by)
        self._bell.ring()
        return {
            "barcode": volume.name,
            "answered": True,
            "others": [self._alternative(each) for each in usable],
            "switched": len(served & set(waiting)),
            "left": len(set(waiting) - served),
        } | self._ended(volume)

    @staticmethod
    def _substitute(
        session: Session,
        volume: VolumeRef,
        usable: list[Other],
        found: list[Other],
        instead: str,
        outcome: Outcome,
    ) -> int | None:
        """The key of the volume that somebody brings instead."""
        if outcome is not Outcome.SUBSTITUTED:
            return None
        if not instead:
            raise BadInput("volume: expected the barcode of the volume to use instead")
        if instead == volume.name:
            raise BadInput(f"{instead} cannot stand in for itself")
        other = media.volume(session, instead)
        if not usable:
            have = ", ".join(each.name for each in found) or "no other volume"
            raise Refused(
                f"{instead} holds nothing of what waits for {volume.name}; {have} has a good copy of it"
            )
        return other.pk

    def _open(self, session: Session, volume: VolumeRef) -> PromptRef:
        """:raises Refused: it is not asked for; the message says how that ended."""
        prompt = prompts.current(session, volume.pk)
        if prompt is None:
            raise Refused(f"nobody has asked for {volume.name}")
        if not prompt.is_open:
            raise Refused(closed(prompt))
        return prompt

    def _again(
        self, session: Session, volume: VolumeRef, outcome: Outcome, by: str, number: int | None
    ) -> Record | None:
        """What to reply when the same was said before; None where there is something to answer.

        :raises Refused: it was answered otherwise.
        """
        prompt = prompts.current(session, volume.pk) if number is None else prompts.by_number(session, number)
        if prompt is None and number is None and outcome is Outcome.DONE:
            return None  # brought unasked: it is taken in all the same
        if prompt is None or prompt.volume_pk != volume.pk:
            what = (
                "nobody has asked for it" if number is None else f"mount request {number} is for another one"
            )
            raise Refused(f"{volume.name}: {what}")
        if prompt.is_open:
            if not prompt.note or not prompts.said_before(
                session, volume.pk, outcome, by, self._catalog.clock.now()
            ):
                return None
            prompt = prompts.last(session, volume.pk) or prompt
        elif prompt.outcome != outcome:
            if outcome is Outcome.DONE and number is None:
                return None  # it was given up and is there after all
            raise Refused(closed(prompt))
        elif outcome is Outcome.DONE and volume.place in (Place.SHELF, Place.UNKNOWN):
            return None  # it had been brought once, left again, and is back
        return {"barcode": volume.name, "library": volume.library, "answered": False} | end_of(prompt)

    def _ended(self, volume: VolumeRef) -> Record:
        with self._catalog.read() as session:
            ended = prompts.last(session, volume.pk)
        return {} if ended is None else end_of(ended)

    # Scanned

    def scan(self, barcode: str, by: str) -> Record:
        """Somebody holds this cartridge, or has just put it in: completes its prompt, or says what to do.

        Returns ``verdict``, ``text`` and the barcode; whoever scans what is wanted is on the way with it.
        """
        barcode = barcode.strip()
        if not 1 <= len(barcode) <= 64 or not barcode.isprintable():
            raise BadInput(f"barcode {barcode[:40]!r}: expected 1 to 64 printable characters")
        held = self._held(barcode)
        wanted = [
            " ".join(part for part in (each["barcode"], f"({each['where']})") if part)
            for each in self.prompts(page=Page(PROMPTS_MAX))
        ]
        decision = decide(held, wanted)
        done: Record = {}
        if decision.verdict is Verdict.DONE:
            done = self.answer(barcode, Outcome.DONE, by, "scanned")
        elif decision.verdict is Verdict.PUT_IN:
            done = self.acknowledge(barcode, by, take=True)
        elif held.known:
            self.doors.forget()
        return done | {"barcode": barcode, "verdict": decision.verdict.value, "text": decision.text}

    def _held(self, barcode: str) -> Held:
        with self._catalog.read() as session:
            volume = media.find_volume(session, barcode)
            prompt = prompts.current(session, volume.pk) if volume is not None else None
        if volume is None:
            return Held(barcode, known=False, wanted=False, seen=False)
        into = self._places(self._walks())
        library = volume.library or next(iter(self._pools.libraries), "")
        wanted = prompt is not None and prompt.is_open
        return Held(
            barcode,
            known=True,
            wanted=wanted,
            seen=self._sees(library, barcode, wanted=wanted),
            library=library,
            into=into.get(prompt.pk, "") if prompt is not None else "",
            what=f"{volume.pool or 'no pool'}, {volume.state.value}",
            belongs=volume.stands,
            answered="" if prompt is None or wanted else closed(prompt),
        )

    def _sees(self, library: str, barcode: str, *, wanted: bool) -> bool:
        changer = self._pools.libraries.get(library)
        if changer is None:
            return False
        if wanted and isinstance(changer, SimulatedHands):
            return True  # it must be told, and is when the prompt is answered
        try:
            return changer.inventory().find(barcode) is not None
        except DriverError:
            return False
