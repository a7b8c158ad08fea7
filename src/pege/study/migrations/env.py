"""Alembic's entry: runs in the transaction that `pege.database` hands over."""

from alembic import context

from pege.study.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table="pege_study_version"
)
context.run_migrations()
