"""What became of a session's transaction in the database: what is deleted stands on that, not on what the session says.

They differ where a session only joins a transaction that somebody else will end, where the database rolls back by
itself, and where the answer to a COMMIT is lost. Then nobody knows what the rows name, and nothing may be deleted.
"""

import weakref
from typing import Any

from sqlalchemy import Connection, Engine, event, select
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.orm import Session

from lading.errors import ConfigurationError, StateError
from lading.orm.sqlite import is_idle


class Commit:
    """The end of one session's transaction, on each connection where it has written rows that name files."""

    def __init__(self) -> None:
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._sent: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._failed: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._lost: weakref.WeakSet[Connection] = weakref.WeakSet()

    @property
    def was_sent(self) -> bool:
        """Whether some connection was sent a COMMIT that its server has not refused."""
        return bool(self._sent)

    @property
    def is_real(self) -> bool:
        """Whether every connection was sent a COMMIT; on one whose transaction somebody else has begun, none is."""
        return self._sent >= self._connections

    def is_undone(self, session: Session) -> bool:
        """Whether nothing that was written can be committed any more, now that the session has let go of it."""
        return not self._sent and (
            session.join_transaction_mode == "create_savepoint"
            or not any(each.in_transaction() for each in self._connections)
        )

    def watch(self, connection: Connection) -> None:
        """Look out for what becomes of the transaction on a connection that is about to be written to.

        Raises:
            ConfigurationError: the connection is in AUTOCOMMIT; a row that is rolled back would stay, its file not.
        """
        if connection in self._connections:
            return
        if connection._is_autocommit_isolation():  # pyright: ignore[reportPrivateUsage]  # asking in public is a query
            raise ConfigurationError("a connection in AUTOCOMMIT can take nothing back; files need a transaction")
        if connection not in _watched:
            event.listen(connection, "commit", _sending)
            event.listen(connection, "commit_twophase", _sent)
            event.listen(connection, "prepare_twophase", _asking)
        _watched[connection] = self
        self._connections.add(connection)
        if connection.engine not in _engines:
            _engines.add(connection.engine)
            event.listen(connection.engine, "handle_error", _failed)

    def released(self) -> None:
        """A savepoint was released; on SQLite, where nobody has sent BEGIN, that was a COMMIT."""
        self._sent |= {each for each in self._connections if is_idle(each)}

    def asked(self, connection: Connection) -> None:
        """Make sure that there is something to commit, where a statement failed since: PostgreSQL rolls back silently.

        Raises:
            StateError: the database has rolled the transaction back by itself.
            DBAPIError: it says that it will.
        """
        if connection in self._lost:
            raise StateError("the database has rolled the transaction back by itself; roll the session back, too")
        if connection in self._failed:
            connection.execute(select(1))

    def sent(self, connection: Connection) -> None:
        """COMMIT is on its way."""
        self._sent.add(connection)

    def failed(self, connection: Connection, error: BaseException) -> None:
        """The server has refused a statement, perhaps the COMMIT itself."""
        if connection in self._sent:
            self._sent.discard(connection)
        elif error.args[:1] in _ROLLED_BACK.get(connection.dialect.name, ()) or is_idle(connection):
            self._lost.add(connection)
        else:
            self._failed.add(connection)

    def end(self) -> None:
        """The session is done; what else happens on its connections is none of its business."""
        for connection in self._connections:
            if _watched.get(connection) is self:
                del _watched[connection]


def _sending(connection: Connection) -> None:
    try:
        _asking(connection)
    except BaseException:
        # SQLAlchemy holds a COMMIT that fails for the end of the transaction, and would pool the connection with it.
        if not connection.invalidated:
            connection.connection.rollback()
        raise
    _sent(connection)


def _asking(connection: Connection, *_: Any) -> None:
    commit = _watched.get(connection)
    if commit is not None:
        commit.asked(connection)


def _sent(connection: Connection, *_: Any) -> None:
    commit = _watched.get(connection)
    if commit is not None:
        commit.sent(connection)


def _failed(context: ExceptionContext) -> None:
    """A server that refuses tells something; a connection that breaks tells nothing."""
    connection = context.connection
    commit = _watched.get(connection) if connection is not None else None
    if (
        connection is not None
        and commit is not None
        and not context.is_disconnect
        and isinstance(context.original_exception, _dbapi_error(context))
    ):
        commit.failed(connection, context.original_exception)


def _dbapi_error(context: ExceptionContext) -> type[BaseException]:
    error: type[BaseException] = context.dialect.loaded_dbapi.Error
    return error


# ER_LOCK_DEADLOCK and ER_CHECKREAD: InnoDB rolls back the whole transaction, not the statement alone.
_ROLLED_BACK = {"mysql": [(1213,), (1020,)], "mariadb": [(1213,), (1020,)]}

_watched: weakref.WeakKeyDictionary[Connection, Commit] = weakref.WeakKeyDictionary()
_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
