"""Prompts: who goes, what comes of it, and that a recall waits whatever a person answers."""

from __future__ import annotations

from datetime import datetime

import pytest

from hsm.catalog import media
from hsm.config.operators import ChannelConfig, OperatorConfig
from hsm.errors import BadInput, NotFound, Refused
from hsm.model import Place
from hsm.operators import Reminders
from hsm.operators.channels import NotSent
from hsm.operators.message import Message
from hsm.states import Outcome
from tests.sim.conftest import MakeWorld
from tests.sim.world import TWO_TAPES, World


def shelved(make_filled: MakeWorld, shelf: str = "B3", **options: object) -> World:
    """A study whose cartridges are on the shelf, and somebody who waits for it."""
    world = make_filled(**options)
    for barcode in world.on_tape(1):
        world.custody.export(barcode, shelf, "alice")
    world.retrieve(1)
    world.settle()
    return world


def asked(world: World) -> list[str]:
    return [each["barcode"] for each in world.operators.prompts()]


def test_a_prompt_says_who_waits_where_it_stands_and_where_to_put_it(make_filled: MakeWorld) -> None:
    world = shelved(make_filled, policies=TWO_TAPES)
    (prompt,) = world.operators.prompts()
    assert (prompt["barcode"], prompt["where"], prompt["stands"]) == ("HSM001L8", "shelf B3", "B3")
    assert prompt["into"].startswith("mail slot ")
    assert len(prompt["waiters"]) == 1
    (other,) = prompt["alternatives"]
    assert (other["barcode"], other["where"], other["packages"]) == ("HSM002L8", "shelf B3", 1)
    assert other["seconds"] > 600, "somebody has to walk for it too"


def test_whoever_goes_is_named_until_it_takes_too_long(make_filled: MakeWorld) -> None:
    world = shelved(make_filled)
    world.operators.acknowledge("HSM001L8", "alice", 600)
    world.operators.acknowledge("HSM001L8", "alice", 900)
    with pytest.raises(Refused, match="alice has gone for HSM001L8"):
        world.operators.acknowledge("HSM001L8", "bob")
    assert world.operators.prompts()[0]["acked_by"] == "alice"
    world.clock.advance(901)
    assert world.operators.prompts()[0]["acked_by"] == ""
    world.operators.acknowledge("HSM001L8", "bob")
    assert world.operators.acknowledge("HSM001L8", "carol", take=True)["instead_of"] == "bob"
    assert world.operators.release("HSM001L8", "carol")["released"]
    assert not world.operators.release("HSM001L8", "carol")["released"]
    gone = [detail for verb, detail in world.history("HSM001L8") if verb == "mount request acknowledged"]
    assert len(gone) == 3, "said again by the same person it is no news"


def test_whoever_had_gone_has_brought_it_when_only_the_inventory_sees_it(make_filled: MakeWorld) -> None:
    world = shelved(make_filled)
    world.operators.acknowledge("HSM001L8", "alice")
    world.library.hand_insert("HSM001L8")
    world.custody.inventory()
    (prompt,) = world.operators.prompts(every=True)
    assert (prompt["outcome"], prompt["answered_by"]) == ("done", "alice")


def test_the_same_answer_twice_is_fine_and_another_one_is_told_who_was_first(make_filled: MakeWorld) -> None:
    world = shelved(make_filled)
    number = world.operators.prompts()[0]["id"]
    first = world.operators.answer("HSM001L8", Outcome.DONE, "alice")
    assert first["answered"] is True
    again = world.operators.answer("HSM001L8", Outcome.DONE, "bob", number=number)
    assert (again["answered"], again["answered_by"]) == (False, "alice")
    with pytest.raises(Refused, match="answered already: done, by alice at 20"):
        world.operators.answer("HSM001L8", Outcome.CANNOT_FIND, "bob", number=number)
    with pytest.raises(Refused, match="answered already: done, by alice"):
        world.operators.acknowledge("HSM001L8", "bob")
    with pytest.raises(Refused, match="for another one"):
        world.operators.answer("HSM002L8", Outcome.DONE, "bob", number=number)
    assert [each for each in world.history("HSM001L8") if each[0] == "mount request done"] == [
        ("mount request done", {})
    ]


@pytest.mark.parametrize("outcome", [Outcome.CANNOT_FIND, Outcome.DAMAGED, Outcome.WRONG_SITE])
def test_a_cartridge_that_is_not_brought_gives_way_to_another_copy(
    make_filled: MakeWorld, outcome: Outcome
) -> None:
    world = shelved(make_filled, policies=TWO_TAPES)
    answer = world.operators.answer("HSM001L8", outcome, "alice", "looked everywhere", site="")
    assert (answer["switched"], answer["left"]) == (1, 0)
    assert [each["barcode"] for each in answer["others"]] == ["HSM002L8"]
    world.settle()
    assert asked(world) == ["HSM002L8"]
    world.operators.answer("HSM002L8", Outcome.DONE, "alice")
    world.settle()
    world.assert_readable(1)
    world.check()


def test_the_only_copy_that_cannot_be_found_is_searched_on_and_nobody_fails(make_filled: MakeWorld) -> None:
    world = shelved(make_filled)
    answer = world.operators.answer("HSM001L8", Outcome.CANNOT_FIND, "alice", "not in its box")
    assert (answer["switched"], answer["left"]) == (0, 1)
    world.settle()
    (prompt,) = world.operators.prompts()
    assert "could not be found" in prompt["note"]
    assert "alice: not in its box" in prompt["note"]
    assert [request.state for request in world.requests(kind="recall")] == ["waiting"]
    assert world.volume("HSM001L8").state == "suspect"
    again = world.operators.answer("HSM001L8", Outcome.CANNOT_FIND, "alice", "not in its box")
    assert again["answered"] is False, "said twice: the second prompt stays"
    assert asked(world) == ["HSM001L8"]
    wait = world.retrieve(1)
    world.settle()
    assert wait.look().lost == {}, "who asks now waits as well"
    world.operators.answer("HSM001L8", Outcome.DONE, "bob")
    world.settle()
    assert len(wait.look().files) == 2
    assert world.volume("HSM001L8").state == "active"
    wait.close()
    world.check()


def test_a_damaged_only_copy_is_tried_all_the_same_and_stays_suspect(make_filled: MakeWorld) -> None:
    world = shelved(make_filled)
    world.operators.answer("HSM001L8", Outcome.DAMAGED, "alice", "dropped")
    world.settle()
    assert "hsm volume lost" in world.operators.prompts()[0]["note"]
    world.operators.answer("HSM001L8", Outcome.DONE, "alice")
    world.settle()
    world.assert_readable(1)
    volume = world.volume("HSM001L8")
    assert (volume.state, volume.error) == ("suspect", "damaged, says alice: dropped")


def test_a_cartridge_at_another_site_says_so_until_it_is_back(make_filled: MakeWorld) -> None:
    world = shelved(make_filled)
    world.operators.answer("HSM001L8", Outcome.WRONG_SITE, "alice", site="north")
    world.settle()
    (prompt,) = world.operators.prompts()
    assert (prompt["where"], prompt["site"]) == ("shelf B3 at north", "north")
    assert world.volume("HSM001L8").state == "active", "its copies count: it only stands elsewhere"
    world.operators.answer("HSM001L8", Outcome.DONE, "alice")
    assert world.volume("HSM001L8").site == ""


def test_somebody_brings_another_copy_instead(make_filled: MakeWorld) -> None:
    world = shelved(make_filled, policies=TWO_TAPES)
    with pytest.raises(BadInput, match="the volume to use instead"):
        world.operators.answer("HSM001L8", Outcome.SUBSTITUTED, "alice")
    with pytest.raises(BadInput, match="stand in for itself"):
        world.operators.answer("HSM001L8", Outcome.SUBSTITUTED, "alice", instead="HSM001L8")
    with pytest.raises(Refused, match="HSM003L8 holds nothing of what waits for HSM001L8; HSM002L8 has"):
        world.operators.answer("HSM001L8", Outcome.SUBSTITUTED, "alice", instead="HSM003L8")
    with pytest.raises(NotFound):
        world.operators.answer("HSM001L8", Outcome.SUBSTITUTED, "alice", instead="XYZ")
    assert asked(world) == ["HSM001L8"], "what is refused changes nothing"
    world.operators.answer("HSM001L8", Outcome.SUBSTITUTED, "alice", instead="HSM002L8")
    world.settle()
    assert asked(world) == ["HSM002L8"]
    assert world.operators.scan("HSM002L8", "alice")["verdict"] == "done"
    world.settle()
    world.assert_readable(1)


def test_a_scanned_barcode_completes_its_prompt_and_another_one_is_told_what_is_wanted(
    make_filled: MakeWorld,
) -> None:
    world = shelved(make_filled)
    world.custody.export("HSM004L8", "C7", "alice")
    wrong = world.operators.scan(" HSM004L8 ", "bob")
    assert wrong["verdict"] == "not wanted"
    assert wrong["text"].endswith("it belongs on shelf C7. Wanted: HSM001L8 (shelf B3)")
    assert world.operators.scan("CLN001L1", "bob")["verdict"] == "unknown"
    with pytest.raises(BadInput, match="printable"):
        world.operators.scan("", "bob")
    done = world.operators.scan("HSM001L8", "bob")
    assert (done["verdict"], done["answered_by"]) == ("done", "bob")
    assert world.operators.scan("HSM001L8", "bob")["verdict"] == "again"


def test_a_wanted_cartridge_scanned_on_the_way_is_told_its_door_and_who_carries_it(
    make_filled: MakeWorld,
) -> None:
    world = shelved(make_filled).rebuild(handless=True)
    found = world.operators.scan("HSM001L8", "bob")
    assert found["verdict"] == "put in"
    assert "put it into mail slot" in found["text"]
    assert world.operators.prompts()[0]["acked_by"] == "bob"
    world.library.hand_insert("HSM001L8")
    assert world.operators.scan("HSM001L8", "bob")["verdict"] == "done"


def test_the_pick_list_has_no_more_in_a_walk_than_doors(make_filled: MakeWorld) -> None:
    world = shelved(make_filled)
    found = world.operators.picklist()
    (walk,) = found["walks"]
    (stop,) = walk["stops"]
    assert (found["open"], stop["shelf"], [item["barcode"] for item in stop["items"]]) == (
        1,
        "B3",
        ["HSM001L8"],
    )


def test_answers_survive_the_daemon_and_the_shift(make_filled: MakeWorld) -> None:
    world = shelved(make_filled, policies=TWO_TAPES)
    world.operators.acknowledge("HSM001L8", "alice")
    again = world.rebuild()
    assert again.operators.prompts()[0]["acked_by"] == "alice"
    again.operators.answer("HSM001L8", Outcome.CANNOT_FIND, "bob")
    third = again.rebuild()
    third.settle()
    assert asked(third) == ["HSM002L8"], "what was passed over is remembered"


class Outbox:
    """What went, and whether anything goes just now."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.broken = ""

    def __call__(self, channel: ChannelConfig, message: Message, now: datetime) -> None:
        if self.broken:
            raise NotSent(f"{channel.name}: {self.broken}")
        self.sent.append((channel.name, message.subject))


def reminders(world: World, outbox: Outbox, **more: object) -> Reminders:
    config = OperatorConfig.model_validate(
        {
            "switch_after": None,
            "channels": [
                {"name": "mail", "command": {"argv": ["/bin/true"]}},
                {"name": "boss", "command": {"argv": ["/bin/true"]}},
            ],
            "escalation": [
                {"after": "10 min", "to": "mail", "repeat": "1 h"},
                {"after": "30 min", "to": "boss"},
            ],
        }
        | more
    )
    return Reminders(world.catalog, world.operators, config, "HSM", world.bell, outbox)


def test_reminders_follow_the_steps_and_a_restart_sends_nothing_again(make_filled: MakeWorld) -> None:
    world = shelved(make_filled)
    outbox = Outbox()
    assert reminders(world, outbox).round() == 0
    world.clock.advance(601)
    assert reminders(world, outbox).round() == 1
    assert outbox.sent == [("mail", "[HSM] 1 volume is waited for: HSM001L8")]
    world.clock.advance(1200)
    again = world.rebuild()
    assert reminders(again, outbox).round() == 1
    assert reminders(again, outbox).round() == 0
    assert [name for name, _ in outbox.sent] == ["mail", "boss"]
    again.clock.advance(3600)
    again.operators.acknowledge("HSM001L8", "alice")
    assert reminders(again, outbox).round() == 0, "somebody is on the way"
    again.operators.answer("HSM001L8", Outcome.DONE, "alice")
    again.clock.advance(86400)
    assert reminders(again, outbox).round() == 0


def test_what_cannot_be_sent_is_a_problem_until_it_went_and_ends_no_wait(make_filled: MakeWorld) -> None:
    world = shelved(make_filled)
    outbox = Outbox()
    outbox.broken = "no route to host"
    service = reminders(world, outbox)
    for _ in range(30):
        world.clock.advance(1000)
        service.round()
    (boss, mail) = service.problems()
    assert boss == "operators are not told of 1 prompt: boss: no route to host"
    assert mail == "operators are not told of 1 prompt: mail: no route to host"
    assert [request.state for request in world.requests(kind="recall")] == ["waiting"]
    outbox.broken = ""
    world.clock.advance(3600)
    service.round()
    assert [name for name, _ in outbox.sent] == ["mail"], "what does not repeat was given up"
    assert service.problems() == [boss]
    world.operators.answer("HSM001L8", Outcome.DONE, "alice")
    assert service.problems() == []


def test_in_quiet_hours_nobody_is_told_and_once_when_they_end(make_filled: MakeWorld) -> None:
    world = shelved(make_filled)
    outbox = Outbox()
    service = reminders(world, outbox, quiet_hours={"start": "00:00", "end": "23:59"})
    world.clock.advance(7200)
    assert service.round() == 0
    service.config = service.config.model_copy(update={"quiet_hours": None})
    assert service.round() == 2
    assert service.round() == 0


def test_an_unanswered_prompt_gives_way_to_each_other_copy_once(make_filled: MakeWorld) -> None:
    world = shelved(make_filled, policies=TWO_TAPES)
    service = reminders(world, Outbox(), switch_after="1 h")
    world.clock.advance(1800)
    world.operators.acknowledge("HSM001L8", "alice", 3000)
    world.clock.advance(2999)
    service.round()
    assert asked(world) == ["HSM001L8"], "alice is still on the way"
    world.clock.advance(3602)
    service.round()
    world.settle()
    assert asked(world) == ["HSM002L8"]
    withdrawn = world.operators.prompts(every=True)[1]
    assert (withdrawn["barcode"], withdrawn["outcome"]) == ("HSM001L8", "unanswered")
    assert "nobody has answered for 60 min; HSM002L8 instead" in withdrawn["comment"]
    for _ in range(5):
        world.clock.advance(4000)
        service.round()
        world.settle()
    assert asked(world) == ["HSM002L8"], "nobody runs after every copy in turn for ever"
    world.library.hand_insert("HSM001L8")
    world.custody.inventory()
    world.settle()
    world.assert_readable(1)
    world.settle()
    assert asked(world) == [], "the first one came after all"


def test_an_unanswered_prompt_for_the_only_copy_stays(make_filled: MakeWorld) -> None:
    world = shelved(make_filled)
    service = reminders(world, Outbox(), switch_after="1 h")
    world.clock.advance(86400 * 30)
    service.round()
    world.settle()
    assert asked(world) == ["HSM001L8"]


def test_the_wrong_cartridge_in_the_mail_slot_is_named_with_its_place_and_what_is_wanted(
    make_filled: MakeWorld,
) -> None:
    world = shelved(make_filled)
    world.custody.export("HSM004L8", "C7", "alice")
    again = world.rebuild(handless=True)
    again.library.hand_insert("HSM004L8")
    with pytest.raises(Refused) as refused:
        again.operators.answer("HSM001L8", Outcome.DONE, "bob")
    assert str(refused.value) == (
        "library does not see HSM001L8; its mail slots hold HSM004L8 (no pool, scratch; not wanted; belongs "
        "on shelf C7); wanted: HSM001L8"
    )
    assert again.operators.scan("HSM004L8", "bob")["verdict"] == "again"
    assert asked(again) == ["HSM001L8"]


def test_a_cartridge_with_another_ones_label_is_read_by_nobody_and_both_are_named(
    make_filled: MakeWorld,
) -> None:
    world = shelved(make_filled)
    world.library.hand_remove("HSM002L8")
    with world.catalog.write() as session:
        there = media.volume(session, "HSM001L8")
        media.place_volume(
            session, media.volume(session, "HSM002L8").pk, Place.SHELF, world.now(), "alice",
            library="library", shelf="C7",
        )  # fmt: skip
    cartridges = world.home / "library" / "cartridges"
    label = next(cartridges.glob("HSM001L8/**/*label*"))
    label.write_text(label.read_text().replace("HSM001L8", "HSM002L8"))
    world.operators.answer("HSM001L8", Outcome.DONE, "bob")
    world.settle()
    volume = world.volume("HSM001L8")
    assert volume.state == "suspect"
    assert "nothing was read or written" in volume.error
    assert "HSM002L8 (no pool) belongs on shelf C7; wanted is HSM001L8" in volume.error
    assert there.uuid in volume.error
