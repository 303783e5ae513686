"""One very large multi-frame instance, made while it is sent: encapsulated, for in explicit little endian no
pixel data can be longer than 4 GiB less two bytes."""

from __future__ import annotations

import hashlib
import secrets
import struct
from collections.abc import Iterator

from hsm.bench import ingest_sender
from hsm.bench.ingest_sender import CT, Sender, command, element, header, pdu
from hsm.part10 import file_head

JPEG_LS = "1.2.840.10008.1.2.4.80"
FRAME_BYTES = 1 << 20
_ITEM, _END = 0xE000FFFE, 0xE0DDFFFE
UNDEFINED = 0xFFFFFFFF


def dataset(study: str, uid: str, size: int) -> Iterator[bytes]:
    """A multi-frame dataset of exactly ``size`` bytes, at least four frames long."""
    head = header(study, uid, 0)[:-12]
    rows = element(0x0028, 0x0010, "US", struct.pack("<H", 512))
    frames = (size - FRAME_BYTES) // (FRAME_BYTES + 8)
    head = head.replace(rows, element(0x0028, 0x0008, "IS", f"{frames:<6}") + rows)
    head += struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, UNDEFINED) + struct.pack("<LL", _ITEM, 0)
    yield head
    noise = secrets.token_bytes(FRAME_BYTES)
    left = size - len(head) - 8
    while left:
        # The last frame is longer than the others rather than shorter than the head of an item.
        frame = FRAME_BYTES if left >= 2 * (FRAME_BYTES + 8) else left - 8
        yield struct.pack("<LL", _ITEM, frame)
        while frame:
            piece = noise[: min(frame, FRAME_BYTES)]
            yield piece
            frame -= len(piece)
            left -= len(piece)
        left -= 8
    yield struct.pack("<LL", _END, 0)


class LargeSender(Sender):
    """An association that takes JPEG-LS."""

    def _associate(self) -> int:
        usual, ingest_sender.EXPLICIT = ingest_sender.EXPLICIT, JPEG_LS
        try:
            return super()._associate()
        finally:
            ingest_sender.EXPLICIT = usual

    def send_large(self, uid: str, size: int) -> str:
        """Store one instance; the SHA-256 of the file that it becomes.

        :raises ConnectionError: it was refused.
        """
        digest = hashlib.sha256(file_head(CT, uid, JPEG_LS))
        request = command(uid)
        self._sock.sendall(pdu(4, struct.pack(">LBB", len(request) + 2, 1, 3) + request))
        waiting = bytearray()
        sent = 0
        for piece in dataset(self._study, uid, size):
            digest.update(piece)
            waiting += piece
            while len(waiting) > self._fragment:
                self._data(bytes(waiting[: self._fragment]), last=False)
                sent += self._fragment
                del waiting[: self._fragment]
        self._data(bytes(waiting), last=True)
        assert sent + len(waiting) == size
        self._check()
        return digest.hexdigest()

    def _data(self, data: bytes, *, last: bool) -> None:
        self._sock.sendall(pdu(4, struct.pack(">LBB", len(data) + 2, 1, 2 if last else 0) + data))
