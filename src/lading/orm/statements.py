"""INSERT, UPDATE and DELETE statements that a session executes: done right, or refused before they do harm."""

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, cast

from sqlalchemy import (
    BindParameter,
    ClauseElement,
    ColumnElement,
    Connection,
    Delete,
    Insert,
    NestedTransaction,
    Result,
    Select,
    Update,
    select,
)
from sqlalchemy.orm import ORMExecuteState
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import Null

from lading.errors import OwnedFile, StateError
from lading.file import FileObject, claim, claim_of, place, upload_of
from lading.orm import uploads
from lading.orm.column import StoredObject
from lading.orm.flush import Wanted, abandon, check_paths, check_registry, disposal_of, put, take
from lading.orm.key import Key, entries, key_of
from lading.orm.ledger import Before, Disposal, Ledger, Page
from lading.orm.named import AT_ONCE, among
from lading.orm.slots import slots_of
from lading.orm.sqlite import begin
from lading.policy import Policy


class Target(NamedTuple):
    """A column of files, and its type."""

    column: Any
    type: StoredObject

    @property
    def policy(self) -> Policy:
        """What it asks of files."""
        return self.type.policy_as(f"{self.column.table.fullname}.{self.column.name}")

    def files(self, value: Any) -> list[FileObject]:
        """The files of a value; what is none is left to be refused where it is bound."""
        if value is None:
            return []
        return [file for file in (value if self.type.multiple else [value]) if isinstance(file, FileObject)]

    def written(self, value: Any) -> list[FileObject]:
        """The files that a statement writes here.

        Raises:
            StateError: an SQL expression says what is written, so that nobody knows which object the row will name.
        """
        if isinstance(value, BindParameter) and not value.required:
            return self.files(cast("Any", value).value)
        if isinstance(value, Null):
            return []
        if isinstance(value, ClauseElement) or hasattr(value, "__clause_element__"):
            raise StateError(f"{self.column} takes a FileObject or None from a statement, not an SQL expression")
        return self.files(value)


Given = list[tuple[Target, FileObject]]

_LENIENT = re.compile(r"\b(IGNORE|REPLACE)\b", re.IGNORECASE)


def concerns(state: ORMExecuteState) -> bool:
    """Whether a statement writes to a table that has files; it may be the first to name its class."""
    statement = state.statement
    return isinstance(statement, Insert | Update | Delete) and bool(_file_columns(state, statement))


def execute(state: ORMExecuteState, ledger: Ledger, frame: object) -> Result[Any] | None:
    """Execute a statement that writes to a table with files, with what belongs to it; `None` where it touches none.

    Raises:
        OwnedFile: a file would come to be named by two rows.
        StateError: what the statement does with files cannot be told beforehand.
    """
    statement = cast("Insert | Update | Delete", state.statement)
    columns = _file_columns(state, statement)
    if state.execution_options.get("autoflush", True):
        # Not later, within the savepoint: what is rolled back there the session would believe to be written.
        state.session._autoflush()  # pyright: ignore[reportPrivateUsage]  # flush() fails within a flush
    connection = state.session.connection(bind_arguments=dict(state.bind_arguments))
    ledger.commit.watch(connection)
    page = Page()
    disposal = disposal_of(state.session, columns[0].column.table.metadata, **state.bind_arguments)
    attached: list[uploads.Spending] = []
    take_all = partial(_take, page=page, disposal=disposal, connection=connection, attached=attached)
    rows: Rows | None = None
    try:
        if isinstance(statement, Insert):
            _insert(state, statement, columns, take_all)
        else:
            rows = _before(state, statement, columns, page, connection, take_all)
            if rows is None:
                return None
    except BaseException as error:
        abandon(page, error, ledger.page(frame))
        raise
    with state.session.no_autoflush, _whole(connection, page, ledger.page(frame)):
        uploads.spend(attached)
        if rows is None or isinstance(statement, Insert):
            result = state.invoke_statement()
            written = {key_of(before.file) for before in page.given}
        else:
            result = state.invoke_statement(statement=rows.narrowed(statement) if page.given or rows.blank else None)
            written = rows.named_now()
            page.drop(rows.named - written, disposal)
            if disposal is not None:
                disposal.outbox.add(connection, entries(page.gone), f"{statement.table}: a statement")
        if page.given and connection.dialect.name == "sqlite" and statement.returning_column_descriptions:
            # SQLite releases no savepoint while rows that a statement returns are still to be read.
            result = result.freeze()()
    for before in page.given:
        if key_of(before.file) in written:
            claim(before.file, "owned")
    ledger.page(frame).merge(page)
    return result


@contextmanager
def _whole(connection: Connection, page: Page, outer: Page) -> Generator[None, None, None]:
    """Write all of a statement that gives files to rows, or nothing; its objects go when it has failed.

    A statement that fails may have written some of its rows, which stay if the application goes on and commits.
    """
    savepoint: NestedTransaction | None = None
    try:
        if page.given:
            begin(connection)
            savepoint = connection.begin_nested()
        yield
        if savepoint is not None:
            savepoint.commit()
    except BaseException as error:
        if savepoint is None or _took_back(savepoint):
            abandon(page, error, outer)
        else:
            # Rows may name them: they go if the transaction is rolled back, and nothing goes if it is not.
            page.gone.clear()
            for before in page.given:
                claim(before.file, "owned")
            outer.merge(page)
        raise


def _took_back(savepoint: NestedTransaction) -> bool:
    """Roll back to a savepoint, where it is there still: InnoDB ends the transaction by itself after a deadlock."""
    was_there = savepoint.is_active
    try:
        savepoint.rollback()
    except Exception:
        return False
    return was_there


def _insert(
    state: ORMExecuteState, statement: Insert, columns: Sequence[Target], take_all: Callable[..., None]
) -> None:
    """Store the files of the rows that an INSERT makes."""
    names = _names(state, columns)
    given: Given = []
    for values in (*_written(statement), *_parameters(state)):
        for name, value in values.items():
            column = _column(names, name)
            if column is not None:
                given += [(column, file) for file in column.written(value)]
    if statement.select is not None and any(
        isinstance(c.type, StoredObject) for c in statement.select.selected_columns
    ):
        raise StateError("INSERT FROM SELECT would make two rows name one object; add ORM instances instead")
    if given and any(e.__visit_name__.startswith(("on_conflict", "on_duplicate")) for e in visitors.iterate(statement)):
        raise StateError("an upsert does not tell whether it wrote a file; add or merge an ORM instance instead")
    prefixes: Iterable[Any] = statement._prefixes  # pyright: ignore[reportPrivateUsage]  # no public accessor
    if given and any(_LENIENT.search(str(prefix)) for prefix, _ in prefixes):
        raise StateError(
            "INSERT IGNORE or REPLACE does not tell which rows it wrote or deleted; add ORM instances instead"
        )
    take_all(given, own=set())


def _before(
    state: ORMExecuteState,
    statement: Update | Delete,
    columns: Sequence[Target],
    page: Page,
    connection: Connection,
    take_all: Callable[..., None],
) -> "Rows | None":
    """Store the file that a statement gives to one row, and see what rows it meets; `None` where it touches no file."""
    names = _names(state, columns)
    given: Given = []
    table: Any = statement.table
    touched = [each for each in columns if table.c.contains_column(each.column)]
    blank: dict[Any, None] = {}
    if isinstance(statement, Update):
        if any(name in names for parameters in _parameters(state) for name in parameters):
            raise StateError("a bulk UPDATE by primary key cannot set files; set them on ORM instances instead")
        touched.clear()
        for values in _written(statement):
            for name, value in values.items():
                column = _column(names, name)
                if column is not None:
                    touched.append(column)
                    given += [(column, file) for file in column.written(value)]
                    blank[name] = None
        primary = _names(state, [Target(column, column.type) for column in table.primary_key])
        if touched and any(
            _column(primary, name) for each in (*_written(statement), *_parameters(state)) for name in each
        ):
            raise StateError("an UPDATE of a primary key cannot set files as well; the row could not be found again")
    if not touched:
        return None
    begin(connection)
    rows = Rows(state, statement, touched)
    if given and len(rows) > 1:
        raise OwnedFile(f"the UPDATE would give one file to {len(rows)} rows; each row needs a file of its own")
    if len(rows):
        take_all(given, own=rows.named)
    elif given:
        rows.blank = blank
    for file in (file for _, file in given if file.is_stored and claim_of(file) == "free"):
        page.give(Before.of(file))
    return rows


def _take(
    given: Given,
    page: Page,
    *,
    own: set[Key],
    disposal: Disposal | None,
    connection: Connection,
    attached: list[uploads.Spending],
) -> None:
    """Store or adopt the files that a statement writes; one of another row cannot be exchanged for a copy here."""
    new: list[Wanted] = []
    found: list[Wanted] = []
    seen: set[Key | int] = set()
    for column, file in given:
        place(file, column.type.backend, column.type.storages)
        check_registry(file, column.type.storages)
        which = key_of(file) if file.is_stored else id(file)
        if which in seen:
            raise OwnedFile(f"{file.filename!r} is given twice by one statement; each place needs a file of its own")
        seen.add(which)
        if not file.is_stored:
            new.append(Wanted(file, column.policy, disposal))
        elif key_of(file) in own:
            page.give(Before.of(file))
        elif claim_of(file) == "free":
            found.append(Wanted(file, column.policy, disposal))
        else:
            raise OwnedFile(f"{file.filename!r} belongs to another row; add an ORM instance, and it is moved or copied")
    uploads.check(
        uploads.Announced(each.file, upload, each.policy, each.outbox, lambda: connection)
        for each in (*new, *found)
        if (upload := upload_of(each.file)) is not None
    )
    put(page, new)
    if disposal is not None and page.reused:
        check_paths(page, [item.file for item in new], disposal.outbox, connection)
    take(page, found, connection)
    attached += [
        (connection, item.outbox, upload)
        for item in (*new, *found)
        if (upload := upload_of(item.file)) is not None and item.outbox is not None
    ]


def _file_columns(state: ORMExecuteState, statement: Insert | Update | Delete) -> list[Target]:
    """The columns of files that a statement may write: of its table, and of those that its class inherits from."""
    columns: list[Any] = list(statement.table.columns)
    if state.bind_mapper is not None:
        inherited = (slot.column for slot in slots_of(state.bind_mapper))
        columns += [column for column in inherited if not any(column is each for each in columns)]
    return [Target(column, column.type) for column in columns if isinstance(column.type, StoredObject)]


def _names(state: ORMExecuteState, columns: Iterable[Target]) -> dict[str, Target]:
    """The columns by every name that a statement may call them."""
    names = {name: each for each in columns for name in (each.column.key, each.column.name)}
    if state.bind_mapper is not None:
        for prop in state.bind_mapper.column_attrs:
            for each in columns:
                if any(column is each.column for column in prop.columns):
                    names[prop.key] = each
    return names


def _column(names: Mapping[str, Target], name: Any) -> Target | None:
    """The column that a statement calls by a name, or gives itself."""
    if isinstance(name, ColumnElement):
        return next((each for each in names.values() if name.shares_lineage(each.column)), None)
    return names.get(getattr(name, "key", name))


def _parameters(state: ORMExecuteState) -> Sequence[Mapping[str, Any]]:
    parameters = state.parameters
    if parameters is None:
        return ()
    return [parameters] if isinstance(parameters, Mapping) else parameters


def _written(statement: Insert | Update) -> Iterator[Mapping[Any, Any]]:
    """The values that are written into a statement itself, row by row, by column or name.

    No public accessor tells them. Compiling would cost more, and still hide which column an SQL expression goes to.
    """
    if statement._values:  # pyright: ignore[reportPrivateUsage]
        yield statement._values  # pyright: ignore[reportPrivateUsage]
    # SQLAlchemy 2.0 keeps those of `ordered_values()` apart.
    ordered: Any = getattr(statement, "_ordered_values", None)
    if ordered:
        yield dict(ordered)
    several: Any = statement._multi_values  # pyright: ignore[reportPrivateUsage]
    columns: Iterable[Any] = statement.table.columns
    for rows in several:
        for row in rows:
            yield row if isinstance(row, Mapping) else dict(zip(columns, row, strict=False))


class Rows:
    """The rows that a statement is about to change, locked where the database can, and the objects that they name.

    Attributes:
        blank: what the statement is to write instead of files, since it meets no row and they are not stored.

    Raises:
        StateError: the table has no primary key; nobody could tell its rows apart.
    """

    def __init__(self, state: ORMExecuteState, statement: Update | Delete, columns: Sequence[Target]) -> None:
        table: Any = statement.table
        self.blank: dict[Any, None] = {}
        self._state = state
        self._columns = columns
        self._primary: list[Any] = list(table.primary_key)
        if not self._primary:
            raise StateError(f"{table} has files and no primary key; give it one")
        asked = self._select()
        if statement.whereclause is not None:
            asked = asked.where(statement.whereclause)
        self._rows: dict[tuple[Any, ...], set[Key]] = {}
        for parameters in _parameters(state) or [{}]:
            self._rows |= self._ask(asked.with_for_update(), parameters)

    @property
    def named(self) -> set[Key]:
        """The objects that they name before."""
        return set[Key]().union(*self._rows.values())

    def named_now(self) -> set[Key]:
        """The objects that they name after: a LIMIT or a random() may have spared some of the rows that were seen."""
        keys = [key for key, named in self._rows.items() if named or len(self._rows) == 1]
        now: set[Key] = set()
        for start in range(0, len(keys), AT_ONCE):
            asked = self._select().where(among(self._primary, keys[start : start + AT_ONCE]))
            now = now.union(*self._ask(asked.with_for_update(), {}).values())
        return now

    def narrowed(self, statement: Update | Delete) -> Update | Delete:
        """The statement on these rows alone: meanwhile another may have come that it meets as well."""
        if self.blank and isinstance(statement, Update):
            # What `ordered_values()` has set, `values()` refuses to change; where no row is met, order is nothing.
            again: Any = statement._generate()  # pyright: ignore[reportPrivateUsage]  # no public way
            ordered = again.__dict__.pop("_ordered_values", None) or ()
            again.__dict__.pop("_maintain_values_ordering", None)
            statement = cast("Update", again.values({**dict(ordered), **self.blank}))
        return statement.where(among(self._primary, list(self._rows)))

    def __len__(self) -> int:
        return len(self._rows)

    def _select(self) -> Select[Any]:
        asked: Any = select(*self._primary, *(each.column for each in self._columns))
        return asked  # type: ignore[no-any-return]  # as many columns as there are

    def _ask(self, asked: Select[Any], parameters: Mapping[str, Any]) -> dict[tuple[Any, ...], set[Key]]:
        found: dict[tuple[Any, ...], set[Key]] = {}
        size = len(self._primary)
        for row in self._state.session.execute(asked, parameters, bind_arguments=dict(self._state.bind_arguments)):
            keys = found.setdefault(tuple(row[:size]), set())
            for each, value in zip(self._columns, row[size:], strict=True):
                keys |= {key_of(file) for file in each.files(value)}
        return found
