"""Alembic's migrations of the hub's database. They only add; a newer database is refused."""
