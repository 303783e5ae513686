"""How the catalog keeps SOP Instance UIDs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hsm.catalog.columns import pack_uid, unpack_uid

UID = st.text(alphabet="0123456789.", min_size=1, max_size=64)


@given(st.text())
def test_every_text_comes_back_as_it_was(text: str) -> None:
    assert unpack_uid(pack_uid(text)) == text


@given(UID)
def test_a_uid_takes_half_its_length(uid: str) -> None:
    assert unpack_uid(pack_uid(uid)) == uid
    assert len(pack_uid(uid)) == (len(uid) + 1) // 2


@given(UID, UID)
def test_packed_uids_sort_as_written_ones_do(one: str, other: str) -> None:
    assert (pack_uid(one) < pack_uid(other)) == (one < other)


@given(UID, st.text())
def test_two_texts_are_never_packed_alike(uid: str, text: str) -> None:
    assert (pack_uid(uid) == pack_uid(text)) == (uid == text)
