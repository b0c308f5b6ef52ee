"""What one transaction has put and wants gone, a page per savepoint."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from lading.file import Claim, FileObject, claim, claim_of, restore, state_of
from lading.ops.save import Draft
from lading.orm.doubt import Commit
from lading.orm.key import Key, key_of
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


@dataclass(slots=True)
class Page:
    """What happened between the beginning of a transaction or savepoint and its end.

    Attributes:
        put: the objects that were stored, and the files that they are the content of.
        given: the files that were given to a row here, as they were before.
        gone: the objects that rows named before and name no more.
        kept: the objects that an outer page wants gone, and that a row has taken here.
        committed: whether COMMIT or RELEASE went through.
        failure: what went wrong after COMMIT, to be raised when the session has tidied up.
    """

    put: dict[Key, FileObject] = field(default_factory=dict[Key, FileObject])
    given: list[Before] = field(default_factory=list[Before])
    gone: set[Key] = field(default_factory=set[Key])
    kept: set[Key] = field(default_factory=set[Key])
    committed: bool = False
    failure: BaseException | None = None

    def give(self, before: Before) -> None:
        """A row is about to be written that names this file."""
        self.given.append(before)
        claim(before.file, "flushing")

    def drop(self, keys: set[Key]) -> None:
        """Rows that named these objects name them no more."""
        self.kept -= keys
        self.gone |= keys

    def keep(self, key: Key) -> None:
        """A row has taken an object that another let go of."""
        self.gone.discard(key)
        self.kept.add(key)

    def merge(self, inner: "Page") -> None:
        """Go on with what a flush, or a savepoint that was released, has done."""
        self.put |= inner.put
        self.given += inner.given
        self.gone = (self.gone - inner.kept) | inner.gone
        self.kept = (self.kept - inner.gone) | inner.kept

    def unwanted(self) -> set[Key]:
        """What a committed transaction leaves to delete: what rows let go of, and what never reached a row."""
        return self.gone | {key for key, file in self.put.items() if claim_of(file) != "owned"}

    def forget(self) -> None:
        """Make the files what they were, since all of this has come to nothing."""
        for before in reversed(self.given):
            restore(*before)

    def forget_unwritten(self) -> None:
        """Make the files what they were that were given to a row and never written to it."""
        for before in reversed(self.given):
            if claim_of(before.file) == "flushing":
                restore(*before)


class Ledger:
    """The pages of one session, each by its transaction or savepoint, the outermost first.

    Attributes:
        root: the transaction of the session that all of this happens in.
        commit: what became of the transaction in the database.
        plan: of the flush under way.
    """

    def __init__(self, root: object) -> None:
        self.root = root
        self._pages: dict[object, Page] = {}
        self.commit = Commit()
        self.plan = Plan()

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
