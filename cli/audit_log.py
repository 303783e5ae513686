"""``hsm audit log`` and ``hsm audit prove``: what happened, and proof of it."""

from __future__ import annotations

import json as jsonlib
import os
import re
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import moment, screen, text
from cli.screen import Json
from cli.session import EXIT_GOOD, EXIT_PROBLEM, connect

Record = dict[str, Any]
ANCHOR = re.compile(r"\s*(?P<seq>[0-9]{1,18})\s+(?P<digest>[0-9a-fA-F]{64})(\s.*)?")
RECORD = re.compile(
    r'\{(?:"format": "hsm-anchor", [^{}]*)?"seq": ?(?P<seq>[0-9]{1,18}),'
    r' ?"(?:digest|sha256)": ?"(?P<digest>[0-9a-f]{64})"'
)
"""A line of the file that the journal is streamed to, or an anchor as media have it."""
LINES_MAX = 10_000

app = typer.Typer(help="What happened, who did it, and whether the record of it is whole.")


@app.callback(invoke_without_command=True)
def log(
    context: typer.Context,
    subject: Annotated[str, typer.Option(help="Of this study, volume, request or policy.")] = "",
    actor: Annotated[str, typer.Option(help="By this person, routine or AE title.")] = "",
    verb: Annotated[str, typer.Option(help="What was done; with * at its end what begins so.")] = "",
    kind: Annotated[str, typer.Option(help="study, volume, request, policies, ...")] = "",
    since: Annotated[datetime | None, moment.option(help="Not before this.")] = None,
    until: Annotated[datetime | None, moment.option(help="Only before this.")] = None,
    before: Annotated[int | None, typer.Option(min=1, help="Only records with lower numbers.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the last ones.")] = 100,
    json: Json = False,
) -> None:
    """The journal's records, the last first."""
    if context.invoked_subcommand is not None:
        return
    wanted: dict[str, str | int] = {"subject": subject, "actor": actor, "verb": verb, "kind": kind}
    wanted |= {
        name: when.isoformat() if when is not None else ""
        for name, when in (("since", since), ("until", until))
    }
    if before is not None:
        wanted["before"] = before
    with connect(context) as client:
        rows = client.audit_log(limit=limit, **wanted)
    if json:
        screen.say_json(rows)
        return
    screen.say_table(
        [">record", "when", "who", "what", "of", "why and more"],
        [
            (
                row["seq"],
                text.local(row["at"]),
                row["actor"],
                f"{row['kind']} {row['verb']}",
                row["subject"],
                jsonlib.dumps(row["detail"], ensure_ascii=False) if row["detail"] else "",
            )
            for row in rows
        ],
        empty="no such records",
    )


@app.command()
def verify(
    context: typer.Context,
    anchors: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Digests that were kept elsewhere: NUMBER SHA-256 on each line, or the journal's file.",
        ),
    ] = None,
    from_volume: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare with the anchors on this cartridge, disc, share or bucket; may be given repeatedly."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Is any record altered, removed, inserted or moved? Ends with 1, and says where, when one is.

    Its last line, kept elsewhere, is an anchor: it shows later that the journal was not written anew.
    """
    kept = _anchors(anchors) if anchors is not None else {}
    with connect(context) as client:
        found = client.verify_log(kept, from_volume or ())
    if json:
        screen.say_json(found)
    else:
        for problem in found["problems"]:
            screen.say(text.clean(problem["message"]), style="red")
        compared = f", {text.plural(found['anchors'], 'anchor')} compared" if found["anchors"] else ""
        if found.get("file"):
            compared += (
                f", {text.plural(found['file']['records'], 'line')} of {found['file']['path']} compared"
            )
        verdict = "whole" if found["good"] else "broken"
        screen.say(f"{verdict}: {text.plural(found['records'], 'record')}{compared}")
        screen.say(f"{found['records']} {found['digest']}")
    raise typer.Exit(EXIT_GOOD if found["good"] else EXIT_PROBLEM)


def prove(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="Study Instance UID.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The ZIP file to write.")],
) -> None:
    """Everything that ever happened to a study, its copies and digests, in a file that proves itself.

    The script verify.py in it checks it without this software.
    """
    if output.exists():
        raise typer.BadParameter(f"{output} is there already", param_hint="--output")
    if not output.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {output.parent}", param_hint="--output")
    with (
        connect(context) as client,
        tempfile.NamedTemporaryFile(dir=output.parent, prefix=".hsm-proof-") as file,
    ):
        size = client.prove(study, file)
        file.flush()
        os.fsync(file.fileno())
        os.link(file.name, output)  # whole, or not at all; never over another file
    screen.say(f"{output}: {text.size(size)}; check it: unzip it, then python3 verify.py")


def _anchors(path: Path) -> dict[int, str]:
    """By record: the lines of a file of anchors, or of the file that the journal is streamed to."""
    found: dict[int, str] = {}
    streamed = False
    with path.open(encoding="utf-8", errors="replace") as file:
        for line, said in enumerate(file, 1):
            if not said.strip() or said.startswith("#"):
                continue
            match = ANCHOR.fullmatch(said.rstrip()) or RECORD.match(said)
            streamed = streamed or (match is not None and match.re is RECORD)
            if match is None or (len(found) >= LINES_MAX and not streamed):
                what = (
                    f"more than {LINES_MAX} anchors" if match else f"{said[:80]!r}: expected NUMBER SHA-256"
                )
                raise typer.BadParameter(f"{path}, line {line}: {what}", param_hint="--anchors")
            found[int(match["seq"])] = match["digest"].lower()
    return _some(found)


def _some(found: dict[int, str]) -> dict[int, str]:
    """As many as are compared at most, evenly spread, the last one too: each vouches for all before it."""
    if len(found) <= LINES_MAX:
        return found
    numbers = sorted(found)
    step = len(numbers) / LINES_MAX
    chosen = {numbers[-1 - int(each * step)] for each in range(LINES_MAX)}
    return {seq: found[seq] for seq in sorted(chosen)}
