"""Passcodes as they are kept."""

from __future__ import annotations

import pytest

from hsm.passcode import SALT_BYTES, make, parse


def test_a_passcode_matches_what_was_kept_of_it_and_no_other() -> None:
    kept = make("geheim ü".encode(), b"s" * SALT_BYTES)
    again = parse(str(kept))
    assert again == kept
    assert again.matches("geheim ü".encode())
    for wrong in (b"", b"geheim", "geheim ü ".encode(), b"\0"):
        assert not again.matches(wrong)
    assert str(make(b"same", b"a" * SALT_BYTES)) != str(make(b"same", b"b" * SALT_BYTES))


def test_what_is_kept_is_scrypt_of_rfc_7914() -> None:
    """The third vector of its section 12, cut to our length."""
    kept = parse("scrypt:14:8:1:U29kaXVtQ2hsb3JpZGU:cCO9yzr9c0hGHAbNgf046_2o-7qQT44-qbVD9lRdofI")
    assert kept.salt == b"SodiumChloride"
    assert kept.matches(b"pleaseletmein")
    assert not kept.matches(b"pleaseletmein!")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        "scrypt:14:8:1:AAAA",
        "bcrypt:14:8:1:AAAAAAAAAAAAAAAA:" + "A" * 43,
        "scrypt:30:8:1:AAAAAAAAAAAAAAAA:" + "A" * 43,
        "scrypt:x:8:1:AAAAAAAAAAAAAAAA:" + "A" * 43,
        "scrypt:14:8:1:A:" + "A" * 43,
        "scrypt:14:8:1:AAAAAAAAAAAAAAAA:AAAA",
        "scrypt:14:8:99:AAAAAAAAAAAAAAAA:" + "A" * 43,
    ],
)
def test_anything_else_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="hsm config passcode") as caught:
        parse(text)
    assert not text or text not in str(caught.value)
