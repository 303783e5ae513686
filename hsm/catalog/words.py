"""Sets of words that studies say of themselves: body parts, stations, SOP classes, tags.

A study carries the number of a set. Nobody changes a set: a study gets another one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import InstrumentedAttribute, Session

from hsm.catalog.tables import Instance, Name, Series, Study, Word, WordSet

Condition = ColumnElement[bool]
Having = Callable[[Callable[[Any], Condition]], Condition]
"""From a test of one text to the condition that a study has a text that meets it."""


def digest_of(words: Iterable[str]) -> bytes:
    """A set's identity: SHA-256 over its words in code point order, each ended by a zero byte."""
    every = sorted(set(words))
    return hashlib.sha256(b"".join(word.encode("utf-8", "surrogatepass") + b"\0" for word in every)).digest()


def set_of(session: Session, words: Iterable[str]) -> int | None:
    """The key of the set of these words, made if it is new; None for no words. Empty ones do not count."""
    members = sorted({word for word in words if word})
    if not members:
        return None
    digest = digest_of(members)
    known = select(WordSet.pk).where(WordSet.digest == digest)
    pk = session.scalar(known)
    if pk is not None:
        return pk
    make = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    made = session.scalar(
        make(WordSet)
        .values(digest=digest)
        .on_conflict_do_nothing(index_elements=["digest"])
        .returning(WordSet.pk)
    )
    if made is None:  # somebody else has just made it
        return session.execute(known).scalar_one()
    session.execute(insert(Word), [{"set_pk": made, "text": word} for word in members])
    return int(made)


def members(session: Session, pks: Iterable[int | None]) -> dict[int | None, tuple[str, ...]]:
    """The words of each of these sets, in code point order; none of None."""
    wanted = set(pks)
    found: dict[int | None, list[str]] = {pk: [] for pk in wanted}
    query = select(Word.set_pk, Word.text).where(Word.set_pk.in_(wanted - {None}))
    for pk, word in session.execute(query.order_by(Word.set_pk, Word.text)):
        found[pk].append(word)
    return {pk: tuple(words) for pk, words in found.items()}


def said_by(session: Session, study_pk: int) -> dict[str, int | None]:
    """The sets that a study's series and instances say now, by the column of ``study`` that keeps them."""
    series = session.execute(
        select(Series.body_part, Series.station).where(Series.study_pk == study_pk)
    ).all()
    classes = session.scalars(
        select(Name.uid)
        .join(Instance, Instance.class_pk == Name.pk)
        .join(Series, Series.pk == Instance.series_pk)
        .where(Series.study_pk == study_pk)
        .distinct()
    ).all()
    return {
        "body_parts": set_of(session, (body_part for body_part, _ in series)),
        "stations": set_of(session, (station for _, station in series)),
        "sop_classes": set_of(session, classes),
    }


def having(kept: InstrumentedAttribute[int | None]) -> Having:
    """For :func:`policies.compile.compile_expression`: a condition on the words of a study's set."""

    def condition(test: Callable[[Any], Condition]) -> Condition:
        return exists().where(Word.set_pk == kept, and_(Word.text != "", test(Word.text))).correlate(Study)

    return condition


def having_series(said: InstrumentedAttribute[str]) -> Having:
    """The same for what is different in every study, and so not kept in sets: asked of its series."""

    def condition(test: Callable[[Any], Condition]) -> Condition:
        return exists().where(Series.study_pk == Study.pk, and_(said != "", test(said))).correlate(Study)

    return condition
