"""One YAML document -> one policy, with every finding."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta

from policies import units
from policies.classes import ClassTable, named_in
from policies.errors import did_you_mean
from policies.expr import ALWAYS, Expression
from policies.fields import Fields
from policies.policy import By, Colocate, Goal, Limits, Policy, Rule
from policies.pools import Group, PoolTable
from policies.readrule import RULE_KEYS, SHELVED, RuleReader
from policies.readschedule import SCHEDULE_KEYS, ScheduleReader
from policies.schedule import Schedule
from policies.yamlsource import Entry, MappingNode, Node, Source

POLICY_KEYS = (
    "policy",
    "priority",
    "scope",
    "classes",
    "copies",
    "rules",
    "schedule",
    "limits",
    "colocate",
)
LIMITS_KEYS = ("studies per run", "bytes per run", "bandwidth", "drives", "suspend after errors")
COPIES_MAX = 9
CLASSES = "classes"
_ELSEWHERE = {
    "name": "The name of a policy is written policy: NAME.",
    **dict.fromkeys(RULE_KEYS[1:], "It belongs to a rule: write it below one, indented as its name."),
    **dict.fromkeys(SCHEDULE_KEYS, "It belongs to the schedule: write it below schedule:, indented."),
    **dict.fromkeys(LIMITS_KEYS, "It belongs to the limits: write it below limits:, indented."),
    **dict.fromkeys(("policies", "documents"), "Part the policies of a file by a line ---."),
    **dict.fromkeys(("goals", "protection", "copy goals"), "Copy goals are written copies: {POOL: 1}."),
}
"""What stands at the top by mistake."""


def is_classes(node: Node) -> bool:
    """Whether a document is one of shared classes and not a policy."""
    return isinstance(node, MappingNode) and [key.value for key, _ in node.value] == [CLASSES]


class Reader(Fields):
    """Reads policies of one source."""

    def __init__(self, source: Source, pools: PoolTable, shared: ClassTable, default: Schedule) -> None:
        super().__init__(source, pools, shared)
        self.shared = shared
        self.default = default

    def policy(self, node: Node) -> Policy | None:
        """The policy of one document, or None if anything in it is wrong."""
        source, before = self.source, self.errors()
        entries = source.entries(node, "a policy", POLICY_KEYS, elsewhere=_ELSEWHERE)
        if not isinstance(node, MappingNode):
            return None
        own = ClassTable(self.pools, self.shared)
        if CLASSES in entries:
            own.add(source, entries[CLASSES].value)
        self.classes = own
        name = self.name(entries.get("policy"), node, "policy", "policy: default")
        priority = self.priority(entries.get("priority"), node)
        scope = self.expression(entries["scope"].value, "scope", scope=True) if "scope" in entries else ALWAYS
        copies = self.goals(entries["copies"].value) if "copies" in entries else ()
        rules = self.rules(entries.get("rules"), node)
        schedule: Schedule | None = self.default
        if "schedule" in entries:
            schedule = ScheduleReader(source, self.default).schedule(entries["schedule"].value)
        limits = self.limits(entries["limits"].value) if "limits" in entries else Limits()
        colocate = self.colocate(entries["colocate"].value) if "colocate" in entries else ()
        own.finish()
        if self.errors() > before or scope is None or priority is None or schedule is None:
            return None
        text = source.text[node.start_mark.index : node.end_mark.index]
        line = source.line_of(entries["policy"].key)
        return Policy(
            name,
            priority,
            scope,
            copies,
            rules,
            schedule,
            limits,
            _digest(text, scope, rules),
            source.file,
            line,
            colocate,
        )

    def priority(self, entry: Entry | None, parent: Node) -> int | None:
        if entry is None:
            self.source.on(
                self.first(parent),
                "the policy has no priority: add a line such as priority: 100 (lower goes first)",
            )
            return None
        return self.integer(entry.value, "priority", 0, 1_000_000, "priority: 100")

    # copy goals

    def goals(self, node: Node) -> tuple[Goal, ...]:
        entries = self.source.entries(node, "copies", (), f"copies: {{{min(self.pools, default='POOL')}: 1}}")
        if isinstance(node, MappingNode) and not node.value:
            self.source.on(node, "copies is empty: write for example copies: {tape: 1}, or leave it out")
        goals = [self.goal(entry) for entry in entries.values()]
        return tuple(goal for goal in goals if goal is not None)

    def goal(self, entry: Entry) -> Goal | None:
        name = entry.name
        group = self.pools.sites if name == By.SITES and name not in self.pools else self.pools.group(name)
        if group is None:
            words = [*self.pools.words, By.SITES.value]
            self.source.on(entry.key, f"there is no pool '{name}'.{did_you_mean(name, words)}")
        scalar = self.source.scalar(entry.value, f"the copies in {name}", f"{name}: 1")
        if scalar is None:
            return None
        match = re.fullmatch(r"(-?[0-9]{1,18})(?:\s+within\s+(.*))?", str(scalar.value).strip(), re.DOTALL)
        if match is None or not 1 <= int(match.group(1)) <= COPIES_MAX:
            self.source.on(
                scalar,
                f"the copies in {name} must be a whole number from 1 to {COPIES_MAX}, as in {name}: 1 or "
                f"{name}: 1 within 24h",
            )
            return None
        within: timedelta | None = None
        if match.group(2) is not None:
            try:
                within = units.read_duration(match.group(2))
            except units.UnitError as error:
                self.source.inside(scalar, *match.span(2), str(error))
                return None
        if group is None or not self.reachable(entry, group, int(match.group(1))):
            return None
        return Goal(group, int(match.group(1)), within)

    def reachable(self, entry: Entry, group: Group, count: int) -> bool:
        """Refuse goals that the configured pools can never meet."""
        if group.by is By.SITES:
            sites = {pool.site for pool in group.pools}
            if count > len(sites):
                named = ", ".join(sorted(site or "(none named)" for site in sites))
                self.source.on(
                    entry.value,
                    f"the pools stand at {len(sites)} different {'site' if len(sites) == 1 else 'sites'} "
                    f"({named}): write at most {len(sites)}, or give the pools a site in the configuration",
                )
                return False
        elif count > (most := sum(pool.volumes for pool in group.pools)) and all(
            pool.kind not in SHELVED for pool in group.pools
        ):
            verb = "is" if len(group.pools) == 1 else "are"
            volumes = f"{verb} {'one volume' if most == 1 else f'{most} volumes'}"
            self.source.on(
                entry.value,
                f"{' and '.join(group.names)} {volumes}, and each holds one copy of a study: write "
                f"{group.name}: {most}",
            )
            return False
        return True

    # the rest

    def rules(self, entry: Entry | None, parent: Node) -> tuple[Rule, ...]:
        if entry is None:
            self.source.on(self.first(parent), "the policy has no rules: add rules: with at least one rule")
            return ()
        reader = RuleReader(self.source, self.pools, self.classes)
        rules: list[Rule] = []
        names: set[str] = set()
        nodes = list(self.source.items(entry.value, "rules"))
        if not nodes and getattr(entry.value, "value", None) == []:
            self.source.on(
                entry.value, "the policy has no rules: add at least one, beginning with '- name: '"
            )
        for node in nodes:
            rule = reader.rule(node, names)
            if rule is not None:
                rules.append(rule)
        return tuple(rules)

    def limits(self, node: Node) -> Limits:
        entries = self.source.entries(node, "limits", LIMITS_KEYS, "limits: {studies per run: 1000}")

        def number(key: str, most: int, example: int) -> int | None:
            if key not in entries:
                return None
            return self.integer(entries[key].value, key, 1, most, f"{key}: {example}")

        return Limits(
            number("studies per run", 10**9, 1000),
            self.size(entries["bytes per run"]) if "bytes per run" in entries else None,
            self.rate(entries["bandwidth"]) if "bandwidth" in entries else None,
            number("drives", 1000, 2),
            number("suspend after errors", 10**6, 5),
        )

    def colocate(self, node: Node) -> tuple[Colocate, ...]:
        words = self.words(node, "colocate", [each.value for each in Colocate], "colocate: patient, month")
        return tuple(Colocate(word) for word in words or ())


def _digest(text: str, scope: Expression, rules: tuple[Rule, ...]) -> bytes:
    """SHA-256 of the document, and of the classes that stand elsewhere and that it uses."""
    expressions = [
        scope,
        *(rule.when for rule in rules),
        *(rule.priors.when for rule in rules if rule.priors),
    ]
    classes = sorted({pair for expression in expressions for pair in named_in(expression)})
    return hashlib.sha256("\0".join([text, *(part for pair in classes for part in pair)]).encode()).digest()
