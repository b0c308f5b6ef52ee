"""The lifecycle: which event of SQLAlchemy makes which entry in the ledger, and what follows from it.

Files are put before their rows are flushed. When a transaction has committed, what it replaced is deleted; when it, or
a savepoint in it, has come to nothing, what that had put is deleted.
"""

import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from sqlalchemy import Connection, Result, event, inspect
from sqlalchemy.orm import InstanceState, Mapper, ORMExecuteState, Session, SessionTransaction
from sqlalchemy.orm.attributes import flag_modified
from sqlalchemy.orm.exc import StaleDataError

from lading.errors import StateError
from lading.file import FileObject, claim, claim_of, hold, move_to_registry, on_change
from lading.orm import cleanup, statements
from lading.orm.flush import Change, disposal_of, prepare
from lading.orm.key import Key, entries
from lading.orm.ledger import Ledger, Page
from lading.orm.list import FileList
from lading.orm.named import named
from lading.orm.plan import Plan
from lading.orm.slots import Slot, slots_of

_LEDGER = "lading.ledger"
_FILES = "lading.files"

_slots: weakref.WeakKeyDictionary[Mapper[Any], tuple[Slot, ...]] = weakref.WeakKeyDictionary()


@event.listens_for(Mapper, "mapper_configured")
def _configured(mapper: Mapper[Any], class_: type[Any]) -> None:
    """Listen to the classes that have files, and to no others."""
    slots = slots_of(mapper)
    if not slots:
        return
    _slots[mapper] = slots
    event.listen(mapper, "before_insert", _writing)
    event.listen(mapper, "before_update", _writing)
    event.listen(mapper, "after_insert", _written)
    event.listen(mapper, "after_update", _written)
    event.listen(mapper, "before_delete", _deleting)
    for slot in slots:
        if slot.type.multiple and mapper.column_attrs[slot.key].parent is mapper:
            attribute = getattr(class_, slot.key)
            FileList.associate_with_attribute(attribute)
            event.listen(attribute, "init_scalar", partial(_empty, slot.key), raw=True, retval=True, propagate=True)
    event.listen(class_, "pickle", _pickling, raw=True)
    event.listen(class_, "unpickle", _unpickled, raw=True)
    keys = tuple(slot.key for slot in slots if not slot.type.multiple)
    if keys:
        event.listen(class_, "load", partial(_loaded, keys), raw=True)
        event.listen(class_, "refresh", partial(_loaded, keys), raw=True)


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


def _pickling(state: InstanceState[Any], pickled: dict[str, Any]) -> None:
    """An instance gets its attributes back after its state: that remembers which files it had."""
    pickled[_FILES] = {slot.key: slot.current(state) for slot in _slots[state.mapper]}


def _unpickled(state: InstanceState[Any], pickled: dict[str, Any]) -> None:
    """A file comes out of a pickle without its registry, which is that of its column, and tells nobody of changes."""
    for slot in _slots[state.mapper]:
        for file in pickled.get(_FILES, {}).get(slot.key, ()):
            move_to_registry(file, slot.type.storages)
            if not slot.type.multiple:
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
        for slot in _slots[state.mapper]:
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
        for slot in _slots[state.mapper]
        if state.dict.get(slot.key) is not None
    ]
    changes += [
        Change(state, slot)
        for state in _files(session.dirty, only)
        for slot in _slots[state.mapper]
        if slot.changed(state)
    ]
    departing = list(_files(session.deleted, only))
    if _LEDGER in session.info:
        _ledger(session).begin_flush()
    if changes or departing:
        prepare(session, _ledger(session), _frame(session), changes, departing, _slots)


def _files(instances: Iterable[object], only: set[Any] | None) -> Iterable[InstanceState[Any]]:
    """The instances that may have files, among those that are flushed."""
    for instance in instances:
        state: InstanceState[Any] = inspect(instance)
        if state.mapper in _slots and (only is None or state in only):
            yield state


def _writing(mapper: Mapper[Any], connection: Connection, instance: object) -> None:
    """A row is about to be written, perhaps otherwise than planned: another listener may have changed files since."""
    state: InstanceState[Any] = inspect(instance)
    session = state.session
    if session is None:
        return
    ledger = _ledger(session)
    ledger.commit.watch(connection)
    late = [
        change
        for change in (Change(state, slot) for slot in _slots[mapper])
        if change.is_to_be_written and not ledger.plan.foresees(change.place, change.files)
    ]
    if late:
        prepare(session, ledger, _frame(session), late, (), _slots)


def _written(mapper: Mapper[Any], connection: Connection, instance: object) -> None:
    """A row has been written: the files that it names are its own, and what it named before is wanted gone."""
    state: InstanceState[Any] = inspect(instance)
    plan = _ledger(state.session).plan if state.session is not None else Plan()
    for slot in _slots[mapper]:
        files = slot.current(state)
        left = plan.written((state, slot.key), files)
        if left and state.session is not None:
            _let_go(state.session, connection, mapper, left)
        for file in files:
            if claim_of(file) in ("flushing", "bound"):
                claim(file, "owned")
        value = state.dict.get(slot.key)
        if isinstance(value, FileList):
            value.hold()
        elif value is not None:
            hold(value, state)


def _deleting(mapper: Mapper[Any], connection: Connection, instance: object) -> None:
    """A row is about to be deleted, be it by a cascade: what it names is wanted gone, if the row really goes."""
    state: InstanceState[Any] = inspect(instance)
    session = state.session
    if session is None:
        return
    ledger = _ledger(session)
    ledger.commit.watch(connection)
    left = ledger.plan.deleted(state)
    if left is None:
        left = set[Key]().union(*named(connection, [state], _slots[mapper]).values()) - ledger.plan.moved
    if left or ledger.plan.moved:
        ledger.departing.setdefault(mapper, {})[state] = left


def _departed(session: Session, mapper: Mapper[Any], rows: Mapping[InstanceState[Any], set[Key]]) -> None:
    """Rows have been deleted, but for those that a policy or trigger of the database has spared, or an old version.

    Raises:
        StaleDataError: a row is there still, and has a version: SQLAlchemy does not see that of several rows at once
            where the driver does not count them.
        StateError: a row is there still, and its file was given to another.
    """
    connection = session.connection(bind_arguments={"mapper": mapper})
    spared = named(connection, list(rows), _slots[mapper])
    if spared and mapper.version_id_col is not None and mapper.confirm_deleted_rows:
        raise StaleDataError(f"a row of {mapper.class_.__name__} that was to be deleted has changed since it was read")
    kept = set[Key]().union(*spared.values())
    if kept & _ledger(session).plan.moved:
        raise StateError(f"the database did not delete a row of {mapper.class_.__name__} whose file another row takes")
    _let_go(session, connection, mapper, set[Key]().union(*rows.values()) - kept)


def _let_go(session: Session, connection: Connection, mapper: Mapper[Any], keys: set[Key]) -> None:
    """A row names these objects no more."""
    ledger = _ledger(session)
    disposal = disposal_of(session, _slots[mapper][0].table.metadata, mapper=mapper)
    ledger.page(_frame(session)).drop(keys, disposal)
    if disposal is not None:
        ledger.garbage.setdefault((connection, disposal.outbox), set()).update(keys)


@event.listens_for(Session, "after_flush")
def _flushed(session: Session, _: object) -> None:
    """A file that was moved has left its first row, or else two rows name it now; what none names is garbage."""
    ledger: Ledger | None = session.info.get(_LEDGER)
    if ledger is None:
        return
    ledger.plan.check()
    for mapper, rows in ledger.departing.items():
        _departed(session, mapper, rows)
    for (connection, outbox), keys in ledger.garbage.items():
        outbox.add(connection, entries(keys), "a flush")


@event.listens_for(Session, "do_orm_execute")
def _executing(state: ORMExecuteState) -> Result[Any] | None:
    if state.is_select or not statements.concerns(state):
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
    if frame.nested:
        ledger.commit.released()
    page = ledger.find(frame)
    if page is None:
        return
    page.committed = True
    if not frame.nested and ledger.commit.is_real:
        try:
            cleanup.settle(page)
        except BaseException as error:
            page.failure = error


@event.listens_for(Session, "after_transaction_end")
def _ended(session: Session, transaction: SessionTransaction) -> None:
    """A transaction or savepoint is over, however it ended: the one event that close() fires too."""
    ledger: Ledger | None = session.info.get(_LEDGER)
    if ledger is None or not (transaction.nested or transaction is ledger.root):
        return
    page = ledger.close(transaction)
    if transaction.parent is None:
        del session.info[_LEDGER]
        ledger.commit.end()
        undone = ledger.commit.is_undone(session)
        page = page or Page()
        for inner in () if page.committed else ledger:
            # A savepoint whose rollback fails, as after a deadlock, has no end of its own.
            page.merge(inner)
    else:
        undone = not ledger.commit.was_sent
    if page is None:
        return
    if page.committed and transaction.parent is not None:
        ledger.page(_boundary(transaction.parent)).merge(page)
        return
    try:
        if page.failure is not None:
            raise page.failure
        if undone and not page.committed:
            cleanup.undo(page)
        elif not page.committed:
            page.doubt()
    finally:
        if transaction.parent is not None:
            ledger.page(_boundary(transaction.parent)).inherit(page)
        else:
            cleanup.dispose(page, committed=page.committed and ledger.commit.is_real)


def _frame(session: Session) -> SessionTransaction:
    """The transaction or savepoint that the session is in."""
    return session.get_nested_transaction() or session.get_transaction() or session.begin()


def _boundary(transaction: SessionTransaction) -> SessionTransaction:
    """The savepoint or transaction that a subtransaction is part of."""
    while not transaction.nested and transaction.parent is not None:
        transaction = transaction.parent
    return transaction


def _ledger(session: Session) -> Ledger:
    """The ledger of the session's transaction. One of an earlier transaction, whose end broke off, tells nothing."""
    ledger: Ledger | None = session.info.get(_LEDGER)
    root = session.get_transaction() or session.begin()
    if ledger is None or ledger.root is not root:
        ledger = session.info[_LEDGER] = Ledger(root)
    return ledger
