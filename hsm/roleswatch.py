"""Who may do what over the control API, put on record whenever it becomes something else.

At a start, at a reload, and when the tokens file has changed: whoever edited the configuration, the journal
has who had which role before and after. Names and roles, never a token or its digest.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final

from hsm.catalog import journal
from hsm.catalog.engine import Catalog
from hsm.catalog.journal import Wanted
from hsm.config.access import ApiConfig
from hsm.tokens import Tokens

VERB: Final = "roles changed"
KIND: Final = "access"
ACTOR: Final = "configuration"

Roles = Mapping[str, str]
"""By whom (``user alice``, ``group staff``, ``others``, ``token night``) the roles, in words."""


def roles_of(config: ApiConfig, tokens: Tokens | None) -> dict[str, str]:
    """What a configuration and the tokens file give whom. Commands that need a second person stand beside
    them: whoever takes one off the list gives one person more."""
    found = {f"user {name}": _said(roles) for name, roles in config.roles.users.items()}
    found |= {f"group {name}": _said(roles) for name, roles in config.roles.groups.items()}
    found["others"] = config.roles.others
    found |= {f"command {name}": "needs a second person" for name in config.two_person.commands}
    for each in tokens.all() if tokens is not None else ():
        until = f" until {each.expires_at.isoformat()}" if each.expires_at is not None else ""
        found[f"token {each.name}"] = f"{each.role} for {each.person}{until}"
    return found


def _said(roles: tuple[str, ...]) -> str:
    return ", ".join(sorted(set(roles))) or "none"


def changes(before: Roles, after: Roles) -> dict[str, dict[str, str]]:
    """Of whom something changed: what was, and what is; empty for nothing. Pure."""
    return {
        name: {"before": before.get(name, ""), "after": after.get(name, "")}
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    }


class RolesWatch:
    """That of one node. :meth:`round` is called at the start, after a reload, and every minute or so."""

    def __init__(self, catalog: Catalog, node: str) -> None:
        """
        :param node: a name that it keeps when it is started again: each has a configuration of its own.
        """
        self._catalog = catalog
        self._node = node
        self._known: dict[str, str] | None = None
        self._lock = threading.Lock()

    def round(self, config: ApiConfig, tokens: Tokens | None) -> bool:
        """Whether something was put on record.

        :raises SQLAlchemyError: the catalog failed; the next round writes it.
        """
        now = roles_of(config, tokens)
        with self._lock:
            if now == self._known:
                return False
            with self._catalog.write() as session:
                wanted = Wanted(subject=self._node, kind=KIND, verb=VERB)
                last = journal.last(session, wanted)
                before: dict[str, Any] = dict(last.detail["roles"]) if last is not None else {}
                changed = changes(before, now)
                if changed or last is None:
                    detail = {"changed": changed, "roles": now}
                    at = self._catalog.clock.now()
                    journal.append(session, at, ACTOR, VERB, KIND, self._node, detail)
            self._known = now
            return bool(changed)
