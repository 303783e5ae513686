"""Somebody who owns the database and knows the chain: the journal written anew, with nothing broken in it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsm.catalog import chainread
from hsm.catalog.engine import Catalog

_TRIGGERS = ("journal_update", "journal_delete", "journal_head_delete")


def disarm(session: Session) -> None:
    """The database's own guards, gone."""
    if session.get_bind().dialect.name == "sqlite":
        for trigger in _TRIGGERS:
            session.execute(text(f"DROP TRIGGER IF EXISTS {trigger}"))
    else:
        session.execute(text("ALTER TABLE journal DISABLE TRIGGER USER"))


def rewrite(catalog: Catalog, from_seq: int, actor: str = "mallory") -> None:
    """From a record on all are somebody else's, chained again; what the journal says of its own anchors is
    made to agree."""
    with catalog.write() as session:
        disarm(session)
        last, _ = chainread.head(session)
        rows = [json.loads(line) for line in chainread.lines(session, 1, last)]
        digests = {seq: chainread.digest_of(session, seq) or b"" for seq in range(from_seq)}
        for seq, at, _, verb, kind, subject, detail in rows[from_seq - 1 :]:
            line = json.dumps([seq, at, actor, verb, kind, subject], **_CANONICAL)
            said = json.dumps(_agreeing(verb, detail, digests), sort_keys=True, **_CANONICAL)
            digests[seq] = hashlib.sha256(digests[seq - 1] + f"{line[:-1]},{said}]".encode()).digest()
            session.execute(
                text("UPDATE journal SET actor = :actor, detail = :said, digest = :digest WHERE seq = :seq"),
                {"actor": actor, "said": said, "digest": digests[seq], "seq": seq},
            )
        session.execute(text("UPDATE journal_head SET digest = :digest"), {"digest": digests[last]})


_CANONICAL: dict[str, Any] = {"separators": (",", ":"), "ensure_ascii": False}


def _agreeing(verb: str, detail: dict[str, Any], digests: dict[int, bytes]) -> dict[str, Any]:
    if verb == "anchored":
        return detail | {"sha256": digests[detail["seq"]].hex()}
    return detail
