"""Policy files -> a checked :class:`policies.policy.PolicySet`, or every error at once."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

from policies import schedule as schedules
from policies.classes import ClassTable
from policies.errors import PolicyError, PolicyErrors
from policies.lint import lint, overlaps
from policies.policy import Policy, PolicySet
from policies.pools import PoolInfo, PoolTable
from policies.read import Reader, is_classes
from policies.schedule import Schedule
from policies.yamlsource import MappingNode, Source


def load_folder(
    path: str | Path, pools: Collection[PoolInfo | str], default_schedule: Schedule = schedules.DEFAULT
) -> PolicySet:
    """Every ``*.yaml`` directly in the folder, checked against the names of the configured pools.

    An empty folder is a set without policies, with a warning: nothing is copied and nothing released.

    :param default_schedule: of policies that give none.
    :raises PolicyErrors: with every error in every file; also if the folder cannot be read.
    """
    folder = Path(path)
    texts: dict[str, str] = {}
    errors: list[PolicyError] = []
    ignored: list[PolicyError] = []
    try:
        files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except OSError as error:
        message = (
            f"the policy folder cannot be read: {error.strerror}; "
            "create it or correct 'policies' in the configuration"
        )
        raise PolicyErrors([PolicyError(str(folder), 0, 0, message)]) from error
    for file in files:
        if file.suffix.lower() in (".yml", ".yaml") and file.suffix != ".yaml":
            ignored.append(
                PolicyError(
                    str(file), 0, 0, "this file is not read: rename it so that it ends in .yaml", warning=True
                )
            )
        if file.suffix != ".yaml":
            continue
        try:
            texts[str(file)] = file.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            errors.append(PolicyError(str(file), line, 1, "not UTF-8: save the file as UTF-8"))
        except OSError as error:
            errors.append(
                PolicyError(str(file), 0, 0, f"cannot be read: {error.strerror}; check its permissions")
            )
    return _load(texts, pools, default_schedule, errors, ignored, str(folder))


def load_texts(
    texts: Mapping[str, str],
    pools: Collection[PoolInfo | str],
    default_schedule: Schedule = schedules.DEFAULT,
) -> PolicySet:
    """As :func:`load_folder`, from texts by file name. :raises PolicyErrors: with every error."""
    return _load(texts, pools, default_schedule, [], [], "policies")


def _load(
    texts: Mapping[str, str],
    pools: Collection[PoolInfo | str],
    default_schedule: Schedule,
    errors: list[PolicyError],
    warnings: list[PolicyError],
    where: str,
) -> PolicySet:
    table = PoolTable(pools)
    policies: list[Policy] = []
    findings = [*errors, *warnings]
    sources = {file: Source(file, texts[file]) for file in sorted(texts)}
    documents = [(source, node) for source in sources.values() for node in source.documents()]
    shared = ClassTable(table)
    for source, node in documents:  # first all classes, so that they may stand in any file
        if isinstance(node, MappingNode) and is_classes(node):
            shared.add(source, node.value[0][1])
    for source, node in documents:
        if not is_classes(node):
            policy = Reader(source, table, shared, default_schedule).policy(node)
            policies += [policy] if policy is not None else []
    shared.finish()
    _refuse_equals(policies, sources)
    if not any(source.failed for source in sources.values()) and not errors:
        lint(policies, sources)
        if not policies:
            message = "there is no policy here: nothing is copied and nothing is released"
            findings.append(PolicyError(where, 0, 0, message, warning=True))
    for source in sources.values():
        findings += sorted(source.findings, key=lambda finding: (finding.line, finding.column))
    wrong = [finding for finding in findings if not finding.warning]
    if wrong:
        raise PolicyErrors(wrong)
    policies.sort(key=lambda policy: policy.priority)
    notes = [
        PolicyError(policy.file, policy.line, 1, message, warning=True, note=True)
        for policy, message in overlaps(policies)
    ]
    return PolicySet(
        tuple(policies), digest(texts), tuple(findings), dict(texts), tuple(table.values()), tuple(notes)
    )


def digest(texts: Mapping[str, str]) -> bytes:
    """SHA-256 over the SHA-256 of each text, in the order of these, so that file names do not count."""
    each = sorted(hashlib.sha256(text.encode()).digest() for text in texts.values())
    return hashlib.sha256(b"".join(each)).digest()


def _refuse_equals(policies: list[Policy], sources: Mapping[str, Source]) -> None:
    """Two policies of one name or one priority: which goes first must never hang on file order."""
    names: dict[str, Policy] = {}
    priorities: dict[int, Policy] = {}
    for policy in policies:
        first = names.setdefault(policy.name, policy)
        if first is not policy:
            message = f"policy '{policy.name}' is already in {first.file}:{first.line}: rename one"
            sources[policy.file].at_line(policy.line, message)
        first = priorities.setdefault(policy.priority, policy)
        if first is not policy:
            message = (
                f"policy '{policy.name}' has the priority {policy.priority} of '{first.name}' "
                f"({first.file}:{first.line}): give each its own, lower goes first"
            )
            sources[policy.file].at_line(policy.line, message)
