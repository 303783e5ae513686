"""The policy language: parse, check, compile to SQL, evaluate, decide, explain.

A policy is a YAML document; docs/policies.md is its guide. The way from text to decision, one
module a step::

    load      a folder of YAML -> PolicySet, or PolicyErrors with every error in it
      yamlsource, fields         nodes and single values, with line and column
      read, readrule,            one document -> Policy
      readschedule, classes
      parse, stumble             the text of an expression -> syntax tree (grammar.lark), or what is wrong
      check, literals            syntax tree -> typed expression (facts: the table of what may be asked)
      lint, lintrules,           warnings; logic: what conditions can be true together
      lintgoals
    compile   expression -> SQL condition over columns that are handed in
    evaluate  the same expression over one study's facts; trace says which part decided
    decide    policy, rule, study, pool fills -> Decision; run: the decisions of one run
    explain   every rule for one study: applies or not, why, until when, and what comes next
    carry     can schedule and limits carry an expected load

The public names are those imported here, and in :mod:`policies.compile` those that need SQLAlchemy.
Nothing in this package knows tables, pools beyond their names, or how work is done.
"""

from policies.carry import Carriage, Load, carriage, in_the_end
from policies.decide import Decision, Outcome, PoolFill, fills_of, judge, owner
from policies.errors import PolicyError, PolicyErrors
from policies.evaluate import Circumstances, evaluate
from policies.explain import Explanation, RuleExplanation, ScopeExplanation, explain
from policies.facts import FACTS, STUDY_SOURCES, Fact, Kind, StudyFacts
from policies.load import load_folder, load_texts
from policies.policy import (
    STAGING,
    Action,
    Colocate,
    Expression,
    Goal,
    Limits,
    Order,
    Policy,
    PolicySet,
    Priors,
    Rule,
    Same,
    Schedule,
)
from policies.pools import By, Group, PoolInfo
from policies.run import Progress, Run
from policies.schedule import Window

__all__ = [
    "FACTS",
    "STAGING",
    "STUDY_SOURCES",
    "Action",
    "By",
    "Carriage",
    "Circumstances",
    "Colocate",
    "Decision",
    "Explanation",
    "Expression",
    "Fact",
    "Goal",
    "Group",
    "Kind",
    "Limits",
    "Load",
    "Order",
    "Outcome",
    "Policy",
    "PolicyError",
    "PolicyErrors",
    "PolicySet",
    "PoolFill",
    "PoolInfo",
    "Priors",
    "Progress",
    "Rule",
    "RuleExplanation",
    "Run",
    "Same",
    "Schedule",
    "ScopeExplanation",
    "StudyFacts",
    "Window",
    "carriage",
    "evaluate",
    "explain",
    "fills_of",
    "in_the_end",
    "judge",
    "load_folder",
    "load_texts",
    "owner",
]
