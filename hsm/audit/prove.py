"""``hsm audit prove``: everything that ever happened to a study, in one file that proves itself.

A ZIP with the study, its copies and digests as JSON, the journal's records about it, the journal's chain from
the first of them to an anchor, and a script of a few lines that checks all this without this software.
"""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from typing import IO, Any

from sqlalchemy.orm import Session

from hsm.catalog import chainread, evidence
from hsm.catalog.engine import Catalog
from hsm.config import packaged_etc
from hsm.errors import Refused
from hsm.policyrun.frozen import frozen

CHAIN_MAX = 5_000_000
"""Records that a proof carries at most; they are what makes it large: about 60 bytes each, compressed."""

README = """\
Proof for study {study}
made {at} by the archive {archive}

study.json      the study: its packages, their copies and digests, every instance with its SHA-256
journal.jsonl   what happened to it: who, when, what, why; one record a line, oldest first
chain.jsonl.gz  every record of the archive's journal from the first of those to the anchor. Each is hashed
                together with the digest of the one before, so none can be altered, removed or put in
anchor.json     where the chain begins and ends: compare the digest with one that was kept elsewhere
verify.py       checks all this: python3 verify.py . [PACKAGE.tar ...]

By hand: a copy of a package, read from any volume, must have the SHA-256 that study.json says:
sha256sum PACKAGE.tar
"""


class Prover:
    """Writes proofs."""

    def __init__(self, catalog: Catalog, archive: str) -> None:
        self._catalog = catalog
        self._archive = archive

    def write(self, uid: str, to: IO[bytes]) -> None:
        """Write the proof of a study into a file that can be sought in.

        :raises NotFound: no such study.
        :raises Refused: more than :data:`CHAIN_MAX` records lie between its first one and now.
        """
        now = self._catalog.clock.now()
        with frozen(self._catalog) as session, zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as file:
            study = evidence.study(session, uid)
            numbers = evidence.records_about(session, uid)
            last, digest = chainread.head(session)
            before = numbers[0] - 1 if numbers else last
            if last - before > CHAIN_MAX:
                raise Refused(
                    f"{last - before} records lie between the first of study {uid} and the last; a proof "
                    f"carries at most {CHAIN_MAX}: `hsm audit log --subject {uid}` shows them"
                )
            anchor = {
                "at": _said(now),
                "archive": self._archive,
                "from_seq": before,
                "from_digest": _hex(chainread.digest_of(session, before)),
                "seq": last,
                "digest": digest.hex(),
            }
            readme = README.format(study=uid, at=_said(now), archive=self._archive)
            file.writestr("README.txt", readme)
            file.writestr("study.json", json.dumps(study, indent=1, ensure_ascii=False, default=_said))
            file.writestr("anchor.json", json.dumps(anchor, indent=1))
            file.writestr("verify.py", (packaged_etc() / "audit" / "verify.py").read_text())
            self._write_chain(session, file, before + 1, last, frozenset(numbers))

    def _write_chain(
        self, session: Session, file: zipfile.ZipFile, first: int, last: int, own: frozenset[int]
    ) -> None:
        mine: list[str] = []
        with (
            file.open("chain.jsonl.gz", "w", force_zip64=True) as raw,
            gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as packed,
            io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as chain,
        ):
            for line in chainread.lines(session, first, last):
                chain.write(f"{line}\n")
                seq, at, actor, verb, kind, subject, detail = json.loads(line)
                if seq in own:
                    entry = {"seq": seq, "at": at, "actor": actor, "verb": verb, "kind": kind}
                    mine.append(
                        json.dumps(entry | {"subject": subject, "detail": detail}, ensure_ascii=False)
                    )
        file.writestr("journal.jsonl", "".join(f"{text}\n" for text in mine))


def _hex(digest: bytes | None) -> str:
    if digest is None:
        raise Refused("the journal is broken before the study's first record: see `hsm audit log verify`")
    return digest.hex()


def _said(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else value.isoformat()
