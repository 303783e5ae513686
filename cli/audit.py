"""``hsm audit``: proof for an auditor, from the command line."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer

from cli import audit_fixity, audit_html, audit_log, moment, screen, text
from cli.screen import Json
from cli.session import EXIT_GOOD, EXIT_PROBLEM, connect

Record = dict[str, Any]

app = typer.Typer(help="Proof of copies, and of what happened.", no_args_is_help=True)
app.add_typer(audit_log.app, name="log")
app.command()(audit_log.prove)
app.command()(audit_fixity.verify)
app.command()(audit_fixity.media)

COLUMNS = ("policy", "study", "standing", "since", "lacks", "bytes", "received_at", "why", "under_way")
STANDINGS = ("protected", "due", "late", "under_protected")
STYLES = {"late": "yellow", "under_protected": "red"}


@app.command()
def copies(
    context: typer.Context,
    policy: Annotated[str, typer.Option(help="Only the studies of this policy.")] = "",
    as_of: Annotated[
        datetime | None,
        moment.option(help="As it was then, by the journal and the policies of that time."),
    ] = None,
    grace: Annotated[
        str, typer.Option(help="The time of goals for which the policy names none, such as 12h or 2d.")
    ] = "24h",
    limit: Annotated[
        int, typer.Option(min=0, max=100_000, help="Studies that are named, of each policy.")
    ] = 100,
    as_csv: Annotated[bool, typer.Option("--csv", help="The named studies as CSV.")] = False,
    as_html: Annotated[bool, typer.Option("--html", help="One HTML page on standard output.")] = False,
    json: Json = False,
) -> None:
    """Which studies have the copies that their policies promise; ends with 1 when one has not.

    protected: every copy is there, verified. due: copies lack, and there is time left. late: the time is over
    and work for it is queued. under_protected: the time is over and nothing is under way.
    """
    if as_csv + as_html + json > 1:
        raise typer.BadParameter("choose one of --csv, --html and --json")
    then = as_of.isoformat() if as_of is not None else ""
    with connect(context) as client:
        found = client.audit_copies(policy=policy, as_of=then, grace=grace, limit=limit)
    if json:
        screen.say_json(found)
    elif as_csv:
        _write_csv(found)
    elif as_html:
        sys.stdout.write(audit_html.page(found))
    else:
        _say(found)
    raise typer.Exit(EXIT_GOOD if found["good"] else EXIT_PROBLEM)


def _say(found: Record) -> None:
    source = "" if found["source"] == "catalog" else ", as the journal has it"
    screen.say(f"copies at {text.local(found['at'])}{source}", style="bold")
    screen.say_table(
        ["policy", "goal", ">protected", ">due", ">past due", "oldest past due"],
        [
            (
                policy["policy"],
                f"{goal['goal']} within {goal['time']}"
                + (" (grace)" if goal["time_from"] == "grace" else ""),
                goal["protected"]["studies"],
                goal["due"]["studies"],
                goal["past_due"]["studies"],
                text.local(goal["past_due"]["oldest"]) if goal["past_due"]["studies"] else "",
            )
            for policy in found["policies"]
            for goal in policy["goals"]
        ],
        empty="no studies",
    )
    screen.say("")
    screen.say_table(
        ["policy", *(f">{name.replace('_', '-')}" for name in STANDINGS), ">bytes at risk"],
        [
            (
                policy["policy"],
                *(policy[name]["studies"] for name in STANDINGS),
                text.size(policy["late"]["bytes"] + policy["under_protected"]["bytes"]),
            )
            for policy in found["policies"]
        ],
    )
    if found["unsealed"] and found["unsealed"]["studies"]:
        loose = found["unsealed"]
        studies = text.plural(loose["studies"], "study", "studies")
        instances = text.plural(loose["instances"], "instance")
        screen.say(
            f"{studies} with {instances} still coming in, in no package yet; the oldest since "
            f"{text.local(loose['oldest'])}"
        )
    if found.get("in_trash") and found["in_trash"]["studies"]:
        trash = found["in_trash"]
        screen.say(
            f"in the trash, and counted by no policy: {text.plural(trash['studies'], 'study', 'studies')}, "
            f"{text.size(trash['bytes'])}; the next one goes {text.local(trash['next_due'])}"
        )
    for policy in found["policies"]:
        _say_hopeless(policy)
        _say_studies(policy)


def _say_hopeless(policy: Record) -> None:
    lost = policy.get("no_good_copy") or {"studies": 0}
    if not lost["studies"]:
        return
    studies = text.plural(lost["studies"], "study", "studies")
    screen.say("")
    screen.say(f"NO GOOD COPY IS LEFT of {studies} of {text.clean(policy['policy'])}", style="red")
    for uid in lost["named"]:
        screen.say(f"  {uid}")


def _say_studies(policy: Record) -> None:
    for study in policy["studies"]:
        screen.say("")
        standing = study["standing"].replace("_", "-")
        said = f"{study['study']}  {standing} since {text.local(study['since'])}"
        screen.say(said, style=STYLES.get(study["standing"], ""))
        screen.say_text(
            f"  {text.clean(policy['policy'])}: {audit_html.lacks(study)}; {text.clean(study['why'])}"
        )
        if study["under_way"]:
            screen.say_text(f"  under way: {text.clean(study['under_way'])}")
    if policy["not_named"]:
        screen.say(f"and {policy['not_named']} more of {policy['policy']}: see --limit, --csv")


def _write_csv(found: Record) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(COLUMNS)
    writer.writerows(_rows(found))


def _rows(found: Record) -> Iterator[tuple[object, ...]]:
    for policy in found["policies"]:
        for study in policy["studies"]:
            known = study | {"policy": policy["policy"], "lacks": audit_html.lacks(study)}
            yield tuple(known[name] for name in COLUMNS)
