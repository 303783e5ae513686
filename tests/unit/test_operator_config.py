"""The operator section: what is taken, and that every mistake is told with its line."""

from __future__ import annotations

from datetime import time
from pathlib import Path

import pytest

from hsm.config import InvalidConfig, load

POOLS = "pools:\n  - {name: online, tier: online, options: {path: data}}\noperator:\n"
MAIL = "{server: mail.example.org, sender: hsm@example.org, to: ops@example.org}"


def loaded(folder: Path, section: str) -> object:
    path = folder / "hsm.yaml"
    path.write_text(POOLS + section, encoding="utf-8")
    return load(path, {"HSM_HOME": str(folder / "home")}).operator


def test_what_is_written_is_what_is_in_force_and_files_are_beside_the_configuration(tmp_path: Path) -> None:
    operator = loaded(
        tmp_path,
        "  channels:\n"
        "    - name: mail\n"
        "      mail: {server: m.example.org, user: u, password_file: pw, sender: a@b.org, to: [c@d.org]}\n"
        "    - name: hook\n"
        "      webhook: {url: 'https://example.org/x?t=secret', token_file: /etc/token}\n"
        "  escalation:\n"
        "    - {after: 10m, to: mail, repeat: 1 h}\n"
        "    - {after: 30 min, to: hook, urgent: true}\n"
        "  quiet_hours: {start: '22:00', end: '06:30', zone: Europe/Zurich, days: [sat, sun]}\n",
    )
    mail, hook = operator.channels  # type: ignore[attr-defined]
    assert (mail.mail.port, mail.mail.tls, mail.mail.password_file) == (587, "starttls", tmp_path / "pw")
    assert hook.webhook.token_file == Path("/etc/token")
    assert "secret" not in repr(operator)
    first, second = operator.escalation  # type: ignore[attr-defined]
    assert (first.after, first.repeat, second.after, second.urgent) == (600, 3600, 1800, True)
    assert operator.quiet_hours.end == time(6, 30)  # type: ignore[attr-defined]


BROKEN = [
    # (section from line 4 on, line, place, what the message says)
    ("  walk: soon\n", 4, "operator.walk", "found 'soon'"),
    ("  chanels: []\n", 4, "operator.chanels", "did you mean channels?"),
    (
        f"  channels:\n    - {{name: a, mail: {MAIL}}}\n    - {{name: a, mail: {MAIL}}}\n",
        6,
        "operator.channels[1].name",
        "another channel 'a'",
    ),
    ("  channels:\n    - {name: a}\n", 5, "operator.channels[0]", "one of mail, webhook and command"),
    (
        "  channels:\n    - name: a\n      mail: {server: m, sender: x, to: a@b}\n",
        6,
        "operator.channels[0].mail.sender",
        "expected a mail address; found 'x'",
    ),
    (
        "  channels:\n    - name: a\n      mail: {server: m, sender: a@b, to: a@b, user: u}\n",
        6,
        "operator.channels[0].mail",
        "user and password_file together",
    ),
    (
        "  channels:\n    - {name: a, webhook: {url: 'ftp://x'}}\n",
        5,
        "operator.channels[0].webhook.url",
        "expected a URL",
    ),
    (
        "  channels:\n    - {name: a, command: {argv: [page]}}\n",
        5,
        "operator.channels[0].command",
        "the whole path of a program",
    ),
    ("  escalation:\n    - {after: 1 h, to: boss}\n", 5, "operator.escalation[0].to", "found 'boss'"),
    (
        f"  channels: [{{name: a, mail: {MAIL}}}]\n  escalation:\n    - {{after: 1 h, to: a}}\n"
        "    - {after: 1 h, to: a}\n",
        7,
        "operator.escalation[1]",
        "the same step comes before it",
    ),
    ("  quiet_hours: {start: 10pm, end: '06:00'}\n", 4, "operator.quiet_hours.start", "in quotes"),
    (
        "  quiet_hours: {start: '22:00', end: '06:00', zone: Mars/Base}\n",
        4,
        "operator.quiet_hours.zone",
        "expected a time zone",
    ),
]


@pytest.mark.parametrize(("section", "line", "place", "message"), BROKEN, ids=lambda value: str(value)[:30])
def test_a_mistake_is_told_with_its_line(
    tmp_path: Path, section: str, line: int, place: str, message: str
) -> None:
    with pytest.raises(InvalidConfig) as caught:
        loaded(tmp_path, section)
    (problem,) = caught.value.problems
    assert (problem.line, problem.place) == (line, place)
    assert message in problem.message
