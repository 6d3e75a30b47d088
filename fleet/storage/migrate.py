"""Brings a database to today's schema, and refuses one that is from tomorrow."""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from fleet.errors import StorageTooNew

_LOG = logging.getLogger(__name__)
MIGRATIONS = Path(__file__).with_name("migrations")


def upgrade(engine: Engine) -> None:
    """Run every migration that the database has not seen, in one transaction."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    with engine.begin() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
        known = {script.revision for script in scripts.walk_revisions()}
        if found is not None and found not in known:
            raise StorageTooNew(
                f"the database has schema {found}, which this program does not know:"
                " it was last used by a newer Outrider"
            )
        if found == scripts.get_current_head():
            return
        _LOG.info("migrating the database from %s", found or "nothing")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
