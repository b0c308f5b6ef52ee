"""INSERT, UPDATE and DELETE statements that a session executes: done right, or refused before they do harm."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import (
    BindParameter,
    ClauseElement,
    ColumnElement,
    Connection,
    Delete,
    Insert,
    Result,
    Select,
    Update,
    select,
)
from sqlalchemy.orm import ORMExecuteState
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import Null

from lading.errors import OwnedFile, StateError
from lading.file import FileObject, claim, claim_of, place
from lading.orm.column import StoredObject
from lading.orm.flush import Wanted, abandon, check_registry, put, take
from lading.orm.key import Key, key_of
from lading.orm.ledger import Before, Ledger, Page
from lading.orm.named import AT_ONCE, among
from lading.orm.sqlite import begin


class FileColumn(NamedTuple):
    """A column of files, and its type."""

    column: Any
    type: StoredObject

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


Given = list[tuple[FileColumn, FileObject]]


def execute(state: ORMExecuteState, ledger: Ledger, frame: object) -> Result[Any] | None:
    """Execute a statement that writes file columns, with what belongs to it; `None` for any other statement.

    Raises:
        OwnedFile: a file would come to be named by two rows.
        StateError: what the statement does with files cannot be told beforehand.
    """
    statement = state.statement
    if not isinstance(statement, Insert | Update | Delete):
        return None
    columns = _file_columns(statement)
    if not columns:
        return None
    connection = state.session.connection(bind_arguments=dict(state.bind_arguments))
    ledger.commit.watch(connection)
    page = Page()
    try:
        if isinstance(statement, Insert):
            _insert(state, statement, columns, page)
            result = state.invoke_statement()
            written = {key_of(before.file) for before in page.given}
        else:
            rows = _before(state, statement, columns, page, connection)
            if rows is None:
                return None
            result = state.invoke_statement(statement=rows.narrowed(statement) if page.given else None)
            written = rows.named_now()
            page.gone = rows.named - written
    except BaseException as error:
        abandon(page, error)
        raise
    for before in page.given:
        if key_of(before.file) in written:
            claim(before.file, "owned")
    ledger.page(frame).merge(page)
    return result


def _insert(state: ORMExecuteState, statement: Insert, columns: Sequence[FileColumn], page: Page) -> None:
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
    _take(given, page, own=set())


def _before(
    state: ORMExecuteState,
    statement: Update | Delete,
    columns: Sequence[FileColumn],
    page: Page,
    connection: Connection,
) -> "Rows | None":
    """Store the file that a statement gives to one row, and see what rows it meets; `None` where it touches no file."""
    names = _names(state, columns)
    given: Given = []
    touched = list(columns)
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
        if not touched:
            return None
    begin(connection)
    rows = Rows(state, statement, touched)
    if given and len(rows) > 1:
        raise OwnedFile(f"the UPDATE would give one file to {len(rows)} rows; each row needs a file of its own")
    if len(rows):
        _take(given, page, own=rows.named)
    for file in (file for _, file in given if file.is_stored and claim_of(file) == "free"):
        page.give(Before.of(file))
    return rows


def _take(given: Given, page: Page, *, own: set[Key]) -> None:
    """Store or adopt the files that a statement writes; one of another row cannot be exchanged for a copy here."""
    new: list[Wanted] = []
    found: list[Wanted] = []
    seen: set[int] = set()
    for column, file in given:
        place(file, column.type.backend, column.type.storages)
        check_registry(file, column.type.storages)
        if id(file) in seen:
            raise OwnedFile(
                f"{file.filename!r} is given to two rows by one statement; each row needs a file of its own"
            )
        seen.add(id(file))
        if not file.is_stored:
            new.append(Wanted(file, column.type.policy))
        elif key_of(file) in own:
            page.give(Before.of(file))
        elif claim_of(file) == "free":
            found.append(Wanted(file, column.type.policy))
        else:
            raise OwnedFile(f"{file.filename!r} belongs to another row; add an ORM instance, and it is moved or copied")
    put(page, new)
    take(page, found)


def _file_columns(statement: Insert | Update | Delete) -> list[FileColumn]:
    """The columns of files of the table that a statement writes."""
    columns: Iterable[Any] = statement.table.columns
    return [FileColumn(column, column.type) for column in columns if isinstance(column.type, StoredObject)]


def _names(state: ORMExecuteState, columns: Iterable[FileColumn]) -> dict[str, FileColumn]:
    """The columns by every name that a statement may call them."""
    names = {name: each for each in columns for name in (each.column.key, each.column.name)}
    if state.bind_mapper is not None:
        for prop in state.bind_mapper.column_attrs:
            for each in columns:
                if prop.columns[0] is each.column:
                    names[prop.key] = each
    return names


def _column(names: Mapping[str, FileColumn], name: Any) -> FileColumn | None:
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
    several: Any = statement._multi_values  # pyright: ignore[reportPrivateUsage]
    columns: Iterable[Any] = statement.table.columns
    for rows in several:
        for row in rows:
            yield row if isinstance(row, Mapping) else dict(zip(columns, row, strict=False))


class Rows:
    """The rows that a statement is about to change, locked where the database can, and the objects that they name.

    Raises:
        StateError: the table has no primary key; nobody could tell its rows apart.
    """

    def __init__(self, state: ORMExecuteState, statement: Update | Delete, columns: Sequence[FileColumn]) -> None:
        table: Any = statement.table
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
