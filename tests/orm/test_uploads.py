"""Direct uploads come to rows: once each, in the column that they are for, and what is not attached is swept."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import copy, deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import ForeignKey, create_engine, event, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lading import FileObject, Outbox, Storages, StoredObject, clock
from lading.backends.obstore import ObstoreBackend
from lading.backends.protocols import Attributes
from lading.errors import (
    ConfigurationError,
    ExpiredToken,
    InvalidToken,
    Mismatch,
    NotUploaded,
    OwnedFile,
    PendingFile,
    StateError,
    StoreError,
    UsedToken,
)
from lading.file import claim_of, upload_of, uploaded
from lading.orm.drain import Drained, drain
from lading.orm.orphans import orphans
from lading.orm.outbox import ATTACHED, UPLOAD
from lading.orm.policies import policy_of
from lading.orm.reclaim import Reclaimed, reclaim
from lading.orm.references import file_columns
from lading.orm.waiting import waiting
from lading.testing import Fault, FaultyBackend, assert_crash_safe
from lading.testing.clock import FrozenClock, frozen_clock
from lading.uploads import Upload, begin, headers
from lading.worlds import inline, run
from tests import databases
from tests.faulty import always
from tests.orm import models as without_outbox
from tests.orm.conftest import Database, Sessions, Store, on
from tests.orm.models import file, read, registry
from tests.orm.outboxed import WITH_TRIGGERS, WITHOUT_TRIGGERS, Models
from tests.orm.test_stores import anywhere
from tests.orm.test_two_phases import finish

__all__ = ["anywhere"]

MODELS = WITH_TRIGGERS
TIME = timedelta(hours=1)
both = pytest.mark.parametrize("models", [WITHOUT_TRIGGERS, WITH_TRIGGERS], ids=["no triggers", "triggers"])


@pytest.fixture
def time() -> Iterator[FrozenClock]:
    with frozen_clock() as frozen:
        yield frozen


def make(sessions: Sessions, models: Models = MODELS) -> Session:
    session = sessions()
    models.base.metadata.create_all(session.get_bind())
    return session


def send(upload: Upload, content: bytes) -> None:
    """What a client does with its signed request."""
    sent = headers(upload)
    attributes = Attributes(sent["content-type"], sent["content-disposition"])
    driver = registry.get_backend(upload.backend).driver(inline)
    run(driver.put(upload.path, content, size=None, overwrite=True, attributes=attributes))


def expect(engine: Any, outbox: Outbox, upload: Upload) -> None:
    with engine.begin() as connection:
        outbox.expect(connection, upload.entry, datetime.fromtimestamp(clock.now(), UTC) + TIME)


def upload_to(
    session: Session, content: bytes | None = b"uploaded", column: str = "file", models: Models = MODELS, **more: Any
) -> Upload:
    """A direct upload that waits, and was sent unless there is no content."""
    policy = policy_of(getattr(models.document, column))
    upload = begin(policy, filename="a.txt", size=len(content or b""), **more)
    expect(session.get_bind(), models.outbox, upload)
    if content is not None:
        send(upload, content)
    return upload


def entries(session: Session, models: Models = MODELS) -> dict[str, str]:
    """The reason of each path in the outbox, as a new transaction sees it."""
    return {entry.path: entry.reason for entry in models.entries(session)}


def rows(session: Session, models: Models = MODELS) -> int:
    with Session(session.get_bind()) as other:
        return len(other.scalars(select(models.document)).all())


def path_is(upload: Upload) -> Any:
    return MODELS.outbox.table.c.path == upload.path


def sweep(session: Session, models: Models = MODELS) -> Drained:
    engine: Any = session.get_bind()
    return drain(engine, models.outbox, file_columns(models.base.metadata))


class TestAttached:
    @both
    def test_by_a_flush(self, db: Database, store: Store, models: Models) -> None:
        """A row names a copy that nobody can overwrite; the upload is garbage, and waits for its time."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions, models) as session:
                upload = upload_to(session, models=models)
                assert entries(session, models) == {upload.path: UPLOAD}
                document = models.document(file=uploaded(upload))
                session.add(document)
                session.commit()
                assert (read(document.file), document.file.content_type) == (b"uploaded", "text/plain")
                assert store.paths() == {upload.path, document.file.path}
                assert entries(session, models) == {upload.path: ATTACHED}
                assert claim_of(document.file) == "owned"
                send(upload, b"overwritten by its client")
                assert read(document.file) == b"uploaded"
                document.file.verify()

    def test_several_in_a_list(self, db: Database, store: Store) -> None:
        """Several uploads and other content come to one list in one flush, in their order, and to other columns."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                ups = [upload_to(session, content, "pages") for content in (b"one", b"two", b"three")]
                cover = upload_to(session, b"cover", "cover")
                document = MODELS.document(
                    file=file(b"sent"),
                    cover=uploaded(cover),
                    pages=[uploaded(ups[0]), file(b"pending"), uploaded(ups[1])],
                )
                session.add(document)
                session.commit()
                document.pages.append(uploaded(ups[2]))
                session.commit()
                assert [read(page) for page in document.pages] == [b"one", b"pending", b"two", b"three"]
                assert (read(document.file), read(document.cover)) == (b"sent", b"cover")
                assert set(entries(session).values()) == {ATTACHED}
                assert len(store) == 4 + 6

    def test_on_every_store(self, world: Database, anywhere: Store) -> None:
        """Attaching, replacing and rolling back is the same on every kind of store."""
        large = b"0123456789abcdef" * 400_000

        @world
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                upload = upload_to(session, large)
                document = MODELS.document(file=uploaded(upload))
                session.add(document)
                session.flush()
                session.rollback()
                assert anywhere.paths() == {upload.path}
                session.add(document)
                session.commit()
                assert read(document.file) == large
                assert anywhere.paths() == {upload.path, document.file.path}
                with pytest.raises(UsedToken):
                    session.execute(insert(MODELS.document).values(file=uploaded(upload), pages=[]))
                assert anywhere.paths() == {upload.path, document.file.path}

    def test_saved_before(self, db: Database, store: Store) -> None:
        """What was saved ahead of its row is spent when it comes to the row."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                upload = upload_to(session)
                first, second = uploaded(upload), uploaded(upload)
                first.save()
                second.save()
                assert entries(session) == {upload.path: UPLOAD}
                session.add(MODELS.document(file=first))
                session.commit()
                assert entries(session) == {upload.path: ATTACHED}
                session.add(MODELS.document(file=second))
                with pytest.raises(UsedToken):
                    session.commit()
                session.rollback()
                second.delete()
                assert store.paths() == {upload.path, first.path}

    @pytest.mark.parametrize("saved", [False, True])
    def test_by_statements(self, db: Database, store: Store, saved: bool) -> None:
        """INSERT and UPDATE through a session spend uploads as well, and a savepoint takes that back."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                ups = [upload_to(session, b"%d" % number) for number in range(3)]
                files = [uploaded(upload) for upload in ups]
                for each in files if saved else ():
                    each.save()
                session.execute(insert(MODELS.document).values(id=1, file=files[0], pages=[]))
                document = update(MODELS.document).where(MODELS.document.id == 1)
                session.execute(document.values(file=files[1]))
                with pytest.raises(IntegrityError):
                    session.execute(insert(MODELS.document).values(id=1, file=files[2], pages=[]))
                session.commit()
                assert read(session.get_one(MODELS.document, 1).file) == b"1"
                for upload, reason in zip(ups, (ATTACHED, ATTACHED, UPLOAD), strict=True):
                    assert entries(session)[upload.path] == reason
                for upload in ups[:2]:
                    with pytest.raises(UsedToken):
                        session.execute(document.values(file=uploaded(upload)))
                session.execute(update(MODELS.document).where(MODELS.document.id == 2).values(file=uploaded(ups[2])))
                session.commit()
                assert entries(session)[ups[2].path] == UPLOAD

    def test_moved_and_copied_later(self, db: Database, store: Store) -> None:
        """What was attached is a file like any other: it may go to another column, and be copied."""

        @db
        def scenario(sessions: Sessions) -> None:
            make(sessions).close()
            with sessions(expire_on_commit=False) as session:
                document = MODELS.document(file=uploaded(upload_to(session)))
                session.add(document)
                session.commit()
                assert upload_of(document.file) is not None
                document.cover, document.file = document.file, None
                session.flush()
                document.pages = [document.cover]
                session.commit()
                assert (read(document.cover), read(document.pages[0])) == (b"uploaded", b"uploaded")

    def test_on_two_rows(self, db: Database, store: Store) -> None:
        """One file on two rows of a flush is attached for the first, and copied for the second."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                attached = uploaded(upload_to(session))
                session.add_all([MODELS.document(file=attached), MODELS.document(file=attached)])
                session.commit()
                assert rows(session) == 2
                assert len(store) == 3


class TestRefused:
    def test_used(self, db: Database, store: Store) -> None:
        """An upload serves once: in one flush, in one transaction, and for good."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                upload = upload_to(session)
                faulty = FaultyBackend(store.backend)
                registry.register_backend(faulty, replace=True)
                session.add(MODELS.document(file=uploaded(upload)))
                session.add(MODELS.document(file=uploaded(upload)))
                with pytest.raises(UsedToken, match=r"'a\.txt'"):
                    session.flush()
                session.rollback()
                assert faulty.calls == []
                session.add(MODELS.document(file=uploaded(upload)))
                session.flush()
                session.add(MODELS.document(file=uploaded(upload)))
                with pytest.raises(UsedToken):
                    session.flush()
                session.expunge_all()
                session.rollback()
                session.add(MODELS.document(file=uploaded(upload)))
                session.commit()
                session.add(MODELS.document(file=uploaded(upload)))
                with pytest.raises(UsedToken):
                    session.commit()
                session.rollback()
                assert (rows(session), len(store)) == (1, 2)

    def test_used_costs_nothing(self, db: Database, store: Store) -> None:
        """An id that has served, or whose upload is being deleted, is refused before the store is asked for anything.

        Not so in a transaction of SQLite, where the look alone would lock others out.
        """

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                used, going = upload_to(session), upload_to(session)
                session.add(MODELS.document(file=uploaded(used)))
                session.flush()
                session.execute(update(MODELS.outbox.table).values(attempts=1).where(path_is(going)))
                session.commit()
                faulty = FaultyBackend(store.backend)
                registry.register_backend(faulty, replace=True)
                for upload, error in ((used, UsedToken), (going, ExpiredToken)):
                    session.add(MODELS.document(file=uploaded(upload)))
                    with pytest.raises(error):
                        session.commit()
                    session.rollback()
                    with pytest.raises(error):
                        session.execute(insert(MODELS.document).values(file=uploaded(upload), pages=[]))
                    session.rollback()
                assert db.name == "sqlite" or faulty.calls == []
                assert (rows(session), len(store)) == (1, 3)

    def test_used_costs_nothing_where_sqlite_is_idle(self, store: Store, tmp_path: Path) -> None:
        """As Python's driver is by default, SQLite can be asked without a lock, and so is asked."""
        engine = create_engine(f"sqlite:///{tmp_path / 'idle.sqlite'}")
        MODELS.base.metadata.create_all(engine)
        with Session(engine) as session:
            upload = upload_to(session)
            session.add(MODELS.document(file=uploaded(upload)))
            session.commit()
            faulty = FaultyBackend(store.backend)
            registry.register_backend(faulty, replace=True)
            session.add(MODELS.document(file=uploaded(upload)))
            with pytest.raises(UsedToken):
                session.commit()
            session.rollback()
            assert faulty.calls == []
        engine.dispose()

    @pytest.mark.parametrize("make_copy", [copy, deepcopy, lambda file: file.copy_to("mem")])
    def test_copies_before_it_is_spent(
        self, db: Database, store: Store, make_copy: Callable[[FileObject], FileObject]
    ) -> None:
        """A copy of what was saved ahead of its row is of the same upload: one of them serves, once, in its column."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                upload = upload_to(session)
                saved = uploaded(upload).save()
                copies = [make_copy(saved), make_copy(saved), make_copy(make_copy(saved))]
                for each in copies:
                    session.add(MODELS.document(cover=each))
                    with pytest.raises(InvalidToken):
                        session.commit()
                    session.rollback()
                    with pytest.raises((InvalidToken, OwnedFile)):
                        session.execute(insert(MODELS.document).values(cover=each, pages=[]))
                    session.rollback()
                session.add(MODELS.document(file=copies[0]))
                session.flush()
                assert entries(session) == {upload.path: UPLOAD}
                session.rollback()
                document = MODELS.document(file=copies[0])
                session.add(document)
                session.commit()
                assert entries(session) == {upload.path: ATTACHED}
                for each in (*copies[1:], saved):
                    session.add(MODELS.document(file=each))
                    with pytest.raises(UsedToken):
                        session.commit()
                    session.rollback()
                assert rows(session) == 1
                # What a row has is a file like any other, and so is each copy of that.
                session.add(MODELS.document(cover=make_copy(document.file), pages=[make_copy(document.file)]))
                session.commit()
                assert rows(session) == 2

    def test_a_copy_in_its_transaction(self, db: Database, store: Store) -> None:
        """Once a flush has given it to a row, another row may be given a copy of it."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                document = MODELS.document(file=uploaded(upload_to(session)))
                session.add(document)
                session.flush()
                session.add(MODELS.document(cover=copy(document.file), pages=[document.file]))
                session.commit()
                assert rows(session) == 2

    def test_what_was_spent_with_it(self, db: Database, store: Store) -> None:
        """A flush that is refused for one of its uploads spends none, also if the transaction goes on."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                ups = [upload_to(session, b"%d" % number, "pages") for number in range(3)]
                session.add(MODELS.document(pages=[uploaded(ups[2])]))
                session.commit()
                session.add(MODELS.document(name="goes on"))
                session.flush()
                refused = MODELS.document(pages=[uploaded(upload) for upload in ups])
                session.add(refused)
                with pytest.raises(UsedToken):
                    session.flush()
                session.expunge(refused)
                session.commit()
                assert entries(session) == {ups[0].path: UPLOAD, ups[1].path: UPLOAD, ups[2].path: ATTACHED}
                assert rows(session) == 2
                assert len(store) == 4
                session.add(MODELS.document(pages=[uploaded(upload) for upload in ups[:2]]))
                session.commit()

    @pytest.mark.parametrize("saved", [False, True])
    def test_of_another_column(self, world: Database, store: Store, saved: bool) -> None:
        """An upload is for one column; on another it is refused before anything is done."""

        @world
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                upload = upload_to(session, column="cover")
                attached = uploaded(upload)
                if saved:
                    attached.save()
                before = store.paths()
                faulty = FaultyBackend(store.backend)
                registry.register_backend(faulty, replace=True)
                document = MODELS.document(file=attached)
                session.add(document)
                with pytest.raises(InvalidToken, match="another column"):
                    session.flush()
                session.rollback()
                with pytest.raises(InvalidToken, match="another column"):
                    session.execute(insert(MODELS.document).values(file=attached, pages=[]))
                session.rollback()
                nobodys = uploaded(begin(without_name(upload), filename="a.txt", size=8))
                session.add(MODELS.document(cover=nobodys))
                with pytest.raises(InvalidToken, match="another column"):
                    session.flush()
                session.rollback()
                assert (faulty.calls, store.paths()) == ([], before)
                session.add(MODELS.document(cover=attached))
                session.commit()

    def test_not_there(self, db: Database, store: Store) -> None:
        """What was not uploaded yet may be attached later."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                upload = upload_to(session, None)
                session.add(MODELS.document(file=uploaded(upload)))
                with pytest.raises(NotUploaded):
                    session.commit()
                session.rollback()
                assert entries(session) == {upload.path: UPLOAD}
                send(upload, b"")
                session.add(MODELS.document(file=uploaded(upload)))
                session.commit()

    def test_not_what_was_announced(self, db: Database, store: Store) -> None:
        """What is refused leaves no row and no copy, and may be sent again."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                upload = upload_to(session)
                send(upload, b"too long for it")
                session.add(MODELS.document(file=uploaded(upload)))
                with pytest.raises(Mismatch):
                    session.commit()
                session.rollback()
                assert (rows(session), store.paths()) == (0, {upload.path})
                send(upload, b"as said.")
                session.add(MODELS.document(file=uploaded(upload)))
                session.commit()

    def test_its_time_is_over(self, db: Database, store: Store, time: FrozenClock) -> None:
        """What a sweeper has deleted, or is about to, is refused; a copy that was made already is deleted."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                gone, claimed, spent = upload_to(session), upload_to(session), upload_to(session)
                session.add(MODELS.document(file=uploaded(spent)))
                session.commit()
                saved = uploaded(gone).save()
                time.tick(TIME)
                registry.register_backend(FaultyBackend(store.backend, [always("delete")]), replace=True)
                assert sweep(session).failed == 3
                registry.register_backend(store.backend, replace=True)
                for upload, error in ((claimed, ExpiredToken), (spent, UsedToken)):
                    session.add(MODELS.document(file=uploaded(upload)))
                    with pytest.raises(error):
                        session.commit()
                    session.rollback()
                time.tick(TIME)
                assert sweep(session).deleted == 3
                session.add(MODELS.document(file=saved))
                with pytest.raises(ExpiredToken) as caught:
                    session.commit()
                session.rollback()
                assert caught.value.expired_at == clock.now()
                session.add(MODELS.document(file=uploaded(claimed)))
                with pytest.raises(NotUploaded):
                    session.commit()
                session.rollback()
                saved.delete()
                assert len(store) == rows(session) == 1

    def test_without_an_outbox(self, world: Database, store: Store) -> None:
        """Tables that have no outbox take no direct uploads, and say so before anything is copied."""

        @world
        def scenario(sessions: Sessions) -> None:
            policy = policy_of(without_outbox.Document.file)
            with sessions() as session:
                upload = begin(policy, filename="a.txt", size=1)
                send(upload, b"x")
                session.add(without_outbox.Document(file=uploaded(upload)))
                with pytest.raises(ConfigurationError, match="outbox"):
                    session.commit()
                session.rollback()
                with pytest.raises(ConfigurationError, match="outbox"):
                    session.execute(insert(without_outbox.Document).values(file=uploaded(upload), pages=[]))
                assert store.paths() == {upload.path}

    @pytest.mark.parametrize("saved", [False, True, "a copy"])
    def test_by_a_connection(self, world: Database, store: Store, saved: bool | str) -> None:
        """A statement that passes no session could not spend it, and is refused."""

        @world
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                attached = uploaded(upload_to(session))
                if saved:
                    attached.save()
                if saved == "a copy":
                    attached = copy(attached)
                table = MODELS.document.__table__
                with pytest.raises(PendingFile, match="direct upload"):
                    session.connection().execute(insert(table).values(file=attached, pages=[]))
                session.rollback()
                with pytest.raises(PendingFile):
                    session.bulk_save_objects([MODELS.document(file=attached)])
                session.rollback()
                session.add(MODELS.document(file=attached))
                session.commit()

    def test_by_its_path(self, db: Database, store: Store) -> None:
        """No row can name the object where a client may still write, whether it waits or was attached."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                upload = upload_to(session)
                for _ in range(2):
                    session.add(MODELS.document(file=FileObject("mem", path=upload.path, storages=registry)))
                    with pytest.raises(StateError, match="direct upload"):
                        session.commit()
                    session.rollback()
                    if upload.path in entries(session) and entries(session)[upload.path] == UPLOAD:
                        session.add(MODELS.document(file=uploaded(upload)))
                        session.commit()
                assert rows(session) == 1

    @on("postgresql", "mariadb")
    def test_in_autocommit(self, db: Database, store: Store) -> None:
        """On a connection that can take nothing back, nothing is spent."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                upload = upload_to(session)
                session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
                session.add(MODELS.document(file=uploaded(upload)))
                with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
                    session.commit()
                session.rollback()
                assert (entries(session), store.paths()) == ({upload.path: UPLOAD}, {upload.path})


def without_name(upload: Upload) -> Any:
    return type(upload.policy)(backend="mem", storages=registry)


def roll_back(session: Session) -> None:
    session.rollback()


def close(session: Session) -> None:
    session.close()


def roll_back_a_savepoint(session: Session) -> None:
    savepoint = session.get_nested_transaction()
    assert savepoint is not None
    savepoint.rollback()
    session.commit()


def fail_to_flush(session: Session) -> None:
    session.add_all([MODELS.document(name="same"), MODELS.document(name="same")])
    with pytest.raises(IntegrityError):
        session.flush()
    session.rollback()


class Deferred(DeclarativeBase):
    pass


class Parent(Deferred):
    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(primary_key=True)


class Child(Deferred):
    __tablename__ = "child"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id", deferrable=True, initially="DEFERRED"))
    file: Mapped[FileObject | None] = mapped_column(StoredObject("mem", storages=registry))


Outbox(Deferred.metadata, triggers=False)


class TestTakenBack:
    @pytest.mark.parametrize("end", [roll_back, close, roll_back_a_savepoint, fail_to_flush])
    @pytest.mark.parametrize("saved", [False, True])
    def test_it_can_be_attached_again(
        self, db: Database, store: Store, end: Callable[[Session], None], saved: bool
    ) -> None:
        """What comes to nothing leaves no copy, and has spent nothing."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                upload = upload_to(session)
                attached = uploaded(upload)
                if saved:
                    attached.save()
                before = store.paths()
                if end is roll_back_a_savepoint:
                    session.begin_nested()
                session.add(MODELS.document(file=attached))
                session.flush()
                end(session)
                assert entries(session) == {upload.path: UPLOAD}
                assert store.paths() == (before if saved else {upload.path})
                session.expunge_all()
                if saved:  # its object was not put by that transaction
                    assert upload_of(attached) is upload
                session.add(MODELS.document(file=attached))
                session.commit()
                assert (rows(session), len(store)) == (1, 2)
                assert entries(session) == {upload.path: ATTACHED}

    @on("sqlite", "postgresql")  # InnoDB has no deferred constraints: nothing can make its COMMIT fail
    def test_a_commit_that_is_refused(self, db: Database, store: Store) -> None:
        """A COMMIT that the database refuses has spent nothing either."""

        @db
        def scenario(sessions: Sessions) -> None:
            with sessions() as session:
                Deferred.metadata.create_all(session.connection())
                session.commit()
                upload = begin(policy_of(Child.file), filename="a.txt", size=1)
                send(upload, b"x")
                box = Outbox.of(Deferred.metadata)
                assert box is not None
                expect(session.get_bind(), box, upload)
                session.add(Child(parent_id=7, file=uploaded(upload)))
                session.flush()
                with pytest.raises(IntegrityError):
                    session.commit()
                session.rollback()
                assert store.paths() == {upload.path}
                session.add_all([Parent(id=7), Child(parent_id=7, file=uploaded(upload))])
                session.commit()
                assert len(store) == 2

    def test_a_store_that_fails(self, db: Database, store: Store) -> None:
        """When one of several cannot be copied, none is spent and no copy is left."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                ups = [upload_to(session, b"%d" % number, "pages") for number in range(4)]
                before = store.paths()
                faulty = FaultyBackend(store.backend, [Fault("copy", at=3, error=StoreError)])
                registry.register_backend(faulty, replace=True)
                session.add(MODELS.document(pages=[uploaded(upload) for upload in ups]))
                with pytest.raises(StoreError):
                    session.commit()
                session.rollback()
                assert store.paths() == before
                assert set(entries(session).values()) == {UPLOAD}


class TestSwept:
    def test_what_is_not_attached(self, db: Database, store: Store, time: FrozenClock) -> None:
        """After its time an upload is deleted whether it was attached or not, and the row's object stays."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                left, attached, never = upload_to(session), upload_to(session), upload_to(session, None)
                document = MODELS.document(file=uploaded(attached))
                session.add(document)
                session.commit()
                bind: Any = session.get_bind()
                with bind.connect() as connection:
                    (found,) = waiting(connection, MODELS.outbox)
                assert (found.objects, found.due, found.uploads) == (3, 0, 2)
                time.tick(TIME - timedelta(seconds=1))
                assert sweep(session) == Drained(0, 0, 0, 0)
                assert left.path in store.paths()
                time.tick(1)
                assert sweep(session) == Drained(3, 0, 0, 0)
                assert store.paths() == {document.file.path}
                assert entries(session) == {}
                assert never.path not in store.paths()

    def test_no_orphans(self, db: Database, store: Store) -> None:
        """Uploads that wait, and those that were attached, are no orphans; what nobody expects is one."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                upload_to(session)
                session.add(MODELS.document(file=uploaded(upload_to(session))))
                session.commit()
                unexpected = begin(policy_of(MODELS.document.file), filename="a", size=1)
                send(unexpected, b"x")
                bind: Any = session.get_bind()
                swept = orphans(bind, MODELS.base.metadata, grace=timedelta(0), delete=True)
                assert [finding.path for finding in swept.findings] == [unexpected.path]
                assert swept.waiting == 2
                assert sorted(entries(session).values()) == [ATTACHED, "orphan", UPLOAD]

    def test_no_reclaiming(self, db: Database, store: Store) -> None:
        """After a restore uploads are not taken off the outbox: no row names them."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                upload_to(session)
                session.add(MODELS.document(file=uploaded(upload_to(session))))
                session.commit()
                before = entries(session)
                bind: Any = session.get_bind()
                columns = file_columns(MODELS.base.metadata)
                assert reclaim(bind, MODELS.outbox, columns) == Reclaimed(0, [], 0)
                assert entries(session) == before
                assert len(before) == 2

    @on("sqlite", "postgresql", inline_only=True)
    def test_found_by_an_index(self, db: Database, store: Store, time: FrozenClock) -> None:
        """What is due among many uploads that are not is found by the index of times, not by reading all of them."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                engine: Any = session.get_bind()
                upload = upload_to(session)
                time.tick(TIME)
                with engine.begin() as connection:
                    for number in range(5000):
                        later = datetime.fromtimestamp(clock.now(), UTC) + TIME
                        MODELS.outbox.expect(connection, ("mem", f"uploads/{number}"), later)
                    connection.exec_driver_sql("ANALYZE lading_outbox")
                asked: list[tuple[str, Any]] = []
                event.listen(engine, "before_cursor_execute", lambda *each: asked.append((each[2], each[3])))
                assert sweep(session).deleted == 1
                assert upload.path not in store.paths()
                sql, given = next(each for each in asked if "EXISTS" in each[0])
                explain = "EXPLAIN QUERY PLAN" if db.name == "sqlite" else "EXPLAIN"
                with engine.connect() as connection:
                    plan = "\n".join(map(str, connection.exec_driver_sql(f"{explain} {sql}", given)))
                assert "ix_lading_outbox_not_before" in plan, plan

    @on("sqlite", "postgresql", "mariadb", inline_only=True)
    def test_spent_by_an_index(self, db: Database, store: Store) -> None:
        """An upload is spent by the index of paths, or by its key."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                engine: Any = session.get_bind()
                with engine.begin() as connection:
                    for number in range(2000):
                        later = datetime.now(UTC) + TIME
                        MODELS.outbox.expect(connection, ("mem", f"uploads/{number}"), later)
                    analyze = "ANALYZE TABLE" if db.name == "mariadb" else "ANALYZE"
                    connection.exec_driver_sql(f"{analyze} lading_outbox")
                asked: list[tuple[str, Any]] = []
                event.listen(engine, "before_cursor_execute", lambda *each: asked.append((each[2], each[3])))
                session.add(MODELS.document(file=uploaded(upload_to(session))))
                session.commit()
                explain = "EXPLAIN QUERY PLAN" if db.name == "sqlite" else "EXPLAIN"
                sql, given = next(each for each in asked if each[0].startswith("UPDATE"))
                with engine.connect() as connection:
                    plan = "\n".join(map(str, connection.exec_driver_sql(f"{explain} {sql}", given)))
                assert ("PRIMARY" if db.name == "mariadb" else "ix_lading_outbox_path") in plan, plan


def attach(sessions: Sessions, upload: Upload) -> type[Exception] | None:
    """Attach an upload in a transaction of its own; the error that it meets."""
    try:
        with sessions() as session:
            session.add(MODELS.document(file=uploaded(upload)))
            session.commit()
    except Exception as error:
        return type(error)
    return None


class TestAtOnce:
    @on("sqlite", "postgresql", "mariadb", inline_only=True)
    def test_two_sessions(self, db: Database, store: Store) -> None:
        """Of several sessions that attach one upload at the same time one does, and the others are told."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                for _ in range(5):
                    before = rows(session)
                    upload = upload_to(session)
                    start = threading.Barrier(4)

                    def act(upload: Upload = upload, start: threading.Barrier = start) -> Any:
                        start.wait()
                        return attach(sessions, upload)

                    with ThreadPoolExecutor(4) as pool:
                        done = [each.result(60) for each in [pool.submit(act) for _ in range(4)]]
                    assert sorted(done, key=str) == [UsedToken] * 3 + [None] or set(done) == {None, UsedToken}, done
                    assert done.count(None) == 1
                    assert rows(session) == before + 1
                assert len(store) == 2 * 5

    @on("postgresql", "mariadb", inline_only=True)
    @pytest.mark.parametrize("end", ["commit", "rollback"])
    def test_the_second_waits(self, db: Database, store: Store, end: str) -> None:
        """A session that comes second waits for the end of the first: that decides whether it may."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session, ThreadPoolExecutor(1) as pool:
                upload = upload_to(session)
                session.add(MODELS.document(file=uploaded(upload)))
                session.flush()
                second = pool.submit(attach, sessions, upload)
                with pytest.raises(TimeoutError):
                    second.result(0.5)
                getattr(session, end)()
                assert second.result(30) is (UsedToken if end == "commit" else None)
                assert (rows(session), len(store)) == (1, 2)

    @on("postgresql", "mariadb", inline_only=True)
    @pytest.mark.parametrize("end", ["commit", "rollback"])
    def test_in_doubt(self, db: Database, store: Store, end: str) -> None:
        """When a session does not learn whether it was attached, the next try does, and spends it if it was not."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                upload = upload_to(session)
                session.commit()
            attached = uploaded(upload)
            with sessions(twophase=True) as session:
                session.add(MODELS.document(file=attached))
                session.flush()
                connection = session.connection()
                xid = cast("Any", connection.get_transaction()).xid
                session.prepare()
                connection.invalidate()
                with suppress(SQLAlchemyError, AttributeError):
                    session.rollback()
            finish(sessions, xid, end.upper())
            with make(sessions) as session:
                session.add(MODELS.document(file=attached))
                if end == "commit":
                    with pytest.raises(UsedToken):
                        session.commit()
                    session.rollback()
                else:
                    session.commit()
                assert (rows(session), entries(session)) == (1, {upload.path: ATTACHED})
                session.add(MODELS.document(file=uploaded(upload)))
                with pytest.raises(UsedToken):
                    session.commit()

    @on("postgresql", "mariadb", inline_only=True)
    def test_rolled_back_between_two_phases(self, db: Database, store: Store) -> None:
        """What was prepared and taken back can be tried again, and then spends the upload."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                upload = upload_to(session)
                session.commit()
            attached = uploaded(upload)
            with sessions(twophase=True) as session:
                session.add(MODELS.document(file=attached))
                session.flush()
                session.prepare()
                session.rollback()
            with make(sessions) as session:
                assert entries(session) == {upload.path: UPLOAD}
                session.add(MODELS.document(file=attached))
                session.commit()
                assert entries(session) == {upload.path: ATTACHED}

    @on("postgresql", "mariadb", inline_only=True)
    def test_uploads_begin_meanwhile(self, db: Database, store: Store) -> None:
        """While a transaction has attached one and is not over, others are expected and attached without waiting."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                first = upload_to(session)
                session.add(MODELS.document(file=uploaded(first)))
                session.flush()
                with ThreadPoolExecutor(1) as pool:
                    second = pool.submit(upload_to, session).result(5)
                    assert pool.submit(attach, sessions, second).result(5) is None
                session.commit()
                assert rows(session) == 2

    @on("postgresql", "mariadb", inline_only=True)
    def test_an_upload_that_an_old_snapshot_does_not_see(self, db: Database, store: Store) -> None:
        """A transaction that began before the upload was expected can attach it."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                assert session.scalars(select(MODELS.document)).all() == []
                session.add(MODELS.document(file=uploaded(upload_to(session))))
                session.commit()
                assert rows(session) == 1

    @on("postgresql", "mariadb", "sqlite", inline_only=True)
    def test_in_opposite_order(self, db: Database, store: Store) -> None:
        """Two sessions that attach the same two uploads in opposite order do not block each other for good."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                for _ in range(5):
                    ups = [upload_to(session, column="pages") for _ in range(2)]
                    start = threading.Barrier(2)

                    def act(order: list[Upload], start: threading.Barrier = start) -> Any:
                        start.wait()
                        try:
                            with sessions() as mine:
                                mine.add(MODELS.document(pages=[uploaded(upload) for upload in order]))
                                mine.commit()
                        except UsedToken:
                            return UsedToken
                        return None

                    with ThreadPoolExecutor(2) as pool:
                        both_orders = [pool.submit(act, ups), pool.submit(act, ups[::-1])]
                        assert {each.result(60) for each in both_orders} == {None, UsedToken}

    @on("sqlite", "postgresql", "mariadb", inline_only=True)
    def test_a_sweeper_that_comes_between(
        self, db: Database, store: Store, time: FrozenClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A sweeper that claims an upload while it is copied makes the flush fail, and no copy is left."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                upload = upload_to(session)
                session.commit()
                time.tick(TIME)

                class Sweeping(FaultyBackend):
                    def driver(self, world: Any) -> Any:
                        if not self.done and "copy" in self.verbs:
                            self.done = True
                            assert sweep(session).deleted == 1
                        return super().driver(world)

                    done = False

                faulty = Sweeping(store.backend)
                registry.register_backend(faulty, replace=True)
                session.add(MODELS.document(file=uploaded(upload)))
                with pytest.raises(ExpiredToken):
                    session.commit()
                session.rollback()
                assert faulty.done
                assert (rows(session), len(store), entries(session)) == (0, 0, {})

    @on("postgresql", "mariadb", inline_only=True)
    @pytest.mark.parametrize("end", ["commit", "rollback"])
    def test_a_sweeper_that_comes_after(self, db: Database, store: Store, time: FrozenClock, end: str) -> None:
        """A sweeper passes over what a transaction is attaching, and deletes the upload when that is over."""

        @db
        def scenario(sessions: Sessions) -> None:
            with make(sessions) as session:
                upload = upload_to(session)
                time.tick(TIME)
                session.add(MODELS.document(file=uploaded(upload)))
                session.flush()
                with ThreadPoolExecutor(1) as pool:
                    assert pool.submit(sweep, session).result(20) == Drained(0, 0, 0, 0)
                    getattr(session, end)()
                    assert pool.submit(sweep, session).result(20) == Drained(1, 0, 0, 0)
                assert len(store) == rows(session) == (1 if end == "commit" else 0)

    async def test_a_cancelled_task(self, store: Store, tmp_path: Path) -> None:
        """A task that is cancelled while an upload is copied leaves no copy, and the upload as it was."""
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'cancelled.sqlite'}")
        databases.begin_for_real(engine.sync_engine)
        async with engine.begin() as connection:
            await connection.run_sync(MODELS.base.metadata.create_all)
        upload = begin(policy_of(MODELS.document.file), filename="a.txt", size=1)
        send(upload, b"x")
        async with engine.begin() as connection:
            await connection.run_sync(MODELS.outbox.expect, upload.entry, datetime.now(UTC) + TIME)
        for verb in ("copy", "attributes"):
            faulty = FaultyBackend(store.backend, [Fault(verb, kind="hang after")])
            registry.register_backend(faulty, replace=True)
            async with AsyncSession(engine) as session:
                session.add(MODELS.document(file=uploaded(upload)))
                task = asyncio.ensure_future(session.commit())
                await faulty.hanging.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert store.paths() == {upload.path}
        async with AsyncSession(engine) as session:
            session.add(MODELS.document(file=uploaded(upload)))
            await session.commit()
        assert len(store) == 2
        await engine.dispose()


crashing = Storages()


class Crashing(DeclarativeBase):
    """For a process that is killed, which looks for it here."""


class Letter(Crashing):
    __tablename__ = "letter"
    id: Mapped[int] = mapped_column(primary_key=True)
    file: Mapped[FileObject | None] = mapped_column(StoredObject("files", storages=crashing))
    pages: Mapped[list[FileObject]] = mapped_column(StoredObject("files", multiple=True, storages=crashing))


BOX = Outbox(Crashing.metadata)


def sent(name: str, column: Any = Letter.file) -> Upload:
    """An upload that can be told beforehand, since one run must pass the same points as the next."""
    policy = policy_of(column)
    return Upload(backend="files", path=f"uploads/{name}", filename=name, content_type="text/plain", policy=policy)


def uploads_wait(session: Session) -> None:
    """Three that clients have sent."""
    later = datetime.now(UTC) + TIME
    for name in ("one.txt", "two.txt", "three.txt"):
        BOX.expect(session.connection(), ("files", f"uploads/{name}"), later)
    session.commit()
    driver = crashing.get_backend("files").driver(inline)
    for name in ("one.txt", "two.txt", "three.txt"):
        run(driver.put(f"uploads/{name}", name.encode(), size=None, overwrite=True, attributes=Attributes()))


def attach_all(session: Session) -> None:
    session.add(Letter(file=uploaded(sent("one.txt"))))
    session.flush()
    pages = [uploaded(sent("two.txt", Letter.pages)), uploaded(sent("three.txt", Letter.pages))]
    session.add(Letter(pages=pages))
    session.commit()


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["sqlite", "postgresql+asyncpg", "mariadb+pymysql"])
def test_at_every_point(driver: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Whatever fails and wherever: rows keep their files, and one sweep collects the rest."""
    from tests.conftest import empty_database

    crashing.register_backend(ObstoreBackend("files", "memory://"))
    try:
        with empty_database(driver, request, tmp_path) as url:
            assert_crash_safe(
                attach_all,
                metadata=Crashing.metadata,
                setup=uploads_wait,
                database=url.update_query_dict({"ssl_disabled": "1"}) if "pymysql" in driver else url,
                configure=databases.begin_for_real if driver.startswith("sqlite") else None,
            )
    finally:
        crashing.clear_backends()
