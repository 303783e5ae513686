"""A policy that would delete everything: it says so at every step, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path

from tests.story.archive import KEEP, Archive, bundled, running, until

DANGEROUS = """\
policy: tidy up
priority: 1
rules:
  - name: free space
    release from: online
    when: age > 1 day
"""


def test_a_policy_that_releases_everything_and_copies_nothing_does_no_harm_and_says_so(
    sqlite_url: str, tmp_path: Path
) -> None:
    archive = Archive(tmp_path / "home", sqlite_url, KEEP)
    with running(archive):
        files = bundled("CT_small.dcm", "MR_small.dcm")
        sent = archive.dcmtk("storescu", *map(str, files))
        assert sent.returncode == 0, sent.stderr
        until(
            lambda: [study["unsealed"] for study in archive.ask(lambda c: c.find_studies(limit=5))] == [0, 0],
            "both studies are sealed",
        )
        stored = sorted(path.read_bytes() for path in (archive.home / "online").rglob("*.dcm"))
        archive.write_policy(DANGEROUS)

        checked = archive.command("policy", "check", "--config", str(archive.config))
        assert "road.yaml:4" in checked.stdout + checked.stderr
        assert "no copy goal" in checked.stdout + checked.stderr

        compared = archive.command("policy", "diff")
        assert "policy tidy up: added" in compared.stdout
        assert "release" not in compared.stdout, "it would not get anything released"

        activated = archive.command("policy", "activate", "--comment", "what could go wrong")
        assert activated.returncode == 0, activated.stderr
        assert "warning" in activated.stdout

        planned = archive.command("policy", "plan")
        assert planned.returncode == 1
        assert "nothing of what it asks for may be done" in planned.stdout
        assert "last copy" in planned.stdout
        plan = json.loads(archive.command("policy", "plan", "--json").stdout)
        assert [rule["studies"] for rule in plan["policies"][0]["rules"]] == [0]
        assert [rule["refused"] for rule in plan["policies"][0]["rules"]] == [2]

        for words in (("--dry-run",), ()):
            run = archive.command("policy", "run", *words)
            assert "0 asked for" in run.stdout or "0 would be asked for" in run.stdout
            assert "2 refused" in run.stdout
            assert "online holds the last copy" in run.stdout

        uid = archive.ask(lambda client: client.find_studies(limit=5))[0]["uid"]
        assert "online holds the last copy" in archive.command("policy", "explain", uid).stdout
        assert archive.ask(lambda client: client.queue(kind="release", limit=5)) == []
        assert sorted(path.read_bytes() for path in (archive.home / "online").rglob("*.dcm")) == stored
        assert [copy["state"] for copy in archive.copies()] == ["verified", "verified"]
