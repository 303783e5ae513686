"""One YAML document -> one policy, with every finding."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from decimal import Decimal

from policies import units
from policies.check import check_expression
from policies.errors import did_you_mean
from policies.expr import ALWAYS, Expression
from policies.facts import FACTS
from policies.policy import Action, By, Goal, Group, Limits, Order, Policy, Rule
from policies.pools import PoolInfo, PoolTable
from policies.schedule import Schedule, ScheduleError, read_cron, read_interval, read_schedule
from policies.yamlsource import Entry, MappingNode, Node, ScalarNode, Source

_POLICY = ("policy", "priority", "scope", "copies", "rules", "schedule", "limits")
_RULE = ("name", "copy to", "release from", "when", "start above", "stop below", "order by")
_LIMITS = ("studies per run", "bytes per run")
_NAME = re.compile(r"[^\s].{0,99}")
COPIES_MAX = 9


class Reader:
    """Reads documents of one source. What is wrong is noted there; None stands for what is not usable."""

    def __init__(self, source: Source, pools: Collection[PoolInfo | str], default: Schedule) -> None:
        self.source = source
        self.pools = self.table = PoolTable(pools)
        self.default = default

    def policy(self, node: Node) -> Policy | None:
        """The policy of one document, or None if anything in it is wrong."""
        source = self.source
        before = len(source.findings)
        entries = source.entries(node, "a policy", _POLICY)
        if not isinstance(node, MappingNode):
            return None
        name = self.name(entries.get("policy"), node, "policy", "policy: default")
        priority = self.priority(entries.get("priority"), node)
        scope = self.expression(entries["scope"].value, "scope", scope=True) if "scope" in entries else ALWAYS
        goals = self.goals(entries["copies"].value) if "copies" in entries else ()
        rules = self.rules(entries.get("rules"), node)
        schedule = self.schedule(entries["schedule"].value) if "schedule" in entries else self.default
        limits = self.limits(entries["limits"].value) if "limits" in entries else Limits()
        wrong = any(not finding.warning for finding in source.findings[before:])
        if wrong or scope is None or priority is None or schedule is None or limits is None:
            return None
        text = source.text[node.start_mark.index : node.end_mark.index]
        digest = hashlib.sha256(text.encode()).digest()
        line = source.line_of(entries["policy"].key)
        return Policy(name, priority, scope, goals, rules, schedule, limits, digest, source.file, line)

    def name(self, entry: Entry | None, parent: Node, key: str, example: str) -> str:
        if entry is None:
            first = parent.value[0][0] if parent.value else parent
            self.source.on(first, f"there is no '{key}' here: add a line such as {example}")
            return ""
        node = self.source.scalar(entry.value, f"'{key}'", example)
        if node is None:
            return ""
        if not _NAME.fullmatch(str(node.value)):
            self.source.on(node, f"'{key}' must be one line of at most 100 characters: shorten it")
        return str(node.value)

    def priority(self, entry: Entry | None, parent: Node) -> int | None:
        if entry is None:
            first = parent.value[0][0] if parent.value else parent
            self.source.on(
                first, "the policy has no priority: add a line such as priority: 100 (lower goes first)"
            )
            return None
        return self.integer(entry.value, "priority", 0, 1_000_000, "priority: 100")

    def integer(self, node: Node, what: str, low: int, high: int, example: str) -> int | None:
        scalar = self.source.scalar(node, what, example)
        if scalar is None:
            return None
        text = str(scalar.value)
        if not re.fullmatch(r"-?[0-9]{1,18}", text) or not low <= int(text) <= high:
            self.source.on(scalar, f"{what} must be a whole number from {low} to {high}, as in {example}")
            return None
        return int(text)

    def expression(self, node: Node, what: str, *, scope: bool = False) -> Expression | None:
        scalar = self.source.scalar(node, f"'{what}'", "idle > 30d" if not scope else "modality in (CT, MR)")
        if scalar is None:
            return None
        checked = check_expression(str(scalar.value), self.pools, scope=scope)
        for fault in checked.faults:
            self.source.inside(scalar, fault.start, fault.end, fault.message, warning=fault.warning)
        return checked.expression

    def pool(self, node: ScalarNode) -> str:
        name = str(node.value)
        if name not in self.pools:
            self.source.on(node, f"there is no pool '{name}'.{did_you_mean(name, self.pools)}")
        return name

    def goals(self, node: Node) -> tuple[Goal, ...]:
        goals: list[Goal] = []
        for entry in self.source.entries(node, "copies", ()).values():
            pool = self.pool(entry.key)
            count = self.integer(entry.value, f"the copies in {pool}", 1, COPIES_MAX, f"{pool}: 1")
            if count is not None and pool in self.pools:
                goals.append(Goal(Group(pool, By.POOL, (self.table[pool],)), count))
        return tuple(goals)

    # rules

    def rules(self, entry: Entry | None, parent: Node) -> tuple[Rule, ...]:
        if entry is None:
            first = parent.value[0][0] if parent.value else parent
            self.source.on(first, "the policy has no rules: add rules: with at least one rule")
            return ()
        rules: list[Rule] = []
        names: set[str] = set()
        nodes = list(self.source.items(entry.value, "rules"))
        if not nodes and getattr(entry.value, "value", None) == []:
            self.source.on(
                entry.value, "the policy has no rules: add at least one, beginning with '- name: '"
            )
        for node in nodes:
            before = len(self.source.findings)
            rule = self.rule(node, names)
            wrong = any(not finding.warning for finding in self.source.findings[before:])
            if rule is not None and not wrong:
                rules.append(rule)
        return tuple(rules)

    def rule(self, node: Node, names: set[str]) -> Rule | None:
        source = self.source
        entries = source.entries(node, "a rule", _RULE)
        if not isinstance(node, MappingNode):
            return None
        name = self.name(entries.get("name"), node, "name", "name: free online")
        if name and name in names:
            source.on(entries["name"].value, f"two rules of this policy are named '{name}': rename one")
        names.add(name)
        action, pool = self.action(entries, node)
        when = self.expression(entries["when"].value, "when") if "when" in entries else ALWAYS
        start, stop = self.watermarks(entries, action)
        order = self.order(entries["order by"].value) if "order by" in entries else ()
        if action is Action.RELEASE and not {"when", "start above"} & entries.keys():
            key = entries["release from"].key
            source.on(key, "this would release every study: add a when, or start above and stop below")
        if action is Action.RELEASE and not order and start is not None:
            order = (Order(FACTS["idle"], descending=True),)
        broken = start is not None and stop is not None and stop >= start
        if when is None or action is None or (start is None) != (stop is None) or broken:
            return None
        return Rule(name, action, pool, when, start, stop, order, source.line_of(node))

    def action(self, entries: dict[str, Entry], node: Node) -> tuple[Action | None, str]:
        given = [key for key in ("copy to", "release from") if key in entries]
        if len(given) != 1:
            place = entries[given[1]].key if given else node.value[0][0] if node.value else node
            many = "a rule does one thing: make two rules of copy to and release from"
            none = "the rule does nothing: add copy to: POOL or release from: POOL"
            self.source.on(place, many if given else none)
            return None, ""
        action = Action.COPY if given[0] == "copy to" else Action.RELEASE
        scalar = self.source.scalar(
            entries[given[0]].value, f"'{given[0]}'", f"{given[0]}: {_any(self.pools)}"
        )
        return (action, self.pool(scalar)) if scalar is not None else (None, "")

    def watermarks(
        self, entries: dict[str, Entry], action: Action | None
    ) -> tuple[float | None, float | None]:
        given = [entries[key] for key in ("start above", "stop below") if key in entries]
        if not given:
            return None, None
        if action is Action.COPY:
            self.source.on(
                given[0].key, f"only a release has watermarks: remove '{given[0].name}' from this copy rule"
            )
            return None, None
        if len(given) == 1:
            other = "stop below: 70%" if given[0].name == "start above" else "start above: 85%"
            self.source.on(
                given[0].key, f"'{given[0].name}' needs its counterpart: add a line such as {other}"
            )
        start = self.percent(entries["start above"]) if "start above" in entries else None
        stop = self.percent(entries["stop below"]) if "stop below" in entries else None
        if start is not None and stop is not None and stop >= start:
            self.source.on(
                entries["stop below"].value,
                "'stop below' must be less than 'start above': lower it, as in stop below: 70%",
            )
        return start, stop

    def percent(self, entry: Entry) -> float | None:
        scalar = self.source.scalar(entry.value, f"'{entry.name}'", f"{entry.name}: 85%")
        if scalar is None:
            return None
        match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]+)?)\s*%", str(scalar.value).strip())
        if match is None or not 0 < Decimal(match.group(1)) <= 100:
            self.source.on(
                scalar, f"'{entry.name}' must be a percentage of the pool above 0% and up to 100%, as in 85%"
            )
            return None
        return float(Decimal(match.group(1)) / 100)

    def order(self, node: Node) -> tuple[Order, ...]:
        scalar = self.source.scalar(node, "'order by'", "order by: idle desc")
        if scalar is None:
            return ()
        terms: list[Order] = []
        for match in re.finditer(r"[^,]+", str(scalar.value)):
            word = re.fullmatch(r"\s*([\w()-]+)(?:\s+(asc|desc))?\s*", match.group(), re.IGNORECASE)
            if word is None:
                message = (
                    "each term is a fact and asc or desc, separated by commas, as in idle desc, size desc"
                )
                self.source.inside(scalar, match.start(), match.end(), message)
                continue
            fact = FACTS.get(word.group(1).lower())
            if fact is None or not fact.orderable:
                known = [name for name, each in FACTS.items() if each.orderable]
                message = f"'{word.group(1)}' cannot order studies.{did_you_mean(word.group(1), known)}"
                self.source.inside(scalar, match.start(), match.end(), message)
                continue
            terms.append(Order(fact, (word.group(2) or "asc").lower() == "desc"))
        return tuple(terms)

    # the rest

    def schedule(self, node: Node) -> Schedule | None:
        try:
            if isinstance(node, MappingNode):
                entries = self.source.entries(node, "schedule", ("every", "cron"))
                if len(entries) != 1:
                    self.source.on(
                        node, "a schedule is one of every and cron: write schedule: every 60 seconds"
                    )
                    return None
                key, entry = next(iter(entries.items()))
                scalar = self.source.scalar(entry.value, f"'{key}'", "cron: 0 2 * * *")
                if scalar is None:
                    return None
                return (read_interval if key == "every" else read_cron)(str(scalar.value))
            scalar = self.source.scalar(node, "'schedule'", "schedule: every 60 seconds")
            return read_schedule(str(scalar.value)) if scalar is not None else None
        except ScheduleError as error:
            self.source.on(node, str(error))
            return None

    def limits(self, node: Node) -> Limits | None:
        entries = self.source.entries(node, "limits", _LIMITS)
        studies = size = None
        if "studies per run" in entries:
            studies = self.integer(
                entries["studies per run"].value, "studies per run", 1, 10**9, "studies per run: 1000"
            )
        if "bytes per run" in entries:
            size = self.size(entries["bytes per run"].value)
        return Limits(studies, size)

    def size(self, node: Node) -> int | None:
        scalar = self.source.scalar(node, "'bytes per run'", "bytes per run: 2 TB")
        if scalar is None:
            return None
        match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]+)?)\s*([A-Za-z]+)", str(scalar.value).strip())
        try:
            value = units.size(Decimal(match.group(1)), match.group(2)) if match else 0
        except units.UnitError as error:
            self.source.on(scalar, str(error))
            return None
        if value < 1:
            self.source.on(
                scalar, "'bytes per run' must be a size above 0 with its unit, as in 2 TB or 500 GiB"
            )
            return None
        return value


def _any(pools: Collection[str]) -> str:
    return min(pools, default="POOL")
