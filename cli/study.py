"""``hsm study``: finding studies and seeing where their copies are."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from cli import screen, study_delete, study_marks, text
from cli.screen import Json, Limit, Offset
from cli.session import connect

Record = dict[str, Any]
Uid = Annotated[str, typer.Argument(help="Study Instance UID.")]

app = typer.Typer(help="Find studies, and see where every copy of one is.", no_args_is_help=True)


@app.command()
def find(
    context: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(help="Found anywhere in name, IDs, description or UID.")
    ] = None,
    patient: Annotated[str, typer.Option(help="Patient ID; * and ? are wildcards.")] = "",
    name: Annotated[str, typer.Option(help="Beginning of the patient's name, in any case.")] = "",
    accession: Annotated[str, typer.Option(help="Accession number.")] = "",
    date: Annotated[str, typer.Option(help="YYYYMMDD, YYYYMMDD-, -YYYYMMDD or a range.")] = "",
    uid: Annotated[str, typer.Option(help="Study Instance UID.")] = "",
    modality: Annotated[str, typer.Option(help="A modality in the study.")] = "",
    tag: Annotated[str, typer.Option(help="A tag that somebody gave it.")] = "",
    held: Annotated[bool, typer.Option("--held", help="Only studies under legal hold.")] = False,
    limit: Limit = 50,
    offset: Offset = 0,
    json: Json = False,
) -> None:
    """Studies, the last received first."""
    with connect(context) as client:
        found = client.find_studies(
            text=" ".join(words or ()), patient_id=patient, name=name, accession=accession, date=date,
            uid=uid, modality=modality, tag=tag, hold="true" if held else "", limit=limit, offset=offset,
        )  # fmt: skip
    if json:
        screen.say_json(found)
        return
    screen.say_table(["study", "is"], [_found(study) for study in found], empty="no study matches")
    if len(found) == limit:
        screen.say(f"there may be more: --offset {offset + limit}", style="dim")


def _found(study: Record) -> tuple[Text, Text]:
    about = " ".join(
        filter(
            None,
            (
                text.day(study["date"]) or "no date",
                "/".join(map(text.clean, study["modalities"])),
                text.clean(study["patient_name"]),
                f"({text.clean(study['patient_id'])})" if study["patient_id"] else "",
            ),
        )
    )
    what = f"{text.clean(study['description'])}  {text.plural(study['instances'], 'instance')}".strip()
    media = Text(", ".join(map(text.clean, study["media"])), style="dim")
    return (
        screen.lines(Text(about, style="bold"), what, Text(study["uid"], style="dim")),
        screen.lines(screen.state(study["availability"]), media),
    )


@app.command()
def show(context: typer.Context, uid: Uid, json: Json = False) -> None:
    """One study: patient, series, copies; why it is still where it is, and why it was moved."""
    with connect(context) as client:
        study = client.study(uid)
        study["policies"] = client.explain(uid) if study["package_count"] else None
    if json:
        screen.say_json(study)
        return
    hold = study["hold"]
    screen.say_record(
        {
            "study": study["uid"],
            "patient": f"{study['patient_name']} ({study['patient_id']})",
            "born": " ".join(filter(None, (text.day(study["birth_date"]), study["sex"]))),
            "date": text.day(study["date"]),
            "accession": study["accession"],
            "description": study["description"],
            "holds": f"{text.plural(study['instances'], 'instance')}, {text.size(study['bytes'])}",
            "not_sealed": study["unsealed"] or None,
            "received": f"{text.local(study['last_received'])} from {study['source_ae']}",
            "last_access": text.local(study["last_accessed"]),
            "tags": ", ".join(map(text.clean, study["tags"])) or None,
            "deleted": _deleted(study),
            "legal_hold": hold
            and f"since {text.local(hold['placed_at'])} by {hold['placed_by']}: {hold['reason']}",
            "retained": f"until {text.day(study['retain_until'])}" if study["retain_until"] else None,
            "is": " ".join([study["availability"], *study["media"]]),
        }
    )
    screen.say("")
    screen.say_table(
        ["series", "modality", "description", ">instances"],
        [
            (entry["number"], entry["modality"], entry["description"], entry["instances"])
            for entry in study["series"]
        ],
    )
    screen.say("")
    _say_copies(
        [
            {"package": package["package"], "bytes": package["bytes"], **copy}
            for package in study["packages"]
            for copy in package["copies"]
        ],
        study["uid"],
    )
    for request in study["requests"]:
        screen.say(
            f"request {request['id']}: {request['kind']} {request['state']} {request['error']}".rstrip()
        )
    _say_why(study)


def _deleted(study: dict[str, Any]) -> str | None:
    deletion = study.get("deletion")
    if not deletion:
        rejected = study.get("rejected_instances")
        return f"no; {text.plural(rejected, 'instance')} rejected" if rejected else None
    return (
        f"in the trash until {text.local(deletion['due_at'])}, since {text.local(deletion['deleted_at'])} by "
        f"{deletion['deleted_by']}: {deletion['reason']}"
    )


def _say_why(study: Record) -> None:
    """Why every copy is still where it is, and what has moved the study there."""
    pools = {copy["pool"] for package in study["packages"] for copy in package["copies"] if copy["pool"]}
    rows = [row for pool in sorted(pools) for row in _stays(study, pool)]
    if rows:
        screen.say("")
        screen.say_table(["still in", "because"], rows)
    if study["decisions"]:
        screen.say("")
        screen.say_table(
            ["when", "was moved", "because"],
            [
                (
                    text.local(each["at"]),
                    screen.lines(
                        f"{each['action']} {text.clean(each['pool'])}",
                        Text(" ".join(filter(None, (each["outcome"], each["state"]))), style="dim"),
                    ),
                    screen.lines(
                        text.clean(each["reason"]),
                        Text(f"{text.clean(each['policy'])} / {text.clean(each['rule'])}", style="dim"),
                        Text(text.clean(each["error"]), style="red"),
                    ),
                )
                for each in study["decisions"]
            ],
        )


def _stays(study: Record, pool: str) -> list[tuple[str, Text]]:
    """Of each rule that would take the study out of a pool, why it does not, and when that changes."""
    explained = study["policies"]
    if explained is None or explained["policy"] is None:
        return [(pool, Text("no policy owns the study"))]
    found = []
    for rule in explained["rules"]:
        if rule["action"] not in ("release", "move") or (rule.get("source") or rule["pool"]) != pool:
            continue
        changes = text.clean(rule.get("outlook") or "")
        soon = "about to leave: " if rule["applies"] else ""
        found.append(
            (
                pool,
                screen.lines(
                    soon + "; ".join(filter(None, (text.clean(rule["reason"]), rule.get("outlook") or ""))),
                    Text("; ".join(filter(None, (text.clean(rule["rule"]), changes))), style="dim"),
                ),
            )
        )
    return found or [(pool, Text(f"no rule of {text.clean(explained['policy'])} takes it out of there"))]


@app.command()
def locate(context: typer.Context, uid: Uid, json: Json = False) -> None:
    """Where every copy of a study is."""
    with connect(context) as client:
        found = client.locate(uid)
    if json:
        screen.say_json(found)
        return
    screen.say(" ".join([found["availability"], *map(text.clean, found["media"])]))
    if found["unsealed"]:
        screen.say(f"{text.plural(found['unsealed'], 'instance')} online, not sealed yet")
    _say_copies(found["copies"], found["study"])


def _say_copies(copies: list[Record], uid: str) -> None:
    screen.say_table(
        ["package", "pool", "volume", "where", "copy", ">size", "verified"],
        [
            (
                package_name(copy["package"], uid),
                copy["pool"],
                copy["volume"],
                copy["where"],
                screen.state(copy["state"]),
                text.size(copy["bytes"]),
                text.local(copy["verified_at"])[:10],
            )
            for copy in copies
        ],
        empty="no copies: the study is not sealed yet",
    )


def package_name(key: str, uid: str) -> str:
    """A package's name without its study's UID, where that is known."""
    return text.clean(key.removeprefix(f"{uid}.").removesuffix(".tar"))


@app.command()
def history(
    context: typer.Context, uid: Uid, limit: Limit = 200, offset: Offset = 0, json: Json = False
) -> None:
    """The journal's records about a study, oldest first."""
    with connect(context) as client:
        records = client.history(uid, limit=limit, offset=offset)
    if json:
        screen.say_json(records)
        return
    screen.say_table(
        ["when", "who", "what"],
        [
            (
                text.local(record["at"]),
                text.head(record["actor"], 20),
                screen.lines(_event(record, uid), Text(_circumstances(record["detail"], uid), style="dim")),
            )
            for record in records
        ],
        empty="no records",
    )


def _event(record: Record, uid: str) -> str:
    """``copy verified: p0001 on T00001`` or ``request 4 queued: copy p0001 tape``."""
    detail = record["detail"]
    if record["kind"] == "request":
        work = str(detail.get("key", "")).replace(":", " ")
        return f"request {record['subject']} {record['verb']}: {_local_names(work, uid)}"
    where = " on ".join(
        _local_names(str(detail[key]), uid) for key in ("package", "volume") if detail.get(key)
    )
    return f"{record['verb']}: {where}" if where else str(record["verb"])


def _circumstances(detail: Record, uid: str) -> str:
    """What else a record says; the digest stands in full in ``--json``."""
    told = {key: value for key, value in detail.items() if key not in ("key", "package", "volume", "sha256")}
    why = [str(told.pop(key)) for key in ("why", "reason") if key in told]
    return _local_names("; ".join([*why, text.words(told)] if told else why), uid)


def _local_names(words: str, uid: str) -> str:
    """Without the UID of the study that all of it is about."""
    return text.clean(words.replace(f"{uid}.", "").replace(uid, "").replace(".tar", "").strip())


study_marks.add_to(app)
study_delete.add_to(app)
