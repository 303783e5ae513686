"""What an operator can answer: the keys, what each will do in words, and how it is asked of the daemon."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from cli import text
from cli.watch.values import Prompt, Trip

COMMENT_LENGTH_MAX = 200


class Kind(enum.StrEnum):
    """A sort of answer."""

    SCAN = "scan"
    WALK = "walk"
    DONE = "done"
    CANNOT_FIND = "cannot find"
    DAMAGED = "damaged"
    WRONG_SITE = "wrong site"
    SUBSTITUTE = "substitute"
    STAY = "not walking"
    TAKEN = "taken away"
    ARRIVED = "arrived"
    LOOK = "look"


@dataclass(frozen=True, slots=True)
class Act:
    """One thing asked of the daemon. All of them may be asked again: the second time changes nothing.

    :ivar comment: what the operator typed: a reason, the site.
    :ivar instead: the volume that is brought instead.
    :ivar id: the prompt that was seen, so that a later one for the same volume is not answered by mistake.
    :ivar take: go although somebody else has said so.
    """

    kind: Kind
    barcode: str = ""
    comment: str = ""
    instead: str = ""
    id: int = 0
    take: bool = False

    def __str__(self) -> str:
        rest = f" by {self.instead}" if self.instead else ""
        return f"{self.barcode}{rest}: {self.kind}" if self.barcode else str(self.kind)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an act.

    :ivar said: one sentence.
    :ivar loud: how a notice is headed that nobody overlooks; empty when there is no need.
    """

    act: Act
    good: bool
    said: str
    loud: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """One of the answers that a key gives.

    :ivar label: for the foot of the screen.
    :ivar title: for the list of actions.
    """

    kind: Kind
    key: str
    label: str
    title: str


ANSWERS: tuple[Answer, ...] = (
    Answer(Kind.WALK, "f2", "walking", "I am walking: tell the others that I fetch it"),
    Answer(Kind.DONE, "f3", "done", "Done: it is in the library"),
    Answer(Kind.CANNOT_FIND, "f4", "not found", "Cannot find: it is not where it should lie"),
    Answer(Kind.DAMAGED, "f5", "damaged", "Damaged: it must not go into a drive"),
    Answer(Kind.WRONG_SITE, "f6", "wrong site", "Wrong site: it lies in another building"),
    Answer(Kind.SUBSTITUTE, "f7", "other copy", "Other copy: I bring another volume instead"),
)
BY_KEY = {answer.key: answer for answer in ANSWERS}

STEPS: tuple[Answer, ...] = (
    Answer(Kind.TAKEN, "f2", "taken", "Taken: I have it in my hands"),
    Answer(Kind.ARRIVED, "f3", "it is there", "Arrived: it is where it should be"),
)
"""What can be said of a cartridge that is carried out of a library or back."""
STEPS_BY_KEY = {answer.key: answer for answer in STEPS}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several things to choose from."""

    label: str
    value: str


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked before an answer is sent.

    :ivar body: what will happen, a paragraph each.
    :ivar label: what to type, when something may be typed.
    :ivar required: whether it must be typed.
    :ivar choices: what to choose from, when there is a choice.
    :ivar large: a barcode to show in large letters.
    """

    title: str
    body: tuple[str, ...]
    label: str = ""
    required: bool = False
    choices: tuple[Choice, ...] = ()
    large: str = ""


def question(kind: Kind, prompt: Prompt, name: str) -> Question:
    """The confirmation of an answer: it says what will happen."""
    code, library = prompt.barcode, prompt.library or "the library"
    where = prompt.where or "an unknown place"
    closed = f"The prompt is closed in your name ({name})."
    if kind is Kind.STAY:
        return Question(
            f"No longer walking for {code}?",
            ("The others see that nobody is on the way, and are reminded of it again.",),
        )
    if kind is Kind.WALK:
        return Question(
            f"Walk for {code}?",
            (
                f"Every console shows that {name} is walking to {where} for {code}: nobody goes twice.",
                _taken(prompt, name),
                f"The prompt stays open until {code} is in {library}: scan it there.",
            ),
        )
    if kind is Kind.DONE:
        return Question(
            f"Is {code} in {library}?",
            (
                f"{library} is asked to look. If it sees {code}, {_who(prompt)} what they wait for. {closed}",
                "If it does not, nothing changes, and you are told what it sees.",
            ),
        )
    if kind is Kind.CANNOT_FIND:
        return Question(
            f"{code} cannot be found?",
            (
                f"{code} is noted as not being on {where}: nothing on it counts until it is seen again.",
                _otherwise(prompt),
                closed,
            ),
            "Where did you look",
        )
    if kind is Kind.DAMAGED:
        return Question(
            f"{code} is damaged?",
            (
                f"{code} is noted as damaged: nothing on it counts until it was read back.",
                _otherwise(prompt),
                closed,
            ),
            "What is wrong with it",
        )
    if kind is Kind.WRONG_SITE:
        return Question(
            f"{code} is at another site?",
            (f"{code} is noted as being at the site that you name.", _otherwise(prompt), closed),
            "At which site is it",
        )
    return Question(
        f"Bring another copy instead of {code}?",
        (f"Choose what you bring. {_who(prompt).capitalize()} the same bytes from it.", closed),
        choices=choices(prompt),
    )


def step_question(kind: Kind, trip: Trip, name: str) -> Question:
    """The confirmation of a step of a cartridge's way."""
    if kind is Kind.TAKEN:
        return Question(
            f"Have you taken {trip.barcode}?",
            (
                f"The custody record says that {name} took it away from {trip.origin}. Until somebody says"
                f" that it is at {trip.target}, it counts as being on its way.",
                "It is refused while the library still sees it there.",
            ),
        )
    return Question(
        f"Is {trip.barcode} at {trip.target}?",
        (
            f"The custody record says that {name} has seen it there, and its way has ended.",
            "What comes back into a library must be seen by it.",
        ),
    )


def choices(prompt: Prompt) -> tuple[Choice, ...]:
    """The other copies that an operator may bring."""
    return tuple(Choice(f"{each.barcode} {each.where}".strip(), each.barcode) for each in prompt.alternatives)


def _taken(prompt: Prompt, name: str) -> str:
    if prompt.taken_by and not prompt.is_mine(name):
        return f"{prompt.taken_by} has said the same: you take it over."
    return ""


def _who(prompt: Prompt) -> str:
    count = max(len(prompt.waiters), 1)
    return f"{text.plural(count, 'waiter gets', 'waiters get')}" if count > 1 else "who waits gets"


def _otherwise(prompt: Prompt) -> str:
    """What becomes of those who wait when this volume does not come."""
    others = ", ".join(f"{each.barcode} {each.where}".strip() for each in prompt.alternatives[:3])
    if others:
        return f"Who waits gets another copy: {others}."
    return "No other copy is known: who waits goes on waiting until it is found or given up."
