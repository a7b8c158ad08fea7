"""Whether a dialog had a crisis, which an edit must not forget."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add it; of older dialogs their responses say it."""
    op.add_column("dialog", sa.Column("had_crisis", sa.Boolean(), nullable=False, server_default=sa.false()))
