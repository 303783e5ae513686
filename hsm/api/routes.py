"""The paths and what each calls. Reading is GET; what changes something is POST."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from hsm.api.acts import Acts
from hsm.api.audit import AuditPaths
from hsm.api.catalog import CatalogPaths
from hsm.api.deletions import DeletionPaths
from hsm.api.exports import ExportPaths
from hsm.api.fixity import FixityPaths
from hsm.api.guard import Endpoint, Guard
from hsm.api.marks import Marks
from hsm.api.media import MediaPaths
from hsm.api.movements import MovementPaths
from hsm.api.operators import OperatorPaths
from hsm.api.policies import PolicyPaths
from hsm.api.prefetches import PrefetchPaths
from hsm.api.reads import Reads
from hsm.api.services import Services
from hsm.api.storage import StoragePaths
from hsm.api.twoperson import TwoPerson
from hsm.errors import NotFound


class Paths(Protocol):
    """The paths of one subject."""

    def gets(self) -> dict[str, Any]:
        """Paths that only look, and what each calls."""
        ...

    def posts(self) -> dict[str, Any]:
        """Paths that change something, or whose question is too long for an address."""
        ...


def subjects(services: Services, two_person: TwoPerson) -> list[Paths]:
    """Every group of paths."""
    return [
        two_person,
        Reads(services),
        Acts(services),
        Marks(services),
        StoragePaths(services),
        CatalogPaths(services),
        PrefetchPaths(services),
        DeletionPaths(services),
        ExportPaths(services),
        PolicyPaths(services),
        MediaPaths(services),
        OperatorPaths(services),
        MovementPaths(services),
        AuditPaths(services),
        FixityPaths(services),
    ]


def endpoints(services: Services, two_person: TwoPerson) -> Iterator[tuple[str, str, Endpoint]]:
    """Method, path and what it calls, of every path."""
    for paths in subjects(services, two_person):
        for method, found in (("GET", paths.gets()), ("POST", paths.posts())):
            for path, endpoint in found.items():
                yield method, path, endpoint


async def _nowhere(request: Request) -> Response:
    raise NotFound(f"{request.url.path}: the API has no such path")


def routes(services: Services, two_person: TwoPerson) -> list[BaseRoute]:
    """Every path of the API, each behind its role.

    :raises UnguardedError: a path without one.
    """
    guard = Guard(two_person)
    by_path: dict[str, list[BaseRoute]] = {}
    for method, path, endpoint in endpoints(services, two_person):
        by_path.setdefault(path, []).append(guard.route(method, path, endpoint))
    found = [route for group in by_path.values() for route in group]
    return [*found, Route("/{path:path}", _nowhere, methods=["GET", "POST"])]
