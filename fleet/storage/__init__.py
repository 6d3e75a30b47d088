"""The hub's database: tables, migrations, and transactions."""
