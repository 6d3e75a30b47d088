"""Renewal, the end of revoked sessions, and enrolments that wait for an operator's word.

Revision: 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; all may be empty, as they are for what was there before."""
    for table, column in (
        ("certificates", sa.Column("chain_pem", sa.Text(), nullable=True)),
        ("devices", sa.Column("renewal_at_ms", sa.BigInteger(), nullable=True)),
        ("devices", sa.Column("takeover_since_ms", sa.BigInteger(), nullable=True)),
        ("enrolments", sa.Column("key_id", sa.String(length=64), nullable=True)),
        ("enrolments", sa.Column("claims", sa.JSON(), nullable=True)),
        ("enrolments", sa.Column("asked_at_ms", sa.BigInteger(), nullable=True)),
        ("enrolments", sa.Column("approved_at_ms", sa.BigInteger(), nullable=True)),
    ):
        op.add_column(table, column)
    op.create_index("ix_devices_takeover_since_ms", "devices", ["takeover_since_ms"])
