"""Which intermediate signed a device's certificate.

Revision: 0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; it stays empty until the hub has a second intermediate."""
    op.add_column("certificates", sa.Column("issuer", sa.String(length=64), nullable=True))
