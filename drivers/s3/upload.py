"""Putting one object: a single request, or a multipart upload whose parts go side by side.

Every part, and every single request, carries ``x-amz-checksum-sha256`` of its bytes: what arrives
otherwise is refused by the server and sent again. Nothing is visible under the key before the last
request, which says ``If-None-Match: *``. The object's metadata has its SHA-256 where the caller gave it,
and a mark that is this put's alone: an answer that is lost is told by it from somebody else's object.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from drivers.base import Readable
from drivers.errors import DriverError, NotFound
from drivers.s3.client import Endpoint
from drivers.s3.threads import Crew
from drivers.transfer import copy_exactly

SHA256 = "sha256"
MARK = "put"
"""The names of our metadata: ``x-amz-meta-sha256`` and ``x-amz-meta-put``."""


@dataclass(frozen=True, slots=True)
class Put:
    """One object on its way."""

    key: str
    name: str
    """In the bucket, with the prefix."""
    size: int
    digest: bytes | None
    mark: str
    headers: dict[str, Any]
    """Storage class, encryption, retention."""

    @property
    def metadata(self) -> dict[str, str]:
        digest = {} if self.digest is None else {SHA256: self.digest.hex()}
        return {MARK: self.mark} | digest


def put_single(endpoint: Endpoint, put: Put, source: Readable) -> None:
    """Read all of ``source``, then send it in one request."""
    data = bytearray()
    copy_exactly(source, put.size, put.digest, data.extend, put.key)
    endpoint.create(
        "put_object",
        f"put {put.key}",
        Key=put.name,
        Body=bytes(data),
        ChecksumSHA256=_checksum(data),
        Metadata=put.metadata,
        **put.headers,
    )


def put_parts(endpoint: Endpoint, put: Put, source: Readable, crew: Crew) -> None:
    """Read ``source`` part by part while earlier parts are being sent.

    Whatever goes wrong, the upload is aborted; where even that fails, the next store that opens here
    aborts it by its age.
    """
    part_bytes = endpoint.settings.part_size(put.size)
    what = f"put {put.key}"
    begun = endpoint.ask(
        "create_multipart_upload",
        what,
        Key=put.name,
        Metadata=put.metadata,
        ChecksumAlgorithm="SHA256",
        **put.headers,
    )
    upload: dict[str, Any] = {"Key": put.name, "UploadId": begun["UploadId"]}
    parts = _Parts(part_bytes, crew, lambda number, data: _send(endpoint, what, upload, number, data))
    try:
        copy_exactly(source, put.size, put.digest, parts.add, put.key)
        done = parts.finish()
        endpoint.create(
            "complete_multipart_upload",
            what,
            MultipartUpload={"Parts": done},
            **upload,
        )
    except BaseException:
        parts.give_up()
        with suppress(DriverError):
            endpoint.ask("abort_multipart_upload", f"abort {what}", **upload)
        raise


def try_room(endpoint: Endpoint, name: str, size: int, headers: dict[str, Any]) -> None:
    """Begin an upload, send ``size`` bytes and give it up: a server that is full, or may be read only,
    refuses. Nothing is ever seen under ``name``.

    :raises DriverError: what the server answers; each request is sent once.
    """
    what = "begin an upload"
    begun = endpoint.ask("create_multipart_upload", what, 1, Key=name, **headers)
    upload = {"Key": name, "UploadId": begun["UploadId"]}
    try:
        endpoint.ask("upload_part", f"upload {size} bytes", 1, PartNumber=1, Body=bytes(size), **upload)
    except DriverError:
        with suppress(DriverError):
            endpoint.ask("abort_multipart_upload", what, 1, **upload)
        raise
    endpoint.ask("abort_multipart_upload", what, 1, **upload)


def is_ours(endpoint: Endpoint, name: str, mark: str, attempts: int | None = None) -> bool:
    """Whether the object is there and this put's own.

    :raises DriverError: that cannot be told now.
    """
    try:
        head = endpoint.ask("head_object", f"look at {name}", attempts, Key=name)
    except NotFound:
        return False
    return bool(head.get("Metadata", {}).get(MARK) == mark)


def _send(endpoint: Endpoint, what: str, upload: dict[str, Any], number: int, data: bytes) -> dict[str, Any]:
    checksum = _checksum(data)
    sent = endpoint.ask(
        "upload_part",
        f"{what} (part {number})",
        PartNumber=number,
        Body=data,
        ChecksumSHA256=checksum,
        **upload,
    )
    return {"PartNumber": number, "ETag": sent["ETag"], "ChecksumSHA256": checksum}


def _checksum(data: bytes | bytearray) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode("ascii")


class _Parts:
    """Gathers bytes into parts and sends them, as many at once as there is room for."""

    def __init__(self, part_bytes: int, crew: Crew, send: Callable[[int, bytes], dict[str, Any]]) -> None:
        self._part_bytes = part_bytes
        self._crew = crew
        self._send = send
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._number = 0
        self._taken = 0
        """Parts held out of the crew's room; one more is held without asking."""
        self._under_way: set[Future[dict[str, Any]]] = set()
        self._done: list[dict[str, Any]] = []

    def add(self, data: bytes) -> None:
        """:raises DriverError: an earlier part could not be sent."""
        while data:
            piece = data[: self._part_bytes - self._gathered]
            self._pieces.append(piece)
            self._gathered += len(piece)
            data = data[len(piece) :]
            if self._gathered == self._part_bytes:
                self._start()

    def finish(self) -> list[dict[str, Any]]:
        """Send what is left and wait for all of it; the parts as CompleteMultipartUpload wants them."""
        if self._gathered:
            self._start()
        while self._under_way:
            self._collect()
        return sorted(self._done, key=lambda part: int(part["PartNumber"]))

    def give_up(self) -> None:
        """Wait until no part is under way any more: one that arrived after the abort would stay for ever."""
        for future in self._under_way:
            future.cancel()
        wait(self._under_way)
        self._under_way.clear()
        self._crew.give(self._taken * self._part_bytes)
        self._taken = 0

    def _start(self) -> None:
        self._number += 1
        pieces, self._pieces, self._gathered = self._pieces, [], 0
        self._under_way.add(self._crew.start(partial(self._joined, self._number, pieces)))
        del pieces
        # The part that is gathered next needs room of its own before its first byte is read.
        while len(self._under_way) > self._taken:
            if self._crew.take(self._part_bytes):
                self._taken += 1
            else:
                self._collect()

    def _joined(self, number: int, pieces: list[bytes]) -> dict[str, Any]:
        data = b"".join(pieces)
        pieces.clear()
        return self._send(number, data)

    def _collect(self) -> None:
        finished, self._under_way = wait(self._under_way, return_when=FIRST_COMPLETED)
        for future in finished:
            self._done.append(future.result())
        spare = self._taken - len(self._under_way)
        if spare > 0:
            self._crew.give(spare * self._part_bytes)
            self._taken -= spare
