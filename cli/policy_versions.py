"""``hsm policy activate``, ``history``, ``diff``, ``resume``: what is in force, since when, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import screen, text
from cli.screen import Json, Limit
from cli.session import connect

Record = dict[str, Any]
Side = Annotated[str, typer.Argument(help="A policy file, a folder of them, or the number of an activation.")]
SIDES = (
    ("only_new", "will be asked for"),
    ("only_old", "will not be asked for any more"),
    ("both", "as before"),
)


def activate(
    context: typer.Context,
    comment: Annotated[str, typer.Option(help="Why, for those who ask later.")] = "",
    version: Annotated[
        int | None, typer.Option(min=1, help="Go back to this activation instead of the folder.")
    ] = None,
    json: Json = False,
) -> None:
    """Put the policies of the folder into force; a set with an error is refused."""
    with connect(context) as client:
        done = client.activate_policies(comment, version)
    if json:
        screen.say_json(done)
        return
    names = ", ".join(map(text.clean, done["policies"])) or "no policy"
    what = "in force now" if done["changed"] else "in force already, nothing has changed"
    screen.say(f"activation {done['activation']} is {what}: {names}", style="bold")
    for warning in done["warnings"]:
        screen.say(text.clean(warning), style="yellow")


def history(
    context: typer.Context,
    limit: Limit = 20,
    version: Annotated[int | None, typer.Option(min=1, help="Print the texts of this activation.")] = None,
    json: Json = False,
) -> None:
    """Which policies were in force since when, and who put them there."""
    with connect(context) as client:
        found = client.activations(limit if version is None else 1000)
    if version is not None:
        found = [each for each in found if each["activation"] == version]
    if json:
        screen.say_json(found)
        return
    screen.say_table(
        [">activation", "since", "by", "comment"],
        [
            (
                each["activation"],
                text.local(each["at"]),
                each["by"],
                each["comment"]
                + (f" (back to {each['restores']})" if each["restores"] else "")
                + (" (in force)" if each["in_force"] else ""),
            )
            for each in found
        ],
        empty="nothing was ever activated" if version is None else f"there is no activation {version}",
    )
    if version is not None:
        for each in found:
            for name, body in each["texts"].items():
                screen.say("", f"# {text.clean(name)}", *map(text.clean, body.splitlines()))


def diff(context: typer.Context, old: Side = "", new: Side = "", json: Json = False) -> None:
    """What changes from OLD to NEW; with one of them, from what is in force to that one; without them, from
    what is in force to the folder."""
    if old and not new:
        old, new = "", old
    with connect(context) as client:
        found = client.diff_policies(_side(old), _side(new))
    if json:
        screen.say_json(found)
        return
    for policy in found["policies"]:
        screen.say(f"policy {text.clean(policy['policy'])}: {policy['change']}", style="bold")
        for line in policy["lines"]:
            if not line.startswith("@@"):
                screen.say(f"  {text.clean(line)}", style="red" if line.startswith("-") else "green")
    screen.say("")
    screen.say_table(
        ["what", "change", ">studies", ">bytes", "such as"],
        [
            (
                f"{deed['action']} {text.clean(deed['pool'])}",
                words,
                deed[side]["studies"],
                text.size(deed[side]["bytes"]),
                deed[side]["examples"][0]["study"] if side != "both" and deed[side]["examples"] else "",
            )
            for deed in found["studies"]
            for side, words in SIDES
            if deed[side]["studies"]
        ],
        empty="for the studies there are now, both ask for nothing",
    )
    for each in found["owners"]:
        was, will = (text.clean(each[side]) or "no policy" for side in ("from", "to"))
        count = text.plural(each["studies"], "study", "studies")
        screen.say(f"{count} ({text.size(each['bytes'])}) of {was} will belong to {will}")


def resume(
    context: typer.Context, name: Annotated[str, typer.Argument(help="The policy.")], json: Json = False
) -> None:
    """Let a policy that was suspended after errors go on."""
    with connect(context) as client:
        done = client.resume_policy(name)
    if json:
        screen.say_json(done)
        return
    screen.say(f"policy {text.clean(done['policy'])} goes on with its next run")


def _side(given: str) -> int | dict[str, str] | None:
    if not given:
        return None
    if given.isdigit() and not Path(given).exists():
        return int(given)
    path = Path(given)
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    try:
        return {file.name: file.read_text(encoding="utf-8") for file in files}
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{given}: {getattr(error, 'strerror', None) or error}") from error
