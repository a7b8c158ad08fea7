"""The tables of the web chat: the dialogs that people chose to keep. Nothing else of anybody is written anywhere.

A change here needs a new file in ``migrations/versions``; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text, false

from pege.database import NAMING

metadata = MetaData(naming_convention=NAMING)

# Times are seconds since 1970, UTC.
dialog = Table(
    "dialog",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", String(32), nullable=False, unique=True),  # random: in addresses of pages
    Column("person", String(64), nullable=False),  # sha256 of the cookie's secret: who reads this table reads no secret
    Column("name", String(120), nullable=False),
    Column("version", Integer, nullable=False),  # one more with each change: an older page never wins
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("had_crisis", Boolean, nullable=False, server_default=false()),  # stays when the utterance is edited away
    Index(None, "person"),
)

utterance = Table(
    "utterance",
    metadata,
    Column("dialog_id", ForeignKey(dialog.c.id, ondelete="CASCADE"), primary_key=True),
    Column("place", Integer, primary_key=True),  # from 0; the user's are even
    Column("content", Text, nullable=False),
    Column("shown", JSON, nullable=False),  # pege.server.chat.talk.Shown
)
