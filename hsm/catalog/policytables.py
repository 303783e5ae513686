"""The tables behind policies: what runs did, where studies lie, holds, who read what, activations."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
)
from sqlalchemy.orm import Mapped, mapped_column

from hsm import states
from hsm.catalog.base import Base, one_of, where
from hsm.catalog.columns import Key


class Placement(Base):
    """One way in which studies lie in pools; very many studies share it (:mod:`hsm.catalog.placements`).

    There are as many rows as ways: dozens. So a run asks this table which ways it means, and finds the
    studies by an index that begins with ``study.placement_pk``.
    """

    __tablename__ = "placement"

    pk: Mapped[int] = mapped_column(Integer, primary_key=True)
    pattern: Mapped[str] = mapped_column(unique=True)
    """Of each package its pools and how many verified copies count there: ``online=1,tape=2``; packages
    that differ joined by ``;``."""


class PlacementPool(Base):
    """A pattern taken apart, for conditions: what each of its packages has in each pool."""

    __tablename__ = "placement_pool"

    placement_pk: Mapped[int] = mapped_column(ForeignKey("placement.pk"), primary_key=True)
    package: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """Of the packages that differ, which."""
    pool: Mapped[str] = mapped_column(primary_key=True)
    """Empty where the package is nowhere."""
    verified: Mapped[int] = mapped_column(Integer)


class WordSet(Base):
    """A set of words that studies say of themselves: body parts, stations, SOP classes, tags.

    Very many studies have the same few sets, so a study carries a set's number and no text.
    """

    __tablename__ = "word_set"

    pk: Mapped[int] = mapped_column(Integer, primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    """SHA-256 over its words, sorted by code point, each ended by a zero byte (UTF-8)."""


class Word(Base):
    """A member of a set."""

    __tablename__ = "word"

    set_pk: Mapped[int] = mapped_column(ForeignKey("word_set.pk"), primary_key=True)
    text: Mapped[str] = mapped_column(primary_key=True)


class Hold(Base):
    """A legal hold on a study: while it stands, no good copy of the study is released."""

    __tablename__ = "hold"

    pk: Mapped[int] = mapped_column(Key, primary_key=True)
    study_pk: Mapped[int] = mapped_column(ForeignKey("study.pk"))
    placed_at: Mapped[datetime]
    placed_by: Mapped[str]
    reason: Mapped[str]
    lifted_at: Mapped[datetime | None]
    lifted_by: Mapped[str]
    lifted_reason: Mapped[str]

    __table_args__ = (where("uq_hold_standing", "lifted_at IS NULL", "study_pk", unique=True),)


class Access(Base):
    """Somebody read a study, or found it in a query. What arrived is in ``study`` itself.

    Query hits are counted by study and day; retrieves are rows of their own until they are old, then
    they are counted by study, day, caller and tier too.
    """

    __tablename__ = "access"

    pk: Mapped[int] = mapped_column(Key, primary_key=True)
    study_pk: Mapped[int] = mapped_column(ForeignKey("study.pk"))
    at: Mapped[datetime]
    """The beginning of the day (UTC) where the row counts a day."""
    bytes: Mapped[int] = mapped_column(BigInteger)
    waited_seconds: Mapped[float] = mapped_column(Float)
    """The sum over ``times``: from the request to the first instance."""
    times: Mapped[int] = mapped_column(Integer)
    kind: Mapped[str]
    daily: Mapped[bool] = mapped_column(Boolean)
    ae: Mapped[str]
    """Calling AE title; empty for query hits."""
    tier: Mapped[str]
    """Of the pool it was read from; empty for query hits."""

    __table_args__ = (
        one_of("kind", ("retrieve", "query")),
        Index("ix_access_study", "study_pk", "at"),
        Index("ix_access_at", "at", "pk"),
        where("uq_access_query", "kind = 'query'", "study_pk", "at", unique=True),
        where("ix_access_detail", "NOT daily", "at"),
    )


class Activation(Base):
    """One set of policies as it came into force. Append-only; the last one is in force."""

    __tablename__ = "activation"

    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    comment: Mapped[str]
    texts: Mapped[dict[str, Any]]
    """File name -> text, as read."""
    restores: Mapped[int | None] = mapped_column(Integer)
    """The earlier activation whose texts these are, where somebody went back to it."""


class Run(Base):
    """One evaluation of one policy, and while it is not finished how far it has come."""

    __tablename__ = "run"

    pk: Mapped[int] = mapped_column(Key, primary_key=True)
    policy: Mapped[str]
    policy_digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    """None while it is running or suspended; a policy has at most one such run."""
    matched: Mapped[int]
    requested: Mapped[int]
    refused: Mapped[int]
    state: Mapped[str] = mapped_column(server_default="finished")
    actor: Mapped[str] = mapped_column(server_default="")
    activation: Mapped[int | None] = mapped_column(ForeignKey("activation.number"))
    errors: Mapped[int] = mapped_column(Integer, server_default="0")
    bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Of the requests it made."""
    position: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    """Where to go on: the rule, and the order values and key of the last study it dealt with."""
    message: Mapped[str] = mapped_column(server_default="")
    """Why it is suspended or was abandoned."""
    worker: Mapped[str] = mapped_column(server_default="")
    """Who has it; whoever has not moved it for long has lost it."""
    moved_at: Mapped[datetime | None]

    __table_args__ = (
        one_of("state", states.RUN.names()),
        where("uq_run_unfinished", "finished_at IS NULL", "policy", unique=True),
        Index("ix_run_policy", "policy", "pk"),
    )


class Decision(Base):
    """One outcome of one rule for one study, with its reason. Written when it changes something."""

    __tablename__ = "decision"

    pk: Mapped[int] = mapped_column(Key, primary_key=True)
    run_pk: Mapped[int] = mapped_column(ForeignKey("run.pk"), index=True)
    study_pk: Mapped[int] = mapped_column(ForeignKey("study.pk"), index=True)
    rule: Mapped[str]
    action: Mapped[str]
    pool: Mapped[str]
    reason: Mapped[str]
    request_pk: Mapped[int | None] = mapped_column(ForeignKey("request.pk"))
    outcome: Mapped[str] = mapped_column(server_default="request")
    """``request`` or ``refused``; of refusals a run keeps the first few."""
