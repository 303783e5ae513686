"""``hsm export``: a patient disc or stick."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import screen, text
from cli.screen import Json
from cli.session import EXIT_GOOD, EXIT_PROBLEM, connect
from hsm.client import Client

Record = dict[str, Any]

POLL_SECONDS = 0.3


def export(
    context: typer.Context,
    target: Annotated[
        Path, typer.Argument(help="An empty or new folder, a new .iso file, or a burner (/dev/sr0).")
    ],
    studies: Annotated[list[str], typer.Argument(help="Study Instance UIDs.")],
    anonymise: Annotated[
        bool,
        typer.Option("--anonymise", help="De-identify (PS3.15 basic profile); pixels are left as they are."),
    ] = False,
    udf: Annotated[
        bool, typer.Option("--udf", help="An image with UDF beside ISO 9660 (needs genisoimage).")
    ] = False,
    json: Json = False,
) -> None:
    """Write studies as DICOM files with a DICOMDIR, a README and SHA256SUMS.

    Waits for what is on tape or a shelf. All or nothing: what is there already is never overwritten.
    The daemon writes, where you yourself may write.
    """
    with connect(context) as client:
        begun = client.begin_export(
            str(target.expanduser().absolute()), studies, anonymise=anonymise, udf=udf
        )
        try:
            ended = _follow(client, begun, quiet=json)
        except KeyboardInterrupt:
            client.cancel_export(begun["id"])
            raise
    if json:
        screen.say_json(ended)
    elif ended["state"] == "done":
        screen.say(f"{ended['target']}: {text.plural(ended['instances'], 'instance')} exported")
        if anonymise and ended["burned_in"]:
            screen.say(f"{ended['burned_in']} may show who the patient is in their pixels: look at them")
        for each in ended["unlisted"]:
            screen.complain(f"not in the DICOMDIR: {text.clean(each)}")
    else:
        screen.complain(f"export {ended['id']} {ended['state']}: {text.clean(ended['error'])}".rstrip(": "))
    raise typer.Exit(EXIT_GOOD if ended["state"] == "done" else EXIT_PROBLEM)


def _follow(client: Client, shown: Record, *, quiet: bool) -> Record:
    said = ""
    while shown["state"] == "active":
        waits = text.clean(shown["waiting_for"])
        if waits and waits != said and not quiet:
            screen.say(f"export {shown['id']} waits: {waits} (see `hsm operator ls`)")
        said = waits or said
        time.sleep(POLL_SECONDS)
        shown = client.export_state(shown["id"])
    return shown
