"""The questions to the daemon: what is there, and the answers of operators."""

from __future__ import annotations

from cli import text
from cli.operator import thanks
from cli.watch.actions import Act, Kind, Outcome, wanted_now
from cli.watch.values import Picture, Record, picture
from hsm.client import ApiError, Client, Unreachable

PROMPTS_MAX = 1000
"""A page of the API. More prompts than one person can answer in a shift; a scan finds the others too."""


def look(client: Client, last: Picture | None = None) -> Picture:
    """Everything that the screen shows.

    :raises ApiError: the daemon does not answer, or not well.
    """
    mounts = client.mounts(limit=PROMPTS_MAX)
    status = client.status()
    mail = client.volumes(place="mail", limit=PROMPTS_MAX)
    return picture(text.now(), mounts, status, mail)


def perform(client: Client, act: Act) -> Outcome:
    """Ask the daemon for one act.

    :raises Unreachable: no daemon answers; whether it had heard of it is not known.
    """
    try:
        return _perform(client, act)
    except Unreachable:
        raise
    except ApiError as error:
        said = f"{error}. {error.hint}".rstrip(". ")
        return Outcome(act, False, f"{act.barcode}: {said}" if act.barcode not in said else said)


def _perform(client: Client, act: Act) -> Outcome:
    if act.kind is Kind.LOOK:
        elements = client.inventory()
        held = sum(bool(each["barcode"]) for each in elements)
        return Outcome(act, True, f"the libraries were looked into: {text.plural(held, 'cartridge')}")
    if act.kind is Kind.SCAN:
        return _scan(client, act)
    if act.kind is Kind.DONE:
        return Outcome(act, True, thanks(act.barcode, client.operator_done(act.barcode)))
    client.operator_refuse(act.barcode, f"{act.kind} {act.comment}".strip())
    return Outcome(act, True, f"{act.barcode}: {act.kind}")


def _scan(client: Client, act: Act) -> Outcome:
    """A scanned cartridge: done when it is asked for and the library sees it."""
    try:
        answer = client.operator_done(act.barcode)
    except Unreachable:
        raise
    except ApiError as error:
        return _wrong(client, act, str(error))
    if not answer.get("answered", True):
        return _wrong(client, act, "Nobody has asked for it.")
    return Outcome(act, True, thanks(act.barcode, answer))


def _wrong(client: Client, act: Act, why: str) -> Outcome:
    """A scan that answers nothing: what it is, where it belongs, what is wanted."""
    prompts = picture(text.now(), client.mounts(), {}).prompts
    return Outcome(
        act,
        False,
        f"{act.barcode}: {why}",
        (f"NOT DONE: {act.barcode.upper()}", why, _what_it_is(client, act.barcode), wanted_now(prompts)),
    )


def _what_it_is(client: Client, barcode: str) -> str:
    try:
        volume: Record = client.volume(barcode, limit=1)
    except Unreachable:
        raise
    except ApiError:
        return "It is no volume of this archive."
    pool = f"of pool {text.clean(volume['pool'])}" if volume.get("pool") else "without a pool"
    home = f"; it belongs on shelf {text.clean(volume['shelf'])}" if volume.get("shelf") else ""
    return (
        f"It is a volume {pool}, {text.clean(volume['state'])}, now at: {text.clean(volume['where'])}{home}."
    )
