"""Malformed input for a DICOM listener, by the thousand, each made from a seed and a number alone.

An input is what one peer sends on one connection, most of them within an association.
"""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from wire_fakes import CT, EXPLICIT, IMPLICIT, small_dataset
from wire_peers import (
    ECHO,
    STUDY_FIND,
    STUDY_GET,
    STUDY_MOVE,
    VERIFICATION,
    associate_rq,
    command,
    item,
    pdata,
    pdu,
    store_command,
    ui,
    us,
)

COMMITMENT = "1.2.840.10008.1.20.1"
PUSH_MODEL = "1.2.840.10008.1.20.1.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
ALL = [
    (VERIFICATION, [IMPLICIT]),
    (CT, [EXPLICIT]),
    (CT, [IMPLICIT]),
    (CT, [DEFLATED]),
    (CT, [BIG_ENDIAN]),
]
QUERIES = [*ALL[:2], (STUDY_FIND, [IMPLICIT]), (STUDY_MOVE, [EXPLICIT]), (STUDY_GET, [IMPLICIT])]
QUERIES += [(COMMITMENT, [IMPLICIT])]
FIND, MOVE, GET, COMMIT = 5, 7, 9, 11
"""Presentation context IDs among :data:`QUERIES`."""
PATIENCE_SECONDS = 20.0
ODD = (b"", b" " * 16, b"\0" * 16, b"\xff" * 16, b"DEST\\DEST", b"../../etc", b"DEST" * 50)
ODD += (b"\x1b[2J", b"HSM", b"%s%n")
VALUES = (0, 1, 2, 5, 6, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


@dataclass
class Input:
    """What one peer does."""

    kind: str
    pieces: list[bytes]
    contexts: Sequence[tuple[str, list[str]]] | None = None
    """Proposed and accepted before the pieces are sent; None: the pieces are all."""
    pause_seconds: float = 0.0
    """Between pieces."""
    vanish: bool = False
    """Reset the connection instead of closing it."""


@dataclass
class Outcome:
    """What came back."""

    pdus: list[int] = field(default_factory=list)
    silent: bool = False
    """The server neither answered nor hung up in time."""


def made(seed: int, number: int) -> Input:
    """The input of a number; the same for the same seed."""
    dice = random.Random(f"{seed}/{number}")
    kind = dice.choice(KINDS)
    found = kind(dice)
    found.kind = kind.__name__.strip("_")
    return found


def mangled(dice: random.Random, data: bytes, most: int = 6) -> bytes:
    """Bytes changed, cut out, repeated, put in; or lengths made absurd."""
    out = bytearray(data)
    for _ in range(dice.randrange(1, most)):
        if not out:
            break
        at = dice.randrange(len(out))
        match dice.randrange(6):
            case 0:
                out[at] = dice.randrange(256)
            case 1:
                out[at] ^= 1 << dice.randrange(8)
            case 2:
                del out[at : at + dice.randrange(1, 20)]
            case 3:
                out[at:at] = out[at : at + dice.randrange(1, 40)]
            case 4:
                out[at:at] = dice.randbytes(dice.randrange(1, 12))
            case _:
                size = dice.choice((2, 4))
                order = dice.choice("<>") + ("H" if size == 2 else "L")
                value = dice.choice(VALUES) & (0xFFFF if size == 2 else 0xFFFFFFFF)
                out[at : at + size] = struct.pack(order, value)
    return bytes(out)


def cut(dice: random.Random, data: bytes) -> bytes:
    return data[: dice.randrange(len(data) + 1)]


def fragments(dice: random.Random, context_id: int, control: int, data: bytes) -> list[bytes]:
    """One message part in one or several PDVs; at times with borders, flags or lengths that are wrong."""
    sizes = dice.choice((1, 1, 2, 5))
    borders = sorted(dice.randrange(len(data) + 1) for _ in range(sizes - 1))
    parts = [data[a:b] for a, b in zip([0, *borders], [*borders, len(data)], strict=True)]
    found = []
    for number, part in enumerate(parts):
        flags = control | (2 if number == len(parts) - 1 else 0)
        if dice.random() < 0.05:
            flags = dice.randrange(256)
        found.append(pdata(context_id if dice.random() > 0.03 else dice.randrange(256), flags, part))
    if dice.random() < 0.05:
        dice.shuffle(found)
    if dice.random() < 0.05:
        found[-1] = mangled(dice, found[-1], 3)
    return found


def element(tag: tuple[int, int], vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """Explicit little endian; the length that is written may be a lie."""
    size = len(value) if length is None else length
    head = struct.pack("<HH2s", *tag, vr)
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"UR", b"OF", b"OD"):
        return head + struct.pack("<HL", 0, size & 0xFFFFFFFF) + value
    return head + struct.pack("<H", size & 0xFFFF) + value


def nested(dice: random.Random, depth: int) -> bytes:
    """Sequences of undefined length in each other, ended or not."""
    body = b""
    for _ in range(depth):
        inner = struct.pack("<HHL", 0xFFFE, 0xE000, dice.choice((0xFFFFFFFF, len(body)))) + body
        if dice.random() < 0.8:
            inner += struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
        if dice.random() < 0.8:
            inner += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        body = element((0x0008, 0x1140), b"SQ", inner, dice.choice((0xFFFFFFFF, len(inner))))
    return body


def uid(dice: random.Random) -> str:
    return f"1.2.826.0.1.{dice.randrange(10**12)}"


def dataset(dice: random.Random, instance: str) -> bytes:
    """One that is wrong in some way, more often than not."""
    good = small_dataset(instance, study=uid(dice), pixels=dice.choice((0, 64, 5000)))
    if dice.random() < 0.4:
        return good
    match dice.randrange(7):
        case 0:
            return cut(dice, good)
        case 1:
            return nested(dice, dice.choice((1, 3, 40, 400))) + good
        case 2:
            lie = element(
                (0x0008, 0x0005),
                dice.choice((b"CS", b"??", b"\0\0", b"SQ")),
                b"ISO_IR 100",
                dice.choice(VALUES),
            )
            return lie + good
        case 3:
            return good + element((0x7FE0, 0x0010), b"OB", dice.randbytes(50), 0xFFFFFFFF)
        case 4:
            bad = dice.choice((b"", b"\0", b"1..2", b"1." * 60, b"../../x", b"1.2.3\\1.2.4", b"\xff" * 8))
            tag = dice.choice(((0x0008, 0x0016), (0x0008, 0x0018), (0x0020, 0x000D), (0x0020, 0x000E)))
            return element(tag, b"UI", bad + b"\0" * (len(bad) % 2)) + good
        case 5:
            return dice.randbytes(dice.randrange(300))
        case _:
            return mangled(dice, good)


def _garbage(dice: random.Random) -> Input:
    data = dice.choice(
        (
            dice.randbytes(dice.randrange(1, 600)),
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + dice.randbytes(200),
            b"\0" * dice.randrange(1, 4000),
            pdu(dice.randrange(256), dice.randbytes(dice.randrange(200))),
        )
    )
    return Input("", [data])


def _lengths(dice: random.Random) -> Input:
    kind, length = dice.randrange(0, 9), dice.choice(VALUES)
    return Input("", [struct.pack(">BBL", kind, 0, length) + dice.randbytes(dice.randrange(100))])


def _requests(dice: random.Random) -> Input:
    contexts = [
        (dice.choice((CT, VERIFICATION, "1.2.3.bogus", "", "9" * 300)), [IMPLICIT, EXPLICIT])
    ] * dice.choice((0, 1, 3, 100, 128))
    good = associate_rq(contexts or [(VERIFICATION, [IMPLICIT])])
    identity = item(
        0x58, bytes([dice.randrange(8), dice.randrange(3)]) + struct.pack(">H", dice.choice(VALUES) & 0xFFFF)
    )
    body = dice.choice(
        (good[6:], good[6:] + item(0x50, identity), good[6:] + dice.randbytes(dice.randrange(60)))
    )
    match dice.randrange(4):
        case 0:
            return Input("", [pdu(1, mangled(dice, body))])
        case 1:
            return Input("", [cut(dice, good)])
        case 2:
            return Input("", [mangled(dice, good)])
        case _:
            return Input("", [pdu(1, cut(dice, body)), pdata(1, 3, ECHO)])


def _states(dice: random.Random) -> Input:
    """PDUs that are right, at the wrong time."""
    choices = (
        associate_rq(),
        pdu(2, b"\0" * 68),
        pdu(3, b"\0\1\1\1"),
        pdata(1, 3, ECHO),
        pdu(5, b"\0\0\0\0"),
        pdu(6, b"\0\0\0\0"),
        pdu(7, b"\0\0\0\0"),
    )
    pieces = [dice.choice(choices) for _ in range(dice.randrange(1, 5))]
    return Input("", pieces, dice.choice((None, ALL)))


def _commands(dice: random.Random) -> Input:
    """Command sets that lack fields, or have odd ones."""
    number = dice.choice(
        (0x0001, 0x0020, 0x0021, 0x0010, 0x0030, 0x0130, 0x0100, 0x0110, 0x0FFF, 0x8001, 0x7777)
    )
    fields = {
        0x0002: ui(dice.choice((CT, VERIFICATION, STUDY_FIND, "", "x" * 70))),
        0x0100: us(number),
        0x0110: us(dice.randrange(65536)),
        0x0120: us(dice.randrange(65536)),
        0x0600: dice.choice(ODD),
        0x0700: us(dice.choice((0, 1, 2, 9))),
        0x0800: us(dice.choice((0x0101, 0x0000, 0x0001))),
        0x1000: ui(uid(dice)),
    }
    for key in dice.sample(sorted(fields), dice.randrange(4)):
        del fields[key]
    data = command(fields)
    if dice.random() < 0.5:
        data = mangled(dice, data)
    contexts = dice.choice((ALL, QUERIES))
    pieces = fragments(dice, dice.choice((1, 3, 5, 7)), 1, data)
    if dice.random() < 0.5:
        pieces += fragments(dice, dice.choice((1, 3, 5, 7)), 0, dice.randbytes(dice.randrange(200)))
    return Input("", pieces, contexts)


def _stores(dice: random.Random) -> Input:
    instance, context_id = uid(dice), dice.choice((3, 3, 3, 5, 7, 9))
    named = dice.choice((instance, instance, instance, uid(dice), "", "../../../x", "1." * 40))
    head = store_command(dice.choice((CT, CT, CT, VERIFICATION, "1.2.3")), named)
    pieces = fragments(dice, context_id, 1, head) + fragments(dice, context_id, 0, dataset(dice, instance))
    if dice.random() < 0.1:
        pieces.insert(dice.randrange(len(pieces)), pdata(1, 3, ECHO))
    if dice.random() < 0.2:
        pieces = [*pieces[: dice.randrange(len(pieces))], cut(dice, pieces[-1])]
    return Input("", pieces, ALL, vanish=dice.random() < 0.2)


def _identifier(dice: random.Random, *, explicit: bool) -> bytes:
    keys = [
        ((0x0008, 0x0005), b"CS", dice.choice((b"ISO_IR 192", b"ISO 2022 IR 87\\x", b"??"))),
        ((0x0008, 0x0020), b"DA", dice.choice((b"", b"20260101-", b"-", b"99999999", b"x-y"))),
        ((0x0008, 0x0052), b"CS", dice.choice((b"STUDY", b"SERIES", b"IMAGE", b"PATIENT", b"", b"WORLD"))),
        ((0x0010, 0x0010), b"PN", dice.choice((b"*", b"?" * 90, b"%_'--", b"\x1b$B^=\xff", b"a\\b"))),
        ((0x0020, 0x000D), b"UI", dice.choice((b"", b"1.2.3", b"1.2.*", b"\\" * 99, b"1.2\\" * 500))),
    ]
    out = b""
    for tag, vr, value in dice.sample(keys, dice.randrange(6)):
        padded = value + b" " * (len(value) % 2)
        if explicit:
            out += element(tag, vr, padded)
        else:
            out += struct.pack("<HHL", *tag, len(padded)) + padded
    if dice.random() < 0.3:
        out += nested(dice, dice.choice((1, 60)))
    return mangled(dice, out) if out and dice.random() < 0.5 else out


def _retrieve(dice: random.Random, context_id: int, field: int, sop_class: str) -> Input:
    fields = {
        0x0002: ui(sop_class),
        0x0100: us(field),
        0x0110: us(dice.randrange(65536)),
        0x0700: us(dice.choice((0, 1, 2, 77))),
        0x0800: us(1),
    }
    if field == 0x0021:
        fields[0x0600] = dice.choice((*ODD, dice.randbytes(dice.randrange(40))))
    pieces = fragments(dice, context_id, 1, command(fields))
    pieces += fragments(dice, context_id, 0, _identifier(dice, explicit=context_id == MOVE))
    if dice.random() < 0.2:
        cancel = command({0x0100: us(0x0FFF), 0x0120: us(dice.randrange(65536)), 0x0800: us(0x0101)})
        pieces += fragments(dice, context_id, 1, cancel)
    return Input("", pieces, QUERIES, vanish=dice.random() < 0.2)


def _finds(dice: random.Random) -> Input:
    return _retrieve(dice, FIND, 0x0020, STUDY_FIND)


def _moves(dice: random.Random) -> Input:
    return _retrieve(dice, MOVE, 0x0021, STUDY_MOVE)


def _gets(dice: random.Random) -> Input:
    return _retrieve(dice, GET, 0x0010, STUDY_GET)


def _commitments(dice: random.Random) -> Input:
    fields = {
        0x0003: ui(dice.choice((COMMITMENT, CT))),
        0x0100: us(0x0130),
        0x0110: us(dice.randrange(65536)),
        0x0800: us(dice.choice((1, 1, 1, 0x0101))),
        0x1001: ui(dice.choice((PUSH_MODEL, PUSH_MODEL, "1.2.3", ""))),
        0x1008: us(dice.choice((1, 1, 1, 2, 65535))),
    }
    body = struct.pack("<HHL", 0x0008, 0x1195, 8) + b"1.2.3.4\0"
    entry = struct.pack("<HHL", 0x0008, 0x1150, len(ui(CT))) + ui(CT)
    entry += struct.pack("<HHL", 0x0008, 0x1155, 6) + b"1.2.3\0"
    body += struct.pack("<HHL", 0x0008, 0x1199, len(entry) + 8) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, len(entry)
    )
    body += entry
    if dice.random() < 0.7:
        body = mangled(dice, body)
    pieces = fragments(dice, COMMIT, 1, command(fields)) + fragments(dice, COMMIT, 0, body)
    return Input("", pieces, QUERIES)


def _slow(dice: random.Random) -> Input:
    """Some bytes, a pause, some more, and gone."""
    inner = dice.choice((_stores, _requests, _commands))(dice)
    inner.pieces = [cut(dice, piece) for piece in inner.pieces[:3]]
    inner.pause_seconds = dice.choice((0.0, 0.01, 0.05))
    inner.vanish = dice.random() < 0.5
    return inner


KINDS: tuple[Callable[[random.Random], Input], ...] = (
    _garbage,
    _lengths,
    _requests,
    _states,
    _commands,
    _stores,
    _stores,
    _finds,
    _moves,
    _gets,
    _commitments,
    _slow,
)


def assail(port: int, given: Input, context: ssl.SSLContext | None = None) -> Outcome:
    """Be the peer of one input; what came back."""
    outcome = Outcome()
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS))
        if context is not None:
            with contextlib.suppress(OSError):
                sock = stack.enter_context(context.wrap_socket(sock, server_hostname="127.0.0.1"))
        try:
            if given.contexts is not None:
                sock.sendall(associate_rq(given.contexts, calling=b"FUZZ"))
                if next(_pdus(sock, outcome), None) != 2:
                    return outcome
            for piece in given.pieces:
                sock.sendall(piece)
                if given.pause_seconds:
                    time.sleep(given.pause_seconds)
            if given.vanish:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return outcome
            socket.socket.shutdown(sock, socket.SHUT_WR)
            for _ in _pdus(sock, outcome):
                pass
        except TimeoutError:
            outcome.silent = True
        except (OSError, ValueError):
            pass  # it hung up while we were speaking
    return outcome


def tls_nonsense(seed: int, number: int) -> bytes:
    """What is no TLS, or almost."""
    dice = random.Random(f"tls/{seed}/{number}")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1").do_handshake()
    hello = outgoing.read()
    return dice.choice(
        (
            lambda: mangled(dice, hello),
            lambda: cut(dice, hello),
            lambda: hello + dice.randbytes(dice.randrange(1, 300)),
            lambda: associate_rq(),
            lambda: dice.randbytes(dice.randrange(1, 500)),
            lambda: (
                b"\x16\x03" + bytes([dice.randrange(5)]) + struct.pack(">H", dice.choice(VALUES) & 0xFFFF)
            ),
        )
    )()


def _pdus(sock: socket.socket, outcome: Outcome) -> Iterator[int]:
    """The types of the PDUs that come until the server hangs up."""
    while True:
        head = _exactly(sock, 6)
        if len(head) < 6:
            return
        kind, _, length = struct.unpack(">BBL", head)
        _exactly(sock, min(length, 1 << 22))
        outcome.pdus.append(kind)
        yield kind


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            break
        data += piece
    return data
