"""The quickest sender there can be in a few lines: one send and one receive an instance.

What goes over the wire is encoded before the clock starts; between two instances only the eight last
digits of the SOP Instance UID change, in place. So the receiver is what is measured.

usage: python -m hsm.bench.ingest_sender PORT COUNT BYTES STUDY

It associates, says ``ready``, waits for a line on stdin, sends, and says how many seconds it took.
"""

from __future__ import annotations

import secrets
import socket
import struct
import sys
import time
from collections.abc import Iterator

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
PDU_BYTES_MAX = 131072
ONE_SEND_BYTES_MAX = 16 << 20
"""Longer instances go in several sends: the sender need not hold them."""
DIGITS = 8
SECONDS_MAX = 600.0


def element(group: int, number: int, vr: str, value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    raw += (b"\0" if vr == "UI" else b" ") * (len(raw) % 2)
    return struct.pack("<HH2sH", group, number, vr.encode(), len(raw)) + raw


def header(study: str, uid: str, pixel_bytes: int) -> bytes:
    """What comes before the pixels of a CT instance, their own head included."""
    series = f"{study}.1"
    return b"".join(
        (
            element(0x0008, 0x0005, "CS", "ISO_IR 100"),
            element(0x0008, 0x0008, "CS", "ORIGINAL\\PRIMARY\\AXIAL"),
            element(0x0008, 0x0016, "UI", CT),
            element(0x0008, 0x0018, "UI", uid),
            element(0x0008, 0x0020, "DA", "20260102"),
            element(0x0008, 0x0021, "DA", "20260102"),
            element(0x0008, 0x0030, "TM", "101112"),
            element(0x0008, 0x0031, "TM", "101113"),
            element(0x0008, 0x0050, "SH", f"A{study[-8:]}"),
            element(0x0008, 0x0060, "CS", "CT"),
            element(0x0008, 0x0070, "LO", "ACME"),
            element(0x0008, 0x0080, "LO", "General Hospital"),
            element(0x0008, 0x0090, "PN", "Referrer^A"),
            element(0x0008, 0x1010, "SH", "STATION1"),
            element(0x0008, 0x1030, "LO", "Thorax routine"),
            element(0x0008, 0x103E, "LO", "Thorax 1.0 B70f"),
            element(0x0010, 0x0010, "PN", "Bench^Ingest"),
            element(0x0010, 0x0020, "LO", f"P{study[-8:]}"),
            element(0x0010, 0x0030, "DA", "19700101"),
            element(0x0010, 0x0040, "CS", "F"),
            element(0x0018, 0x0015, "CS", "CHEST"),
            element(0x0018, 0x0050, "DS", "1.25"),
            element(0x0018, 0x0060, "DS", "120"),
            element(0x0020, 0x000D, "UI", study),
            element(0x0020, 0x000E, "UI", series),
            element(0x0020, 0x0010, "SH", "1"),
            element(0x0020, 0x0011, "IS", "1"),
            element(0x0020, 0x0013, "IS", "1"),
            element(0x0020, 0x0032, "DS", "1\\2\\3"),
            element(0x0020, 0x0037, "DS", "1\\0\\0\\0\\1\\0"),
            element(0x0020, 0x0052, "UI", f"{series}.1"),
            element(0x0028, 0x0002, "US", struct.pack("<H", 1)),
            element(0x0028, 0x0004, "CS", "MONOCHROME2"),
            element(0x0028, 0x0010, "US", struct.pack("<H", 512)),
            element(0x0028, 0x0011, "US", struct.pack("<H", 512)),
            element(0x0028, 0x0030, "DS", "0.5\\0.5"),
            element(0x0028, 0x0100, "US", struct.pack("<H", 16)),
            element(0x0028, 0x0101, "US", struct.pack("<H", 12)),
            element(0x0028, 0x0102, "US", struct.pack("<H", 11)),
            element(0x0028, 0x0103, "US", struct.pack("<H", 0)),
            element(0x0028, 0x1052, "DS", "-1024"),
            element(0x0028, 0x1053, "DS", "1"),
            struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, pixel_bytes),
        )
    )


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(body)) + body


def command(uid: str) -> bytes:
    """A C-STORE request, PS3.7 section 9.3.1.1."""
    values = {
        0x0002: CT.encode() + b"\0" * (len(CT) % 2),
        0x0100: struct.pack("<H", 1),
        0x0110: struct.pack("<H", 1),
        0x0700: struct.pack("<H", 0),
        0x0800: struct.pack("<H", 1),
        0x1000: uid.encode() + b"\0" * (len(uid) % 2),
    }
    body = b"".join(struct.pack("<HHL", 0, number, len(raw)) + raw for number, raw in values.items())
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


class Sender:
    """One association that stores instances of one study."""

    def __init__(self, port: int, study: str) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=SECONDS_MAX)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._uid = f"{study}.1.1{0:0{DIGITS}}"
        self._study = study
        self._fragment = self._associate() - 6

    def _associate(self) -> int:
        """Negotiate; the longest PDU that the peer takes, or ours if that is shorter."""

        def item(kind: int, body: bytes) -> bytes:
            return struct.pack(">BBH", kind, 0, len(body)) + body

        context = struct.pack(">BBBB", 1, 0, 0, 0) + item(0x30, CT.encode()) + item(0x40, EXPLICIT.encode())
        body = struct.pack(">HH16s16s32x", 1, 0, b"HSM".ljust(16), b"BENCH".ljust(16))
        body += item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context)
        body += item(0x50, item(0x51, struct.pack(">L", PDU_BYTES_MAX)) + item(0x52, b"1.2.3.4"))
        self._sock.sendall(pdu(1, body))
        kind, answer = self._read()
        if kind != 2:
            raise ConnectionError(f"association refused: PDU type {kind}")
        at = answer.find(b"\x51\0\0\4")
        limit = int.from_bytes(answer[at + 4 : at + 8], "big") if at > 0 else 0
        return min(limit or PDU_BYTES_MAX, PDU_BYTES_MAX)

    def send(self, count: int, size: int) -> None:
        """Store instances of about ``size`` bytes, each when the one before is acknowledged."""
        head = header(self._study, self._uid, 0)
        pixels = max(0, size - len(head)) & ~1
        head = header(self._study, self._uid, pixels)
        if size > ONE_SEND_BYTES_MAX:
            for number in range(count):
                for piece in self._pieces(head, pixels):
                    self._sock.sendall(self._numbered(piece, number))
                self._check()
            return
        message = bytearray(b"".join(self._pieces(head, pixels)))
        places = self._places(message)
        for number in range(count):
            for at in places:
                message[at : at + DIGITS] = b"%0*d" % (DIGITS, number)
            self._sock.sendall(message)
            self._check()

    def close(self) -> None:
        self._sock.sendall(pdu(5, bytes(4)))
        self._read()
        self._sock.close()

    def _pieces(self, head: bytes, pixels: int) -> Iterator[bytes]:
        """The PDUs of one instance."""
        request = command(self._uid)
        yield pdu(4, struct.pack(">LBB", len(request) + 2, 1, 3) + request)
        noise = secrets.token_bytes(self._fragment)
        left, data = pixels + len(head), head
        while left:
            size = min(self._fragment, left)
            body, data = (data + noise)[:size], b""
            left -= size
            yield pdu(4, struct.pack(">LBB", size + 2, 1, 0 if left else 2) + body)

    def _places(self, data: bytes | bytearray) -> list[int]:
        """Where the number stands in the UID, in command and dataset."""
        uid, found, at = self._uid.encode(), [], -1
        while (at := data.find(uid, at + 1)) >= 0:
            found.append(at + len(uid) - DIGITS)
        return found

    def _numbered(self, piece: bytes, number: int) -> bytes:
        return piece.replace(self._uid.encode(), f"{self._uid[:-DIGITS]}{number:0{DIGITS}}".encode())

    def _check(self) -> None:
        kind, body = self._read()
        at = body.find(struct.pack("<HHL", 0, 0x0900, 2))
        if kind != 4 or body[at + 8 : at + 10] != b"\0\0":
            raise ConnectionError(f"not stored: PDU type {kind}, {body[6:].hex()}")

    def _read(self) -> tuple[int, bytes]:
        data = self._sock.recv(65536)
        while len(data) < 6 or len(data) < 6 + int.from_bytes(data[2:6], "big"):
            more = self._sock.recv(65536)
            if not more:
                raise ConnectionError("the receiver closed the connection")
            data += more
        return data[0], data[6:]


def main() -> None:
    port, count, size = map(int, sys.argv[1:4])
    sender = Sender(port, sys.argv[4])
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.perf_counter()
    sender.send(count, size)
    print(time.perf_counter() - started, flush=True)
    sender.close()


if __name__ == "__main__":
    main()
