"""Alembic's migrations of the database of kept dialogs; `pege.server.chat.store` runs them when it opens one."""
