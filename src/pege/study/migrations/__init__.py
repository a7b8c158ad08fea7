"""Alembic's migrations of a study's database; `pege.study.store` runs them when it opens one."""
