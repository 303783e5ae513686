"""C-STORE over real associations: bytes as they came, and the status that each failure has."""

from __future__ import annotations

import logging
import threading

import pytest
from wire_fakes import CT, EXPLICIT, FILES, IMPLICIT, MR, element, kinds_of, part10_parts, small_dataset
from wire_peers import VERIFICATION, Raw, associate_rq, associated, send_raw
from wire_world import Running, StartServer

from hsm.dicom.header import read_header
from hsm.errors import BadInput, CatalogAway, Conflict, NoSpace, Permanent, Retryable
from hsm.service import OutOfService

PRIVATE_CLASS = "1.2.840.113619.4.26"
PRIVATE_SYNTAX = "1.2.840.113619.5.2"
UNKNOWN_SYNTAX = "1.2.3.4.5.6.7"


def test_the_bundled_files_are_many_and_in_many_syntaxes() -> None:
    assert len(FILES) > 60
    assert len({part10_parts(path)[0] for path in FILES}) >= 11


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_every_bundled_file_is_stored_with_its_bytes_unchanged(archive: Running) -> None:
    with associated(archive.port, kinds_of(FILES)) as assoc:
        for path in FILES:
            syntax, dataset = part10_parts(path)
            header = read_header(dataset, syntax)
            answer = send_raw(assoc, header.sop_class_uid, header.sop_instance_uid, dataset, syntax)
            assert answer.Status == 0x0000, path.name
            kept = archive.ingest.stored[header.sop_instance_uid]
            assert kept.dataset == dataset, path.name
            assert (kept.transfer_syntax, kept.source) == (syntax, "WS1")


@pytest.mark.parametrize("syntax", [PRIVATE_SYNTAX, UNKNOWN_SYNTAX, EXPLICIT, IMPLICIT])
@pytest.mark.parametrize(
    "sop_class", [PRIVATE_CLASS, "1.2.840.10008.5.1.4.1.1.999", "1.2.840.10008.5.1.4.1.1.6"]
)
def test_private_and_unknown_classes_and_syntaxes_are_negotiated_as_proposed(
    archive: Running, sop_class: str, syntax: str
) -> None:
    with associated(archive.port, [(sop_class, [syntax])]) as assoc:
        assert [str(cx.transfer_syntax[0]) for cx in assoc.accepted_contexts] == [syntax]


def test_an_instance_of_a_private_class_in_an_unknown_syntax_is_kept_as_it_came(archive: Running) -> None:
    dataset = small_dataset("1.2.77", sop_class=PRIVATE_CLASS)
    with associated(archive.port, [(PRIVATE_CLASS, [UNKNOWN_SYNTAX])]) as assoc:
        assert send_raw(assoc, PRIVATE_CLASS, "1.2.77", dataset, UNKNOWN_SYNTAX).Status == 0
    kept = archive.ingest.stored["1.2.77"]
    assert (kept.dataset, kept.transfer_syntax) == (dataset, UNKNOWN_SYNTAX)


def test_contexts_of_one_class_keep_their_own_syntaxes(archive: Running) -> None:
    jpeg = "1.2.840.10008.1.2.4.50"
    with associated(archive.port, [(CT, [IMPLICIT]), (CT, [jpeg, IMPLICIT]), (CT, [EXPLICIT])]) as assoc:
        assert [str(cx.transfer_syntax[0]) for cx in assoc.accepted_contexts] == [IMPLICIT, jpeg, EXPLICIT]


@pytest.mark.parametrize(
    ("sop_class", "syntaxes", "accepted"),
    [
        (CT, ["1.2.3.bogus"], False),
        (CT, ["1.2.3.bogus", EXPLICIT], True),
        ("1.2.3.bogus", [EXPLICIT], False),
        ("1.2.3.bogus", [IMPLICIT, "x"], False),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_context_whose_class_or_syntax_is_no_uid_is_not_accepted(
    archive: Running, sop_class: str, syntaxes: list[str], accepted: bool
) -> None:
    with Raw(archive.port) as peer:
        peer.send(associate_rq([(VERIFICATION, [IMPLICIT]), (sop_class, syntaxes)]))
        kind, body = peer.read_pdu()
    assert kind == 2
    contexts = body[body.index(b"\x21\0\0", 68) :].split(b"\x21\0\0")[1:]
    assert [context[3] == 0 for context in contexts] == [True, accepted]  # PS3.8 table 9-18


def test_services_that_are_not_offered_are_not_accepted(archive: Running) -> None:
    refused = [
        "1.2.840.10008.5.1.4.31",
        "1.2.840.10008.5.1.4.1.2.3.1",
        "1.2.840.10008.1.20.2",
        "1.2.40.0.13.1.5.1.4.1.2.2.1",
        "1.2.840.10008.5.1.4.38.1",
    ]
    contexts = [(VERIFICATION, [IMPLICIT]), *((uid, [IMPLICIT]) for uid in refused)]
    with associated(archive.port, contexts) as assoc:
        assert [str(cx.abstract_syntax) for cx in assoc.accepted_contexts] == [VERIFICATION]
        assert {str(cx.abstract_syntax) for cx in assoc.rejected_contexts} == set(refused)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NoSpace("pool online has 10 bytes to give"), 0xA700),
        (Conflict("other content is there"), 0x0111),
        (BadInput("no"), 0xC000),
        (Retryable("disk is busy"), 0x0110),
        (CatalogAway("catalog: connection refused"), 0xA700),
        (OutOfService("pool online is out of service"), 0xA700),
        (Permanent("catalog refused it"), 0x0110),
        (ZeroDivisionError("a bug"), 0x0110),
    ],
)
def test_each_failure_of_ingest_has_its_status_and_says_why(
    archive: Running, error: Exception, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(header: object) -> None:
        raise error

    archive.ingest.before = fail
    with caplog.at_level(logging.WARNING), associated(archive.port, [(CT, [EXPLICIT])]) as assoc:
        answer = send_raw(assoc, CT, "1.2.9", small_dataset("1.2.9"), EXPLICIT)
        assert answer.Status == status
        said = "internal error" if isinstance(error, ZeroDivisionError) else str(error)
        assert said in answer.ErrorComment
        archive.ingest.before = lambda header: None
        assert send_raw(assoc, CT, "1.2.9", small_dataset("1.2.9"), EXPLICIT).Status == 0
    assert "1.2.9" in caplog.text


def test_a_long_reason_fits_into_the_error_comment(archive: Running) -> None:
    def fail(header: object) -> None:
        raise NoSpace("pool/\\online: " + "ä" * 300)

    archive.ingest.before = fail
    with associated(archive.port, [(CT, [EXPLICIT])]) as assoc:
        answer = send_raw(assoc, CT, "1.2.9", small_dataset("1.2.9"), EXPLICIT)
    assert answer.Status == 0xA700
    assert len(answer.ErrorComment) == 64


@pytest.mark.parametrize(
    ("sop_class", "uid", "status"),
    [(CT, "1.2.10", 0xA900), (MR, "1.2.9", 0xA900), (CT, "1.2.9", 0x0000)],
)
def test_a_command_that_names_another_instance_or_class_is_refused(
    archive: Running, sop_class: str, uid: str, status: int
) -> None:
    with associated(archive.port, [(sop_class, [EXPLICIT])]) as assoc:
        answer = send_raw(assoc, sop_class, uid, small_dataset("1.2.9"), EXPLICIT)
    assert answer.Status == status
    assert bool(archive.ingest.stored) == (status == 0)


@pytest.mark.parametrize(
    "dataset",
    [
        b"\0" * 64,
        small_dataset("1.2.9")[:-10],
        small_dataset("1.2.9", study="../../etc/passwd"),
        small_dataset("1.2.9", series=""),
        element(0x0008, 0x0016, "UI", CT.encode()),
    ],
)
def test_a_dataset_that_cannot_be_understood_is_refused_and_not_stored(
    archive: Running, dataset: bytes
) -> None:
    with associated(archive.port, [(CT, [EXPLICIT])]) as assoc:
        answer = send_raw(assoc, CT, "1.2.9", dataset, EXPLICIT)
        assert answer.Status == 0xC000
        assert answer.ErrorComment
        assert send_raw(assoc, CT, "1.2.8", small_dataset("1.2.8"), EXPLICIT, 2).Status == 0
    assert list(archive.ingest.stored) == ["1.2.8"]


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_an_instance_uid_that_would_leave_the_pool_is_refused(archive: Running) -> None:
    with associated(archive.port, [(CT, [EXPLICIT])]) as assoc:
        answer = send_raw(assoc, CT, "../../1.2", small_dataset("../../1.2"), EXPLICIT)
        assert answer.Status == 0xC000
    assert archive.ingest.stored == {}


def test_a_dataset_beyond_the_limit_is_refused_without_being_kept_in_memory(
    start_server: StartServer,
) -> None:
    archive = start_server(max_dataset_bytes=100_000)
    with associated(archive.port, [(CT, [EXPLICIT])]) as assoc:
        answer = send_raw(assoc, CT, "1.2.9", small_dataset("1.2.9", pixels=3_000_000), EXPLICIT)
        assert answer.Status == 0xA700
        assert "max_dataset_bytes" in answer.ErrorComment
        assert send_raw(assoc, CT, "1.2.8", small_dataset("1.2.8", pixels=90_000), EXPLICIT, 2).Status == 0
    assert list(archive.ingest.stored) == ["1.2.8"]


def test_many_peers_store_at_once(archive: Running) -> None:
    failures: list[object] = []

    def store(number: int) -> None:
        with associated(archive.port, [(CT, [EXPLICIT])], calling=f"CT{number}") as assoc:
            for n in range(5):
                uid = f"1.2.{number}.{n}"
                answer = send_raw(assoc, CT, uid, small_dataset(uid, pixels=20_000), EXPLICIT, n + 1)
                if answer is None or answer.Status != 0:
                    failures.append(answer)

    threads = [threading.Thread(target=store, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert len(archive.ingest.stored) == 40
