"""One flush: put what is pending, see what rows let go of, and give each object to one row alone."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, MetaData
from sqlalchemy.orm import InstanceState, Mapper, Session

from lading.errors import CleanupError, ConfigurationError, OwnedFile, StateError
from lading.file import FileObject, adopt, claim_of, duplicate, identity, place, store, upload_of
from lading.ops.read import exists
from lading.ops.save import Draft, judge
from lading.orm import uploads
from lading.orm.bridge import wait
from lading.orm.cleanup import undo
from lading.orm.key import Key, key_of
from lading.orm.ledger import Before, Disposal, Ledger, Page
from lading.orm.named import Named, named
from lading.orm.outbox import Outbox
from lading.orm.plan import Place
from lading.orm.slots import Slot
from lading.policy import Policy
from lading.storages import Storages
from lading.worlds import World


class Change(NamedTuple):
    """An attribute that a flush will write."""

    state: InstanceState[Any]
    slot: Slot

    @property
    def place(self) -> Place:
        """What is changed."""
        return self.state, self.slot.key

    @property
    def files(self) -> list[FileObject]:
        """The files that it will hold."""
        return self.slot.current(self.state)

    @property
    def is_to_be_written(self) -> bool:
        """Whether the row that is being made or changed will be told."""
        if self.state.has_identity:
            return self.slot.changed(self.state)
        return self.state.dict.get(self.slot.key) is not None

    def wanted(self, session: Session, file: FileObject) -> "Wanted":
        """A file that is to go here."""
        return Wanted(file, self.slot.policy, self.disposal(session))

    def disposal(self, session: Session) -> Disposal | None:
        """How objects that are named here get deleted, where there is an outbox."""
        return disposal_of(session, self.slot.table.metadata, mapper=self.state.mapper)

    def connection(self, session: Session) -> Connection:
        """The connection on which it will be written."""
        return session.connection(bind_arguments={"mapper": self.state.mapper})

    def swap(self, old: FileObject, new: FileObject) -> None:
        """Put another file in the place of one."""
        instance = self.state.obj()
        if self.slot.type.multiple:
            # A list of its own: the one that it holds may be held by another row, too.
            new_files = [new if file is old else file for file in getattr(instance, self.slot.key)]
            setattr(instance, self.slot.key, new_files)
        else:
            setattr(instance, self.slot.key, new)


class Wanted(NamedTuple):
    """A file, what the column that it goes to asks of it, and how its object gets deleted if it comes to nothing."""

    file: FileObject
    policy: Policy
    disposal: Disposal | None

    @property
    def outbox(self) -> Outbox | None:
        """The outbox of its table."""
        return None if self.disposal is None else self.disposal.outbox


def prepare(
    session: Session,
    ledger: Ledger,
    frame: object,
    changes: Sequence[Change],
    departing: Sequence[InstanceState[Any]],
    slots: Mapping[Mapper[Any], tuple[Slot, ...]],
) -> None:
    """Do for a flush all that must be done before its first statement; when it fails, all of it is undone.

    Args:
        session: what is flushed.
        ledger: of the session.
        frame: the transaction or savepoint that the flush is part of.
        changes: what it will write.
        departing: instances whose rows it will delete.
        slots: by mapper.
    """
    page, plan = Page(), ledger.plan
    try:
        wanted = _placed(session, changes)
        uploads.check(_announced(session, changes))
        put(page, wanted)
        rows = _rows(session, changes, departing, slots)
        leaving = {change.place: rows.of(change) - plan.moved for change in changes}
        leaves = {state: rows.all_of(state) for state in departing if state not in rows.switched}
        for change in changes:
            ledger.realms |= dict.fromkeys(leaving[change.place], _realm(session, change.state.mapper))
        for state, keys in leaves.items():
            ledger.realms |= dict.fromkeys(keys, _realm(session, state.mapper))
        free = ledger.gone() | plan.left()
        for change in changes:
            free |= leaving[change.place] - {key_of(file) for file in change.files}
        _give(session, page, changes, leaving, free.union(*leaves.values()), ledger)
        for change in changes if page.reused else ():
            if disposal := change.disposal(session):
                check_paths(page, change.files, disposal.outbox, change.connection(session))
        uploads.spend(_attached(session, ledger, page, changes))
        homes = {key_of(file): change.place for change in changes for file in change.files}
        plan.add(homes, leaving, leaves, page.kept)
    except BaseException as error:
        abandon(page, error, ledger.page(frame))
        raise
    ledger.page(frame).merge(page)


def put(page: Page, wanted: Sequence[Wanted]) -> None:
    """Store pending files, several at a time, and note each as soon as it is stored."""

    async def one(world: World, item: Wanted) -> None:
        before = Before.of(item.file)
        await store(item.file, world, item.policy)
        page.put[key_of(item.file)] = item.file
        assert isinstance(before.state, Draft)
        if before.state.is_recognised:
            page.shared.add(key_of(item.file))
        if not before.state.is_fresh:
            page.reused.add(key_of(item.file))
        if item.disposal is not None:
            page.disposals[key_of(item.file)] = item.disposal
        page.give(before)

    _each(one, wanted)


def take(page: Page, wanted: Sequence[Wanted], connection: Connection) -> None:
    """Make sure of the objects of files that are nobody's yet, and note them.

    Raises:
        StateError: one is being deleted.
    """
    for item in wanted:
        if claim_of(item.file) == "free" and not page.adopt(item.file):
            raise OwnedFile(f"{item.file.filename!r} was given to another row meanwhile")
    for outbox in {item.disposal.outbox for item in wanted if item.disposal is not None}:
        _take_off(outbox, connection, [item.file for item in wanted])

    async def one(world: World, item: Wanted) -> None:
        await adopt(item.file, world, item.policy)

    _each(one, wanted)


def check_paths(page: Page, files: Iterable[FileObject], outbox: Outbox, connection: Connection) -> None:
    """Make sure that no sweeper deletes what was put under a path that is not a fresh one, or has done so.

    Raises:
        StateError: one has begun to delete what lay there before.
    """
    reused = [file for file in files if file.is_stored and key_of(file) in page.reused]
    _take_off(outbox, connection, reused)

    async def one(world: World, file: FileObject) -> None:
        if not await exists(file.backend, file.path, world):
            raise StateError(f"a sweeper that was at what lay at {file.path!r} before has deleted it; store it again")

    if reused:
        wait(lambda world: world.each(partial(one, world), reused, reused[0].storages.concurrency))


def _take_off(outbox: Outbox, connection: Connection, files: Sequence[FileObject]) -> None:
    for registry in {file.storages for file in files}:
        entries = {identity(file) for file in files if file.storages is registry}
        known = registry.is_registered
        refused = outbox.remove(connection, entries, lambda key: registry.get_backend(key) if known(key) else None)  # noqa: B023  # called here
        for _, path in refused:
            raise StateError(f"the object at {path!r} is being deleted, or is a direct upload; no row can name it")


def check_registry(file: FileObject, registry: Storages) -> None:
    """Make sure that the row of a file leads back to its object.

    Raises:
        ConfigurationError: in the registry of its column, the key of its backend means another backend, or none.
    """
    if registry.get_backend(file.backend.key) != file.backend:
        raise ConfigurationError(f"the registry of the column knows another backend as {file.backend.key!r}")


def abandon(page: Page, error: BaseException, outer: Page) -> None:
    """Undo what a flush did before it failed, and say with its error what could not be undone."""
    try:
        undo(page)
    except CleanupError as failure:
        error.add_note(f"{failure.message}: {failure.left}")
    outer.inherit(page)


def disposal_of(session: Session, metadata: MetaData, **bind_arguments: Any) -> Disposal | None:
    """How objects of tables of this metadata get deleted; `None` where they have no outbox."""
    outbox = Outbox.of(metadata)
    if outbox is None:
        return None
    bind = session.get_bind(**bind_arguments)
    return Disposal(outbox, bind if isinstance(bind, Engine) else None)


def _realm(session: Session, mapper: Mapper[Any]) -> tuple[object, object]:
    """Within what a file can go from row to row: it is committed together, and one sweeper sees all of its rows."""
    metadata: Any = getattr(mapper.local_table, "metadata", None)
    return metadata, session.get_bind(mapper)


def _each(one: Any, wanted: Sequence[Wanted]) -> None:
    if wanted:
        limit = wanted[0].file.storages.concurrency
        wait(lambda world: world.each(partial(one, world), wanted, limit))


def _placed(session: Session, changes: Iterable[Change]) -> list[Wanted]:
    """The files that have to be stored, each once; a column's defaults fill what they leave open."""
    wanted: dict[int, Wanted] = {}
    for change in changes:
        column = change.slot.type
        for file in change.files:
            place(file, column.backend, column.storages)
            check_registry(file, column.storages)
            if not file.is_stored and id(file) not in wanted:
                wanted[id(file)] = change.wanted(session, file)
    return list(wanted.values())


def _announced(session: Session, changes: Iterable[Change]) -> Iterator[uploads.Announced]:
    """The direct uploads that are to go somewhere, stored or not."""
    for change in changes:
        for file in change.files:
            if (upload := upload_of(file)) is not None:
                disposal = change.disposal(session)
                outbox = None if disposal is None else disposal.outbox
                yield uploads.Announced(file, upload, change.slot.policy, outbox, partial(change.connection, session))


def _attached(session: Session, ledger: Ledger, page: Page, changes: Iterable[Change]) -> list[uploads.Spending]:
    """The direct uploads whose copies were nobody's before, and are now to be named by rows."""
    given = {id(before.file) for before in page.given if before.claim == "free"}
    found: list[uploads.Spending] = []
    for change in changes:
        for file in {id(file): file for file in change.files if id(file) in given}.values():
            if (upload := upload_of(file)) is None or (disposal := change.disposal(session)) is None:
                continue
            connection = change.connection(session)
            ledger.commit.watch(connection)
            found.append((connection, disposal.outbox, upload))
    return found


class Rows:
    """What rows name in the database that a flush will change or delete.

    Attributes:
        switched: instances that are deleted while another takes their primary key: the row is updated, not deleted.
    """

    def __init__(self, named: Named, departing: Iterable[InstanceState[Any]]) -> None:
        self._named = named
        self._departing = {state.key: state for state in departing}
        self.switched: set[InstanceState[Any]] = set()

    def of(self, change: Change) -> set[Key]:
        """The objects that the row names in the attribute that is changed."""
        state = change.state
        if not state.has_identity:
            before = self._departing.get(state.mapper.identity_key_from_instance(state.obj()))
            if before is None:
                return set()
            self.switched.add(before)
            state = before
        return self._named.get((state, change.slot.key), set())

    def all_of(self, state: InstanceState[Any]) -> set[Key]:
        """The objects that the row names in any attribute."""
        return {key for (named, _), keys in self._named.items() if named is state for key in keys}


def _rows(
    session: Session,
    changes: Iterable[Change],
    departing: Sequence[InstanceState[Any]],
    slots: Mapping[Mapper[Any], tuple[Slot, ...]],
) -> Rows:
    """Ask the database what the rows name."""
    asked: dict[Mapper[Any], tuple[dict[InstanceState[Any], None], dict[str, Slot]]] = defaultdict(lambda: ({}, {}))
    for change in changes:
        if change.state.has_identity:
            states, columns = asked[change.state.mapper]
            states[change.state] = None
            columns[change.slot.key] = change.slot
    for state in departing:
        states, columns = asked[state.mapper]
        states[state] = None
        columns.update({slot.key: slot for slot in slots[state.mapper]})
    found: dict[tuple[InstanceState[Any], str], set[Key]] = {}
    for mapper, (states, columns) in asked.items():
        found |= named(session.connection(bind_arguments={"mapper": mapper}), list(states), columns.values())
    return Rows(found, departing)


def _give(
    session: Session,
    page: Page,
    changes: Sequence[Change],
    leaving: Mapping[Place, set[Key]],
    free: set[Key],
    ledger: Ledger,
) -> None:
    """Give each file to the row that will name it: as it is, moved, adopted, or as a copy."""
    seen, given = set[Key](), ledger.given()
    adopted: dict[Mapper[Any], list[Wanted]] = defaultdict(list)
    copied: list[tuple[Change, FileObject, FileObject]] = []
    for change in changes:
        own = leaving[change.place]
        policy = change.slot.policy
        realm = _realm(session, change.state.mapper)
        here: dict[Key, bool] = {}
        for file in change.files:
            key = key_of(file)
            is_free = key in free and ledger.realms.get(key, realm) == realm
            fits = here.setdefault(key, key not in seen and (key in own or is_free or key in page.put))
            if fits:
                if is_free:
                    judge(file.record, policy)
                    page.keep(key)
                if claim_of(file) != "flushing":
                    page.give(Before.of(file))
            elif key not in seen | given and page.adopt(file):
                adopted[change.state.mapper].append(change.wanted(session, file))
            else:
                copied.append((change, file, duplicate(file)))
            seen.add(key)
    for mapper, files in adopted.items():
        take(page, files, session.connection(bind_arguments={"mapper": mapper}))
    put(page, [change.wanted(session, copy) for change, _, copy in copied])
    for change, file, copy in copied:
        change.swap(file, copy)
