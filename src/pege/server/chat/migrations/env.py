"""Alembic's entry: runs in the transaction that `pege.database` hands over."""

from alembic import context

from pege.server.chat.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table="pege_chat_version"
)
context.run_migrations()
