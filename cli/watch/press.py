"""What a key does: the state it leads to, and what must be done outside. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cli.watch.actions import (
    ANSWERS,
    BY_KEY,
    COMMENT_LENGTH_MAX,
    STEPS,
    STEPS_BY_KEY,
    Act,
    Choice,
    Kind,
    Question,
    question,
    step_question,
)
from cli.watch.state import DRIVES, KIND_OF_MENU, VIEWS, WAYS, Dialog, State, send
from cli.watch.typed import entered

NAME_LENGTH_MAX = 64
PENDING_MAX = 50
"""Answers that may wait for a daemon; more are refused aloud."""

HELP = (
    "A scanner, or your fingers: a barcode and Enter, at any time. That alone answers its prompt when"
    " the library sees the volume; one that is wrong is said at once.",
    "Up and Down choose a prompt; Enter shows what can be answered, and F2 to F7 do the same. Each"
    " asks once more and says what will happen.",
    "Tab goes to the next view: wanted, pick list, drives and slots, and what is on its way out of a library"
    " or back; there F2 says that you have taken it, F3 that it is there.",
    "F8 asks the libraries what is in them now. F9 turns the bell off and on. Esc empties the line or"
    " closes what is open. F10 or Ctrl-Q ends; so does Ctrl-C.",
    "Any number of consoles may be open. Answers may be given twice: the second changes nothing.",
)


@dataclass(frozen=True, slots=True)
class Do:
    """Ask the daemon."""

    act: Act


@dataclass(frozen=True, slots=True)
class Quit:
    """End with this exit code."""

    code: int


@dataclass(frozen=True, slots=True)
class Named:
    """The operator has said who they are."""

    name: str


Effect = Do | Quit | Named
Result = tuple[State, tuple[Effect, ...]]

INTERRUPTED = 130
_MOVES = {"up": -1, "down": 1}
_SAME = {"ctrl+j": "enter", "ctrl+m": "enter", "ctrl+h": "backspace"}
"""Scanners that send a line feed, keypads, and terminals of another mind about the rubout key."""


def press(state: State, key: str, character: str, clock: float) -> Result:
    """The state after a key, and its effects.

    :param key: its name as textual says it (``f2``, ``enter``); empty for pasted text.
    :param character: what it types; empty for none.
    :param clock: seconds of a clock that only goes forward, to know a scanner from fingers.
    """
    key = _SAME.get(key, key)
    if key in ("ctrl+c", "ctrl+q", "f10"):
        return _end(state, INTERRUPTED if key == "ctrl+c" else 0)
    if state.dialog is not None:
        return _in_dialog(state, state.dialog, key, character, clock)
    return _on_screen(state, key, character, clock)


def ask_name(state: State, login: str) -> State:
    """With the question who sits here; the login name is a proposal."""
    asked = Question(
        "Who are you?",
        ("Your name stands in the journal beside every answer, and the other consoles show it.",),
        "Your name",
        required=True,
    )
    dialog = Dialog(asked, "name")
    for each in login[:NAME_LENGTH_MAX]:
        dialog = replace(dialog, field=dialog.field.add(each, float("-inf")))
    return replace(state, dialog=dialog)


def _on_screen(state: State, key: str, character: str, clock: float) -> Result:
    page = max(1, state.rows // 5)
    if key in _MOVES:
        return state.move(_MOVES[key]), ()
    if key in ("pageup", "pagedown"):
        return state.move(-page if key == "pageup" else page), ()
    if key in ("home", "end"):
        return state.move(-(10**9) if key == "home" else 10**9), ()
    if key in ("tab", "shift+tab"):
        step = 1 if key == "tab" else -1
        return replace(state, view=(state.view + step) % len(VIEWS), scroll=0), ()
    if state.view == WAYS and key in STEPS_BY_KEY:
        return _ask_step(state, STEPS_BY_KEY[key].kind), ()
    if key in BY_KEY:
        return _ask(state, BY_KEY[key].kind), ()
    if key == "f8":
        return _do(state, Act(Kind.LOOK))
    if key == "f9":
        bell = not state.bell
        return replace(state, bell=bell).say(f"the bell is {'on' if bell else 'off'}"), ()
    if key == "f1" or (character == "?" and not state.typed.text):
        return replace(state, dialog=Dialog(Question("Keys", HELP), "notice")), ()
    if key == "enter":
        return _scan(state) if state.typed.text.strip() else (_menu(state), ())
    return _edit(state, key, character, clock), ()


def _edit(state: State, key: str, character: str, clock: float) -> State:
    """The line at the foot of the screen, whatever is open."""
    if key == "backspace":
        return replace(state, typed=state.typed.backspace())
    if key in ("escape", "ctrl+u"):
        return replace(state, typed=state.typed.clear())
    if character and character.isprintable():
        return replace(state, typed=state.typed.add(character, clock))
    return state


def _scan(state: State) -> Result:
    """A finished line: a barcode, whether a scanner or fingers typed it."""
    said = entered(state.typed)
    if any(each.isspace() for each in said.barcode):
        return state.say(f"{said.barcode!r} is no barcode: F2 to F7 answer in other ways", "late"), ()
    cleared = replace(state, typed=state.typed.clear())
    if said.left_over:
        cleared = cleared.say(f"left out: {said.left_over!r}, typed before the scan of {said.barcode}")
    after, effects = _do(cleared, Act(Kind.SCAN, said.barcode))
    return (after, effects) if effects else (after.say(f"not taken: {said.barcode}", "late"), ())


def _do(state: State, act: Act) -> Result:
    if len(state.pending) >= PENDING_MAX:
        return state.say(
            f"{len(state.pending)} answers wait for the daemon already: not taken: {act}", "late"
        ), ()
    return send(state, act), (Do(act),)


def _menu(state: State) -> State:
    """What can be answered about the chosen prompt, or about the chosen cartridge on its way."""
    if state.view == WAYS and state.trip is not None:
        steps = tuple(Choice(f"{each.key.upper()}  {each.title}", each.kind.value) for each in STEPS)
        asked = Question(f"{state.trip.barcode}: what about it?", (), choices=steps)
        return replace(state, dialog=Dialog(asked, "menu"))
    if state.prompt is None or state.view >= DRIVES:
        return state.say("nothing is chosen")
    choices = tuple(Choice(f"{each.key.upper()}  {each.title}", each.kind.value) for each in ANSWERS)
    asked = Question(f"{state.prompt.barcode}: what about it?", (), choices=choices)
    return replace(state, dialog=Dialog(asked, "menu"))


def _ask(state: State, kind: Kind) -> State:
    """The confirmation of an answer about the chosen prompt."""
    prompt = state.prompt
    if prompt is None or state.view >= DRIVES:
        return replace(state, dialog=None).say("choose a prompt first (Tab goes back to the list)")
    if kind is Kind.WALK and prompt.is_mine(state.name):
        kind = Kind.STAY
    asked = question(kind, prompt, state.name)
    act = Act(kind, prompt.barcode, id=prompt.id, take=bool(prompt.taken_by))
    if kind is Kind.SUBSTITUTE and not asked.choices:
        return replace(state, dialog=None).say(
            f"there is no other copy of what is wanted from {prompt.barcode}", "late"
        )
    return replace(state, dialog=Dialog(asked, "confirm", act))


def _ask_step(state: State, kind: Kind) -> State:
    """The confirmation of a step of the chosen cartridge's way."""
    trip = state.trip
    if trip is None:
        return replace(state, dialog=None).say("nothing is on its way")
    if not trip.state:
        return replace(state, dialog=None).say(
            f"take {trip.barcode} to {trip.target}: the library notes that it has gone"
        )
    asked = step_question(kind, trip, state.name)
    return replace(state, dialog=Dialog(asked, "confirm", Act(kind, trip.barcode)))


def _in_dialog(state: State, dialog: Dialog, key: str, character: str, clock: float) -> Result:
    if dialog.purpose == "notice":  # any key closes it, and what a scanner types begins there
        closed = replace(state, dialog=None)
        return (closed, ()) if key in ("enter", "escape") else _on_screen(closed, key, character, clock)
    if key == "escape":
        # Without a name nobody can answer: the screen may be looked at, and ends by itself.
        return (state, ()) if dialog.purpose == "name" else (replace(state, dialog=None), ())
    if key in _MOVES and dialog.question.choices:
        last = len(dialog.question.choices) - 1
        return replace(
            state, dialog=replace(dialog, choice=min(max(dialog.choice + _MOVES[key], 0), last))
        ), ()
    if dialog.purpose == "menu" and key in BY_KEY:
        return _on_screen(replace(state, dialog=None), key, "", clock)
    if key == "enter":
        return _confirm(state, dialog)
    if not dialog.takes_text:
        return _edit(state, key, character, clock), ()
    return replace(state, dialog=_fill(dialog, key, character, clock)), ()


def _fill(dialog: Dialog, key: str, character: str, clock: float) -> Dialog:
    """What is typed into a dialog."""
    if key == "backspace":
        return replace(dialog, field=dialog.field.backspace())
    if key == "ctrl+u":
        return replace(dialog, field=dialog.field.clear())
    most = NAME_LENGTH_MAX if dialog.purpose == "name" else COMMENT_LENGTH_MAX
    if character and character.isprintable() and len(dialog.field.text) < most:
        return replace(dialog, field=dialog.field.add(character, clock))
    return dialog


def _confirm(state: State, dialog: Dialog) -> Result:
    """Enter in a dialog. A scanner's Enter is never a yes: what it typed is a scan."""
    if not dialog.takes_text and state.typed.text.strip():
        return _scan(state)
    if dialog.takes_text and (scan := _scanned(state, dialog)):
        kept = replace(dialog, field=type(dialog.field)(dialog.field.before()))
        if dialog.purpose == "name":
            typed = replace(state.typed, text=scan)
            return replace(state, dialog=kept, typed=typed).say(f"first your name, then Enter for {scan}"), ()
        return _do(replace(state, dialog=kept), Act(Kind.SCAN, scan))
    given = dialog.field.text.strip()
    if dialog.question.required and not given:
        return state.say(f"{dialog.question.label}: it must be said", "late"), ()
    if dialog.purpose == "name":
        return replace(state, dialog=None, name=given), (Named(given),)
    if dialog.purpose == "quit":
        return state, (Quit(0),)
    choice = dialog.question.choices[dialog.choice].value if dialog.question.choices else ""
    if dialog.purpose == "menu":
        kind = KIND_OF_MENU[choice]
        ask = _ask_step if kind in (Kind.TAKEN, Kind.ARRIVED) else _ask
        return ask(replace(state, dialog=None), kind), ()
    if dialog.act is None:
        return replace(state, dialog=None), ()
    return _do(replace(state, dialog=None), replace(dialog.act, comment=given, instead=choice))


def _scanned(state: State, dialog: Dialog) -> str:
    """A barcode that a scanner typed into a field for something else; empty when it is no such thing.

    Words that are typed fast are not taken for one: it has the eight characters of a full label, or is
    asked for.
    """
    scan = dialog.field.scanned()
    asked_for = state.picture is not None and state.picture.find(scan) is not None
    return scan if scan and (asked_for or (len(scan) == 8 and any(map(str.isdigit, scan)))) else ""


def _end(state: State, code: int) -> Result:
    """Ending while answers were never sent is asked about once."""
    if not state.pending or (state.dialog is not None and state.dialog.purpose == "quit"):
        return state, (Quit(code),)
    names = ", ".join(map(str, state.pending))
    asked = Question(
        "End all the same?",
        (f"Not answered by the daemon yet: {names}.", "What was not sent is lost. Esc goes back."),
    )
    return replace(state, dialog=Dialog(asked, "quit")), ()
