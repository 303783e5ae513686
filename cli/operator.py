"""``hsm operator``: what the archive asks of a person, and the answers."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from cli import screen, text
from cli.screen import Json, Limit
from cli.session import EXIT_GOOD, EXIT_PROBLEM, connect, settings_of

Record = dict[str, Any]
Barcode = Annotated[str, typer.Argument(help="The volume's barcode.")]

app = typer.Typer(help="Volumes that a person must load.", no_args_is_help=True)


@app.command()
def ls(
    context: typer.Context,
    all_: Annotated[bool, typer.Option("--all", help="Answered ones too, the newest first.")] = False,
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """What is asked for, in the order to do it: who waits, since when, where the volume stands."""
    with connect(context) as client:
        mounts = client.prompts(every=all_, limit=limit)
    if json:
        screen.say_json(mounts)
        return
    screen.say_table(COLUMNS, map(mount_row, mounts), empty="nothing is asked for")
    if any(mount["state"] == "open" for mount in mounts):
        screen.say(
            "load it, then: hsm operator done BARCODE, or scan it: hsm operator scan BARCODE", style="dim"
        )


COLUMNS = ["volume", "now at", "put into", ">waits", ">size", "for"]


def mount_row(mount: Record) -> tuple[object, ...]:
    """One row of the list, also of ``hsm operator watch``."""
    waiters = [text.clean(waiter["who"]) for waiter in mount["waiters"]]
    others = f"and {len(waiters) - 2} more" if len(waiters) > 3 else ""
    shown = waiters if not others else waiters[:2]
    answer = (
        f"{mount['state']} by {mount['answered_by']} {mount['comment']}".strip()
        if mount["answered_at"]
        else ""
    )
    return (
        Text(text.clean(mount["barcode"]), style="bold"),
        mount["where"],
        " ".join(part for part in (mount["library"] or "-", text.clean(mount.get("into", ""))) if part),
        text.span(mount["waiting_seconds"]),
        text.size(mount["bytes"]),
        screen.lines(*shown, others, *map(_dim, _remarks(mount)), _dim(answer))
        or text.plural(mount["requests"], "request"),
    )


def _dim(words: str) -> Text:
    return Text(text.clean(words), style="dim")


def _remarks(mount: Record) -> list[str]:
    """Who is on the way, what is known, and what could be brought instead."""
    found = [f"{mount['acked_by']} is on the way"] if mount.get("acked_by") else []
    found += [mount["moving"]] if mount.get("moving") else []
    found += [mount["note"]] if mount.get("note") else []
    return found + [
        f"or {each['barcode']} ({each['where']}), {text.span(each['seconds'])}"
        for each in mount.get("alternatives", ())
    ]


@app.command()
def watch(
    context: typer.Context,
    interval: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks.")] = 2.0,
    by: Annotated[str, typer.Option(help="Your name; without it the screen asks for it once.")] = "",
    once: Annotated[bool, typer.Option("--once", help="Print the list once, as text.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Text instead of the screen.")] = False,
    ascii_: Annotated[bool, typer.Option("--ascii", help="Draw with ASCII characters only.")] = False,
    bell: Annotated[bool, typer.Option(help="Ring for a new prompt that somebody waits for.")] = True,
) -> None:
    """The operators' screen: what to fetch from where, kept fresh. A scanner (or typing) answers.

    Without a terminal: the list as text whenever it changes, answers from standard input.
    """
    from cli.watch.start import watch as start  # terminal handling: only for the command that needs it

    settings = settings_of(context)
    start(
        settings.way(),
        by or settings.by,
        interval=interval,
        once=once,
        plain_text=plain,
        ascii_only=ascii_,
        bell=bell,
    )


@app.command()
def done(
    context: typer.Context,
    barcode: Barcode,
    comment: Annotated[str, typer.Option(help="For the journal.")] = "",
    json: Json = False,
) -> None:
    """Say that a volume is loaded. It is believed when the changer sees it."""
    with connect(context) as client:
        answer = client.operator_done(barcode, comment)
    screen.say_json(answer) if json else screen.say(thanks(barcode, answer))


def thanks(barcode: str, answer: Record) -> str:
    """One sentence about an answer that was taken."""
    where = f" in {text.clean(answer['library'])}" if answer.get("library") else ""
    asked = "" if answer.get("answered", True) else " (nobody had asked for it)"
    return f"{barcode} is{where or ' loaded'}{asked}"


Comment = Annotated[str, typer.Option(help="For the journal.")]
Prompt = Annotated[int, typer.Option("--id", help="The prompt's number, as `ls --json` has it.")]


@app.command()
def ack(
    context: typer.Context,
    barcode: Barcode,
    minutes: Annotated[int, typer.Option(min=0, max=10080, help="For so long; 0: as configured.")] = 0,
    take: Annotated[bool, typer.Option("--take", help="Although somebody else has gone.")] = False,
    json: Json = False,
) -> None:
    """Say that you go for a volume: nobody else need. Said again, it lasts longer."""
    with connect(context) as client:
        done = client.acknowledge(barcode, minutes * 60, take=take)
    until = text.local(done["acked_until"])
    screen.say_json(done) if json else screen.say(
        f"{text.clean(done['acked_by'])} goes for {barcode}, until {until}"
    )


@app.command()
def release(context: typer.Context, barcode: Barcode, json: Json = False) -> None:
    """Say that nobody is on the way for a volume any more."""
    with connect(context) as client:
        done = client.release(barcode)
    nobody = "" if done["released"] else " (nobody was)"
    screen.say_json(done) if json else screen.say(f"nobody is on the way for {barcode}{nobody}")


@app.command()
def refuse(
    context: typer.Context,
    barcode: Barcode,
    comment: Annotated[str, typer.Argument(help="Why it cannot be loaded.")],
    prompt: Prompt = 0,
    json: Json = False,
) -> None:
    """Say that a volume will not be loaded: who waits gets another copy, or is told why there is none."""
    _answer(context, barcode, "refuse", comment, prompt, json)


@app.command("cannot-find")
def cannot_find(
    context: typer.Context, barcode: Barcode, comment: Comment = "", prompt: Prompt = 0, json: Json = False
) -> None:
    """Say that a volume is not where it should be. What waits gets another copy, or waits on."""
    _answer(context, barcode, "cannot-find", comment, prompt, json)


@app.command()
def damaged(
    context: typer.Context, barcode: Barcode, comment: Comment = "", prompt: Prompt = 0, json: Json = False
) -> None:
    """Say that a volume is damaged: nothing on it counts until it was read back."""
    _answer(context, barcode, "damaged", comment, prompt, json)


@app.command("wrong-site")
def wrong_site(
    context: typer.Context,
    barcode: Barcode,
    site: Annotated[str, typer.Argument(help="Where it is, if you know.")] = "",
    comment: Comment = "",
    prompt: Prompt = 0,
    json: Json = False,
) -> None:
    """Say that a volume is in another building. What waits gets another copy, or waits on."""
    _answer(context, barcode, "wrong-site", comment, prompt, json, site=site)


@app.command()
def substitute(
    context: typer.Context,
    barcode: Barcode,
    volume: Annotated[str, typer.Argument(help="The volume that you bring instead.")],
    comment: Comment = "",
    prompt: Prompt = 0,
    json: Json = False,
) -> None:
    """Bring another volume that has the same packages."""
    _answer(context, barcode, "substitute", comment, prompt, json, volume=volume)


@app.command()
def scan(
    context: typer.Context,
    barcode: Annotated[str, typer.Argument(help="As the scanner types it.")],
    json: Json = False,
) -> None:
    """Say which cartridge you hold or have put in: completes its prompt, or says what to do with it.

    Ends with 1 when it is not wanted, or is none of ours.
    """
    with connect(context) as client:
        found = client.operator_scan(barcode)
    if json:
        screen.say_json(found)
    else:
        screen.say_text(text.clean(found["text"]), style="" if found["verdict"] in WELCOME else "yellow")
    raise typer.Exit(EXIT_GOOD if found["verdict"] in WELCOME else EXIT_PROBLEM)


WELCOME = ("done", "put in", "again")
"""Verdicts on a scanned barcode after which nothing is wrong."""


@app.command()
def picklist(context: typer.Context, json: Json = False) -> None:
    """What to take from which shelf, in their order, and where to put it: this walk, the next."""
    with connect(context) as client:
        found = client.picklist()
    if json:
        screen.say_json(found)
        return
    for walk in found["walks"]:
        rows = [
            (
                place if not row else "",
                Text(text.clean(item["barcode"]), style="bold"),
                " ".join(part for part in (item["library"] or "-", item["into"]) if part),
                item["priority"],
                text.span(item["waiting_seconds"]),
                text.clean("; ".join([*_remarks(item)[:1]])),
            )
            for stop in walk["stops"]
            for place in [" ".join(p for p in (stop["site"], stop["shelf"]) if p) or "nobody knows"]
            for row, item in enumerate(stop["items"])
        ]
        title = "this walk" if walk["number"] == 1 else "the next one"
        screen.say_table(["shelf", "volume", "put into", "priority", ">waits", ""], rows, title=title)
    if not found["walks"]:
        screen.say("nothing is asked for")


def _answer(
    context: typer.Context,
    barcode: str,
    word: str,
    comment: str,
    prompt: int,
    json: bool,
    *,
    site: str = "",
    volume: str = "",
) -> None:
    with connect(context) as client:
        answer = client.answer(barcode, word, comment, id=prompt, site=site, volume=volume)
    screen.say_json(answer) if json else screen.say_text(outcome_of(barcode, word, answer))


def outcome_of(barcode: str, word: str, answer: Record) -> str:
    """One sentence about an answer that was taken, or had been given before."""
    if not answer.get("answered", True):
        who = f"{text.clean(answer.get('answered_by', ''))}, {text.local(answer.get('answered_at'))}"
        return f"{barcode}: {text.clean(answer.get('outcome', word))} already, by {who}"
    said = f"{barcode}: {text.clean(answer.get('outcome', word))}"
    others = ", ".join(f"{each['barcode']} ({each['where']})" for each in answer.get("others", ()))
    parts = (
        [f"{text.plural(answer['switched'], 'recall goes', 'recalls go')} on with {others}"] if others else []
    )
    if answer.get("left"):
        parts.append(f"{text.plural(answer['left'], 'recall waits', 'recalls wait')} on: nothing else has it")
    return "; ".join([said, *parts])
