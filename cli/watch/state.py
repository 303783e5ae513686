"""The state of the screen as one value, and what it becomes when something happens. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from cli.watch.actions import Act, Kind, Outcome, Question
from cli.watch.typed import NOTHING_TYPED, Typed
from cli.watch.values import Picture, Prompt, Trip, Walk

SAID_MAX = 50
ENDED_SAID = 5
VIEWS = ("wanted", "pick list", "drives and slots", "on their way")
WANTED, PICKS, DRIVES, WAYS = range(4)
ROUTINE_RANK = 10
"""A prompt of this rank or a more urgent one rings: somebody sits and waits for it."""


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence for the operator, and its style."""

    text: str
    style: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Dialog:
    """A question or a notice in front of everything else.

    :ivar act: what is asked of the daemon when it is confirmed; None for a notice, the menu, the name.
    :ivar purpose: ``confirm``, ``menu``, ``name``, ``notice`` or ``quit``.
    :ivar field: what is typed into it.
    :ivar choice: which of the choices is chosen.
    """

    question: Question
    purpose: str
    act: Act | None = None
    field: Typed = NOTHING_TYPED
    choice: int = 0

    @property
    def takes_text(self) -> bool:
        return bool(self.question.label)


@dataclass(frozen=True, slots=True)
class State:
    """Everything that the screen shows.

    :ivar age: seconds since the picture was taken.
    :ivar away: why there is no fresh picture, in a few words; empty while there is.
    :ivar carried: the chosen cartridge of those on their way.
    :ivar rung: the prompts that the bell has rung for, or need not.
    """

    now: datetime
    picture: Picture | None = None
    age: float = 0.0
    away: str = ""
    name: str = ""
    view: int = WANTED
    chosen: str = ""
    carried: str = ""
    scroll: int = 0
    typed: Typed = NOTHING_TYPED
    dialog: Dialog | None = None
    said: tuple[Said, ...] = ()
    pending: tuple[Act, ...] = ()
    bell: bool = True
    columns: int = 80
    rows: int = 24
    rung: frozenset[str] = field(default_factory=frozenset)

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        return self.picture.prompts if self.picture is not None else ()

    @property
    def walks(self) -> tuple[Walk, ...]:
        return self.picture.walks if self.picture is not None else ()

    @property
    def order(self) -> tuple[str, ...]:
        """The barcodes in the order of the view, for moving up and down."""
        if self.view == PICKS:
            return tuple(pick.barcode for walk in self.walks for pick in walk.picks)
        return tuple(prompt.barcode for prompt in self.prompts)

    @property
    def trips(self) -> tuple[Trip, ...]:
        return self.picture.trips if self.picture is not None else ()

    @property
    def trip(self) -> Trip | None:
        """The chosen cartridge of those on their way: the first one when none was chosen."""
        found = self.picture.trip(self.carried) if self.picture is not None and self.carried else None
        return found or (self.trips[0] if self.trips else None)

    @property
    def prompt(self) -> Prompt | None:
        """The chosen prompt."""
        return self.picture.find(self.chosen) if self.picture is not None and self.chosen else None

    def say(self, text: str, style: str = "") -> State:
        """With one more sentence; the last ones are kept."""
        return replace(self, said=(*self.said[-SAID_MAX + 1 :], Said(text, style, self.now)))

    def move(self, step: int) -> State:
        """The choice so many places further, or as far as there are prompts; other views scroll."""
        if self.view == DRIVES:
            return replace(self, scroll=max(0, self.scroll + step))
        if self.view == WAYS:
            ways = [each.barcode for each in self.trips]
            at = ways.index(self.carried) if self.carried in ways else 0
            return replace(self, carried=ways[min(max(at + step, 0), len(ways) - 1)] if ways else "")
        order = self.order
        if not order:
            return self
        at = order.index(self.chosen) if self.chosen in order else 0
        return replace(self, chosen=order[min(max(at + step, 0), len(order) - 1)])


def seen(state: State, picture: Picture) -> tuple[State, bool]:
    """After a look: the new picture, the choice kept on its volume, and whether to ring for it."""
    news = [each for each in picture.prompts if each.barcode not in state.rung]
    urgent = any(each.rank <= ROUTINE_RANK or each.is_late(picture.looked_at) for each in news)
    rung = frozenset(each.barcode for each in picture.prompts)
    before = state.order
    fresh = replace(
        state,
        picture=picture,
        age=0.0,
        away="",
        now=picture.looked_at,
        rung=rung,
    )
    if state.away:
        fresh = fresh.say("the daemon answers again", "good")
    fresh = _keep_choice(fresh, before)
    for each in picture.ended[:ENDED_SAID]:
        if not _is_by(each.by, state.name):  # one's own answers were said when they were taken
            fresh = fresh.say(f"{each.barcode}: {each.outcome or 'answered'}, by {each.by}")
    dialog = fresh.dialog
    about = dialog.act if dialog is not None else None
    steps = (Kind.TAKEN, Kind.ARRIVED)
    gone = about is not None and (
        picture.trip(about.barcode) is None if about.kind in steps else picture.find(about.barcode) is None
    )
    if about is not None and gone:
        fresh = replace(fresh, dialog=None).say(
            f"{about.barcode} is not asked for any more: answered elsewhere, or nobody waits for it"
        )
    return fresh, urgent and state.bell


def _is_by(by: str, name: str) -> bool:
    """Whether the journal means this operator; it adds the login to a name."""
    return by == name or by.startswith(f"{name} (as ")


def _keep_choice(state: State, before: tuple[str, ...]) -> State:
    """The same volume is chosen; when it is gone, what took its place in the list."""
    order = state.order
    if state.chosen and state.picture is not None and state.picture.find(state.chosen) is not None:
        return state
    at = before.index(state.chosen) if state.chosen in before else 0
    return replace(state, chosen=order[min(at, len(order) - 1)] if order else "")


NO_DAEMON = "NO DAEMON ANSWERS"
TROUBLE = "THE DAEMON CANNOT SAY"
"""It answers, but not with what is asked for."""


def gone_away(state: State, error: str, *, answers: bool = False) -> State:
    """There is no fresh picture: the last one stays, and why is said once."""
    headline = TROUBLE if answers else NO_DAEMON
    return state if state.away == headline else replace(state, away=headline).say(error, "late")


def answered(state: State, outcome: Outcome) -> State:
    """After an act was answered: what came of it is said, loudly where it must not be overlooked."""
    style = "good" if outcome.good else "late"
    state = state.say(outcome.said, style)
    state = replace(state, pending=tuple(each for each in state.pending if each is not outcome.act))
    if outcome.loud and (state.dialog is None or state.dialog.purpose in ("notice", "menu")):
        body = tuple(part for part in outcome.said.replace(". ", ".\n").split("\n") if part)
        notice = Question(outcome.loud, body, large=outcome.act.barcode.upper())
        return replace(state, dialog=Dialog(notice, "notice"))
    return state


def send(state: State, act: Act) -> State:
    """An act is on its way."""
    return replace(state, pending=(*state.pending, act))


def waiting_words(state: State) -> str:
    """What is under way or could not be sent yet; empty when everything was answered."""
    if not state.pending:
        return ""
    names = ", ".join(str(act) for act in state.pending[:3])
    more = f" and {len(state.pending) - 3} more" if len(state.pending) > 3 else ""
    if state.away == NO_DAEMON:
        return f"NOT SENT YET: {names}{more}"
    return f"asking: {names}{more} ..."


KIND_OF_MENU: Mapping[str, Kind] = {kind.value: kind for kind in Kind}
