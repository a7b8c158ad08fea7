"""The tables of a study's database: who was given what, and said what. What is shown lies in the study's folder.

A change here needs a new file in ``migrations/versions``; a test compares the two.
"""

from __future__ import annotations

import functools
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from pege.database import NAMING

metadata = MetaData(naming_convention=NAMING)

# Times are seconds since 1970, UTC.
study = Table(
    "study",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(64), nullable=False, unique=True),  # of the study's folder
    Column("created_at", Float, nullable=False),
    Column("owner_nonce", String(64), nullable=False, server_default=""),  # part of the owner's links, as a rater's
    Column("base_url", String(200)),  # where raters reach the study, as it was served last
)

item = Table(
    "item",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey(study.c.id, ondelete="CASCADE"), nullable=False),
    Column("key", String(200), nullable=False),
    UniqueConstraint("study_id", "key"),
)

rater = Table(
    "rater",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey(study.c.id, ondelete="CASCADE"), nullable=False),
    Column("name", String(40), nullable=False),  # r001, r002, ...: nothing about the person
    Column("nonce", String(64), nullable=False),  # part of the link; a new one makes the old link worthless
    Column("language", String(2), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("revoked_at", Float),
    Column("excluded_at", Float),
    Column("excluded_why", String(200)),
    Column("consented_at", Float),
    Column("practised_at", Float),
    UniqueConstraint("study_id", "name"),
)

assignment = Table(
    "assignment",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("rater_id", ForeignKey(rater.c.id, ondelete="CASCADE"), nullable=False),
    Column("item_id", ForeignKey(item.c.id, ondelete="CASCADE"), nullable=False),
    Column("is_flipped", Boolean, nullable=False),  # a pair whose second dialog stands first on this rater's page
    Column("assigned_at", Float, nullable=False),
    Column("touched_at", Float, nullable=False),
    Column("done_at", Float),
    Column("seconds", Float, nullable=False),  # of work, without breaks
    UniqueConstraint("rater_id", "item_id"),  # never an item twice
    Index(None, "item_id"),
)

answer = Table(
    "answer",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("assignment_id", ForeignKey(assignment.c.id, ondelete="CASCADE"), nullable=False),
    Column("metric", String(40), nullable=False),
    Column("place", Integer, nullable=False),  # of the agent's utterance, from 1; 0 is the whole dialog
    Column("value", String(16), nullable=False),
    Column(
        "counter", BigInteger, nullable=False
    ),  # of the page that gave it: a late copy of an older answer is refused
    Column("given_at", Float, nullable=False),
    Column("is_derived", Boolean, nullable=False),  # not asked: the metric's ``otherwise``
    UniqueConstraint("assignment_id", "metric", "place"),  # one answer a question, however often it is sent
)


@functools.cache
def upsert_answer(dialect: str) -> Any:
    """Make the statement that inserts an answer, or updates the one that is there unless that one is newer.

    It gives a row where one was written: drivers differ in what they count.
    """
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    statement = insert(answer)
    given = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["assignment_id", "metric", "place"],
        set_={c: given[c] for c in ("value", "counter", "given_at", "is_derived")},
        where=given.counter >= answer.c.counter,
    ).returning(answer.c.id)
