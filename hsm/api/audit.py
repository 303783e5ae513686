"""What an auditor asks: the paths below ``/v1/audit``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import datetime
from typing import IO, Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from hsm.api.identity import actor
from hsm.api.services import Services
from hsm.api.shares import run_in_threadpool
from hsm.api.wire import body, known, number, reply
from hsm.audit.copies import GRACE, NAMED, Asked
from hsm.catalog.journal import Wanted
from hsm.errors import BadInput
from policies.units import UnitError, read_duration

NAMED_MAX = 100_000
"""Studies that one answer names at most, of each policy."""
RECORDS_MAX = 10_000
RECORDS = 100
ANCHORS_MAX = 10_000
VOLUMES_MAX = 20
"""Whose anchors are read for one verification."""
DIGEST_CHARACTERS = 64
PIECE = 1 << 18
IN_MEMORY = 16 << 20
"""A proof up to this size needs no temporary file."""


class AuditPaths:
    """Reading only; nothing is repaired here."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def gets(self) -> dict[str, Any]:
        return {
            "/v1/audit/copies": self.copies,
            "/v1/audit/log": self.log,
            "/v1/studies/{uid}/proof": self.proof,
        }

    def posts(self) -> dict[str, Any]:
        """A POST because it carries anchors; it changes nothing."""
        return {"/v1/audit/log/verify": self.verify}

    async def copies(self, request: Request) -> Response:
        """``policy``, ``as_of`` (ISO 8601 with a zone), ``grace`` (a duration), ``limit`` (studies named)."""
        given = known(request, "policy", "as_of", "grace", "limit")
        try:
            asked = Asked(
                given["policy"] or None,
                _moment("as_of", given["as_of"]),
                read_duration(given["grace"]) if given["grace"] else GRACE,
                _limit(given["limit"], NAMED, NAMED_MAX),
            )
        except UnitError as error:
            raise BadInput(f"grace {given['grace'][:40]!r}: {error}") from error
        return reply(await run_in_threadpool(self._services.audit.copies, asked))

    async def log(self, request: Request) -> Response:
        """``subject, actor, verb, kind``, ``since, until`` (ISO 8601, zoned), ``before``, ``limit``."""
        given = known(request, "subject", "actor", "verb", "kind", "since", "until", "before", "limit")
        wanted = Wanted(
            given["subject"],
            given["actor"],
            given["verb"],
            given["kind"],
            _moment("since", given["since"]),
            _moment("until", given["until"]),
            number(given["before"], "before") if given["before"] else None,
        )
        limit = _limit(given["limit"], RECORDS, RECORDS_MAX)
        return reply(await run_in_threadpool(self._services.audit.log, wanted, limit, actor(request, "")))

    async def verify(self, request: Request) -> Response:
        """``{anchors: {"NUMBER": "SHA-256 in hexadecimal"}, volumes: [NAME]}``."""
        asked = await body(request, {}, {"anchors": dict, "volumes": list, "by": str})
        given, volumes = asked.get("anchors", {}), asked.get("volumes", [])
        by = actor(request, asked.get("by", ""))
        if len(volumes) > VOLUMES_MAX or not all(isinstance(each, str) for each in volumes):
            raise BadInput(f"volumes: expected at most {VOLUMES_MAX} names")
        if len(given) > ANCHORS_MAX:
            raise BadInput(f"{len(given)} anchors; expected at most {ANCHORS_MAX}")
        anchors = {number(str(seq), "anchor"): _digest(seq, text) for seq, text in given.items()}
        return reply(await run_in_threadpool(self._services.audit.verify_log, anchors, volumes, by))

    async def proof(self, request: Request) -> Response:
        """A ZIP file."""
        known(request)
        uid = request.path_params["uid"]
        file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115
        try:
            await run_in_threadpool(self._services.audit.prove, uid, file, actor(request, ""))
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return StreamingResponse(_pieces(file), media_type="application/zip")


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE):
            yield piece


def _limit(text: str, usual: int, largest: int) -> int:
    limit = number(text, "limit") if text else usual
    if limit > largest:
        raise BadInput(f"limit {limit}: expected at most {largest}")
    return limit


def _digest(seq: object, text: object) -> bytes:
    try:
        found = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        found = b""
    if 2 * len(found) != DIGEST_CHARACTERS:
        raise BadInput(f"anchor {seq}: {str(text)[:80]!r} is no SHA-256 in hexadecimal")
    return found


def _moment(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput(f"{name} {text[:40]!r}: {error}") from error
    if found.tzinfo is None:
        raise BadInput(f"{name} {text[:40]!r} has no time zone: write 2026-11-01T06:00:00Z")
    return found
