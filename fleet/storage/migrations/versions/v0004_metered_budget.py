"""What fetching an assigned release may cost.

Revision: 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; empty means that only the devices' own bounds count."""
    op.add_column("assignments", sa.Column("metered_bytes", sa.BigInteger(), nullable=True))
