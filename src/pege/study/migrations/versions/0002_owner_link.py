"""The owner's link can be renewed; the address of the study is kept."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add both columns."""
    op.add_column("study", sa.Column("owner_nonce", sa.String(length=64), nullable=False, server_default=""))
    op.add_column("study", sa.Column("base_url", sa.String(length=200), nullable=True))
