"""DICOM text: bytes to characters, characters to a form that can be matched, and a set to answer in.

PS3.5 sections 6.1 and 6.2 and PS3.3 section C.12.1.1.2. The tables of character sets are pydicom's;
the decoder is ours because pydicom's warns through process-wide state for what an archive meets
every day. Nothing here raises for bad bytes: what cannot be decoded becomes U+FFFD.
"""

from __future__ import annotations

import functools
import logging
import re
import unicodedata
from collections.abc import Iterable, Sequence

from pydicom.charset import (
    CODES_TO_ENCODINGS,
    STAND_ALONE_ENCODINGS,
    custom_encoders,
    default_encoding,
    python_encoding,
)

UNICODE = "ISO_IR 192"
"""The Specific Character Set that can hold every value."""

GROUP_CHARS_MAX = 512
"""A normalised component group is cut here: folding may lengthen it, and it is a key of an index."""

_log = logging.getLogger(__name__)

_ESC = b"\x1b"
_FRAGMENT = re.compile(rb"\x1b[^\x1b]*|[^\x1b]+")
# PS3.5 section 6.1.2.5.3: these end the reach of an escape sequence.
_TEXT_RESET = re.compile(rb"[\\\r\n\t\f]")
_NAME_RESET = re.compile(rb"[\\^=\r\n\t\f]")
# Python's codecs for these eat the escape sequence themselves.
_SELF_ESCAPED = ("iso2022_jp", "iso2022_jp_2")
# Sets of two-byte characters only: PS3.3 allows them as second and later values, after one for ASCII.
_NEVER_FIRST = (*_SELF_ESCAPED, "iso_ir_58")
# Controls that PS3.5 section 6.1.3 does not allow in text (and NUL padding): they would reach an
# operator's terminal, and PostgreSQL refuses NUL.
_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n\f\r"}
_MISSPELT = re.compile(r"ISO[ _-]*(2022)?[ _-]*IR[ _-]*(\d+)", re.IGNORECASE)
_ALIASES = {"UTF-8": UNICODE, "UTF8": UNICODE, "GB2312": "GBK", "ISO 2022 GB18030": "GB18030"}
_NAME_GROUPS = 3


def decode(raw: bytes, charset: str = "", *, name: bool = False) -> str:
    """Decode a whole value field; several values stay joined by backslashes.

    Decode before splitting: in GBK, GB18030 and JIS a backslash byte may be half a character.

    :param charset: Specific Character Set (0008,0005) as sent, its values joined by backslashes.
    :param name: a PN value, in which ``^`` and ``=`` also end the reach of an escape sequence.
    """
    encodings = _encodings(charset)
    if _ESC in raw:
        reset = _NAME_RESET if name else _TEXT_RESET
        text = "".join(_decode_fragment(part, encodings[0], reset) for part in _FRAGMENT.findall(raw))
    else:
        text = _decode_plain(raw, encodings[0])
    return text.translate(_CONTROLS)


def normalise(text: str) -> str:
    """The form in which text is matched: compatibility composed, case folded, single inner spaces.

    Unicode's compatibility caseless match (definition D146), so half-width katakana match
    full-width ones. Idempotent.
    """
    if text.isascii():
        return " ".join(text.lower().split())
    folded = unicodedata.normalize("NFD", text).casefold()
    folded = unicodedata.normalize("NFKC", folded).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def normalise_name(name: str) -> tuple[str, str]:
    """A PN value (PS3.5 section 6.2.1) as its normalised alphabetic group and the other groups.

    The second is the ideographic and the phonetic group joined by ``=``, empty if both are.
    Trailing carets and spaces around components are dropped in each group.
    """
    groups = normalise_groups(name)
    return groups[0], "=".join(groups[1:]).rstrip("=")


def normalise_groups(name: str) -> tuple[str, str, str]:
    """The alphabetic, ideographic and phonetic group of a PN value, each normalised."""
    groups = [normalise_group(group) for group in name.split("=")[:_NAME_GROUPS]]
    first, second, third = groups + [""] * (_NAME_GROUPS - len(groups))
    return first, second, third


def normalise_group(group: str) -> str:
    """One component group, normalised: no spaces around components, no carets at its end."""
    # A full-width equals sign folds to the one that separates groups.
    folded = normalise(normalise(group).replace("=", " "))
    group = "^".join(component.strip() for component in folded.split("^"))
    return group[:GROUP_CHARS_MAX].rstrip("^ ")


_JIS_X_0201 = python_encoding["ISO_IR 13"]
_NOT_ASCII_IN_JIS = "\u00a5\u203e"
"""YEN SIGN and OVERLINE, the two characters in which JIS X 0201 Romaji differs from ASCII."""


def encodable(text: str, charset: str) -> bool:
    """Whether ``charset`` is known and pydicom can write the value ``text`` in it without loss.

    A person's name is written component by component: ask for each.
    """
    terms = charset.split("\\")
    if not all(term.strip() in python_encoding for term in terms):
        return False
    encodings = _encodings(charset)
    if encodings[0] in _NEVER_FIRST:
        return False
    if default_encoding in encodings and any("\x7f" < char < "\u0100" for char in text):
        # pydicom would write Latin-1 letters as if the default repertoire had them.
        return False
    if encodings[0] == _JIS_X_0201 and any(char in _NOT_ASCII_IN_JIS for char in text):
        # It has them where ASCII has the backslash and the tilde: DICOM reads them as those.
        return False
    if any(_fits(text, encoding) for encoding in encodings):
        return True
    # With several sets pydicom switches between them, taking the longest part that fits each time.
    return len(encodings) > 1 and all(any(_fits(char, each) for each in encodings) for char in text)


def choose_charset(values: Iterable[str], preferred: Sequence[str]) -> str:
    """The Specific Character Set for an answer that holds ``values``.

    :param preferred: sets in order of preference: the requester's own, then the study's.
    :returns: empty for pure ASCII, else the first preferred set that holds every value, else UTF-8.
    """
    texts = [value for value in values if not value.isascii()]
    if not texts:
        return ""
    for charset in preferred:
        if charset and all(encodable(text, charset) for text in texts):
            return charset
    return UNICODE


@functools.lru_cache(maxsize=256)
def _encodings(charset: str) -> tuple[str, ...]:
    """Python's codecs for a Specific Character Set; an unknown term counts as the default repertoire.

    Cached, so that an unknown term is logged once and not for each of a study's instances.
    """
    sent = [term.strip() for term in charset.split("\\")]
    known = [_known_term(term) for term in sent]
    if None in known:
        _log.warning(
            "Specific Character Set (0008,0005) %r has terms that DICOM does not define; "
            "they are read as the default repertoire",
            charset[:200],
        )
    terms = [term or "" for term in known]
    if terms[0] in STAND_ALONE_ENCODINGS:
        terms = terms[:1]
    else:
        terms = [term for term in terms if term not in STAND_ALONE_ENCODINGS]
    return tuple(python_encoding[term] for term in terms)


def _known_term(term: str) -> str | None:
    """A defined term of PS3.3 section C.12.1.1.2, common misspellings mended; None if there is none."""
    if term in python_encoding:
        return term
    misspelt = _MISSPELT.fullmatch(term)
    if misspelt:
        mended = f"ISO 2022 IR {misspelt[2]}" if misspelt[1] else f"ISO_IR {misspelt[2]}"
        return mended if mended in python_encoding else None
    return _ALIASES.get(term.upper())


def _decode_plain(raw: bytes, encoding: str) -> str:
    if encoding != default_encoding:
        return raw.decode(encoding, errors="replace")
    # No set was declared, or ASCII. Text that is valid UTF-8 is practically never anything else;
    # Latin-1 decodes the rest, whatever it is.
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _decode_fragment(part: bytes, first: str, reset: re.Pattern[bytes]) -> str:
    """Decode bytes that begin with an escape sequence, or those before the first one.

    Escape sequences that the dataset did not declare are obeyed too: they mean nothing else.
    """
    if not part.startswith(_ESC):
        return _decode_plain(part, first)
    length = 4 if part[1:3] in (b"$(", b"$)") else 3
    encoding = CODES_TO_ENCODINGS.get(part[:length])
    if encoding is None:
        return _decode_plain(part[1:], first)
    if encoding in _SELF_ESCAPED:
        return part.decode(encoding, errors="replace")
    body = part[length:]
    end = reset.search(body)
    if end is None:
        return body.decode(encoding, errors="replace")
    rest = body[end.start() :]
    if first == default_encoding and not rest.isascii():
        # The sender forgot to escape again after the delimiter: ASCII has no such bytes.
        return body.decode(encoding, errors="replace")
    return body[: end.start()].decode(encoding, errors="replace") + _decode_plain(rest, first)


def _fits(text: str, encoding: str) -> bool:
    if not text:
        return True
    try:
        encoder = custom_encoders.get(encoding)
        if encoder is not None:
            encoder(text, errors="strict")
        else:
            text.encode(encoding)
    except UnicodeError:
        return False
    return True
