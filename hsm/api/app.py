"""The API as one ASGI application."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect

from hsm.api import problems
from hsm.api.doors import Doors, Identify
from hsm.api.limits import Limits
from hsm.api.routes import routes
from hsm.api.services import Services
from hsm.api.shares import Shares
from hsm.api.twoperson import TwoPerson
from hsm.refusals import Refusal


def build_app(
    services: Services,
    doors: Doors | None = None,
    two_person: TwoPerson | None = None,
    note: Callable[[Refusal], None] = lambda refusal: None,
) -> Starlette:
    """Join the paths to ``services``; errors are answered as :mod:`hsm.api.problems` says.

    :param doors: who has which role; as an empty configuration says when None.
    :param two_person: which commands need a second person; none when None.
    :param note: is told of every refused act.
    :raises UnguardedError: a path that :mod:`hsm.api.access` names no role for.
    """
    handlers = dict.fromkeys((kind for kind, _ in problems.ANSWERS), problems.on_error)
    app = Starlette(
        routes=routes(services, two_person or TwoPerson(services)),
        middleware=[Middleware(Limits), Middleware(Identify, doors=doors or Doors()), Middleware(Shares)],
        exception_handlers={
            **handlers,
            HTTPException: problems.on_http,
            ClientDisconnect: problems.on_gone,
            Exception: problems.on_bug,
        },
    )
    app.state.note = note
    return app
