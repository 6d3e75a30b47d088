"""The database: durable settings, one writer at a time, migrations that match the tables."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateTable

from fleet.errors import StorageBusy, StorageTooNew
from fleet.storage import database
from fleet.storage.database import Storage, open_storage
from fleet.storage.migrate import MIGRATIONS
from fleet.storage.schema import AssignedFamily, Certificate, Device, Table, Token


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'hub.sqlite'}"


SECRET = "5ec2e7" * 8


def on_disk(storage: Storage) -> bool:
    """Whether the secret stands anywhere in the database's files."""
    path = Path(str(storage.engine.url.database))
    return any(SECRET.encode() in each.read_bytes() for each in path.parent.glob(f"{path.name}*"))


@pytest.fixture
def storage(url: str) -> Iterator[Storage]:
    opened = open_storage(url)
    yield opened
    opened.close()


def device(name: str) -> Device:
    return Device(name=name, device_class="generic", labels={}, status="expected", created_at_ms=1)


def names(storage: Storage) -> set[str]:
    with storage.reading() as session:
        return {row.name for row in session.query(Device)}


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)]
)
def test_sqlite_is_set_to_survive_a_power_cut(storage: Storage, pragma: str, value: object) -> None:
    with storage.reading() as session:
        assert session.scalar(text(f"PRAGMA {pragma}")) == value


def test_the_migrations_make_exactly_the_tables_of_the_schema(storage: Storage) -> None:
    with storage.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Table.metadata) == []


def test_every_table_can_be_made_in_postgresql() -> None:
    for table in Table.metadata.sorted_tables:
        # The dialect's constructor is not annotated upstream.
        dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
        assert str(CreateTable(table).compile(dialect=dialect))


def test_opening_again_keeps_what_is_there(url: str, storage: Storage) -> None:
    with storage.session() as session:
        session.add(device("a"))
    storage.close()

    again = open_storage(url)
    assert names(again) == {"a"}
    again.close()


def test_the_certificates_of_an_older_hub_are_kept_and_name_no_issuer(url: str) -> None:
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        tables = MetaData()
        tables.reflect(connection)
        present = {"name": "a", "device_class": "generic", "status": "enrolled", "labels": {}}
        for table, known in (
            (tables.tables["devices"], present),
            (tables.tables["certificates"], {"device": "a", "serial": "5", "chain_pem": "pem"}),
        ):
            numbers = {column.name: 0 for column in table.c if not column.nullable}
            connection.execute(table.insert().values(numbers | known))
    engine.dispose()

    storage = open_storage(url)
    with storage.reading() as session:
        found = session.query(Certificate).one()
        assert (found.device, found.serial, found.chain_pem) == ("a", "5", "pem")
        assert found.issuer is None
        assert session.query(Device).one().status == "enrolled"
    storage.close()


def test_a_database_of_a_newer_program_is_refused(url: str, storage: Storage) -> None:
    with storage.session() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    storage.close()

    with pytest.raises(StorageTooNew, match="9999"):
        open_storage(url)


def test_a_session_that_fails_leaves_nothing(storage: Storage) -> None:
    def fail() -> None:
        with storage.session() as session:
            session.add(device("a"))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert names(storage) == set()


def test_what_is_changed_while_reading_is_thrown_away(storage: Storage) -> None:
    with storage.reading() as session:
        session.add(device("a"))
        session.flush()

    assert names(storage) == set()


def test_foreign_keys_are_enforced(storage: Storage) -> None:
    with pytest.raises(IntegrityError), storage.session() as session:
        session.add(
            AssignedFamily(
                device="nobody",
                family="digits",
                target="digits/1",
                digest="a" * 64,
                rollout="r",
                mode="serve",
                deadline_ms=0,
                probation={},
                seq=1,
            )
        )


def test_threads_that_write_at_once_lose_no_update(storage: Storage) -> None:
    with storage.session() as session:
        session.add(Token(digest="d", name="n", created_at_ms=0))

    def count() -> None:
        for _ in range(25):
            with storage.session() as session:
                session.get_one(Token, "d").created_at_ms += 1

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with storage.reading() as session:
        assert session.get_one(Token, "d").created_at_ms == 100


def test_readers_are_not_held_up_by_a_writer(storage: Storage) -> None:
    with storage.session() as session:
        session.add(device("a"))
        session.flush()

        assert names(storage) == set()  # as it was before

    assert names(storage) == {"a"}


def test_two_programs_may_have_the_database_open(url: str, storage: Storage) -> None:
    other = open_storage(url)
    with other.session() as session:
        session.add(device("a"))
    other.close()

    assert names(storage) == {"a"}


def test_a_session_inside_a_session_is_reported_and_not_waited_for_without_end(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WRITE_WAIT_S", 0.05)

    with storage.session(), pytest.raises(StorageBusy), storage.session():
        pass


def test_what_is_forgotten_is_on_the_disk_no_more_once_the_log_is_folded(storage: Storage) -> None:
    with storage.session() as session:
        session.add(device(SECRET))
    assert storage.fold()
    assert on_disk(storage)
    with storage.session() as session:
        session.delete(session.get_one(Device, SECRET))
    assert on_disk(storage)
    assert storage.fold()
    assert not on_disk(storage)


def test_folding_waits_for_nobody_and_leaves_everybody_patient(storage: Storage) -> None:
    with storage.reading() as reader, storage.session() as writer:
        assert list(reader.scalars(select(Device))) == []
        writer.add(device("cam-1"))
        writer.flush()
        assert not storage.fold()
    assert storage.fold()
    with storage.reading() as session:
        assert session.scalar(text("PRAGMA busy_timeout")) == database.WRITE_WAIT_S * 1_000
        assert session.get(Device, "cam-1") is not None
