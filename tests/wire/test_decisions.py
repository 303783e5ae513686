"""What is decided without a network: contexts, admission, counters, comments, cadence, final status."""

from __future__ import annotations

import io
import zlib

import pytest
from pydicom.uid import UID_dictionary
from pynetdicom.dsutils import decode
from pynetdicom.sop_class import _QR_CLASSES, _STORAGE_CLASSES

from hsm.config import DicomConfig, Door
from hsm.dicom.admission import (
    CALLED_AE_UNKNOWN,
    CALLING_AE_UNKNOWN,
    NOTHING_HERE,
    OTHER_DOOR,
    admit,
    admit_at,
    choose,
)
from hsm.dicom.boundeddimse import CappedBuffer
from hsm.dicom.call import Counts, error_comment, failed_list
from hsm.dicom.contexts import (
    CONTEXTS_MAX,
    UNCOMPRESSED,
    VERIFICATION,
    Accepted,
    Proposal,
    choose_context,
    choose_syntax,
    is_storage_class,
    plan_associations,
)
from hsm.dicom.progress import Cadence, End, Tally, final_comment, final_status
from hsm.dicom.rights import AeBook
from hsm.dicom.sendline import SubOperation, Verdict, verdict_of
from hsm.model import InstanceRef

EXPLICIT, IMPLICIT, DEFLATED, BIG = UNCOMPRESSED
JPEG = "1.2.840.10008.1.2.4.50"
PRIVATE_SYNTAX = "1.2.840.113619.5.2"
CT = "1.2.840.10008.5.1.4.1.1.2"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"


def ref(pk: int, uid: str = "") -> InstanceRef:
    uid = uid or f"1.9.{pk}"
    return InstanceRef(pk, uid, CT, EXPLICIT, 0, 1, b"", "1", "1.1", None, None)


def test_every_storage_class_that_pynetdicom_knows_is_stored() -> None:
    # Protocol, inventory and presentation templates of no patient are separate services in it too.
    assert [uid for uid in _STORAGE_CLASSES.values() if not is_storage_class(uid)] == []


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.5.1.4.1.1.6",  # retired ultrasound
        "1.2.840.10008.5.1.4.1.1.8",  # retired standalone overlay
        "1.2.840.10008.5.1.1.29",  # retired hardcopy grayscale image
        "1.2.840.10008.5.1.4.1.1.999.7",  # newer than any dictionary
        "1.3.12.2.1107.5.9.1",  # Siemens CSA non-image
        "1.2.276.0.7230010.3.1.0.1.9",
    ],
)
def test_retired_future_and_private_storage_classes_are_stored(uid: str) -> None:
    assert is_storage_class(uid)


@pytest.mark.parametrize(
    "uid",
    [
        *_QR_CLASSES.values(),
        VERIFICATION,
        "1.2.840.10008.1.20.1",  # storage commitment
        "1.2.840.10008.1.3.10",  # DICOMDIR
        "1.2.840.10008.5.1.4.38.1",  # hanging protocol: of no study
        "1.2.840.10008.5.1.4.1.1.201.1",  # inventory
        "1.2.840.10008.5.1.4.1.1.200.4",  # protocol approval FIND, below the storage arc
        "1.2.840.10008.5.1.4.31",  # modality worklist
        "1.2.840.10008.5.1.4.1.2.9.9",  # a query model newer than any dictionary
        "1.2.40.0.13.1.5.1.4.1.2.2.1",  # a vendor's private study root FIND
        "1.2.840.10008.1.2.1",  # a transfer syntax
        "1.2.840.10008.5.1.1.9",  # print
    ],
)
def test_no_other_service_is_taken_for_storage(uid: str) -> None:
    assert not is_storage_class(uid)


def test_no_named_class_without_storage_in_its_name_is_stored() -> None:
    wrong = [
        uid
        for uid, (name, *_) in dict(UID_dictionary).items()
        if name and "Storage" not in name and is_storage_class(uid)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ((JPEG, EXPLICIT), JPEG),
        ((EXPLICIT, JPEG), EXPLICIT),
        ((PRIVATE_SYNTAX,), PRIVATE_SYNTAX),
        (("1.2.3.4.5", IMPLICIT), "1.2.3.4.5"),
        ((IMPLICIT, EXPLICIT), EXPLICIT),
        ((IMPLICIT, JPEG), IMPLICIT),
        ((BIG, EXPLICIT), BIG),
    ],
)
def test_storage_takes_what_the_peer_names_first_but_explicit_for_implicit(
    offered: tuple[str, ...], chosen: str
) -> None:
    assert choose_syntax(Proposal(CT, offered)) == chosen


def test_queries_take_the_best_syntax_we_can_read_or_none() -> None:
    assert choose_syntax(Proposal(FIND, (BIG, IMPLICIT))) == IMPLICIT
    assert choose_syntax(Proposal(FIND, (JPEG,))) is None
    assert choose_syntax(Proposal("1.2.840.10008.5.1.4.31", (IMPLICIT,))) is None


def test_contexts_of_one_class_are_chosen_each_for_itself() -> None:
    choice = choose([Proposal(CT, (IMPLICIT,)), Proposal(CT, (JPEG, IMPLICIT)), Proposal(FIND, (JPEG,))])
    assert choice.narrowed == ((IMPLICIT,), (JPEG,), (JPEG,))
    assert choice.supported == {CT: (IMPLICIT, JPEG)}


def test_each_stored_syntax_is_proposed_alone_and_each_class_with_a_fallback() -> None:
    (plan,) = plan_associations([(CT, JPEG), (CT, EXPLICIT), (CT, JPEG)])
    assert [cx.transfer_syntaxes for cx in plan] == [(EXPLICIT,), (JPEG,), (EXPLICIT, IMPLICIT)]


def test_more_contexts_than_fit_go_to_several_associations_and_a_class_stays_together() -> None:
    kinds = [(f"1.2.{n}", syntax) for n in range(100) for syntax in (JPEG, EXPLICIT)]
    plans = plan_associations(kinds)
    assert [len(plan) <= CONTEXTS_MAX for plan in plans] == [True, True, True]
    classes = [{cx.abstract_syntax for cx in plan} for plan in plans]
    assert sum(map(len, classes)) == 100
    assert set.union(*classes) == {f"1.2.{n}" for n in range(100)}


def test_a_class_in_absurdly_many_syntaxes_still_fits_one_association() -> None:
    (plan,) = plan_associations([(CT, f"1.2.3.{n}") for n in range(300)])
    assert len(plan) == CONTEXTS_MAX


def test_an_instance_goes_as_stored_where_that_is_accepted_and_else_as_the_best_it_converts_to() -> None:
    accepted = [Accepted(1, CT, IMPLICIT), Accepted(3, CT, JPEG), Accepted(5, "1.2", EXPLICIT)]
    assert choose_context(accepted, CT, JPEG, (EXPLICIT, IMPLICIT)) == accepted[1]
    assert choose_context(accepted, CT, EXPLICIT, (IMPLICIT,)) == accepted[0]
    assert choose_context(accepted, CT, PRIVATE_SYNTAX, ()) is None
    assert choose_context(accepted, "1.9", JPEG, (EXPLICIT,)) is None


def book(**changes: object) -> AeBook:
    return AeBook.of(DicomConfig.model_validate(changes))


def test_an_association_is_rejected_by_called_title_rights_and_door_in_that_order() -> None:
    nobody = book(unknown_aes=[])
    assert admit("X", "WS1", "HSM", True, nobody) == CALLED_AE_UNKNOWN
    assert admit("X", "WS1", "HSM", False, nobody) == CALLING_AE_UNKNOWN
    assert admit("HSM", "WS1", "HSM", True, book()) is None
    assert admit_at(Door("modality", "", 0, ae_titles=frozenset({"CT1"})), "WS1", book()) == OTHER_DOOR
    finder = book(aes=[{"ae_title": "WS1", "host": "127.0.0.1", "port": 104, "may": ["find"]}])
    assert admit_at(Door("modality", "", 0, may=frozenset({"store"})), "WS1", finder) == NOTHING_HERE
    assert admit_at(Door("all", "", 0), "WS1", finder) is None


def test_a_known_ae_has_its_own_rights_and_an_unknown_one_the_general_ones() -> None:
    rights = book(
        unknown_aes=["echo"], aes=[{"ae_title": "CT1", "host": "127.0.0.1", "port": 104, "may": ["store"]}]
    )
    assert rights.rights("CT1") == {"store"}
    assert rights.rights("ct1") == {"echo"}
    assert rights.destination("CT1") is not None
    assert rights.destination("CT2") is None


def test_counters_saturate_at_sixteen_bits() -> None:
    assert Counts(65_535, 1, 0, 0).on_the_wire() == Counts(65_535, 1, 0, 0)
    assert Counts(65_536, 70_000, 100_000, 65_537).on_the_wire() == Counts(65_535, 65_535, 65_535, 65_535)


def test_an_error_comment_is_at_most_64_plain_characters_in_one_value() -> None:
    assert error_comment("pool online: 3 bytes") == "pool online: 3 bytes"
    assert error_comment("a\\b\nc\x1b[31mé") == "a/b c [31m?"
    long = error_comment("x" * 200)
    assert len(long) == 64
    assert long.endswith("...")


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("number", [1, 2, 5000])
def test_the_failed_list_reads_back_in_every_syntax_and_size(syntax: str, number: int) -> None:
    uids = [f"1.2.3.4.5.6.7.8.{n}" for n in range(number)]
    encoded = failed_list(uids, syntax)
    if syntax == DEFLATED:
        encoded = zlib.decompress(encoded, -zlib.MAX_WBITS)
    read = decode(io.BytesIO(encoded), syntax == IMPLICIT, syntax != BIG)
    value = read[0x0008, 0x0058].value
    if isinstance(value, bytes):  # as UN, which pydicom leaves alone when it is so long
        value = value.decode("ascii").rstrip("\0").split("\\")
    assert ([value] if number == 1 else list(value)) == uids


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0x0000, Verdict.COMPLETED),
        (0xB000, Verdict.WARNING),
        (0xB007, Verdict.WARNING),
        (0x0107, Verdict.WARNING),
        (0xA700, Verdict.FAILED),
        (0xC000, Verdict.FAILED),
        (0x0110, Verdict.FAILED),
        (0xFF00, Verdict.FAILED),
    ],
)
def test_a_store_status_counts_by_its_class(status: int, verdict: Verdict) -> None:
    assert verdict_of(status) is verdict


def test_pending_is_due_at_the_cadence_while_nothing_moves() -> None:
    cadence = Cadence(5.0, now=100.0)
    assert not cadence.due(104.9, 0)
    assert cadence.seconds_left(104.0) == 1.0
    assert cadence.due(105.0, 0)
    assert not cadence.due(109.9, 0)
    assert cadence.due(110.0, 0)


def test_progress_is_reported_at_once_first_and_then_twice_a_second_at_most() -> None:
    cadence = Cadence(5.0, now=0.0)
    assert cadence.due(0.01, 1)
    assert not cadence.due(0.4, 2)
    assert cadence.due(0.52, 3)
    assert not cadence.due(1.2, 3)


def tally(completed: int = 0, warning: int = 0, failed: int = 0, left: int = 0) -> Tally:
    made = Tally({pk: ref(pk) for pk in range(completed + warning + failed + left)})
    verdicts = [Verdict.COMPLETED] * completed + [Verdict.WARNING] * warning + [Verdict.FAILED] * failed
    for pk, verdict in enumerate(verdicts):
        made.note(ref(pk), SubOperation(verdict, "peer answers A700" if verdict is Verdict.FAILED else ""))
    return made


@pytest.mark.parametrize(
    ("end", "done", "status"),
    [
        (End.THROUGH, tally(completed=3), 0x0000),
        (End.THROUGH, tally(completed=3, failed=1), 0xB000),
        (End.THROUGH, tally(completed=3, warning=1), 0xB000),
        (End.THROUGH, tally(warning=1), 0xB000),
        (End.THROUGH, tally(failed=2), 0xA702),
        (End.TIME_OVER, tally(completed=1, failed=2), 0xB000),
        (End.UNREACHABLE, tally(failed=2), 0xA702),
        (End.CANCELLED, tally(completed=1, left=2), 0xFE00),
    ],
)
def test_the_final_status_follows_from_what_was_sent(end: End, done: Tally, status: int) -> None:
    assert final_status(end, done) == status


def test_giving_up_counts_everything_left_as_failed_and_keeps_the_first_reason() -> None:
    done = tally(completed=1, failed=1, left=2)
    done.give_up("held too long")
    assert done.counts == Counts(0, 1, 3, 0)
    assert done.reason == "peer answers A700"
    assert done.failed == ["1.9.1", "1.9.2", "1.9.3"]


def test_the_final_comment_says_what_is_missing_and_why() -> None:
    shelf = "cartridge HSM003L8 is on shelf B3"
    missing = tally(completed=1, failed=2)
    assert final_comment(End.TIME_OVER, missing, later=False, waiting_for=shelf) == (
        "cartridge HSM003L8 is on shelf B3; 2 not sent in time"
    )
    assert final_comment(End.TIME_OVER, missing, later=True, waiting_for=shelf) == (
        "cartridge HSM003L8 is on shelf B3; 2 delivered later"
    )
    long = f"{shelf} in the cellar of the old radiology, behind the boiler"
    assert final_comment(End.TIME_OVER, missing, later=True, waiting_for=long) == (
        "cartridge HSM003L8 is on shelf B3; 2 delivered later"
    )
    asked = "shelf B3, waiting for an operator since 02:10, usually 4 min more"
    assert final_comment(End.TIME_OVER, missing, later=False, waiting_for=asked) == (
        "shelf B3, waiting for an operator; 2 not sent in time"
    )
    assert (
        final_comment(End.GONE, missing, later=True, waiting_for="x" * 80) == f"{'x' * 45}; 2 delivered later"
    )
    down = final_comment(End.UNREACHABLE, missing, later=True, waiting_for="")
    assert down == "peer answers A700; 2 delivered later"
    assert final_comment(End.THROUGH, missing, later=False, waiting_for="") == "2 failed: peer answers A700"
    assert final_comment(End.THROUGH, tally(completed=1), later=False, waiting_for="") == ""


def test_a_capped_buffer_keeps_up_to_its_limit_and_nothing_beyond() -> None:
    buffer = CappedBuffer(4)
    assert buffer.write(b"ab") == 2
    assert buffer.write(b"cd") == 2
    assert (buffer.getvalue(), buffer.overflowed) == (b"abcd", False)
    assert buffer.write(b"e") == 1
    assert buffer.write(b"f") == 1
    assert (buffer.getvalue(), buffer.overflowed) == (b"", True)
