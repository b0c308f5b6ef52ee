"""What became of a session's transaction in the database: what is deleted stands on that, not on what the session says.

They differ where a session only joins a transaction that somebody else will end, where the database rolls back by
itself, and where the answer to a COMMIT is lost. Then nobody knows what the rows name, and nothing may be deleted.
"""

import weakref
from typing import Any

from sqlalchemy import Connection, Engine, event, select, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.orm import Session

from lading.errors import ConfigurationError, StateError
from lading.orm.sqlite import begin, commits_by_itself, is_idle


class Commit:
    """The end of one session's transaction, on each connection where it has written rows that name files."""

    def __init__(self) -> None:
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._sent: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._released: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._failed: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._timed_out: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._lost: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._preparing: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._prepared: weakref.WeakSet[Connection] = weakref.WeakSet()

    @property
    def was_sent(self) -> bool:
        """Whether some connection was sent a COMMIT that its server has not refused, or a RELEASE that was one."""
        return bool(self._sent or self._released)

    @property
    def is_real(self) -> bool:
        """Whether every connection was sent a COMMIT; on one whose transaction somebody else has begun, none is."""
        return self._sent >= self._connections

    def is_undone(self, session: Session) -> bool:
        """Whether nothing that was written can be committed any more, now that the session has let go of it.

        What was prepared in two phases outlives its connection: whether it was really taken back, nobody is told.
        """
        return not (self.was_sent or self._preparing or self._prepared) and (
            session.join_transaction_mode == "create_savepoint"
            or not any(each.in_transaction() for each in self._connections)
        )

    def watch(self, connection: Connection) -> None:
        """Look out for what becomes of the transaction on a connection that is about to be written to.

        On SQLite one is begun where there is none, lest a row be committed by the statement that writes it.

        Raises:
            ConfigurationError: the connection is in AUTOCOMMIT; a row that is rolled back would stay, its file not.
        """
        if connection not in self._connections and _commits_by_itself(connection):
            raise ConfigurationError("a connection in AUTOCOMMIT can take nothing back; files need a transaction")
        begin(connection)
        self._connections.add(connection)
        if connection not in _watched:
            _watched[connection] = weakref.WeakSet()
            event.listen(connection, "commit", _sending)
            event.listen(connection, "prepare_twophase", _preparing)
            event.listen(connection, "commit_twophase", _sent)
            event.listen(connection, "rollback_twophase", _taking_back)
        _watched[connection].add(self)
        if connection.engine not in _engines:
            _engines.add(connection.engine)
            event.listen(connection.engine, "handle_error", _failed)

    def released(self) -> None:
        """A savepoint was released; on SQLite, where nobody has sent BEGIN, that was a COMMIT."""
        self._released |= {each for each in self._connections if is_idle(each)}

    def asked(self, connection: Connection) -> None:
        """Make sure that there is something to commit: PostgreSQL takes COMMIT for ROLLBACK after an error.

        It need not be known here, as where it was caught at the driver's own cursor. psycopg tells without a query;
        asyncpg does not, so each COMMIT of rows that name files waits for one more: what it deletes cannot be put back.

        Raises:
            StateError: the database has rolled the transaction back by itself.
            DBAPIError: it says that it will.
        """
        if connection in self._lost or (
            connection in self._timed_out and connection.scalar(text("SELECT @@innodb_rollback_on_timeout"))
        ):
            raise StateError("the database has rolled the transaction back by itself; roll the session back, too")
        if connection in self._failed or _may_be_aborted(connection):
            connection.execute(select(1))

    def preparing(self, connection: Connection) -> None:
        """The first of two phases is on its way."""
        self._preparing.add(connection)

    def prepared(self, connection: Connection) -> None:
        """The first of two phases went through, where there was one, since the second is on its way."""
        if connection in self._preparing:
            self._preparing.discard(connection)
            self._prepared.add(connection)

    def sent(self, connection: Connection) -> None:
        """COMMIT is on its way."""
        self._sent.add(connection)

    def has_sent(self, connection: Connection) -> bool:
        """Whether COMMIT is on its way, or was, and has not been refused."""
        return connection in self._sent

    def refused(self, connection: Connection) -> None:
        """The server has refused the COMMIT, and there is nothing left of the transaction."""
        self._sent.discard(connection)

    def failed(self, connection: Connection, error: BaseException) -> None:
        """The server has refused a statement, or the first of two phases."""
        if connection in self._preparing:
            self._preparing.discard(connection)
        elif connection in self._sent:
            pass
        elif is_idle(connection) or _is_mysql_error(connection, error, *_ROLLED_BACK):
            self._lost.add(connection)
        elif _is_mysql_error(connection, error, _LOCK_WAIT_TIMEOUT):
            self._timed_out.add(connection)
        else:
            self._failed.add(connection)

    def end(self) -> None:
        """The session is done; what else happens on its connections is none of its business."""
        for connection in self._connections:
            if connection in _watched:
                _watched[connection].discard(self)


def _watching(connection: Connection) -> set[Commit]:
    """Of every session on a connection; several may have joined one transaction."""
    return set(_watched.get(connection, ()))


def _commits_by_itself(connection: Connection) -> bool:
    """Whether SQLAlchemy or the driver is in AUTOCOMMIT; drivers of MySQL have a method, the others an attribute."""
    if connection._is_autocommit_isolation():  # pyright: ignore[reportPrivateUsage]  # asking in public is a query
        return True
    if connection.dialect.name == "sqlite":
        return commits_by_itself(connection)
    driver: Any = connection.connection.dbapi_connection
    ask = getattr(driver, "get_autocommit", None)
    return bool(ask()) if ask is not None else getattr(driver, "autocommit", None) is True


def _may_be_aborted(connection: Connection) -> bool:
    """Whether PostgreSQL waits for a ROLLBACK, as far as the driver can tell."""
    if connection.dialect.name != "postgresql":
        return False
    driver: Any = connection.connection.driver_connection
    status: int = getattr(getattr(driver, "info", None), "transaction_status", _INERROR)
    return status == _INERROR


def _is_mysql_error(connection: Connection, error: BaseException, *numbers: int) -> bool:
    return connection.dialect.name in {"mysql", "mariadb"} and bool(error.args) and error.args[0] in numbers


def _sending(connection: Connection) -> None:
    try:
        _asking(connection)
    except BaseException:
        if not connection.invalidated:
            _took_back(connection)
        raise
    _sent(connection)


def _asking(connection: Connection) -> None:
    for commit in _watching(connection):
        commit.asked(connection)


def _took_back(connection: Connection) -> bool:
    """Roll back after a COMMIT that failed; where that fails as well, nobody knows what will become of the rows.

    SQLAlchemy holds such a COMMIT for the end of the transaction and pools the connection. SQLite keeps the transaction
    open when it refuses, because somebody reads or a foreign key is missing: the next one on that connection would
    commit it.
    """
    try:
        connection.connection.rollback()
    except Exception:
        return False
    return True


def _preparing(connection: Connection, *_: Any) -> None:
    _asking(connection)
    for commit in _watching(connection):
        commit.preparing(connection)


def _taking_back(connection: Connection, *_: Any) -> None:
    for commit in _watching(connection):
        commit.prepared(connection)


def _sent(connection: Connection, *_: Any) -> None:
    for commit in _watching(connection):
        commit.prepared(connection)
        commit.sent(connection)


def _failed(context: ExceptionContext) -> None:
    """A server that refuses tells something; a connection that breaks tells nothing."""
    connection, error = context.connection, context.original_exception
    commits = _watching(connection) if connection is not None else None
    if connection is None or not commits or context.is_disconnect or not isinstance(error, _dbapi_error(context)):
        return
    # A session that was sent no COMMIT has begun after another's: what failed is a statement of its own.
    if all(commit.has_sent(connection) for commit in commits):
        if _took_back(connection) and _sqlstate(error) not in _UNKNOWN:
            for commit in commits:
                commit.refused(connection)
        return
    for commit in commits:
        commit.failed(connection, error)


def _sqlstate(error: BaseException) -> str | None:
    """What psycopg and asyncpg call `sqlstate`, and psycopg2 `pgcode`."""
    state: str | None = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return state


def _dbapi_error(context: ExceptionContext) -> type[BaseException]:
    error: type[BaseException] = context.dialect.loaded_dbapi.Error
    return error


# ER_LOCK_DEADLOCK and ER_CHECKREAD: InnoDB rolls back the whole transaction, not the statement alone.
_ROLLED_BACK = (1213, 1020)
# ER_LOCK_WAIT_TIMEOUT: the statement alone, unless the server is started with innodb_rollback_on_timeout.
_LOCK_WAIT_TIMEOUT = 1205
# statement_completion_unknown and transaction_resolution_unknown (SQL standard; PostgreSQL manual, appendix A).
_UNKNOWN = {"40003", "08007"}
# PQTRANS_INERROR of libpq, which psycopg and psycopg2 hand on.
_INERROR = 3

_watched: weakref.WeakKeyDictionary[Connection, weakref.WeakSet[Commit]] = weakref.WeakKeyDictionary()
_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
