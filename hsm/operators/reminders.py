"""Reminders: who has not been told of an open prompt yet, or not for long, is told.

A message is noted before it goes and after it went; a daemon that dies in between sends it again after the
lease, once. Nothing that fails here ends a wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from hsm.catalog import notices, prompts
from hsm.catalog.engine import Catalog
from hsm.catalog.tables import Notice
from hsm.catalog.views import Page
from hsm.config.operators import ChannelConfig, OperatorConfig
from hsm.log import get_logger
from hsm.operators.channels import NotSent, send
from hsm.operators.desk import PROMPTS_MAX, Operators, Record
from hsm.operators.escalation import Due, Sent, Waiting, begun, delivered, due, failed, is_quiet
from hsm.operators.message import Message, compose
from hsm.operators.switching import switch_unanswered
from hsm.states import NoticeState
from hsm.wake import Bell

log = get_logger(__name__)

LEASE_SECONDS = 900.0
"""Longer than any channel's time limit."""


class Reminders:
    """Tells people of prompts, as the configuration's escalation says."""

    def __init__(
        self,
        catalog: Catalog,
        desk: Operators,
        config: OperatorConfig,
        archive: str,
        bell: Bell,
        send: Callable[[ChannelConfig, Message, datetime], None] = send,
    ) -> None:
        self._catalog = catalog
        self._desk = desk
        self.config = config
        self._archive = archive
        self._bell = bell
        self._send = send
        self._round = threading.Lock()

    def round(self) -> int:
        """Withdraw what nobody answers and something else can stand in for, then send what is due; how many
        messages went."""
        config = self.config
        if not self._round.acquire(blocking=False):
            return 0
        try:
            if config.switch_after is not None:
                switch_unanswered(self._catalog, self._bell, config.switch_after)
            return self._remind(config) if config.escalation else 0
        finally:
            self._round.release()

    def _remind(self, config: OperatorConfig) -> int:
        now = self._catalog.clock.now()
        with self._catalog.read() as session:
            ripe = self._due(session, config, now)
        if not ripe:
            return 0
        shown = {each["id"]: each for each in self._desk.prompts(page=Page(PROMPTS_MAX))}
        channels = {each.name: each for each in config.channels}
        went = 0
        for name in dict.fromkeys(each.step.to for each in ripe):
            mine = [each for each in ripe if each.step.to == name and each.prompt in shown]
            if mine and name in channels:
                went += self._tell(config, channels[name], mine, shown, now)
        return went

    def _due(self, session: Session, config: OperatorConfig, now: datetime) -> list[Due]:
        waiting = [
            Waiting(each.pk, each.priority, each.created_at, each.walker(now))
            for each in prompts.open_prompts(session)[:PROMPTS_MAX]
        ]
        known = {key: _sent(row) for key, row in notices.of_open_prompts(session).items()}
        return due(waiting, config.escalation, known, now, quiet=is_quiet(config.quiet_hours, now))

    def _tell(
        self,
        config: OperatorConfig,
        channel: ChannelConfig,
        wanted: Sequence[Due],
        shown: dict[int, Record],
        now: datetime,
    ) -> int:
        """One message for all of them; they are noted first, so that no other node sends it too."""
        claimed = self._claim(config, wanted, now)
        if not claimed:
            return 0
        about = [shown[pk] for pk in dict.fromkeys(each.prompt for each in claimed)]
        error = ""
        try:
            self._send(channel, compose(about, self._archive, now), now)
        except NotSent as reason:
            error = str(reason)
            log.warning("operators are not told: %s", error)
        self._note(claimed, error)
        return 0 if error else 1

    def _claim(self, config: OperatorConfig, wanted: Sequence[Due], now: datetime) -> list[Due]:
        """Those that are due still: while this node looked, another may have sent them and be through."""
        with self._catalog.write() as session:
            notices.lock_prompts(session, sorted({each.prompt for each in wanted}))
            still = {(each.prompt, each.step.name) for each in self._due(session, config, now)}
            known = notices.of_open_prompts(session)
            mine = [each for each in wanted if (each.prompt, each.step.name) in still]
            for each in mine:
                row = known.get((each.prompt, each.step.name))
                _put(session, each, begun(None if row is None else _sent(row), now, LEASE_SECONDS))
        return mine

    def _note(self, claimed: Sequence[Due], error: str) -> None:
        now = self._catalog.clock.now()
        with self._catalog.write() as session:
            known = notices.of_open_prompts(session)
            for each in claimed:
                row = known.get((each.prompt, each.step.name))
                if row is None:
                    continue  # it has been answered meanwhile
                before = _sent(row)
                after = failed(before, each.step, now, error) if error else delivered(before, each.step, now)
                _put(session, each, after)

    def problems(self) -> list[str]:
        """In sentences, what could not be told to anybody."""
        with self._catalog.read() as session:
            unsent = notices.unsent(session)
        return [
            f"operators are not told of {count} prompt{'s' if count > 1 else ''}: {error}"
            for count, error in unsent.values()
        ]


def _sent(row: Notice) -> Sent:
    return Sent(NoticeState(row.state), row.sent, row.attempts, row.last_at, row.next_at, row.error)


def _put(session: Session, each: Due, sent: Sent) -> None:
    notices.put(
        session,
        each.prompt,
        each.step.name,
        each.step.to,
        sent.state,
        sent.sent,
        sent.attempts,
        sent.last_at,
        sent.next_at,
        sent.error,
    )
