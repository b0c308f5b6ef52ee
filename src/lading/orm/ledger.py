"""What one transaction has put and wants gone, a page per savepoint."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import InstanceState, Mapper

from lading.file import Claim, FileObject, claim, claim_of, restore, seize, state_of, upload_of
from lading.ops.save import Draft
from lading.orm.doubt import Commit
from lading.orm.key import Key, key_of
from lading.orm.outbox import Outbox
from lading.orm.plan import Plan
from lading.record import FileRecord


class Before(NamedTuple):
    """What a file was before a flush gave it to a row."""

    file: FileObject
    state: Draft | FileRecord
    claim: Claim

    @classmethod
    def of(cls, file: FileObject) -> "Before":
        """What a file is now."""
        return cls(file, state_of(file), claim_of(file))


class Disposal(NamedTuple):
    """How objects get deleted that rows of a table with an outbox have named, or were to name.

    Attributes:
        outbox: where they are entered.
        engine: what to do that with when the transaction is over; `None` where its connection is somebody else's.
    """

    outbox: Outbox
    engine: Engine | None


@dataclass(slots=True)
class Page:
    """What happened between the beginning of a transaction or savepoint and its end.

    Attributes:
        put: the objects that were stored, and the files that they are the content of.
        reused: those of them whose path may have been used before.
        shared: those of them that somebody else may have stored: what they are was there when an answer had been lost.
        given: the files that were given to a row here, as they were before.
        gone: the objects that rows named before and name no more.
        kept: the objects that an outer page wants gone, and that a row has taken here.
        disposals: how those of these objects get deleted for which there is an outbox.
        stray: the objects that should be gone whichever way the transaction ends, and could not be deleted.
        committed: whether COMMIT or RELEASE went through.
        failure: what went wrong after COMMIT, to be raised when the session has tidied up.
    """

    put: dict[Key, FileObject] = field(default_factory=dict[Key, FileObject])
    reused: set[Key] = field(default_factory=set[Key])
    shared: set[Key] = field(default_factory=set[Key])
    given: list[Before] = field(default_factory=list[Before])
    gone: set[Key] = field(default_factory=set[Key])
    kept: set[Key] = field(default_factory=set[Key])
    disposals: dict[Key, Disposal] = field(default_factory=dict[Key, Disposal])
    stray: set[Key] = field(default_factory=set[Key])
    committed: bool = False
    failure: BaseException | None = None

    def give(self, before: Before) -> None:
        """A row is about to be written that names this file."""
        self.given.append(before)
        claim(before.file, "flushing")

    def adopt(self, file: FileObject) -> bool:
        """A row is about to be written that names this file, which is nobody's; false where another was quicker."""
        before = Before.of(file)
        if not seize(file, "flushing"):
            return False
        self.given.append(before)
        return True

    def drop(self, keys: set[Key], disposal: Disposal | None) -> None:
        """Rows that named these objects name them no more."""
        self.kept -= keys
        self.gone |= keys
        if disposal is not None:
            self.disposals |= dict.fromkeys(keys, disposal)

    def keep(self, key: Key) -> None:
        """A row has taken an object that another let go of."""
        self.gone.discard(key)
        self.kept.add(key)

    def merge(self, inner: "Page") -> None:
        """Go on with what a flush, or a savepoint that was released, has done."""
        self.put |= inner.put
        self.shared |= inner.shared
        self.given += inner.given
        self.gone = (self.gone - inner.kept) | inner.gone
        self.kept = (self.kept - inner.gone) | inner.kept
        self.inherit(inner)

    def inherit(self, inner: "Page") -> None:
        """Take over what is left to delete of a flush or savepoint that has come to nothing."""
        self.disposals |= inner.disposals
        self.stray |= inner.stray

    def can_dispose(self, key: Key) -> bool:
        """Whether an object that cannot be deleted now can be entered for deletion when the transaction is over."""
        disposal = self.disposals.get(key)
        return disposal is not None and disposal.engine is not None

    def unwanted(self) -> set[Key]:
        """What a committed transaction leaves to delete: what rows let go of, and what never reached a row.

        Without what is in an outbox.
        """
        unused = {key for key, file in self.put.items() if claim_of(file) != "owned" and key not in self.shared}
        return {key for key in self.gone if key not in self.disposals} | (unused - self.gone)

    def forget(self) -> None:
        """Make the files what they were, since all of this has come to nothing."""
        for before in reversed(self.given):
            restore(*before)

    def doubt(self) -> None:
        """Nobody knows whether rows name the files: whether their direct uploads are spent is seen when one tries."""
        for before in self.given:
            if before.claim == "free" and upload_of(before.file) is not None:
                claim(before.file, "unspent")

    def forget_unwritten(self) -> None:
        """Make the files what they were that were given to a row and never written to it."""
        for before in reversed(self.given):
            if claim_of(before.file) in ("flushing", "bound"):
                restore(*before)


class Ledger:
    """The pages of one session, each by its transaction or savepoint, the outermost first.

    Attributes:
        root: the transaction of the session that all of this happens in.
        commit: what became of the transaction in the database.
        realms: of what rows have let go of, within what other rows may take it.
        plan: of the flush under way.
        departing: the rows that it deletes, and what they name before.
        garbage: what rows have let go of in it that belongs into an outbox, by the connection that wrote them.
    """

    def __init__(self, root: object) -> None:
        self.root = root
        self._pages: dict[object, Page] = {}
        self.commit = Commit()
        self.realms: dict[Key, object] = {}
        self.begin_flush()

    def begin_flush(self) -> None:
        """Forget the flush before."""
        self.plan = Plan()
        self.departing: dict[Mapper[Any], dict[InstanceState[Any], set[Key]]] = {}
        self.garbage: dict[tuple[Connection, Outbox], set[Key]] = {}

    def page(self, frame: object) -> Page:
        """The page of a transaction or savepoint, begun where there is none yet."""
        return self._pages.setdefault(frame, Page())

    def find(self, frame: object) -> Page | None:
        """The page of a transaction or savepoint, where there is one."""
        return self._pages.get(frame)

    def close(self, frame: object) -> Page | None:
        """Take a page out."""
        return self._pages.pop(frame, None)

    def gone(self) -> set[Key]:
        """What rows have let go of so far and no other row has taken."""
        gone: set[Key] = set()
        for page in self:
            gone = (gone - page.kept) | page.gone
        return gone

    def given(self) -> set[Key]:
        """What rows have been given so far."""
        return {key_of(before.file) for page in self for before in page.given}

    def __iter__(self) -> Iterator[Page]:
        return iter(self._pages.values())
