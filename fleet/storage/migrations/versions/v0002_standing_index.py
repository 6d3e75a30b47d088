"""Find devices that are not settled without reading every device of every rollout.

Revision: 0002.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index(
        "ix_rollout_devices_standing", "rollout_devices", ["status", "outcome", "late_outcome"]
    )
