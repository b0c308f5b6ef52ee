"""The lifecycle: which event of SQLAlchemy makes which entry in the ledger, and what follows from it.

Files are put before their rows are flushed. When a transaction has committed, what it replaced is deleted; when it, or
a savepoint in it, has come to nothing, what that had put is deleted.
"""

import weakref
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, cast

from sqlalchemy import Connection, Result, event, inspect
from sqlalchemy.orm import InstanceState, Mapper, ORMExecuteState, Session, SessionTransaction
from sqlalchemy.orm.attributes import flag_modified

from lading.file import FileObject, claim, claim_of, hold, on_change
from lading.orm import cleanup, statements
from lading.orm.flush import Change, prepare
from lading.orm.ledger import Key, Ledger
from lading.orm.list import FileList
from lading.orm.named import named
from lading.orm.slots import Slot, slots_of

_LEDGER = "lading.ledger"

_slots: dict[type[Any], tuple[Slot, ...]] = {}


@event.listens_for(Mapper, "mapper_configured")
def _configured(mapper: Mapper[Any], class_: type[Any]) -> None:
    """Listen to the classes that have files, and to no others."""
    slots = slots_of(mapper)
    if not slots or class_ in _slots:
        return
    _slots[class_] = slots
    event.listen(mapper, "after_insert", _written)
    event.listen(mapper, "after_update", _written)
    event.listen(mapper, "before_delete", _deleting)
    for slot in slots:
        if slot.type.multiple and mapper.column_attrs[slot.key].parent is mapper:
            attribute = getattr(class_, slot.key)
            FileList.associate_with_attribute(attribute)
            event.listen(attribute, "init_scalar", partial(_empty, slot.key), raw=True, retval=True, propagate=True)
    keys = tuple(slot.key for slot in slots if not slot.type.multiple)
    if keys:
        event.listen(class_, "load", partial(_loaded, keys), raw=True)
        event.listen(class_, "refresh", partial(_loaded, keys), raw=True)
        event.listen(class_, "unpickle", partial(_loaded, keys), raw=True)


def _empty(key: str, state: InstanceState[Any], _: object, values: dict[str, Any]) -> FileList:
    """An instance that was never given a list has an empty one."""
    files = values[key] = FileList.of(state, key)
    return files


def _loaded(keys: Iterable[str], state: InstanceState[Any], *_: object) -> None:
    """A file that came from the database tells its instance when its metadata changes."""
    values = state.dict
    for key in keys:
        file = values.get(key)
        if file is not None:
            hold(file, state)


def _changed(file: FileObject, holder: object) -> None:
    """A file has changed in place: the row that holds it is dirty."""
    if isinstance(holder, weakref.ref):
        files = cast("FileList | None", holder())
        if files is not None:
            files.changed()
        return
    state = cast("InstanceState[Any]", holder)
    instance = state.obj()
    if instance is not None:
        for slot in _slots[state.class_]:
            if state.dict.get(slot.key) is file:
                flag_modified(instance, slot.key)


on_change(_changed)


@event.listens_for(Session, "before_flush")
def _before_flush(session: Session, _: object, instances: Sequence[object] | None) -> None:
    if not _slots:
        return
    only = None if instances is None else {inspect(instance) for instance in instances}
    changes = [
        Change(state, slot)
        for state in _files(session.new, only)
        for slot in _slots[state.class_]
        if state.dict.get(slot.key) is not None
    ]
    changes += [
        Change(state, slot)
        for state in _files(session.dirty, only)
        for slot in _slots[state.class_]
        if slot.changed(state)
    ]
    departing = list(_files(session.deleted, only))
    if changes or departing:
        prepare(session, _ledger(session), _frame(session), changes, departing, _slots)


def _files(instances: Iterable[object], only: set[Any] | None) -> Iterable[InstanceState[Any]]:
    """The instances that may have files, among those that are flushed."""
    for instance in instances:
        if type(instance) in _slots:
            state: InstanceState[Any] = inspect(instance)
            if only is None or state in only:
                yield state


def _written(mapper: Mapper[Any], connection: Connection, instance: object) -> None:
    """A row has been written: the files that it names are its own."""
    state: InstanceState[Any] = inspect(instance)
    if state.session is not None:
        _ledger(state.session).commit.watch(connection)
    for slot in _slots[state.class_]:
        for file in slot.current(state):
            if claim_of(file) == "flushing":
                claim(file, "owned")
            if not slot.type.multiple:
                hold(file, state)


def _deleting(mapper: Mapper[Any], connection: Connection, instance: object) -> None:
    """A row is about to be deleted, be it by a cascade: what it names is wanted gone."""
    state: InstanceState[Any] = inspect(instance)
    session = state.session
    if session is None:
        return
    ledger = _ledger(session)
    ledger.commit.watch(connection)
    keys = ledger.departing.pop(state, None)
    if keys is None:
        keys = set[Key]().union(*named(connection.execute, [state], _slots[state.class_]).values())
    ledger.page(_frame(session)).drop(keys)


@event.listens_for(Session, "do_orm_execute")
def _executing(state: ORMExecuteState) -> Result[Any] | None:
    if state.is_select or not _slots:
        return None
    return statements.execute(state, _ledger(state.session), _frame(state.session))


@event.listens_for(Session, "after_commit")
def _committed(session: Session) -> None:
    """COMMIT or RELEASE SAVEPOINT went through.

    What the transaction replaced is deleted here, although it still has its connection: a task that is cancelled while
    that is given back never comes to the end of its transaction. What fails is raised there, since SQLAlchemy has to
    tidy up first.
    """
    ledger: Ledger | None = session.info.get(_LEDGER)
    if ledger is None:
        return
    frame = _frame(session)
    if not frame.nested:
        ledger.commit.unanswered = False
    page = ledger.find(frame)
    if page is None:
        return
    page.committed = True
    if not frame.nested:
        try:
            cleanup.settle(page)
        except BaseException as error:
            page.failure = error


@event.listens_for(Session, "after_transaction_end")
def _ended(session: Session, transaction: SessionTransaction) -> None:
    """A transaction or savepoint is over, however it ended: the one event that close() fires too."""
    ledger: Ledger | None = session.info.get(_LEDGER)
    if ledger is None or not (transaction.nested or transaction.parent is None):
        return
    page = ledger.close(transaction)
    unanswered = ledger.commit.unanswered
    if transaction.parent is None:
        del session.info[_LEDGER]
    if page is None or unanswered:
        return
    if not page.committed:
        cleanup.undo(page)
    elif transaction.parent is not None:
        ledger.page(_boundary(transaction.parent)).merge(page)
    elif page.failure is not None:
        raise page.failure


def _frame(session: Session) -> SessionTransaction:
    """The transaction or savepoint that the session is in."""
    return session.get_nested_transaction() or session.get_transaction() or session.begin()


def _boundary(transaction: SessionTransaction) -> SessionTransaction:
    """The savepoint or transaction that a subtransaction is part of."""
    while not transaction.nested and transaction.parent is not None:
        transaction = transaction.parent
    return transaction


def _ledger(session: Session) -> Ledger:
    ledger: Ledger = session.info.setdefault(_LEDGER, Ledger())
    return ledger
