"""``hsm policy``: the rules, what they would do, and what they did."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from cli import offline, policy_plan, policy_versions, screen, text
from cli.screen import Json, Limit
from cli.session import connect

Record = dict[str, Any]

app = typer.Typer(help="Rules that copy and release studies.", no_args_is_help=True)


@app.command()
def check(
    path: Annotated[
        Path | None, typer.Argument(help="A policy file or a folder of them; the configured one without.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Whose pools the policies may name.")
    ] = None,
    json: Json = False,
) -> None:
    """Check policies without putting them into force. Needs no daemon."""
    from hsm.offline import check_policies  # heavy: only for the commands that need it

    offline.finish(check_policies(path, config, os.environ), json)


@app.command("list")
def list_(context: typer.Context, json: Json = False) -> None:
    """The policies in force, in the order in which they claim studies."""
    with connect(context) as client:
        policies = client.policies()
    if json:
        screen.say_json(policies)
        return
    for policy in policies:
        copies = ", ".join(f"{count} in {text.clean(pool)}" for pool, count in policy["copies"].items())
        if policy["state"] != "in force":
            screen.say(
                f"{text.clean(policy['policy'])} is {policy['state']}: {text.clean(policy['message'])}",
                style="bold red" if policy["state"] == "suspended" else "yellow",
            )
        for late in policy["late"]:
            if late["studies"]:
                count = text.plural(late["studies"], "study is", "studies are")
                screen.say(
                    f"{count} late: {text.clean(late['goal'])} within {late['within']}", style="yellow"
                )
        last = (
            f"last run {text.local(policy['last_run'])}"
            if policy["last_run"]
            else "has asked for nothing yet"
        )
        screen.say_table(
            ["rule", "does", "when"],
            [(rule["name"], text.clean(rule["does"]), rule["when"] or "always") for rule in policy["rules"]],
            title=f"{policy['policy']} (priority {policy['priority']}, {policy['schedule']})",
        )
        version = f", activation {policy['activation']}" if policy["activation"] else ""
        screen.say(f"keeps {copies or 'no copies'}; {last}; {text.clean(policy['file'])}{version}", "")
    if not policies:
        screen.say("no policy is in force: nothing is copied and nothing is released")


def _deed(action: str, pool: str) -> str:
    return f"{action} {_JOINTS.get(action, 'from ')}{text.clean(pool)}"


_JOINTS = {"copy": "to ", "recall": "to ", "verify": ""}


@app.command()
def run(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="One policy; all of them without.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would do and change nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Run policies now instead of when their schedule says."""
    with connect(context) as client:
        done = client.run_policies(name, dry_run=dry_run)
    if json:
        screen.say_json(done)
        return
    for each in done["runs"]:
        asked = "would be asked for" if dry_run else "asked for"
        screen.say(
            f"{text.clean(each['policy'])}: {text.plural(each['matched'], 'study matches', 'studies match')},"
            f" {each['to_do']} {asked} ({text.size(each['bytes'])}), {each['refused']} refused,"
            f" {text.plural(each['requests'], 'new request')}",
            style="bold",
        )
        if each["state"] != "finished":
            screen.say(f"{each['state']}: {text.clean(each['message'])}", style="yellow")
        say_decisions(each["decisions"])
    for warning in done.get("warnings", ()):
        screen.say(text.clean(warning), style="yellow")


def say_decisions(decisions: list[Record]) -> None:
    """What rules decided, with the study's whole UID and the reason under it."""
    screen.say_table(
        ["decision", "is"],
        [
            (
                screen.lines(
                    f"{text.clean(each['rule'])}: {_deed(each['action'], each['pool'])}",
                    Text(text.clean(each["study"]), style="dim"),
                    text.clean(each["reason"]),
                ),
                each["outcome"],
            )
            for each in decisions
        ],
    )


def _outlook(rule: Record) -> str:
    """What comes next if nothing but time passes."""
    moment = rule.get("acts_at") or rule["changes_at"]
    what = text.clean(rule.get("outlook") or "") or ("changes" if moment else "")
    return f"{what}, {text.local(moment)}" if moment else what


@app.command()
def explain(
    context: typer.Context,
    uid: Annotated[str, typer.Argument(help="Study Instance UID.")],
    limit: Limit = 10,
    json: Json = False,
) -> None:
    """Why each rule applies to a study or not, when that changes, and what was decided so far."""
    with connect(context) as client:
        found = client.explain(uid)
        decided = client.decisions(study=uid, limit=limit)
    if json:
        screen.say_json({**found, "decisions": decided})
        return
    for scope in found["scopes"]:
        owns = "owns the study" if scope["policy"] == found["policy"] else "does not own it"
        why = "; ".join(map(text.clean, scope["deciding"]))
        screen.say(f"policy {text.clean(scope['policy'])} {owns}" + (f": {why}" if why else ""), style="bold")
    if found["policy"] is None:
        screen.say("no policy owns the study: nothing is copied or released")
    screen.say_table(
        ["rule", "applies", "why"],
        [
            (
                screen.lines(rule["rule"], Text(_deed(rule["action"], rule["pool"]), style="dim")),
                "yes" if rule["applies"] else "no",
                screen.lines(
                    text.clean(rule["reason"]),
                    Text(_outlook(rule), style="dim"),
                ),
            )
            for rule in found["rules"]
        ],
    )
    for failed in found.get("failed", ()):
        screen.say(
            f"request {failed['request']} ({_deed(failed['kind'], failed['pool'] or '')}) gave up "
            f"{text.local(failed['at'])}: {text.clean(failed['error'])}",
            style="yellow",
        )
    if decided:
        screen.say("")
        screen.say_table(
            ["when", "decided", "request"],
            [
                (
                    text.local(each["at"]),
                    f"{text.clean(each['rule'])}: {_deed(each['action'], each['pool'])}",
                    each["request"] or "-",
                )
                for each in decided
            ],
        )


app.command("plan")(policy_plan.plan)
app.command("diff")(policy_versions.diff)
app.command("activate")(policy_versions.activate)
app.command("history")(policy_versions.history)
app.command("resume")(policy_versions.resume)
