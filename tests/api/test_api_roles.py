"""Roles: every path has one, and each role can do exactly what the table says."""

from __future__ import annotations

import os
import pwd
import socket
import tempfile
import warnings
from pathlib import Path

import pytest
from api_callers import UIDS, call, local
from api_world import Script

from hsm.api import access, routes
from hsm.api.access import ACCESS, ADMIN, AUDIT, LOOK, OPERATE, UnguardedError, needs_of
from hsm.api.app import build_app
from hsm.api.caller import roles_for
from hsm.api.doors import Doors
from hsm.api.guard import Guard
from hsm.api.identity import UnixPeer, group_names
from hsm.api.server import ApiServer
from hsm.api.twoperson import TwoPerson
from hsm.catalog import journal
from hsm.catalog.engine import Catalog
from hsm.client import Client, Refused
from hsm.config.access import ROLES, RolesConfig
from hsm.refusals import Refusal, Refusals

CONFIG = RolesConfig(users={role: role for role in ROLES}, others="none")


@pytest.fixture
def app(scripted):
    return build_app(scripted, Doors(CONFIG))


def _concrete(path: str) -> str:
    for name, value in (("{uid}", "1.2.3"), ("{pk}", "1"), ("{answer}", "done")):
        path = path.replace(name, value)
    return (
        path.replace("{barcode}", "T1").replace("{name}", "n").replace("{key}", "k").replace("{library}", "l")
    )


def test_every_path_is_in_the_table_and_the_table_has_no_others(scripted) -> None:
    there = {f"{method} {path}" for method, path, _ in routes.endpoints(scripted, TwoPerson(scripted))}
    assert there == set(ACCESS)


def test_a_path_without_a_role_keeps_the_daemon_from_starting(scripted, monkeypatch) -> None:
    without = {key: needs for key, needs in ACCESS.items() if key != "POST /v1/reload"}
    monkeypatch.setattr(access, "ACCESS", without)
    with pytest.raises(
        UnguardedError, match=r"POST /v1/reload has no role: add it to ACCESS in hsm\.api\.access"
    ):
        build_app(scripted)


def test_no_two_groups_have_the_same_path(scripted) -> None:
    there = [f"{method} {path}" for method, path, _ in routes.endpoints(scripted, TwoPerson(scripted))]
    assert len(there) == len(set(there))


def test_each_role_can_do_exactly_what_the_table_says(app, script: Script) -> None:
    script.answers["prove"] = b"PK"
    wrong = []
    for key, needs in ACCESS.items():
        method, path = key.split(" ")
        bodies = [({}, needs.roles)]
        if needs.member:
            bodies.append(({needs.member: "T1"}, needs.with_member))
        for given, wanted in bodies:
            for role in (*ROLES, "none"):
                answer = call(app, method, _concrete(path), given, peer=local(role))
                may = not wanted or role in wanted
                if (answer.status != 403) is not may:
                    wrong.append(f"{key} {given} as {role}: {answer.status}")
    assert not wrong


def test_looking_changes_nothing_and_what_destroys_needs_an_admin() -> None:
    """The table against the sense of the roles: what would be wrong in it."""
    posts_for_lookers = {key for key, needs in ACCESS.items() if key[0] == "P" and "read-only" in needs.roles}
    assert posts_for_lookers == {"POST /v1/policies/check", "POST /v1/audit/verify/progress"}
    for word in ("retire", "recycle", "lost", "unhold", "retention", "activate", "reload", "/delete"):
        found = [
            needs.roles for key, needs in ACCESS.items() if key.startswith("POST") and key.endswith(word)
        ]
        assert found == [ADMIN], word
    for key in ("GET /v1/audit/log", "GET /v1/studies/{uid}/proof", "GET /v1/studies/{uid}/accesses"):
        assert ACCESS[key].roles == AUDIT
    assert all(needs.roles >= ADMIN for needs in ACCESS.values() if needs.roles)
    assert needs_of("POST", "/v1/library/load").roles == OPERATE
    assert [key for key, needs in ACCESS.items() if not needs.roles] == ["GET /v1/health"]
    assert all(needs.roles <= LOOK for needs in ACCESS.values())


def test_a_refusal_says_which_role_is_needed(app, script: Script) -> None:
    script.asked.clear()
    answer = call(app, "POST", "/v1/volumes/T1/lost", {"reason": "burnt"}, peer=local("operator"))
    assert answer.status == 403
    said = answer.json()
    assert said["kind"] == "refused"
    assert said["error"] == "POST /v1/volumes/{barcode}/lost needs the role admin; operator has operator"
    assert script.asked == []


def test_a_refusal_is_journalled_with_who_where_what_and_why(scripted, catalog: Catalog) -> None:
    refusals = Refusals(catalog, catalog.clock)
    app = build_app(scripted, Doors(CONFIG), note=refusals.note)
    for _ in range(3):
        call(app, "POST", "/v1/volumes/T1/lost", {"reason": "burnt"}, peer=local("operator"))
    refusals.round()
    with catalog.read() as session:
        (found,) = journal.find(session, journal.Wanted(kind="access"), 10)
    assert (found.actor, found.verb, found.subject) == ("operator", "refused", "api socket")
    assert found.detail == {
        "act": "POST /v1/volumes/{barcode}/lost",
        "reason": "needs the role admin, has operator",
        "times": 3,
        "address": "socket, process 4711",
    }


def test_an_operator_may_label_but_not_write_over_what_is_there(app) -> None:
    assert call(app, "POST", "/v1/volumes/T1/label", {"pool": "tape"}, peer=local("operator")).status == 200
    for given in (
        {"overwrite": "T1"},
        b'{"overwrite": "T1", "overwrite": "T1"}',
        b'{"over\\u0077rite": "T1"}',
    ):
        answer = call(app, "POST", "/v1/volumes/T1/label", given, peer=local("operator"))
        assert answer.status == 403, given
        assert "label with overwrite needs the role admin" in answer.json()["error"]
    assert call(app, "POST", "/v1/volumes/T1/label", {"overwrite": "T1"}, peer=local("admin")).status == 200


def test_a_request_that_nobody_vouches_for_may_ask_for_health_only(app) -> None:
    assert call(app, "GET", "/v1/health").status == 200
    assert call(app, "GET", "/v1/status").status == 403
    assert call(app, "GET", "/v1/status", peer="admin").status == 403


def test_roles_come_from_the_name_and_from_every_group() -> None:
    config = RolesConfig(
        users={"anna": "operator"},
        groups={"pacs": ["auditor", "read-only"], "ops": "operator"},
        others="read-only",
    )
    assert roles_for(config, 1000, "anna", [], 500) == {"operator"}
    assert roles_for(config, 1000, "anna", ["pacs"], 500) == {"operator", "auditor", "read-only"}
    assert roles_for(config, 1001, "bea", ["ops", "users"], 500) == {"operator"}
    assert roles_for(config, 1002, "carl", ["users"], 500) == {"read-only"}
    assert roles_for(config, 500, "hsm", [], 500) == {"admin"}
    assert roles_for(config, 0, "root", [], 500) == {"admin"}
    assert roles_for(RolesConfig(others="none"), 1002, "carl", ["users"], 500) == frozenset()


def test_the_kernel_s_uid_decides_and_all_of_the_user_s_groups_count() -> None:
    me = pwd.getpwuid(os.getuid())
    doors = Doors(RolesConfig(groups=dict.fromkeys(group_names(me.pw_uid), "auditor"), others="none"))
    assert len(group_names(me.pw_uid)) == len(set(os.getgrouplist(me.pw_name, me.pw_gid)))
    assert "auditor" in doors.local(UnixPeer(me.pw_uid, me.pw_name, 1)).roles
    assert doors.local(UnixPeer(1 << 30, f"uid {1 << 30}", 1)).roles == frozenset()


def test_groups_are_asked_for_again_after_a_while(monkeypatch) -> None:
    now, groups = [0.0], [frozenset({"ops"})]
    monkeypatch.setattr("hsm.api.doors.group_names", lambda uid: groups[0])
    doors = Doors(RolesConfig(groups={"ops": "operator"}, others="none"), lambda: now[0])
    peer = UnixPeer(1000, "anna", 1)
    assert doors.local(peer).roles == {"operator"}
    groups[0] = frozenset()
    assert doors.local(peer).roles == {"operator"}
    now[0] = 11.0
    assert doors.local(peer).roles == frozenset()


def test_over_the_socket_root_and_the_daemon_s_user_are_admin(client: Client, script: Script) -> None:
    client.retire("T1")
    assert script.asked[0][0] == "retire"


def _as_another(uid: int, path: Path, acts: list[str]) -> list[str]:
    """The statuses that a process of another user gets; with root's group the socket's mode lets it in."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child calls nothing that locks
        child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(0)
            os.setuid(uid)
            for act in acts:
                with socket.socket(socket.AF_UNIX) as there:
                    there.connect(str(path))
                    head = f"{act} HTTP/1.1\r\nHost: x\r\nX-User: root\r\nConnection: close\r\n\r\n"
                    there.sendall(head.encode())
                    os.write(write, there.recv(4096).split(b" ", 2)[1] + b" ")
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as answers:
        found = answers.read().split()
    os.waitpid(child, 0)
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_who_the_kernel_says(scripted, script: Script) -> None:
    folder = Path(tempfile.mkdtemp())
    noted: list[Refusal] = []
    app = build_app(scripted, Doors(RolesConfig(others="read-only")), note=noted.append)
    server = ApiServer(app, folder / "s")
    server.start()
    try:
        folder.chmod(0o750)
        acts = ["GET /v1/holds", "POST /v1/volumes/T1/lost", "GET /v1/audit/log"]
        assert _as_another(65534, folder / "s", acts) == ["200", "403", "403"]
    finally:
        server.stop()
        folder.rmdir()
    name = pwd.getpwuid(65534).pw_name
    assert [(each.actor, each.act) for each in noted] == [
        (name, "POST /v1/volumes/{barcode}/lost"),
        (name, "GET /v1/audit/log"),
    ]


def test_a_role_that_is_missing_ends_the_command_with_4(monkeypatch, home: Path) -> None:
    monkeypatch.setattr("hsm.api.doors.roles_for", lambda *_: frozenset({"read-only"}))
    with Client(home / "hsm.sock") as client:
        assert client.health() == {"ok": True}
        assert client.find_studies()
        with pytest.raises(Refused, match="needs the role operator or admin") as raised:
            client.recall(["1.2.3"])
    assert raised.value.exit_code == 4


def test_the_guard_knows_only_the_table() -> None:
    with pytest.raises(UnguardedError, match="GET /v1/secret has no role"):
        Guard().route("GET", "/v1/secret", lambda request: None)
    assert set(UIDS) == {*ROLES, "none"}
