"""Requests that are none, or nearly are: as bytes, from a seed."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable, Sequence

from hsm.api.access import ACCESS

ODD_TEXTS = (
    "",
    " ",
    ".",
    "..",
    "../../etc/passwd",
    "%2e%2e%2fetc",
    "%00",
    "a%00b",
    "%ff%fe",
    "%u0041",
    "%",
    "T1;DROP TABLE volume",
    "' OR 1=1 --",
    "-1",
    "0",
    "99999999999999999999",
    "1e9",
    "NaN",
    "null",
    "true",
    "\u00e9\u4e2d",
    "\u202egnp",
    "x" * 5000,
    "{barcode}",
    "$(id)",
    "1.2.3",
    "1..2",
    "1.2." + "9" * 80,
)
ODD_VALUES: tuple[object, ...] = (
    None,
    True,
    0,
    -1,
    2**31,
    2**63,
    2**64,
    10**400,
    1.5,
    -0.0,
    1e308,
    [],
    {},
    [[]],
    ["1.2.3", 7],
    {"a": {"b": []}},
    "\x00",
    "\ud800",
    "a\r\nb",
    "x" * 70_000,
    *(text for text in ODD_TEXTS if len(text) < 100),
)
MEMBERS = (
    "by", "uids", "priority", "reason", "barcode", "drive", "library", "pool", "overwrite", "shelf",
    "comment", "state", "sparse", "suspect", "dry_run", "adopt", "until", "add", "remove", "texts",
    "version", "digest",
    "old_version", "new_texts", "name", "studies", "anonymise", "key", "patient_id", "scheduled", "barcodes",
    "plan", "site", "volume", "id", "seconds", "take", "anchors", "margin_seconds", "at_most", "generation",
)  # fmt: skip
METHODS = (
    "GET",
    "POST",
    "HEAD",
    "PUT",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "get",
    "G\tT",
    "",
    "\x16\x03\x01",
)
VERSIONS = ("HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/9.9", "HTTX/1.1", "", "HTTP/1.1 extra")
Make = Callable[[random.Random], bytes]


def path(chance: random.Random) -> str:
    """One of the API's, with odd parts; or another."""
    found = chance.choice(sorted(ACCESS)).split(" ")[1]
    while "{" in found:
        before, _, rest = found.partition("{")
        found = before + quoted(chance.choice(ODD_TEXTS)) + rest.partition("}")[2]
    if chance.random() < 0.3:
        names = (
            "limit",
            "offset",
            "all",
            "study",
            "run",
            "since",
            "as_of",
            "hours",
            "requests",
            "subject",
            "x",
        )
        given = [
            f"{chance.choice(names)}={quoted(chance.choice(ODD_TEXTS))}" for _ in range(chance.randrange(4))
        ]
        found += "?" + "&".join(given)
    if chance.random() < 0.1:
        found = chance.choice(
            ("*", "", "//", "http://evil/v1/status", "/" * 3000, "/v1/../v1/status", found + "/")
        )
    return found


def quoted(text: str) -> str:
    """As it can stand in a request line."""
    return "".join(c if "!" <= c <= "~" and c not in "?#" else "%%%02x" % (ord(c) & 0xFF) for c in text)


def json_body(chance: random.Random) -> bytes:
    kind = chance.randrange(8)
    if kind == 0:
        depth = chance.choice((5, 30, 1000, 100_000))
        return b"[" * depth + b"]" * chance.choice((0, depth))
    if kind == 1:
        return b'{"a":' * 2000 + b"1" + b"}" * 2000
    if kind == 2:
        return chance.randbytes(chance.randrange(1, 300))
    if kind == 3:
        return chance.choice(
            (b"NaN", b"{", b'"', b"\xef\xbb\xbf{}", '{"by": "x"}'.encode("utf-16"), b"[1,2", b"tru")
        )
    members = {chance.choice(MEMBERS): chance.choice(ODD_VALUES) for _ in range(chance.randrange(1, 6))}
    text = json.dumps(members)
    if kind == 4:
        text = (
            text[:-1]
            + f', "{chance.choice(MEMBERS)}": {chance.choice(("Infinity", "-NaN", "1e999", "9" * 5000))}}}'
        )
    return text.encode()


def request(chance: random.Random) -> bytes:
    """Well-formed HTTP that asks for something odd."""
    method = chance.choice(("GET", "POST", "POST", "POST"))
    content = json_body(chance) if method == "POST" else b""
    head = f"{method} {path(chance) or '/'} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode("latin-1") + content


def bad_line(chance: random.Random) -> bytes:
    line = f"{chance.choice(METHODS)} {path(chance)} {chance.choice(VERSIONS)}\r\n"
    return line.encode("latin-1") + b"Host: x\r\n\r\n"


def bad_headers(chance: random.Random) -> bytes:
    many = b"".join(b"X-%d: y\r\n" % number for number in range(chance.choice((10, 2000))))
    odd = (
        b"Content-Length: -1\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked, gzip\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"No colon\r\n",
        b": nameless\r\n",
        b"X: a\r\n b\r\n",
        b"X\x00Y: z\r\n",
        b"X: " + chance.randbytes(40) + b"\r\n",
        b"X: " + b"y" * 100_000 + b"\r\n",
        b"Upgrade: websocket\r\nConnection: upgrade\r\n",
        b"Expect: 100-continue\r\nContent-Length: 3\r\n",
        b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-User: root\r\n",
        many,
    )
    head = b"POST /v1/recalls HTTP/1.1\r\n" + chance.choice((b"Host: x\r\n", b"", b"Host: x\r\nHost: y\r\n"))
    return head + b"".join(chance.sample(odd, chance.randrange(1, 4))) + b"\r\n{}"


def bad_chunks(chance: random.Random) -> bytes:
    head = b"POST /v1/recalls HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = (
        b"5\r\nhello\r\n",
        b"-5\r\nx\r\n",
        b"FFFFFFFFFFFFFFFFF\r\n",
        b"zz\r\n",
        b"0\r\n\r\n",
        b"1;ext\r\na\r\n",
        b"3\r\nab",
    )
    return head + b"".join(chance.choices(chunk, k=chance.randrange(1, 6)))


def noise(chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice((1, 20, 500, 70_000)))


def mutated(chance: random.Random) -> bytes:
    """A good request with bytes changed, removed or repeated."""
    found = bytearray(request(chance))
    for _ in range(chance.randrange(1, 8)):
        at = chance.randrange(len(found))
        match chance.randrange(3):
            case 0:
                found[at] = chance.randrange(256)
            case 1:
                del found[at : at + chance.randrange(1, 20)]
            case _:
                found[at:at] = found[at : at + chance.randrange(1, 40)]
        if not found:
            return b"\r\n"
    return bytes(found)


def cut(chance: random.Random) -> bytes:
    found = request(chance)
    return found[: chance.randrange(len(found))]


def two(chance: random.Random) -> bytes:
    return request(chance) + chance.choice((request, bad_line, noise))(chance)


KINDS: Sequence[Make] = (
    request,
    request,
    request,
    bad_line,
    bad_headers,
    bad_chunks,
    noise,
    mutated,
    mutated,
    cut,
    two,
)


def malformed(chance: random.Random) -> bytes:
    """The next one."""
    return chance.choice(KINDS)(chance)


def with_token(content: bytes, header: bytes) -> bytes:
    """With a further header after the first line, where it has one."""
    line, end, rest = content.partition(b"\r\n")
    return line + end + header + rest if end else content


def odd_authorization(chance: random.Random, good: str) -> bytes:
    """Headers that let nobody in."""
    odd = (
        b"",
        b"Authorization: Bearer\r\n",
        b"Authorization: Bearer " + good[:-1].encode() + b"\r\n",
        b"Authorization: Bearer " + good.encode() + b"x\r\n",
        b"Authorization: bearer " + good.upper().encode() + b"\r\n",
        b"Authorization: Basic " + good.encode() + b"\r\n",
        b"Authorization: Bearer " + b"A" * 20_000 + b"\r\n",
        b"Authorization: Bearer " + bytes(chance.choices(range(0x80, 0x100), k=30)) + b"\r\n",
        b"Authorization: " + good.encode() + b"\r\n",
        b"X-Authorization: Bearer " + good.encode() + b"\r\n",
    )
    return chance.choice(odd)


def statuses(answer: bytes) -> list[int]:
    """Of the answers in what came back."""
    lines = answer.split(b"\r\n")
    return [int(line[9:12]) for line in lines if line.startswith(b"HTTP/1.1 ") and line[9:12].isdigit()]


def exchange(connection: socket.socket, content: bytes, patience: float = 0.1) -> bytes:
    """Send it and take what comes, until the other side closes or says no more."""
    found = b""
    try:
        connection.settimeout(patience)
        connection.sendall(content)
        while len(found) < 1 << 22:
            piece = connection.recv(1 << 16)
            if not piece:
                break
            found += piece
            connection.settimeout(0.02)
    except OSError:  # closed on us, or it waits for more
        return found
    return found
