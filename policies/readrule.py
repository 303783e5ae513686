"""One rule of a document -> a Rule, with every finding."""

from __future__ import annotations

import re
from datetime import timedelta

from policies.errors import did_you_mean
from policies.expr import ALWAYS
from policies.facts import FACTS
from policies.fields import Fields
from policies.policy import STAGING, Action, Order, Priors, Rule, Same
from policies.yamlsource import Entry, MappingNode, Node, SequenceNode

ACTIONS = {
    "copy to": Action.COPY,
    "move to": Action.MOVE,
    "recall to": Action.RECALL,
    "prefetch to": Action.RECALL,
    "release from": Action.RELEASE,
    "verify": Action.VERIFY,
    "export from": Action.EXPORT,
}
RULE_KEYS = (
    "name",
    *ACTIONS,
    "from",
    "when",
    "start above",
    "stop below",
    "order by",
    "stay at least",
    "priors",
)
PRIORS_KEYS = ("same", "at most", "when")
PRIORS_MAX = 50
ON_DISK = ("", "disk")
"""Kinds of pools that a study can be recalled to."""
SHELVED = ("", "tape", "optical")
"""Kinds of pools whose volumes can be taken to a shelf."""


_ELSEWHERE = {
    **dict.fromkeys(("delete from", "remove from", "purge from", "trim from"), "Write release from: POOL."),
    **dict.fromkeys(("copy from", "move from"), "Write from: POOL, and the other after copy to."),
    **dict.fromkeys(("if", "where", "condition", "scope"), "Write when: CONDITION."),
    **dict.fromkeys(("same", "at most"), "Write priors: {same: [patient], at most: 3}."),
    **dict.fromkeys(("bandwidth", "drives"), "It belongs to the limits of the policy."),
    **dict.fromkeys(("schedule", "every", "cron", "between"), "The policy has a schedule, a rule has none."),
    **dict.fromkeys(("order", "sort by", "orderby"), "Write order by: idle desc."),
    **dict.fromkeys(("keep", "keep for", "residency", "minimum residency"), "Write stay at least: 14d."),
}
"""What people call the keys of a rule, or write in a rule by mistake."""


class RuleReader(Fields):
    def rule(self, node: Node, names: set[str]) -> Rule | None:
        """The rule, or None if anything in it is wrong."""
        source, before = self.source, self.errors()
        example = f"{{name: protect, copy to: {self.example()}}}"
        entries = source.entries(node, "a rule", RULE_KEYS, example, _ELSEWHERE)
        if not isinstance(node, MappingNode):
            return None
        name = self.name(entries.get("name"), node, "name", "name: free online")
        if name and name in names:
            source.on(entries["name"].value, f"two rules of this policy are named '{name}': rename one")
        names.add(name)
        action, pool = self.action(entries, node)
        origin = self.origin(entries, action, pool)
        when = self.expression(entries["when"].value, "when") if "when" in entries else ALWAYS
        start, stop = self.watermarks(entries, action)
        order = self.order(entries["order by"].value) if "order by" in entries else ()
        residency = self.residency(entries, action)
        priors = self.priors(entries, action)
        self.refuse_everything(entries, action)
        if action in (Action.RELEASE, Action.MOVE) and not order and start is not None:
            order = (Order(FACTS["idle"], descending=True),)
        if self.errors() > before or when is None or action is None:
            return None
        return Rule(
            name, action, pool, when, start, stop, order, source.line_of(node), origin, residency, priors
        )

    def action(self, entries: dict[str, Entry], node: Node) -> tuple[Action | None, str]:
        given = [key for key in ACTIONS if key in entries]
        if len(given) != 1:
            place = entries[given[1]].key if given else self.first(node)
            many = f"a rule does one thing: make two rules of {' and '.join(given)}"
            none = f"the rule does nothing: add one of {', '.join(ACTIONS)}, as in copy to: {self.example()}"
            self.source.on(place, many if given else none)
            return None, ""
        key = given[0]
        action = ACTIONS[key]
        if isinstance(entries[key].value, SequenceNode):
            self.source.on(entries[key].value, f"'{key}' names one pool: make a rule for each")
            return action, ""
        scalar = self.source.scalar(entries[key].value, f"'{key}'", f"{key}: {self.example()}")
        if scalar is None:
            return action, ""
        pool = self.pool(scalar, *((STAGING,) if action is Action.RECALL else ()))
        kind = self.pools[pool].kind if pool in self.pools else ""
        if action is Action.RECALL and kind not in ON_DISK:
            self.source.on(
                scalar, f"a study is recalled to a disk, and {pool} is {kind}: write {key}: {STAGING}"
            )
        if action is Action.EXPORT and kind not in SHELVED:
            self.source.on(
                scalar, f"{pool} is {kind} and has no volumes to take to the shelf: name a pool of tapes"
            )
        return action, pool

    def example(self) -> str:
        return min(self.pools, default="POOL")

    def origin(self, entries: dict[str, Entry], action: Action | None, pool: str) -> str:
        """The pool after ``from``."""
        entry = entries.get("from")
        if entry is None:
            if action is Action.MOVE:
                self.source.on(
                    entries["move to"].key,
                    f"a move needs to know where from: add a line such as from: {self.example()}",
                )
            return ""
        if action is not None and action not in (Action.MOVE, Action.COPY):
            self.source.on(
                entry.key, f"only a copy and a move have 'from': remove it from this {action} rule"
            )
            return ""
        scalar = self.source.scalar(entry.value, "'from'", f"from: {self.example()}")
        origin = self.pool(scalar) if scalar is not None else ""
        if origin and origin == pool:
            self.source.on(entry.value, f"from and to are both {pool}: name two pools")
        return origin

    def watermarks(
        self, entries: dict[str, Entry], action: Action | None
    ) -> tuple[float | None, float | None]:
        given = [entries[key] for key in ("start above", "stop below") if key in entries]
        if not given:
            return None, None
        if action is Action.COPY and "from" not in entries:
            self.source.on(
                given[0].key,
                "watermarks of a copy watch the pool that it copies from: add a line such as from: "
                f"{self.example()}, or remove '{given[0].name}'",
            )
        elif action in (Action.RECALL, Action.VERIFY, Action.EXPORT):
            self.source.on(
                given[0].key,
                "only a release, a move and a copy with from have watermarks: remove "
                f"'{given[0].name}' from this {action} rule",
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

    def order(self, node: Node) -> tuple[Order, ...]:
        scalar = self.source.scalar(node, "'order by'", "order by: idle desc")
        if scalar is None:
            return ()
        terms: list[Order] = []
        for match in re.finditer(r"[^,]+", str(scalar.value)):
            start = match.start() + len(match.group()) - len(match.group().lstrip())
            word = re.fullmatch(r"\s*([\w()-]+)(?:\s+(asc|desc))?\s*", match.group(), re.IGNORECASE)
            if word is None:
                message = (
                    "each term is a fact and asc or desc, separated by commas, as in idle desc, size desc"
                )
                self.source.inside(scalar, start, match.end(), message)
                continue
            fact = FACTS.get(word.group(1).lower())
            if fact is None or not fact.orderable:
                known = [name for name, each in FACTS.items() if each.orderable]
                message = f"'{word.group(1)}' cannot order studies.{did_you_mean(word.group(1), known)}"
                self.source.inside(scalar, start, match.end(), message)
                continue
            if any(fact is term.fact for term in terms):
                self.source.inside(scalar, start, match.end(), f"{fact.name} orders twice: keep one")
                continue
            terms.append(Order(fact, (word.group(2) or "asc").lower() == "desc"))
        return tuple(terms)

    def residency(self, entries: dict[str, Entry], action: Action | None) -> timedelta | None:
        entry = entries.get("stay at least")
        if entry is None:
            return None
        if action is not None and action not in (Action.RELEASE, Action.MOVE):
            self.source.on(
                entry.key, f"'stay at least' is for releases and moves: remove it from this {action} rule"
            )
            return None
        return self.duration(entry)

    def priors(self, entries: dict[str, Entry], action: Action | None) -> Priors | None:
        entry = entries.get("priors")
        if entry is None:
            if "prefetch to" in entries:
                self.source.on(
                    entries["prefetch to"].key,
                    "a prefetch needs to know what: add priors: {same: [patient, body part], at most: 3}",
                )
            return None
        if action is not None and action is not Action.RECALL:
            self.source.on(
                entry.key,
                f"only a recall has priors: remove them from this {action} rule, or recall to a pool",
            )
            return None
        example = "priors: {same: [patient, body part], at most: 3}"
        inner = self.source.entries(entry.value, "priors", PRIORS_KEYS, example)
        if not isinstance(entry.value, MappingNode):
            return None
        same: list[str] | None = [Same.PATIENT.value]
        if "same" in inner:
            node = inner["same"].value
            same = self.words(node, "same", [each.value for each in Same], "same: [patient, body part]")
            if same is not None and Same.PATIENT not in same:
                self.source.on(node, "priors are of the same patient: add patient, as in [patient, modality]")
        at_most: int | None = 3
        if "at most" in inner:
            at_most = self.integer(inner["at most"].value, "'at most'", 1, PRIORS_MAX, "at most: 3")
        when = self.expression(inner["when"].value, "when") if "when" in inner else ALWAYS
        if same is None or Same.PATIENT not in same or at_most is None or when is None:
            return None
        return Priors(tuple(Same(each) for each in same), at_most, when)

    def refuse_everything(self, entries: dict[str, Entry], action: Action | None) -> None:
        """What takes studies out of a pool must say which."""
        if action in (Action.RELEASE, Action.MOVE) and not {"when", "start above"} & entries.keys():
            key = entries["release from" if action is Action.RELEASE else "move to"].key
            message = f"this would {action} every study: add a when, or start above and stop below"
            self.source.on(key, message)
