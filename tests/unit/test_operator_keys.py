"""What keys and scanners do on the operators' screen."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from test_operator_values import NOW, mount

from cli.watch import state as states
from cli.watch.actions import Act, Kind, Outcome
from cli.watch.link import pause
from cli.watch.press import PENDING_MAX, Do, Effect, Named, Quit, ask_name, press
from cli.watch.screen import screen
from cli.watch.state import State
from cli.watch.typed import NOTHING_TYPED, Typed
from cli.watch.values import picture

SCANNER = 0.002
FINGERS = 0.3


class Keyboard:
    """Types into a state and keeps what is asked of the daemon."""

    def __init__(self, *mounts: dict[str, Any], **state: Any) -> None:
        self.clock = 100.0
        self.effects: list[Effect] = []
        self.state = State(NOW, name="anna")
        self.state, self.rang = states.seen(self.state, picture(NOW, mounts, status={}))
        self.state = replace(self.state, **state)

    def press(self, key: str, character: str = "") -> Keyboard:
        self.state, effects = press(self.state, key, character, self.clock)
        self.effects += effects
        return self

    def type(self, text: str, pace: float = FINGERS) -> Keyboard:
        for character in text:
            self.clock += pace
            self.press("enter" if character == "\n" else "", "" if character == "\n" else character)
        return self

    def scan(self, barcode: str) -> Keyboard:
        self.clock += 1.0
        return self.type(barcode + "\n", SCANNER)

    @property
    def acts(self) -> list[Act]:
        return [effect.act for effect in self.effects if isinstance(effect, Do)]

    @property
    def drawn(self) -> str:
        lines = screen(self.state, halves=True)
        return "\n".join("".join(text for text, _ in each) for each in lines)


@pytest.mark.parametrize("pace", [SCANNER, FINGERS])
def test_a_barcode_and_enter_is_a_scan_whether_a_scanner_or_fingers_typed_it(pace: float) -> None:
    keyboard = Keyboard(mount()).type("T00001L8\n", pace)
    assert keyboard.acts == [Act(Kind.SCAN, "T00001L8")]
    assert keyboard.state.typed.text == ""


@pytest.mark.parametrize("key", ["f2", "f3", "f4", "f5", "f6", "f7", "f1", "enter", "tab"])
def test_a_scan_is_a_scan_wherever_the_focus_is(key: str) -> None:
    others = [{"barcode": "V00001L8", "where": "vault"}]
    keyboard = Keyboard(mount(alternatives=others)).press(key).scan("T00009L8")
    assert keyboard.acts == [Act(Kind.SCAN, "T00009L8")], "and nothing was confirmed by its Enter"


def test_a_scan_in_the_middle_of_a_typed_reason_is_a_scan_and_the_reason_stays() -> None:
    keyboard = Keyboard(mount()).press("f5").type("cracked ").scan("T00001L8")
    assert keyboard.acts == [Act(Kind.SCAN, "T00001L8")]
    assert keyboard.state.dialog is not None
    assert keyboard.state.dialog.field.text == "cracked"
    keyboard.type(" case\n")
    assert keyboard.acts[1:] == [Act(Kind.DAMAGED, "T00001L8", comment="cracked case", id=1)]


def test_a_reason_that_looks_like_words_is_never_taken_for_a_scan() -> None:
    keyboard = Keyboard(mount()).press("f6").type("HAUS12\n", SCANNER)
    assert keyboard.acts == [Act(Kind.WRONG_SITE, "T00001L8", comment="HAUS12", id=1)]


def test_what_was_typed_before_a_scan_is_told_and_not_mixed_into_it() -> None:
    keyboard = Keyboard(mount()).type("T00").scan("T00001L8")
    assert keyboard.acts == [Act(Kind.SCAN, "T00001L8")]
    assert "left out: 'T00'" in keyboard.drawn


@pytest.mark.parametrize("end", ["enter", "ctrl+j", "ctrl+m"])
def test_a_scanner_may_end_with_a_carriage_return_or_a_line_feed(end: str) -> None:
    assert Keyboard(mount()).type("T00001L8", SCANNER).press(end).acts == [Act(Kind.SCAN, "T00001L8")]


def test_a_line_that_is_no_barcode_stays_to_be_mended() -> None:
    keyboard = Keyboard(mount()).type("lent to the museum\n")
    assert keyboard.acts == []
    assert keyboard.state.typed.text == "lent to the museum"
    assert "is no barcode" in keyboard.drawn
    keyboard.press("ctrl+u")
    assert keyboard.state.typed.text == ""


@pytest.mark.parametrize(
    ("key", "typed", "act"),
    [
        ("f2", "", Act(Kind.WALK, "T00001L8", id=1)),
        ("f3", "", Act(Kind.DONE, "T00001L8", id=1)),
        ("f4", "behind the radiator", Act(Kind.CANNOT_FIND, "T00001L8", comment="behind the radiator", id=1)),
        ("f4", "", Act(Kind.CANNOT_FIND, "T00001L8", id=1)),
        ("f5", "cracked", Act(Kind.DAMAGED, "T00001L8", comment="cracked", id=1)),
        ("f6", "north", Act(Kind.WRONG_SITE, "T00001L8", comment="north", id=1)),
        ("f7", "", Act(Kind.SUBSTITUTE, "T00001L8", instead="V00001L8", id=1)),
    ],
)
def test_each_answer_asks_once_more_and_is_sent_by_enter(key: str, typed: str, act: Act) -> None:
    prompt = mount(alternatives=[{"barcode": "V00001L8", "where": "vault"}])
    keyboard = Keyboard(prompt).press(key)
    assert keyboard.acts == []
    assert keyboard.state.dialog is not None
    assert "T00001L8" in keyboard.state.dialog.question.title
    assert any(keyboard.state.dialog.question.body), "it says what will happen"
    keyboard.type(typed).press("enter")
    assert keyboard.acts == [act]
    refused = Keyboard(prompt).press(key).type(typed).press("escape")
    assert refused.acts == []
    assert refused.state.dialog is None


def test_the_menu_offers_the_same_answers_to_a_terminal_without_function_keys() -> None:
    keyboard = Keyboard(mount()).press("enter")
    assert "Cannot find" in keyboard.drawn
    keyboard.press("down").press("down").press("enter").press("enter")
    assert keyboard.acts == [Act(Kind.CANNOT_FIND, "T00001L8", id=1)]


def test_another_copy_can_only_be_brought_when_there_is_one() -> None:
    keyboard = Keyboard(mount()).press("f7")
    assert keyboard.state.dialog is None
    assert "no other copy" in keyboard.drawn


def test_walking_again_means_no_longer_walking_and_somebody_elses_walk_is_taken_over_knowingly() -> None:
    mine = Keyboard(mount(acked_by="anna (as root)")).press("f2").press("enter")
    assert [act.kind for act in mine.acts] == [Kind.STAY]
    theirs = Keyboard(mount(acked_by="bob (as root)")).press("f2")
    assert "bob (as root) has said the same" in theirs.drawn
    assert theirs.press("enter").acts == [Act(Kind.WALK, "T00001L8", id=1, take=True)]


def test_the_choice_stays_on_its_volume_when_the_list_changes_and_moves_on_when_it_is_gone() -> None:
    keyboard = Keyboard(mount("A"), mount("B"), mount("C")).press("down")
    assert keyboard.state.chosen == "B"
    urgent = mount("X", priority="stat")
    after, _ = states.seen(keyboard.state, picture(NOW, [urgent, mount("A"), mount("B")], status={}))
    assert after.chosen == "B"
    after, _ = states.seen(after, picture(NOW, [urgent, mount("A")], status={}))
    assert after.chosen == "A"
    after, _ = states.seen(after, picture(NOW, [], status={}))
    assert after.chosen == ""
    assert press(after, "f3", "", 0.0)[0].dialog is None


def test_a_question_about_a_prompt_that_was_answered_elsewhere_goes_away_and_says_so() -> None:
    keyboard = Keyboard(mount("A"), mount("B")).press("f4")
    after, _ = states.seen(keyboard.state, picture(NOW, [mount("B")], status={}))
    assert after.dialog is None
    assert "A is not asked for any more" in after.said[-1].text


MOVEMENT = {
    "barcode": "V1", "open": True, "kind": "export", "state": "planned", "from": "lib1 slot 4",
    "to": "shelf 2 at vault", "planned_by": "carol", "left_by": "",
}  # fmt: skip


@pytest.mark.parametrize(("key", "kind"), [("f2", Kind.TAKEN), ("f3", Kind.ARRIVED)])
def test_a_cartridge_on_its_way_is_taken_and_confirmed_there_each_asked_once_more(
    key: str, kind: Kind
) -> None:
    keyboard = Keyboard(mount("A"))
    keyboard.state, _ = states.seen(
        keyboard.state,
        picture(NOW, [mount("A")], status={}, movements=[MOVEMENT, MOVEMENT | {"barcode": "V2"}]),
    )
    keyboard.press("tab").press("tab").press("tab")
    assert "→ shelf 2 at vault" in keyboard.drawn
    keyboard.press("down").press(key)
    assert keyboard.acts == []
    assert "anna" in keyboard.drawn
    keyboard.press("enter")
    assert keyboard.acts == [Act(kind, "V2")]
    assert keyboard.state.chosen == "A", "the list of prompts has a choice of its own"


def test_answers_about_prompts_are_not_given_where_no_prompt_is_seen() -> None:
    keyboard = Keyboard(mount("A")).press("tab").press("tab").press("tab")
    for key in ("f2", "f3", "f4", "f7", "enter"):
        keyboard.press(key)
        assert keyboard.state.dialog is None or keyboard.state.dialog.purpose == "menu"
        keyboard.press("escape")
    assert keyboard.acts == []


def test_what_others_answered_is_said_with_their_names_and_ones_own_answers_are_not_said_twice() -> None:
    keyboard = Keyboard(mount("A"), mount("B"))
    ended = [
        {"barcode": "A", "outcome": "done", "answered_by": "bob (as root)"},
        {"barcode": "B", "outcome": "damaged", "answered_by": "anna (as root)"},
    ]
    after, _ = states.seen(keyboard.state, picture(NOW, [], status={}, ended=ended))
    assert [said.text for said in after.said] == ["A: done, by bob (as root)"]


def test_consoles_look_seldom_where_looking_is_slow() -> None:
    assert pause(2.0, 0.01, reachable=True) == 2.0
    assert pause(2.0, 1.0, reachable=True) == 5.0
    assert pause(0.2, 5.0, reachable=False) == 2.0


def test_a_wrong_scan_is_said_in_front_of_everything_and_the_next_scan_goes_through() -> None:
    keyboard = Keyboard(mount()).scan("T00009L8")
    wrong = Outcome(
        keyboard.acts[0],
        False,
        "T00009L8 is not wanted now: it belongs on shelf C9. Wanted: T1",
        "NOT WANTED",
    )
    keyboard.state = states.answered(keyboard.state, wrong)
    for words in ("NOT WANTED", "it belongs on shelf C9", "Wanted: T1"):
        assert words in keyboard.drawn
    keyboard.scan("T00001L8")
    assert keyboard.acts[-1] == Act(Kind.SCAN, "T00001L8")
    assert keyboard.state.dialog is None


def test_a_wrong_scan_does_not_take_away_a_reason_that_is_being_typed() -> None:
    keyboard = Keyboard(mount()).press("f5").type("cracked")
    wrong = Outcome(Act(Kind.SCAN, "T00009L8"), False, "T00009L8 is not wanted now", "NOT WANTED")
    keyboard.state = states.answered(keyboard.state, wrong)
    assert keyboard.state.dialog is not None
    assert keyboard.state.dialog.field.text == "cracked"
    assert "T00009L8 is not wanted now" in keyboard.state.said[-1].text


def test_without_a_daemon_the_picture_stays_and_answers_wait_where_they_are_seen() -> None:
    keyboard = Keyboard(mount()).scan("T00001L8")
    keyboard.state = replace(states.gone_away(keyboard.state, "no daemon answers on /x"), age=40.0)
    assert "NO DAEMON ANSWERS; this is 40 s old" in keyboard.drawn
    assert "T00001L8" in keyboard.drawn
    assert "NOT SENT YET: T00001L8: scan" in keyboard.drawn
    back, _ = states.seen(keyboard.state, picture(NOW, [mount()], status={}))
    assert "the daemon answers again" in back.said[-1].text
    done = states.answered(back, Outcome(back.pending[0], True, "T00001L8 is in lib1"))
    assert done.pending == ()


def test_a_daemon_that_answers_with_an_error_is_not_called_away() -> None:
    keyboard = Keyboard(mount()).scan("T00001L8")
    keyboard.state = states.gone_away(keyboard.state, "the database is locked", answers=True)
    assert "THE DAEMON CANNOT SAY; this is 0 s old" in keyboard.drawn
    assert "the database is locked" in keyboard.drawn
    assert "NOT SENT" not in keyboard.drawn


def test_answers_that_wait_have_a_limit_and_one_too_many_is_refused_aloud() -> None:
    keyboard = Keyboard(mount())
    for number in range(PENDING_MAX + 1):
        keyboard.scan(f"T{number:05d}L8")
    assert len(keyboard.acts) == PENDING_MAX
    assert f"T{PENDING_MAX:05d}L8" in keyboard.state.said[-1].text
    assert "not taken" in keyboard.state.said[-1].text


def test_ending_while_answers_were_never_sent_is_asked_about_once() -> None:
    keyboard = Keyboard(mount()).scan("T00001L8").press("f10")
    assert not any(isinstance(effect, Quit) for effect in keyboard.effects)
    assert "T00001L8: scan" in keyboard.drawn
    keyboard.press("escape")
    assert keyboard.state.dialog is None
    keyboard.press("f10").press("enter")
    assert keyboard.effects[-1] == Quit(0)


@pytest.mark.parametrize(("key", "code"), [("f10", 0), ("ctrl+q", 0), ("ctrl+c", 130)])
def test_the_screen_ends_by_its_keys_even_while_the_name_is_asked_for(key: str, code: int) -> None:
    assert Keyboard(mount()).press(key).effects == [Quit(code)]
    asked = ask_name(State(NOW), "root")
    assert press(asked, key, "", 0.0)[1] == (Quit(code),)


def test_the_name_is_asked_for_once_and_must_be_given() -> None:
    keyboard = Keyboard()
    keyboard.state = ask_name(State(NOW), "root")
    keyboard.press("ctrl+u").press("enter")
    assert keyboard.effects == []
    assert "must be said" in keyboard.drawn
    keyboard.type("anna\n")
    assert keyboard.effects == [Named("anna")]
    assert keyboard.state.dialog is None


def test_a_scan_before_the_name_was_given_is_kept_for_afterwards() -> None:
    keyboard = Keyboard()
    keyboard.state = ask_name(State(NOW), "root")
    keyboard.scan("T00001L8")
    assert keyboard.acts == []
    keyboard.press("enter")
    assert keyboard.effects == [Named("root")]
    assert keyboard.press("enter").acts == [Act(Kind.SCAN, "T00001L8")]


def test_a_new_prompt_that_somebody_waits_for_rings_once_and_the_bell_can_be_turned_off() -> None:
    assert Keyboard(mount()).rang
    assert not Keyboard(mount(priority="migration")).rang
    assert Keyboard(mount(priority="bulk", deadline="2020-01-01T00:00:00Z")).rang
    keyboard = Keyboard(mount("A"))
    same = picture(NOW, [mount("A")], status={})
    assert not states.seen(keyboard.state, same)[1]
    more = picture(NOW, [mount("A"), mount("B")], status={})
    assert states.seen(keyboard.state, more)[1]
    assert not states.seen(keyboard.press("f9").state, more)[1]


def test_typed_lines_and_fields_have_a_limit_and_take_no_control_characters() -> None:
    typed = NOTHING_TYPED
    for character in "\x1b\x00" + "x" * 10_000:
        typed = typed.add(character, 0.0)
    assert len(typed.text) == 200
    assert Typed("ab", 2).backspace().backspace().backspace() == Typed("", 0)


def test_sentences_that_were_said_have_a_limit() -> None:
    state = State(datetime(2026, 1, 1, tzinfo=UTC))
    for number in range(500):
        state = state.say(str(number))
    assert len(state.said) == 50
    assert state.said[-1].text == "499"
