"""The API as one ASGI application."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from hsm.api import problems
from hsm.api.limits import Limits
from hsm.api.routes import routes
from hsm.api.services import Services


def build_app(services: Services) -> Starlette:
    """Join the paths to ``services``; errors are answered as :mod:`hsm.api.problems` says."""
    handlers = dict.fromkeys((kind for kind, _ in problems.ANSWERS), problems.on_error)
    return Starlette(
        routes=routes(services),
        middleware=[Middleware(Limits)],
        exception_handlers={**handlers, HTTPException: problems.on_http, Exception: problems.on_bug},
    )
