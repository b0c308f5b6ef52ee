"""INSERT, UPDATE and DELETE statements that a session executes: done right, or refused before they do harm."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import BindParameter, ClauseElement, Delete, Insert, Result, Update, select
from sqlalchemy.orm import ORMExecuteState
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import Null

from lading.errors import OwnedFile, StateError
from lading.file import FileObject, claim, claim_of, place
from lading.orm.column import StoredObject
from lading.orm.flush import Wanted, abandon, put, take
from lading.orm.ledger import Before, Key, Ledger, Page, key_of


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
    page = Page()
    try:
        if isinstance(statement, Insert):
            _insert(state, statement, columns, page)
        elif isinstance(statement, Update):
            if not _update(state, statement, columns, page):
                return None
        else:
            page.gone = set[Key]().union(*_rows(state, statement, columns))
        result = state.invoke_statement()
    except BaseException as error:
        abandon(page, error)
        raise
    for before in page.given:
        claim(before.file, "owned")
    ledger.commit.watch(state.session.connection(bind_arguments=dict(state.bind_arguments)))
    ledger.page(frame).merge(page)
    return result


def _insert(state: ORMExecuteState, statement: Insert, columns: Sequence[FileColumn], page: Page) -> None:
    """Store the files of the rows that an INSERT makes."""
    names = _names(state, columns)
    given: Given = []
    for values in (*_written(statement), *_parameters(state)):
        for name, value in values.items():
            column = names.get(getattr(name, "key", name))
            if column is not None:
                given += [(column, file) for file in column.written(value)]
    if statement.select is not None and any(
        isinstance(c.type, StoredObject) for c in statement.select.selected_columns
    ):
        raise StateError("INSERT FROM SELECT would make two rows name one object; add ORM instances instead")
    if given and any(e.__visit_name__.startswith(("on_conflict", "on_duplicate")) for e in visitors.iterate(statement)):
        raise StateError("an upsert does not tell whether it wrote a file; add or merge an ORM instance instead")
    _take(given, page, own=set())


def _update(state: ORMExecuteState, statement: Update, columns: Sequence[FileColumn], page: Page) -> bool:
    """Store the file that an UPDATE gives to one row, and note what the rows named; false where it touches no file."""
    names = _names(state, columns)
    if any(name in names for parameters in _parameters(state) for name in parameters):
        raise StateError("a bulk UPDATE by primary key cannot set files; set them on ORM instances instead")
    touched: list[FileColumn] = []
    given: Given = []
    for values in _written(statement):
        for name, value in values.items():
            column = names.get(getattr(name, "key", name))
            if column is not None:
                touched.append(column)
                given += [(column, file) for file in column.written(value)]
    if not touched:
        return False
    rows = _rows(state, statement, touched)
    if given and len(rows) > 1:
        raise OwnedFile(f"the UPDATE would give one file to {len(rows)} rows; each row needs a file of its own")
    own = set[Key]().union(*rows)
    if rows:
        _take(given, page, own=own)
    page.gone = own - {key_of(file) for _, file in given if file.is_stored}
    return True


def _take(given: Given, page: Page, *, own: set[Key]) -> None:
    """Store or adopt the files that a statement writes; one of another row cannot be exchanged for a copy here."""
    new: list[Wanted] = []
    found: list[Wanted] = []
    seen: set[int] = set()
    for column, file in given:
        place(file, column.type.backend, column.type.storages)
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


def _rows(state: ORMExecuteState, statement: Update | Delete, columns: Sequence[FileColumn]) -> list[set[Key]]:
    """What each row names that a statement is about to change, locked where the database can."""
    table: Any = statement.table
    primary: list[Any] = list(table.primary_key)
    asked = select(*primary, *(each.column for each in columns)).with_for_update()
    if statement.whereclause is not None:
        asked = asked.where(statement.whereclause)
    rows: dict[Any, set[Key]] = {}
    for row in state.session.execute(asked, state.parameters, bind_arguments=dict(state.bind_arguments)):
        keys = rows.setdefault(tuple(row[: len(primary)]), set())
        for each, value in zip(columns, row[len(primary) :], strict=True):
            keys |= {key_of(file) for file in each.files(value)}
    return list(rows.values())
