"""What the send lane puts on the wire, read by pynetdicom and by hand."""

from __future__ import annotations

import io
import itertools
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import P_DATA_TF

from hsm.dicom.sendhold import after
from hsm.dicom.sendwire import (
    BUFFERS_MAX,
    PDU_BYTES_MAX,
    StoreResponse,
    command_pdus,
    dataset_pdus,
    pdu_data_bytes,
    store_command,
    store_response,
)

CT = "1.2.840.10008.5.1.4.1.1.2"


def pdus_of(stream: bytes) -> list[bytes]:
    found = []
    while stream:
        size = 6 + int.from_bytes(stream[2:6], "big")
        found.append(stream[:size])
        stream = stream[size:]
    return found


@given(
    total=st.integers(1, 5000),
    data_bytes=st.integers(5, 700).map(lambda n: n * 2),
    cuts=st.lists(st.integers(0, 5000), max_size=6),
)
def test_a_dataset_in_pieces_of_any_length_is_whole_in_pdus_of_the_right_length(
    total: int, data_bytes: int, cuts: list[int]
) -> None:
    dataset = bytes(n % 251 for n in range(total))
    edges = [0, *sorted(min(cut, total) for cut in cuts), total]
    pieces = [dataset[a:b] for a, b in itertools.pairwise(edges)]
    before = command_pdus(b"c" * 100, 3, data_bytes)
    writes = list(dataset_pdus(pieces, total, 3, data_bytes, before))
    assert all(len(buffers) <= BUFFERS_MAX + 1 for buffers in writes)
    found = pdus_of(b"".join(bytes(each) for buffers in writes for each in buffers))
    heads = [struct.unpack(">BBLLBB", pdu[:12]) for pdu in found]
    assert all(kind == 4 and pdu == pdv + 4 and context == 3 for kind, _, pdu, pdv, context, _ in heads)
    assert all(len(pdu) - 12 <= data_bytes for pdu in found)
    data = [pdu for pdu in found if not pdu[11] & 1]
    assert b"".join(pdu[12:] for pdu in data) == dataset
    assert [pdu[11] for pdu in data] == [0] * (len(data) - 1) + [2]
    assert all(len(pdu) - 12 == data_bytes for pdu in data[:-1])
    commands = [pdu for pdu in found if pdu[11] & 1]
    assert found[: len(commands)] == commands
    assert b"".join(pdu[12:] for pdu in commands) == b"c" * 100


def test_many_small_pdus_go_out_in_several_writes_none_of_them_too_long() -> None:
    writes = list(dataset_pdus([b"x" * 100_000], 100_000, 1, 10, []))
    assert len(writes) > 10
    assert max(map(len, writes)) <= BUFFERS_MAX + 1 <= 1024


@given(st.lists(st.binary(max_size=20), max_size=8), st.data())
def test_what_is_left_of_a_write_is_what_was_not_sent(buffers: list[bytes], data: Any) -> None:
    stream = b"".join(buffers)
    sent = data.draw(st.integers(0, len(stream)))
    assert b"".join(bytes(each) for each in after(list(buffers), sent)) == stream[sent:]


@pytest.mark.parametrize("originator", [None, ("VIEWER", 4242)])
def test_a_command_set_is_what_pynetdicom_would_send(originator: tuple[str, int] | None) -> None:
    request = C_STORE()
    request.MessageID = 77
    request.AffectedSOPClassUID = CT
    request.AffectedSOPInstanceUID = "1.2.3.45"
    request.Priority = 0
    request.DataSet = io.BytesIO(b"12345678")
    if originator is not None:
        request.MoveOriginatorApplicationEntityTitle, request.MoveOriginatorMessageID = originator
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    theirs = b"".join(
        bytes(pdv[1][1:])
        for pdata in message.encode_msg(5, 16384)
        for pdv in pdata.presentation_data_value_list
        if pdv[1][0] & 1
    )
    assert store_command(CT, "1.2.3.45", 77, originator) == theirs


@pytest.mark.parametrize(
    ("announced", "data"),
    [(4096, 4090), (16384, 16378), (16383, 16376), (0, PDU_BYTES_MAX - 6), (2**32 - 1, PDU_BYTES_MAX - 6)],
)
def test_a_pdu_is_as_long_as_the_peer_takes_and_no_longer_than_ours(announced: int, data: int) -> None:
    assert pdu_data_bytes(announced) == data


def response(context_id: int = 5, max_pdu: int = 16384, **fields: Any) -> list[bytes]:
    """The PDUs of a response as pynetdicom encodes it."""
    answer = C_STORE()
    answer.MessageIDBeingRespondedTo = 77
    answer.AffectedSOPClassUID = CT
    answer.AffectedSOPInstanceUID = "1.2.3.45"
    answer.Status = fields.pop("Status", 0)
    for keyword, value in fields.items():
        setattr(answer, keyword, value)
    message: DIMSEMessage = C_STORE_RSP()
    message.primitive_to_message(answer)
    found = []
    for pdata in message.encode_msg(context_id, max_pdu):
        pdu = P_DATA_TF()
        pdu.from_primitive(pdata)
        found.append(pdu.encode())
    return found


def test_an_ordinary_response_is_read() -> None:
    (pdu,) = response()
    assert store_response(pdu, 5) == StoreResponse(77, 0, "")
    (pdu,) = response(Status=0xA700, ErrorComment="disk is full ")
    assert store_response(pdu, 5) == StoreResponse(77, 0xA700, "disk is full")


def test_a_response_in_another_context_or_in_parts_is_not_ordinary() -> None:
    assert store_response(response()[0], 3) is None
    parts = response(max_pdu=64)
    assert len(parts) > 1
    assert [store_response(pdu, 5) for pdu in parts] == [None] * len(parts)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_break_the_reader_of_responses(noise: bytes) -> None:
    body = struct.pack(">LBB", len(noise) + 2, 5, 3) + noise
    found = store_response(struct.pack(">BBL", 4, 0, len(body)) + body, 5)
    assert found is None or 0 <= found.status <= 0xFFFF
    assert store_response(noise, 5) is None


@given(st.integers(12, 120), st.integers(0, 255))
def test_a_damaged_response_is_read_right_or_not_at_all(at: int, value: int) -> None:
    (pdu,) = response()
    if at < len(pdu):
        damaged = pdu[:at] + bytes([value]) + pdu[at + 1 :]
        found = store_response(damaged, 5)
        assert found is None or isinstance(found, StoreResponse)
        assert store_response(damaged[:-1], 5) is None
