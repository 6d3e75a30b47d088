"""Alembic's entry: runs the migrations on the connection that fleet.storage.migrate gives it.

There is no offline mode and no alembic.ini: only the hub migrates its own database.
"""

from __future__ import annotations

from alembic import context

from fleet.storage.schema import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
