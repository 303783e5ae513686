"""People are told of damaged copies: what was found, what is good again, what no good copy is left of; and of
backups of the catalog that fail.

A message is in the journal before it is sent, and so is that it went: one that does not go is tried again,
over restarts, and given up in the end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from hsm.catalog import alarms
from hsm.catalog.alarms import Alarm
from hsm.catalog.engine import Catalog
from hsm.clock import Clock
from hsm.config.operators import ChannelConfig, OperatorConfig
from hsm.log import get_logger
from hsm.operators.channels import NotSent, send
from hsm.operators.escalation import is_quiet
from hsm.operators.message import Message, clean
from hsm.repair import News

log = get_logger(__name__)

SHOWN_MAX = 50
PENDING_MAX = 1000
"""Messages that wait for a channel, or for the end of quiet hours; then the oldest are forgotten."""
ATTEMPTS_MAX = 60
"""Rounds, one a minute."""


def compose(news: News, archive: str) -> Message:
    """A subject, the copies by what became of them, and the same for programs. Pure."""
    parts = (
        ("NO GOOD COPY IS LEFT of", news.hopeless),
        ("damaged, and made anew from good copies:", news.damaged),
        ("good again:", news.mended),
    )
    said = [f"{len(found)} {words.rstrip(':')}" for words, found in parts if found]
    subject = clean(f"[{archive}] " + ("URGENT: " if news.hopeless else "") + "copies: " + "; ".join(said))
    text = "\n\n".join(_paragraph(words, found) for words, found in parts if found)
    data = {
        "archive": archive,
        "subject": subject,
        "no_good_copy": list(news.hopeless[:SHOWN_MAX]),
        "damaged": list(news.damaged[:SHOWN_MAX]),
        "mended": list(news.mended[:SHOWN_MAX]),
        "counts": {
            "no_good_copy": len(news.hopeless),
            "damaged": len(news.damaged),
            "mended": len(news.mended),
        },
    }
    return Message(subject, f"{text}\n\nLook with: hsm status, hsm audit copies, hsm audit media\n", data)


def compose_backup(pool: str, why: str, last: datetime | None, now: datetime, archive: str) -> Message:
    """The catalog's backup into a pool fails, and what to do. Pure.

    :param why: the error; empty: it is written again.
    :param last: when the last good one was written; None: there is none.
    """
    said = f"the catalog's backup into {pool}"
    subject = clean(f"[{archive}] " + (f"URGENT: {said} fails" if why else f"{said} is written again"))
    known = f"The last good one is of {last:%Y-%m-%d %H:%M} UTC." if last else "There is no good one."
    text = f"{clean(why)}\n\n" if why else ""
    text += f"{known}\n"
    if why:
        text += (
            "\nIt is tried again every 10 minutes, and this is said once a day. What was archived since then "
            "is on media only, from which the catalog can be rebuilt more slowly.\n"
            f"Look with: hsm status, hsm pool show {pool}. Mend the pool, or name another one "
            f"(catalog.backup.pool); then: hsm catalog backup --pool {pool}\n"
        )
    data = {"archive": archive, "subject": subject, "pool": pool, "why": why, "good": not why}
    data |= {"at": f"{now:%Y-%m-%dT%H:%M:%SZ}", "last_good": f"{last:%Y-%m-%dT%H:%M:%SZ}" if last else None}
    return Message(subject, text, data)


def _paragraph(words: str, found: Sequence[str]) -> str:
    more = [f"and {len(found) - SHOWN_MAX} more"] if len(found) > SHOWN_MAX else []
    return "\n    ".join([words, *(clean(each) for each in found[:SHOWN_MAX]), *more])


@dataclass(frozen=True, slots=True)
class _Pending:
    channel: str
    message: Message
    urgent: bool
    alarm: int = 0
    """Its number in the journal; 0: it is not there."""
    attempts: int = 0


class Damage:
    """Tells the channels of ``operator.damage_to``."""

    def __init__(
        self,
        config: OperatorConfig,
        archive: str,
        clock: Clock,
        send: Callable[[ChannelConfig, Message, datetime], None] = send,
        *,
        catalog: Catalog | None = None,
        node: str = "",
    ) -> None:
        """
        :param catalog: its journal keeps what waits; None: memory alone does.
        :param node: this one, by a name that it keeps when it is started again.
        """
        self._catalog = catalog
        self._node = f"alarms of {node}"
        self._begun = catalog is None
        self.config = config
        self._archive = archive
        self._clock = clock
        self._send = send
        self._pending: list[_Pending] = []
        self._lock = threading.Lock()
        self._round = threading.Lock()
        self._error = ""

    def tell(self, news: News) -> None:
        """To be told at the next round; what no good copy is left of even in quiet hours."""
        self.say(compose(news, self._archive), urgent=bool(news.hopeless))

    def say(self, message: Message, *, urgent: bool) -> None:
        """To be sent at the next round; if it is urgent even in quiet hours."""
        to = tuple(self.config.damage_to)
        if not to:
            return
        alarm = self._raise(Alarm(message.subject, message.text, message.data, to, urgent))
        with self._lock:
            new = [_Pending(name, message, urgent, alarm) for name in to]
            self._pending = [*self._pending, *new][-PENDING_MAX:]

    def round(self) -> int:
        """Send what waits; how many messages went."""
        if not self._round.acquire(blocking=False):
            return 0
        try:
            return self._send_all()
        finally:
            self._round.release()

    def _raise(self, alarm: Alarm) -> int:
        if self._catalog is None:
            return 0
        try:
            with self._catalog.write() as session:
                return alarms.raised(session, self._clock.now(), self._node, alarm)
        except SQLAlchemyError as error:
            log.warning("only memory has an alarm: %s", getattr(error, "orig", error))
            return 0

    def _end(self, pending: _Pending, why: str = "") -> None:
        """What the catalog does not take is sent once more after a restart."""
        if self._catalog is None or not pending.alarm:
            return
        try:
            with self._catalog.write() as session:
                alarms.ended(session, self._clock.now(), self._node, pending.alarm, pending.channel, why)
        except SQLAlchemyError as error:
            log.warning("that an alarm was told is not on record: %s", getattr(error, "orig", error))

    def _remember(self) -> None:
        """What the last daemon did not send; once."""
        if self._begun or self._catalog is None:
            return
        try:
            with self._catalog.read() as session:
                found = alarms.waiting(session, self._node)
        except SQLAlchemyError as error:
            log.warning("alarms of before wait: %s", getattr(error, "orig", error))
            return
        self._begun = True
        with self._lock:
            known = {each.alarm for each in self._pending}
            old = [
                _Pending(name, Message(each.subject, each.text, each.data), each.urgent, number)
                for number, each in found
                if number not in known
                for name in each.to
            ]
            self._pending = [*old, *self._pending][-PENDING_MAX:]

    def _send_all(self) -> int:
        self._remember()
        now, config = self._clock.now(), self.config
        with self._lock:
            waiting, self._pending = self._pending, []
        channels = {each.name: each for each in config.channels}
        quiet = is_quiet(config.quiet_hours, now)
        left: list[_Pending] = []
        went = 0
        for each in waiting:
            channel = channels.get(each.channel)
            if channel is None:
                self._end(each, "the configuration has the channel no more")
                continue
            if quiet and not each.urgent:
                left.append(each)
                continue
            try:
                self._send(channel, each.message, now)
            except NotSent as reason:
                self._error = str(reason)
                log.warning("damage is not told: %s", reason)
                if each.attempts + 1 < ATTEMPTS_MAX:
                    left.append(replace(each, attempts=each.attempts + 1))
                else:
                    self._end(each, str(reason)[:500])
            else:
                went += 1
                self._end(each)
        with self._lock:
            self._pending = [*left, *self._pending][-PENDING_MAX:]
        return went

    def problems(self) -> list[str]:
        """What could not be told yet."""
        with self._lock:
            failed = sum(each.attempts > 0 for each in self._pending)
        return [f"{failed} messages about damage could not be sent: {self._error}"] if failed else []
