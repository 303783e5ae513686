"""The night in one mail: do all studies have their copies, is the log whole, what is wrong with media.

Sent once a night, whatever number of nodes and restarts: who sends says so in the journal first, in the
transaction in which he looks whether somebody else has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from hsm.audit import Asked, Audit
from hsm.catalog import journal
from hsm.catalog.backuprecords import BACKED_UP
from hsm.catalog.engine import Catalog
from hsm.catalog.journal import Wanted
from hsm.catalog.restored import CATALOG
from hsm.config.audit import SummaryConfig
from hsm.config.operators import ChannelConfig
from hsm.errors import HsmError
from hsm.log import get_logger
from hsm.operators.channels import NotSent, send
from hsm.operators.message import Message, clean

log = get_logger(__name__)

Record = Mapping[str, Any]
ACTOR = "summary"
KIND = "summary"
BEGUN, SENT, FAILED = "summary begun", "summary sent", "summary failed"
AGAIN = timedelta(minutes=15)
"""After which another try is made: whoever began it failed, or died."""
TRIES_MAX = 5
NAMED_MAX = 10
"""Studies, and problems, that the mail names."""


class Nightly:
    """Sends the summary when it is time. :meth:`round` is called every minute or so."""

    def __init__(
        self,
        catalog: Catalog,
        audit: Audit,
        problems: Callable[[], Sequence[str]],
        archive: str,
        send: Callable[[ChannelConfig, Message, datetime], None] = send,
    ) -> None:
        """
        :param problems: what ``hsm status`` lists.
        :param archive: its AE title.
        """
        self._catalog = catalog
        self._audit = audit
        self._all_problems = problems
        self._archive = archive
        self._send = send
        self._done: date | None = None
        self._error = ""

    def round(self, config: SummaryConfig | None, channels: Sequence[ChannelConfig]) -> bool:
        """Whether it was sent now."""
        channel = next((each for each in channels if config is not None and each.name == config.to), None)
        if config is None or channel is None:
            return False
        now = self._catalog.clock.now()
        local = now.astimezone(ZoneInfo(config.zone))
        night = local.date()
        if local.time() < config.at or self._done == night or not self._claim(night, now):
            return False
        try:
            self._send(channel, self._compose(now), now)
        except (NotSent, HsmError) as error:
            self._error = f"the nightly summary is not sent: {error}"
            log.warning("%s", self._error)
            self._note(night, FAILED, {"why": str(error)[:500]})
            return False
        self._error = ""
        self._note(night, SENT, {"to": channel.name})
        self._done = night
        return True

    def problems(self) -> list[str]:
        return [self._error] if self._error else []

    def _claim(self, night: date, now: datetime) -> bool:
        """Appending locks the journal's head: of two nodes the second sees what the first has written."""
        with self._catalog.read() as session:
            if self._taken(session, night, now, 0):
                return False
        with self._catalog.write() as session:
            mine = journal.append(session, now, ACTOR, BEGUN, KIND, night.isoformat(), {})
            if self._taken(session, night, now, mine):
                session.rollback()
                return False
        return True

    def _taken(self, session: Session, night: date, now: datetime, mine: int) -> bool:
        found = journal.find(session, Wanted(subject=night.isoformat(), kind=KIND), 3 * TRIES_MAX)
        others = [each for each in found if each.seq != mine]
        if any(each.verb == SENT for each in others):
            self._done = night
            return True
        begun = [each for each in others if each.verb == BEGUN]
        return len(begun) >= TRIES_MAX or any(now - each.at < AGAIN for each in begun)

    def _note(self, night: date, verb: str, detail: dict[str, Any]) -> None:
        with self._catalog.write() as session:
            journal.append(session, self._catalog.clock.now(), ACTOR, verb, KIND, night.isoformat(), detail)

    def _compose(self, now: datetime) -> Message:
        copies = self._audit.copies(Asked(limit=NAMED_MAX))
        with self._catalog.read() as session:
            last = journal.last(session, Wanted(verb=BACKED_UP, kind=CATALOG))
        backup = (last.at, str(last.detail.get("pool"))) if last is not None else None
        chain = self._audit.verify_log({})
        return compose(copies, chain, self._all_problems(), backup, self._archive, now)


def compose(
    copies: Record,
    chain: Record,
    problems: Sequence[str],
    backup: tuple[datetime, str] | None,
    archive: str,
    now: datetime,
) -> Message:
    """Pure.

    :param copies: as :meth:`hsm.audit.Audit.copies` gives it.
    :param chain: as :meth:`hsm.audit.Audit.verify_log` gives it.
    :param backup: when the catalog was last written into which pool; None: never.
    """
    totals = {each: sum(policy[each]["studies"] for policy in copies["policies"]) for each in _STANDINGS}
    bad = _bad(copies, chain, problems)
    good = f"all {sum(totals.values())} studies have the copies they were promised, or time left for them"
    subject = clean(f"[{archive}] {'BAD: ' + ', '.join(bad) if bad else 'good: ' + good}")
    lines = [f"{archive}, {now:%Y-%m-%d %H:%M} UTC", "", "Copies"]
    for policy in copies["policies"]:
        counts = ", ".join(f"{policy[each]['studies']} {words}" for each, words in _STANDINGS.items())
        lines.append(f"  {policy['policy']}: {counts}")
    for policy in copies["policies"]:
        named = policy["studies"][:NAMED_MAX]
        lines += [f"  {each['study']} ({policy['policy']}): {each['why']}" for each in named]
        if policy["not_named"]:
            lines.append(f"  and {policy['not_named']} more of {policy['policy']}: hsm audit copies")
    loose = copies.get("unsealed")
    if loose and loose["studies"]:
        lines.append(f"  {loose['studies']} studies have instances that are not sealed yet")
    lines += _of_trash(copies.get("in_trash"))
    lines += ["", "Audit log", f"  {'whole' if chain['good'] else 'BROKEN'}: {chain['records']} records"]
    lines += [f"  {each['message']}" for each in chain["problems"][:NAMED_MAX]]
    lines.append(f"  {chain['records']} {_hex(chain['digest'])}  (keep this line: it is an anchor)")
    told = f"the catalog: {backup[0]:%Y-%m-%d %H:%M} UTC into {backup[1]}" if backup else ""
    lines += ["", "Backup", f"  {told or 'no backup of the catalog is on record'}"]
    lines += ["", "Media, pools, peers", *(f"  {each}" for each in problems[:NAMED_MAX])]
    if len(problems) > NAMED_MAX:
        lines.append(f"  and {len(problems) - NAMED_MAX} more: hsm status")
    if not problems:
        lines.append("  nothing is wrong")
    data: dict[str, Any] = {"archive": archive, "subject": subject, "good": not bad}
    data |= {"problems": list(problems), "copies": totals}
    data |= {"log": {"good": chain["good"], "records": chain["records"], "digest": _hex(chain["digest"])}}
    return Message(subject, "\n".join(clean(line) for line in lines) + "\n", data)


def _of_trash(trash: Record | None) -> list[str]:
    if not trash or not trash["studies"]:
        return []
    lines = [f"  {trash['studies']} studies are in the trash; the first until {trash['next_due']:%Y-%m-%d}"]
    if trash["grown"]:
        lines.append(
            f"  {trash['grown']} of them have got new instances since, which are kept: hsm study trash"
        )
    return lines


_STANDINGS = {
    "protected": "protected",
    "due": "due",
    "late": "late",
    "under_protected": "under-protected",
}


def _bad(copies: Record, chain: Record, problems: Sequence[str]) -> list[str]:
    found = []
    if copies["under_protected"]:
        late = sum(policy["late"]["studies"] for policy in copies["policies"])
        lacking = copies["under_protected"] - late
        if lacking:
            found.append(f"{lacking} {'study' if lacking == 1 else 'studies'} under-protected")
        if late:
            found.append(f"{late} late")
    if not chain["good"]:
        found.append("the audit log is broken")
    if problems:
        found.append(f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'}")
    return found


def _hex(digest: object) -> str:
    return digest.hex() if isinstance(digest, bytes) else str(digest)
