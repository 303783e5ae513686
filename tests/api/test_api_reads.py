"""What the API shows, asked over a real unix socket."""

from __future__ import annotations

import re

import pytest
from api_world import LONG_UID, NEW_UID, TAPE_UID, Script

from hsm.client import BadRequest, Client, Problem

SAMPLE = re.compile(r'[a-z_]+(\{([a-z]+="([^"\\\n]|\\.)*",?)+\})? -?[0-9.e+]+')


def test_status_counts_what_the_catalog_holds_and_what_waits(client: Client) -> None:
    shown = client.status()
    assert shown["daemon"]["listen"]["ae_title"] == "HSM"
    assert shown["daemon"]["started_at"] == "2026-01-01T00:00:00Z"
    assert shown["totals"] == {"studies": 3, "instances": 9, "bytes": 1800, "packages": 2, "unsealed": 3}
    tape = next(pool for pool in shown["pools"] if pool["name"] == "tape")
    assert tape == {
        "name": "tape",
        "tier": "offline",
        "layout": "packages",
        "library": "sim",
        "volumes": {"active": 1},
        "used": 900,
        "capacity": 10000,
        "copies": {"verified": 1},
        "package_bytes": 700,
        "scratch": 1,
        "scratch_low": 0,
    }
    online = next(pool for pool in shown["pools"] if pool["name"] == "online")
    assert online["copies"] == {"verified": 1}, "a released copy is not held any more"
    assert {"kind": "recall", "state": "waiting", "requests": 1} in shown["queue"]
    assert shown["mounts_open"] == 1
    assert [run["policy"] for run in shown["runs"]] == ["keep"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [NEW_UID, TAPE_UID, LONG_UID]),
        ({"patient_id": "P1"}, [LONG_UID]),
        ({"patient_id": "P?"}, [NEW_UID, TAPE_UID, LONG_UID]),
        ({"patient_id": "p1"}, []),
        ({"name": "DÖE"}, [LONG_UID]),
        ({"name": "döe jäne"}, [LONG_UID]),
        ({"name": "花子"}, []),
        ({"name": "*花子"}, [LONG_UID]),
        ({"name": "richard"}, []),
        ({"accession": "A2"}, [TAPE_UID]),
        ({"uid": f"{TAPE_UID[:-1]}*"}, [NEW_UID, TAPE_UID]),
        ({"modality": "SR"}, [LONG_UID]),
        ({"modality": "S"}, []),
        ({"date": "20240110"}, [LONG_UID]),
        ({"date": "20230101-20231231"}, [TAPE_UID]),
        ({"date": "-20240109"}, [TAPE_UID]),
        ({"date": "20230501-"}, [TAPE_UID, LONG_UID]),
        ({"text": "roe"}, [NEW_UID, TAPE_UID]),
        ({"text": "NATIV"}, [NEW_UID, TAPE_UID, LONG_UID]),
        ({"text": "%"}, []),
        ({"text": "_"}, []),
    ],
)
def test_studies_are_found_by_what_people_know_of_them(
    client: Client, wanted: dict[str, str], found: list[str]
) -> None:
    assert [study["uid"] for study in client.find_studies(**wanted)] == found


def test_a_page_goes_on_where_the_one_before_it_ended(client: Client) -> None:
    pages = [client.find_studies(limit=2, offset=offset) for offset in (0, 2, 4)]
    assert [[study["uid"] for study in page] for page in pages] == [[NEW_UID, TAPE_UID], [LONG_UID], []]


def test_availability_is_that_of_the_nearest_copy(client: Client) -> None:
    assert {study["uid"]: study["availability"] for study in client.find_studies()} == {
        LONG_UID: "ONLINE",
        TAPE_UID: "OFFLINE",
        NEW_UID: "ONLINE",
    }


def test_a_study_shows_its_series_packages_and_where_their_copies_are(client: Client) -> None:
    shown = client.study(TAPE_UID)
    assert [copy["where"] for package in shown["packages"] for copy in package["copies"]] == ["shelf A3"]
    assert shown["requests"] == [{"id": 2, "kind": "recall", "state": "waiting", "pool": "tape", "error": ""}]
    assert client.study(LONG_UID)["series"][0]["description"] == "Thorax"
    located = client.locate(LONG_UID)
    assert [(copy["pool"], copy["state"]) for copy in located["copies"]] == [
        ("online", "verified"),
        ("nearline", "verified"),
    ]


def test_history_has_the_study_s_records_and_its_requests_only(client: Client) -> None:
    records = client.history(LONG_UID, limit=50)
    assert [(record["verb"], record["kind"], record["subject"]) for record in records] == [
        ("received", "study", LONG_UID),
        ("queued", "request", "1"),
    ]
    assert records[0]["detail"] == {"patient_id": "P1"}


def test_the_queue_is_shown_in_the_order_it_is_worked_on(client: Client) -> None:
    rows = client.queue(limit=10)
    assert [(row["id"], row["kind"], row["state"]) for row in rows] == [
        (1, "copy", "queued"),
        (2, "recall", "waiting"),
        (3, "verify", "failed"),
    ]
    assert [row["id"] for row in client.queue(state="failed", limit=10)] == [3]
    assert [row["id"] for row in client.queue(kind="recall", limit=10)] == [2]
    assert [row["id"] for row in client.queue(study=LONG_UID, limit=10)] == [1, 3]


def test_a_request_says_which_turn_it_has_and_what_comes_first(client: Client) -> None:
    queued, waiting, failed = client.queue(limit=10)
    assert (queued["turn"]["position"], queued["turn"]["drive"]) == (3, 256)
    assert queued["turn"]["ahead"][0] == {"request": 7, "why": "stat before migration"}
    assert waiting["turn"]["position"] is None
    assert waiting["turn"]["why"].startswith("waits for an operator: ")
    assert failed["turn"] is None
    assert client.request(1)["turn"] == queued["turn"]


def test_a_request_names_its_waiters_and_the_mount_it_waits_for(client: Client) -> None:
    shown = client.request(2)
    assert [waiter["who"] for waiter in shown["waiters"]] == ["C-MOVE from WS1 to WS1", "recall by alice"]
    assert (shown["volume"], shown["place"]) == ("T00001", "shelf A3")
    assert [mount["state"] for mount in shown["mounts"]] == ["open"]


def test_a_mount_request_says_who_waits_since_when_and_for_how_much(client: Client) -> None:
    [mount] = client.mounts()
    assert (mount["barcode"], mount["where"], mount["waiting_seconds"]) == ("T00001", "shelf A3", 300)
    assert (mount["requests"], mount["bytes"]) == (1, 700)
    assert len(mount["waiters"]) == 2


def test_volumes_are_listed_by_name_and_narrowed_by_pool_and_place(client: Client) -> None:
    assert [volume["name"] for volume in client.volumes(limit=10)] == [
        "T00001",
        "T00002",
        "nearline",
        "online",
    ]
    assert [volume["name"] for volume in client.volumes(pool="tape", limit=10)] == ["T00001"]
    assert [volume["where"] for volume in client.volumes(place="slot", limit=10)] == ["sim slot 1002"]
    shown = client.volume("T00001")
    assert [entry["study"] for entry in shown["packages"]] == [TAPE_UID]


def test_decisions_carry_their_reason(client: Client) -> None:
    [decision] = client.decisions(study=LONG_UID)
    assert (decision["rule"], decision["reason"], decision["request"]) == ("to-tape", "older than 1 d", 1)
    assert client.decisions(run=99) == []
    assert [run["id"] for run in client.runs(policy="keep")] == [1]


def test_metrics_are_prometheus_text(client: Client, script: Script) -> None:
    text = client.metrics()
    assert 'hsm_pool_used_bytes{pool="tape",tier="offline"} 900' in text
    assert 'hsm_queue_requests{kind="recall",state="waiting"} 1' in text
    assert "hsm_mount_requests_open 1" in text
    assert "hsm_associations 2" in text
    names = []
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            names.append(line.split()[2])
        elif not line.startswith("#"):
            assert SAMPLE.fullmatch(line), line
            assert line.startswith(names[-1]), "samples of one name stand together"
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.find_studies(limit=0),
        lambda client: client.find_studies(limit=1001),
        lambda client: client.find_studies(limit="ten"),
        lambda client: client.find_studies(date="yesterday"),
        lambda client: client.find_studies(colour="red"),
        lambda client: client.study("../../etc/passwd"),
        lambda client: client.study(".."),
        lambda client: client.queue(state="tired", limit=5),
    ],
)
def test_a_question_that_makes_no_sense_is_the_caller_s_mistake(client: Client, ask) -> None:
    with pytest.raises(BadRequest) as raised:
        ask(client)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.study("9.9.9"),
        lambda client: client.history("9.9.9", limit=5),
        lambda client: client.request(99),
        lambda client: client.volume("NOPE"),
    ],
)
def test_what_is_not_there_is_a_problem_and_not_an_empty_answer(client: Client, ask) -> None:
    with pytest.raises(Problem) as raised:
        ask(client)
    assert raised.value.kind == "not found"
    assert raised.value.exit_code == 1
