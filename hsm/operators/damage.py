"""People are told of damaged copies: what was found, what is good again, what no good copy is left of.

What is told is in the journal before; a message that does not go is tried again, and forgotten in the end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

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


def _paragraph(words: str, found: Sequence[str]) -> str:
    more = [f"and {len(found) - SHOWN_MAX} more"] if len(found) > SHOWN_MAX else []
    return "\n    ".join([words, *(clean(each) for each in found[:SHOWN_MAX]), *more])


@dataclass(frozen=True, slots=True)
class _Pending:
    channel: str
    message: Message
    urgent: bool
    attempts: int = 0


class Damage:
    """Tells the channels of ``operator.damage_to``."""

    def __init__(
        self,
        config: OperatorConfig,
        archive: str,
        clock: Clock,
        send: Callable[[ChannelConfig, Message, datetime], None] = send,
    ) -> None:
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
        message = compose(news, self._archive)
        with self._lock:
            new = [_Pending(name, message, bool(news.hopeless)) for name in self.config.damage_to]
            self._pending = [*self._pending, *new][-PENDING_MAX:]

    def round(self) -> int:
        """Send what waits; how many messages went."""
        if not self._round.acquire(blocking=False):
            return 0
        try:
            return self._send_all()
        finally:
            self._round.release()

    def _send_all(self) -> int:
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
                continue  # the configuration has it no more
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
                went += 1
        with self._lock:
            self._pending = [*left, *self._pending][-PENDING_MAX:]
        return went

    def problems(self) -> list[str]:
        """What could not be told yet."""
        with self._lock:
            failed = sum(each.attempts > 0 for each in self._pending)
        return [f"{failed} messages about damaged copies could not be sent: {self._error}"] if failed else []
