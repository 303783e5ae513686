"""Who may do what is on record whenever it becomes something else, and no secret is."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from hsm.catalog import journal
from hsm.catalog.engine import Catalog
from hsm.config.access import ApiConfig
from hsm.roleswatch import RolesWatch
from hsm.tokens import Token, Tokens, add, digest_of, new_token

NODE = "archive1:/srv/hsm"


def config(**users: object) -> ApiConfig:
    roles = {"users": users, "groups": {"staff": "read-only"}, "others": "none"}
    return ApiConfig.model_validate({"socket": "/run/hsm.sock", "roles": roles})


def test_changed_roles_and_tokens_are_on_record_once_and_over_restarts(
    catalog: Catalog, tmp_path: Path
) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    watch = RolesWatch(catalog, NODE)
    before = config(alice="operator", bob=["operator", "auditor"])
    watch.round(before, tokens)
    assert not watch.round(before, tokens)
    secret = new_token()
    add(
        tokens.path,
        Token("night", "carol", "admin", digest_of(secret), datetime(2026, 1, 1, tzinfo=UTC), None),
    )
    after = config(alice="admin")
    assert RolesWatch(catalog, NODE).round(after, tokens), (
        "who edited it while the daemon was down is seen too"
    )
    assert not RolesWatch(catalog, NODE).round(after, tokens)
    with catalog.read() as session:
        first, second = journal.history(session, NODE)
    assert first.detail["roles"] == {
        "group staff": "read-only",
        "others": "none",
        "user alice": "operator",
        "user bob": "auditor, operator",
    }
    assert second.detail["changed"] == {
        "token night": {"before": "", "after": "admin for carol"},
        "user alice": {"before": "operator", "after": "admin"},
        "user bob": {"before": "auditor, operator", "after": ""},
    }
    written = os.fsdecode(tokens.path.read_bytes())
    assert digest_of(secret).hex() in written
    for each in (secret, digest_of(secret).hex()):
        assert each not in str(second.detail)
