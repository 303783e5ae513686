"""Character sets, with pydicom's own files as the proof."""

from __future__ import annotations

import logging
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from part10_files import dataset_of
from pydicom.charset import python_encoding
from pydicom.data import get_charset_files
from pydicom.dataset import Dataset

from hsm import text
from hsm.dicom.elements import elements

CHARSET_FILES = sorted(get_charset_files("*.dcm"))
JAPANESE = "\\ISO 2022 IR 87"
NAMES = {
    "chrArab": "قباني^لنزار",
    "chrFren": "Buc^Jérôme",
    "chrFrenMulti": "Buc^Jérôme",
    "chrGerm": "Äneas^Rüdiger",
    "chrGreek": "Διονυσιος",
    "chrH31": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "chrH32": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    "chrHbrw": "שרון^דבורה",
    "chrI2": "Hong^Gildong=洪^吉洞=홍^길동",
    "chrJapMulti": "やまだ^たろう",
    "chrJapMultiExplicitIR6": "やまだ^たろう",
    "chrKoreanMulti": "김희중",
    "chrRuss": "Люкceмбypг",
    "chrX1": "Wang^XiaoDong=王^小東=",
    "chrX2": "Wang^XiaoDong=王^小东=",
}


def name_and_charset(path: str) -> tuple[str, str] | None:
    dataset, syntax = dataset_of(Path(path))
    found = {element.tag: bytes(element.value) for element in elements(dataset, syntax)}
    if 0x00100010 not in found:
        return None
    charset = "\\".join(part.strip() for part in found[0x00080005].decode("ascii").split("\\"))
    return text.decode(found[0x00100010], charset, name=True).strip(), charset


@pytest.mark.parametrize("path", CHARSET_FILES, ids=lambda path: Path(path).stem)
def test_every_character_set_file_decodes_to_its_name(path: str) -> None:
    found = name_and_charset(path)
    if found is None:  # two files have names in sequences only
        assert Path(path).stem.startswith("chrSQEncoding")
        return
    assert found[0] == NAMES[Path(path).stem]


def written(value: str, charset: str) -> bytes:
    """A name as pydicom encodes it."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = charset.split("\\")
    dataset.PatientName = value
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = True, True
    pydicom.filewriter.write_dataset(buffer, dataset)
    return {
        element.tag: bytes(element.value) for element in elements(buffer.getvalue(), "1.2.840.10008.1.2")
    }[0x00100010]


@pytest.mark.parametrize("path", CHARSET_FILES, ids=lambda path: Path(path).stem)
def test_a_name_is_answered_in_its_own_set_and_comes_back_unchanged(path: str) -> None:
    found = name_and_charset(path)
    if found is None:
        assert Path(path).stem.startswith("chrSQEncoding")
        return
    name, charset = found
    chosen = text.choose_charset(name.replace("^", "=").split("="), [charset])
    assert chosen == charset
    assert text.decode(written(name, chosen), chosen, name=True).strip().rstrip("=") == name.rstrip("=")


def test_ascii_needs_no_set_and_a_set_that_lacks_a_letter_is_not_chosen() -> None:
    assert text.choose_charset(["Doe", ""], ["ISO_IR 100"]) == ""
    assert text.choose_charset(["Müller"], ["", "ISO_IR 144", "ISO_IR 100"]) == "ISO_IR 100"
    assert text.choose_charset(["Müller", "山田"], ["ISO_IR 100", "ISO_IR 144"]) == "ISO_IR 192"
    assert text.choose_charset(["王"], ["NONSENSE", "GB18030"]) == "GB18030"


def test_latin_letters_are_not_written_as_if_ascii_had_them() -> None:
    assert not text.encodable("é", "")
    assert not text.encodable("é山", JAPANESE)
    assert text.encodable("ab山", JAPANESE)
    assert text.decode(written("ab山", JAPANESE), JAPANESE, name=True).strip() == "ab山"


def test_two_byte_sets_are_not_chosen_where_only_a_one_byte_set_may_stand() -> None:
    assert not text.encodable("山", "ISO 2022 IR 87")


@pytest.mark.parametrize("charset", ["GBK", "GB18030"])
def test_a_backslash_byte_inside_a_chinese_character_does_not_split_it(charset: str) -> None:
    raw = "誠\\b".encode(charset)
    assert raw.count(b"\\") == 2
    assert text.decode(raw, charset) == "誠\\b"


def test_a_delimiter_ends_the_reach_of_an_escape_sequence() -> None:
    raw = b"\x1b$)C\xb1\xe8^\xe9"
    assert text.decode(raw, "ISO_IR 100\\ISO 2022 IR 149", name=True) == "김^é"
    # In ASCII such a byte cannot be: the sender forgot to escape again.
    assert text.decode(b"\x1b$)C\xb1\xe8^\xc8\xf1", "\\ISO 2022 IR 149", name=True) == "김^희"


def test_simplified_chinese_by_code_extension_loses_its_escape_sequence() -> None:
    assert text.decode(b"Zhang\x1b$)A\xcd\xf5", "\\ISO 2022 IR 58") == "Zhang王"


def test_undeclared_utf8_is_understood_and_other_bytes_are_latin() -> None:
    assert text.decode("Łódź".encode()) == "Łódź"
    assert text.decode(b"M\xfcller") == "Müller"


@pytest.mark.parametrize(
    ("spelling", "name"),
    [("ISO-IR 100", "é"), ("ISO_IR_100", "é"), ("iso ir 100", "é"), ("ISO2022 IR 100", "é"), ("UTF-8", "é")],
)
def test_misspelt_terms_are_understood(spelling: str, name: str) -> None:
    raw = name.encode("utf-8" if spelling == "UTF-8" else "latin-1")
    assert text.decode(raw, spelling) == name


def test_an_unknown_term_is_logged_once_and_decodes_as_ascii(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert text.decode(b"Doe", "KLINGON 7") == "Doe"
    assert [record.getMessage().count("KLINGON 7") for record in caplog.records] == [1]


@given(
    st.binary(max_size=80).map(lambda raw: raw.replace(b"\0", b"\x1b$)C")),
    st.lists(st.sampled_from([*python_encoding, "junk"]), min_size=1, max_size=3).map("\\".join),
    st.booleans(),
)
def test_no_bytes_in_no_set_ever_raise(raw: bytes, charset: str, name: bool) -> None:
    decoded = text.decode(raw, charset, name=name)
    assert "\0" not in decoded
    assert "\x1b" not in decoded
    decoded.encode("utf-8")  # no surrogates: both databases take it


@given(st.text(max_size=40), st.sampled_from(["GB18030", "ISO_IR 192", JAPANESE, "ISO_IR 13", "ISO_IR 144"]))
def test_what_is_called_encodable_survives_being_written(value: str, charset: str) -> None:
    value = "".join(char for char in value if char.isprintable() and char not in "\\^=").strip()
    if value and text.encodable(value, charset):
        assert text.decode(written(value, charset), charset, name=True).strip() == value


@pytest.mark.parametrize("value", ["¥", "‾"])
@pytest.mark.parametrize("charset", ["ISO_IR 13", "ISO 2022 IR 13\\ISO 2022 IR 87"])
def test_what_jis_has_in_place_of_ascii_is_answered_in_another_set(value: str, charset: str) -> None:
    assert not text.encodable(value, charset)


@given(st.text())
def test_normalising_twice_changes_nothing(value: str) -> None:
    once = text.normalise(value)
    assert text.normalise(once) == once
    assert once == once.strip()


def test_case_width_and_spaces_do_not_matter_for_matching() -> None:
    assert text.normalise("  STRASSE  Nr ") == text.normalise("straße nr")
    assert text.normalise("ﾔﾏﾀﾞ") == text.normalise("ヤマダ")
    assert text.normalise("Ａ") == "a"


def test_a_name_is_split_into_alphabetic_and_other_groups() -> None:
    assert text.normalise_name("Yamada ^ Tarou^^^=山田^太郎=やまだ^たろう") == (
        "yamada^tarou",
        "山田^太郎=やまだ^たろう",
    )
    assert text.normalise_name("Doe^John^^^") == ("doe^john", "")
    assert text.normalise_name("==やまだ") == ("", "=やまだ")
    assert text.normalise_name("") == ("", "")


@given(st.text(alphabet=st.sampled_from("aÄ^= ＝＾ß山\u0301"), max_size=20))
def test_a_folded_group_never_gains_a_separator_of_groups(name: str) -> None:
    assert all("=" not in group for group in text.normalise_groups(name))
    alphabetic, other = text.normalise_name(name)
    assert "=" not in alphabetic
    assert other.count("=") <= 1


def test_a_group_that_folding_lengthens_is_cut_to_what_an_index_holds() -> None:
    alphabetic, _ = text.normalise_name("\ufdfa" * 500)
    assert len(alphabetic) <= text.GROUP_CHARS_MAX
