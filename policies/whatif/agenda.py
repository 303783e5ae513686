"""Which studies each rule has to look at, kept up to date as things happen and time passes.

The archive selects a rule's candidates in every run with one SQL statement. Here the same studies are
found the other way round: a study is looked at when something happened to it and when the passing of
time may change what a rule says of it (:mod:`policies.whatif.turns`), and waits in the queue of each rule
that may apply. What a rule then decides is decided by :mod:`policies.run`, as in the archive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from policies.evaluate import Circumstances, truth
from policies.expr import Leaf, leaves
from policies.facts import Kind, StudyFacts
from policies.policy import Action, Policy, PolicySet, Rule
from policies.whatif.moments import NEVER, Micros, Timeline, moment
from policies.whatif.stock import Stock, Study
from policies.whatif.turns import Turns

UNCHANGING = frozenset(
    {
        "modalities",
        "body_parts",
        "sop_classes",
        "description",
        "series_descriptions",
        "size",
        "instances",
        "institution",
        "stations",
        "source_ae",
        "referring_physician",
        "accession",
        "patient_id",
        "tags",
        "legal_hold",
    }
)
"""Sources of facts that stay as they were when the study arrived."""


class Queue:
    """The studies that one rule has to look at in its next run."""

    def __init__(self, policy: Policy, rule: Rule) -> None:
        self.policy = policy
        self.rule = rule
        self.fresh: dict[int, Study] = {}
        self.parked: dict[int, Study] = {}
        """Looked at, and to be looked at again when a pool's fill turns a test."""
        self.fills: tuple[Leaf, ...] = tuple(
            leaf for leaf in leaves(rule.when.root) if leaf.ref.fact.kind is Kind.FRACTION
        )
        self.turned: tuple[bool | None, ...] = ()
        self.turns = Turns([rule.when], [rule])
        self.copies_wanted = policy.wanted(rule.pool)

    def drop(self, study: Study) -> None:
        self.fresh.pop(study.number, None)
        self.parked.pop(study.number, None)

    def seen(self, study: Study) -> None:
        """The rule has looked at it; it comes again when it is touched, or when fills turn."""
        self.fresh.pop(study.number, None)
        if self.fills:
            self.parked[study.number] = study

    def turn(self, facts: StudyFacts | None, at: Circumstances) -> bool:
        """Bring everything parked back if a test of a fill has turned; says whether any was."""
        if not self.fills or facts is None:
            return False
        now = tuple(truth(leaf, facts, at) for leaf in self.fills)
        if now == self.turned:
            return False
        self.turned = now
        self.fresh |= self.parked
        self.parked.clear()
        return bool(self.fresh)


class Agenda:
    """Owners and queues of all studies."""

    def __init__(
        self,
        policies: PolicySet,
        stock: Stock,
        timeline: Timeline,
        end: Micros,
        looked: Callable[[Study, Callable[[], StudyFacts]], None],
        wanted: Callable[[Queue], None],
    ) -> None:
        """
        :param looked: called whenever a study that has an owner is looked at, with a way to its facts.
        :param wanted: called when a queue may have become worth a run.
        """
        self.policies = policies.policies
        self._stock = stock
        self._timeline = timeline
        self._end = end
        self._looked = looked
        self._wanted = wanted
        self.queues = {
            policy.name: [Queue(policy, rule) for rule in policy.rules] for policy in policies.policies
        }
        scopes = [policy.scope for policy in policies.policies]
        self._scopes = {
            policy.name: Turns(scopes[: number + 1]) for number, policy in enumerate(policies.policies)
        }
        self._unowned = Turns(scopes)
        self._owners_stay = all(
            leaf.ref.fact.source in UNCHANGING for each in scopes for leaf in each.leaves()
        )
        priors = [queue.rule.priors.when for queue in self.all_queues() if queue.rule.priors is not None]
        every = [self._unowned, Turns(priors), *(queue.turns for queue in self.all_queues())]
        self.longest_window = max(turns.longest_window for turns in every)

    def all_queues(self) -> Iterator[Queue]:
        for queues in self.queues.values():
            yield from queues

    def touch(self, study: Study) -> None:
        """Something happened to the study, or time came: look at it anew."""
        study.agenda += 1
        if not study.sealed:
            return
        now = self._timeline.now
        look = _Look(self._stock, study, now)
        wake = self._own(study, look)
        if study.owner is not None:
            self._looked(study, look.facts)
            for queue in self.queues[study.owner.name]:
                queue.drop(study)
                if is_open(queue, study):  # what is not, only something that happens can open
                    wake = min(wake, self._queue(queue, study, look))
        if wake < self._end:
            self._timeline.at(wake, self._wake, study, study.agenda)

    def _own(self, study: Study, look: _Look) -> Micros:
        """Find the owner; returns when it may be another."""
        was = study.owner
        if was is not None and self._owners_stay:
            return NEVER
        study.owner = next(
            (p for p in self.policies if truth(p.scope.root, look.facts(), look.at) is True), None
        )
        if was is not None and was is not study.owner:
            for queue in self.queues[was.name]:
                queue.drop(study)
        turns = self._unowned if study.owner is None else self._scopes[study.owner.name]
        return turns.next(study, look.now)

    def _wake(self, study: Study, entry: int) -> None:
        if study.agenda == entry:
            self.touch(study)

    def _queue(self, queue: Queue, study: Study, look: _Look) -> Micros:
        """Queue it or not; returns when to look again, if nothing happens before."""
        value = truth(queue.rule.when.root, look.facts(), look.at)
        # Fills are not known here: what hangs on one is decided in the run.
        if value is True or (value is None and queue.fills):
            queue.fresh[study.number] = study
            self._wanted(queue)
        return queue.turns.next(study, look.now)


class _Look:
    """One look at one study; its facts are only put together if something asks for them."""

    __slots__ = ("_facts", "_stock", "_study", "at", "now")

    def __init__(self, stock: Stock, study: Study, now: Micros) -> None:
        self._stock = stock
        self._study = study
        self._facts: StudyFacts | None = None
        self.now = now
        self.at = Circumstances(moment(now), {})

    def facts(self) -> StudyFacts:
        if self._facts is None:
            self._facts = self._stock.facts(self._study)
        return self._facts


def is_open(queue: Queue, study: Study) -> bool:
    """Whether there is something left to do for the rule; what the archive's selection adds to ``when``."""
    rule = queue.rule
    if rule.action is Action.COPY:
        have = study.count_in(rule.pool) + study.asked_for(Action.COPY, rule.pool)
        return have < queue.copies_wanted
    if rule.action is Action.RELEASE:
        return study.is_in(rule.pool)
    if rule.action is Action.MOVE:
        return study.is_in(rule.source) and not study.asked_for(Action.COPY, rule.pool)
    if rule.action is Action.RECALL and rule.priors is not None:
        return not study.asked_for("priors", rule.name)
    if rule.action is Action.RECALL:
        return not study.is_in(rule.pool) and not study.asked_for(Action.RECALL, rule.pool)
    if rule.action is Action.VERIFY:
        return study.is_in(rule.pool) and not study.asked_for(Action.VERIFY, rule.pool)
    volumes = (copy.volume for copy in study.copies if copy.pool == rule.pool)
    return any(volume is not None and volume.in_library and not volume.leaving for volume in volumes)
