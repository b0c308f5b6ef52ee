"""Whether a COMMIT was answered: when its answer is lost, nobody knows what the rows name; nothing may be deleted."""

import weakref
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext


class Commit:
    """The COMMIT of one session's transaction, from its being sent to its being answered.

    Attributes:
        unanswered: whether it was sent, and neither went through nor was refused by the server.
    """

    def __init__(self) -> None:
        self.unanswered = False

    def watch(self, connection: Connection) -> None:
        """Look out for the COMMIT on a connection that the transaction uses."""
        if _watched.get(connection) is not self:
            if connection not in _watched:
                event.listen(connection, "commit", _sent)
                event.listen(connection, "commit_twophase", _sent)
            _watched[connection] = self
            if connection.engine not in _engines:
                _engines.add(connection.engine)
                event.listen(connection.engine, "handle_error", _failed)


def _sent(connection: Connection, *_: Any) -> None:
    commit = _watched.get(connection)
    if commit is not None:
        commit.unanswered = True


def _failed(context: ExceptionContext) -> None:
    """A server that refuses a COMMIT has rolled back; a connection that breaks tells nothing."""
    commit = _watched.get(context.connection) if context.connection is not None else None
    if (
        commit is not None
        and not context.is_disconnect
        and isinstance(context.original_exception, _dbapi_error(context))
    ):
        commit.unanswered = False


def _dbapi_error(context: ExceptionContext) -> type[BaseException]:
    error: type[BaseException] = context.dialect.loaded_dbapi.Error
    return error


_watched: weakref.WeakKeyDictionary[Connection, Commit] = weakref.WeakKeyDictionary()
_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
