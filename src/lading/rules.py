"""Callables that refuse.

A rule is called with what is known of a file, and raises when it does not want it. It is called before anything is
stored, and again when a stream has ended and its size is known. Those made here are values: equal when they say the
same, hashable, picklable, and their `repr` is the call that makes them.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from lading.errors import ConfigurationError, ExtensionNotAllowed, TooLarge, TooSmall, TypeNotAllowed
from lading.mediatypes import canonical
from lading.paths import extension
from lading.record import Candidate

Rule: TypeAlias = Callable[[Candidate], None]
"""What may refuse a file, by raising `lading.errors.Refused` or one of its children."""

KB, MB, GB = 10**3, 10**6, 10**9
KiB, MiB, GiB = 2**10, 2**20, 2**30

# RFC 6838, section 4.2: restricted names.
_MEDIA_RANGE = re.compile(r"\*/\*|[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/(?:\*|[a-z0-9][a-z0-9!#$&^_.+-]{0,126})").fullmatch
_EXTENSION = re.compile(r"[a-z0-9]{1,16}").fullmatch
_PARTS = re.compile(r"\.(\w+)").findall


@dataclass(frozen=True, slots=True, repr=False)
class max_size:  # noqa: N801  # reads as the function that it is to its users
    """At most `limit` bytes; a stream that has more is cut there.

    Raises:
        ConfigurationError: the limit is no whole number, or below zero.
    """

    limit: int

    def __post_init__(self) -> None:
        _check_limit(self.limit)

    def __call__(self, candidate: Candidate) -> None:
        size = candidate.size
        if size is not None and size > self.limit:
            actual, limit = _sizes(size, self.limit)
            message = f"{candidate.filename!r} is too large: {actual} is more than the {limit} allowed"
            raise TooLarge(message, filename=candidate.filename, limit=self.limit, actual=size)

    def __repr__(self) -> str:
        return f"max_size({self.limit})"


@dataclass(frozen=True, slots=True, repr=False)
class min_size:  # noqa: N801  # reads as the function that it is to its users
    """At least `limit` bytes; `min_size(1)` refuses empty files.

    Raises:
        ConfigurationError: the limit is no whole number, or below zero.
    """

    limit: int

    def __post_init__(self) -> None:
        _check_limit(self.limit)

    def __call__(self, candidate: Candidate) -> None:
        size = candidate.size
        if size is not None and size < self.limit:
            actual, limit = _sizes(size, self.limit)
            message = f"{candidate.filename!r} is too small: {actual} is less than the {limit} required"
            raise TooSmall(message, filename=candidate.filename, limit=self.limit, actual=size)

    def __repr__(self) -> str:
        return f"min_size({self.limit})"


@dataclass(frozen=True, slots=True, repr=False, init=False)
class content_types:  # noqa: N801  # reads as the function that it is to its users
    """Only the given content types, or all but the denied ones; `image/*` stands for every image.

    What is judged is the type that was decided on. A type may be called by any of its names: `image/jpg` is
    `image/jpeg`. Without patterns everything is allowed that is not denied; what is both allowed and denied is denied.

    Raises:
        ConfigurationError: neither patterns nor denied ones are given, or one of them is no media type.
    """

    patterns: tuple[str, ...]
    deny: tuple[str, ...]

    def __init__(self, *patterns: str, deny: Sequence[str] = ()) -> None:
        _check_lists("content_types", patterns, deny)
        for name, given in (("patterns", patterns), ("deny", deny)):
            object.__setattr__(self, name, tuple(_media_range(pattern) for pattern in given))

    def __call__(self, candidate: Candidate) -> None:
        actual = candidate.content_type.partition(";")[0].strip().lower()
        names = (actual, actual.partition("/")[0] + "/*", "*/*")
        if any(name in self.deny for name in names):
            why = ", which is not allowed"
        elif self.patterns and not any(name in self.patterns for name in names):
            why = f"; allowed: {', '.join(self.patterns)}"
        else:
            return
        message = f"{candidate.filename!r} is {actual or 'of no known type'}{why}"
        raise TypeNotAllowed(message, filename=candidate.filename, limit=self.patterns, actual=actual)

    def __repr__(self) -> str:
        return f"content_types({_arguments(self.patterns, self.deny)})"


@dataclass(frozen=True, slots=True, repr=False, init=False)
class extensions:  # noqa: N801  # reads as the function that it is to its users
    """Only names with the given extensions, or all but those with a denied one; with or without a dot, in either case.

    Allowed is judged by the last extension: `a.tar.gz` is `gz`. Denied is judged by every part after a dot, because
    some servers run `shell.php.jpg`; so `deny=["com"]` also refuses `acme.com.pdf`. Without allowed ones everything is
    allowed that is not denied; what is both is denied.

    Raises:
        ConfigurationError: neither allowed nor denied ones are given, or one of them is not 1 to 16 of `a-z` and `0-9`.
    """

    allowed: tuple[str, ...]
    deny: tuple[str, ...]

    def __init__(self, *allowed: str, deny: Sequence[str] = ()) -> None:
        _check_lists("extensions", allowed, deny)
        for name, given in (("allowed", allowed), ("deny", deny)):
            object.__setattr__(self, name, tuple(_extension(spelled) for spelled in given))

    def __call__(self, candidate: Candidate) -> None:
        filename = candidate.filename
        actual = extension(filename)
        if self.deny:
            parts = _PARTS(unicodedata.normalize("NFKC", filename).casefold())
            for part in parts:
                if part in self.deny:
                    message = f"{filename!r} has the extension .{part}, which is not allowed"
                    raise ExtensionNotAllowed(message, filename=filename, limit=self.allowed, actual=part)
        if self.allowed and actual not in self.allowed:
            has = f"the extension .{actual}" if actual else "no extension"
            message = f"{filename!r} has {has}; allowed: {', '.join('.' + name for name in self.allowed)}"
            raise ExtensionNotAllowed(message, filename=filename, limit=self.allowed, actual=actual)

    def __repr__(self) -> str:
        return f"extensions({_arguments(self.allowed, self.deny)})"


@dataclass(frozen=True, slots=True, repr=False, init=False)
class all_of:  # noqa: N801  # reads as the function that it is to its users
    """Every one of these rules, in their order.

    Raises:
        ConfigurationError: there are none, or one of them cannot be called.
    """

    rules: tuple[Rule, ...]

    def __init__(self, *rules: Rule) -> None:
        if not rules:
            raise ConfigurationError("all_of() needs at least one rule")
        for rule in rules:
            if not callable(rule):
                raise ConfigurationError(f"a rule is called with the file, and {rule!r} cannot be called")
        object.__setattr__(self, "rules", rules)

    def __call__(self, candidate: Candidate) -> None:
        check(self.rules, candidate)

    def __repr__(self) -> str:
        return f"all_of({', '.join(getattr(rule, '__qualname__', None) or repr(rule) for rule in self.rules)})"


def check(rules: Iterable[Rule], candidate: Candidate) -> None:
    """Ask every rule, in order; the first that refuses raises.

    Raises:
        Refused: a rule does not want the file.
    """
    for rule in rules:
        rule(candidate)


def size_limit(rules: Iterable[Rule]) -> int | None:
    """The smallest `max_size` among these rules, in bytes, or `None`: where a stream is to be cut.

    It looks into `all_of`, and cannot look into other callables: those see the size when the stream has ended.
    """
    return min((rule.limit for rule in _plain(rules) if isinstance(rule, max_size)), default=None)


def least_size(rules: Iterable[Rule]) -> int | None:
    """The largest `min_size` among these rules, in bytes, or `None`."""
    return max((rule.limit for rule in _plain(rules) if isinstance(rule, min_size)), default=None)


def accepted(rules: Iterable[Rule]) -> list[str]:
    """What `content_types` and `extensions` among these rules allow: media ranges, and extensions with their dot.

    Where there are both, the extensions; where there are several of one kind, what all of them name. A browser offers
    what any of the list allows, so it offers more than the rules let pass, and never less.
    """
    types: list[tuple[str, ...]] = []
    names: list[tuple[str, ...]] = []
    for rule in _plain(rules):
        if isinstance(rule, extensions) and rule.allowed:
            names.append(tuple(f".{name}" for name in rule.allowed))
        elif isinstance(rule, content_types) and rule.patterns:
            types.append(rule.patterns)
    lists = names or types or [()]
    common = [name for name in lists[0] if all(name in other for other in lists[1:])]
    return common or list(lists[0])


def _plain(rules: Iterable[Rule]) -> Iterator[Rule]:
    """These rules, with those that `all_of` holds in its place."""
    for rule in rules:
        if isinstance(rule, all_of):
            yield from _plain(rule.rules)
        else:
            yield rule


def _check_limit(limit: object) -> None:
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise ConfigurationError(f"a size limit is a whole number of bytes, zero or more, not {limit!r}")


def _check_lists(rule: str, allowed: Sequence[str], deny: Sequence[str]) -> None:
    if isinstance(deny, str):
        raise ConfigurationError(f"deny is a sequence of names: {rule}(..., deny=[{deny!r}])")
    if not allowed and not deny:
        raise ConfigurationError(f"{rule}() needs at least one name to allow or to deny")


def _media_range(pattern: object) -> str:
    if not isinstance(pattern, str):
        raise ConfigurationError(f"content types are given one by one: content_types('image/png'), not {pattern!r}")
    lowered = pattern.strip().lower()
    if not _MEDIA_RANGE(lowered):
        raise ConfigurationError(f"{pattern!r} is no content type, such as 'image/png' or 'image/*'")
    return canonical(lowered) or lowered


def _extension(spelled: str) -> str:
    bare = spelled.strip().removeprefix(".").lower()
    if not _EXTENSION(bare):
        raise ConfigurationError(f"{spelled!r} is no extension, such as 'pdf'; of 'tar.gz' only 'gz' is one")
    return bare


def _arguments(allowed: tuple[str, ...], deny: tuple[str, ...]) -> str:
    return ", ".join([*map(repr, allowed), *([f"deny={deny!r}"] if deny else [])])


def _sizes(actual: int, limit: int) -> tuple[str, str]:
    """Both sizes for people, in full where rounding would make them look alike."""
    binary = limit % 1024 == 0 and limit % 1000 != 0
    short = _size(actual, binary), _size(limit, binary)
    return short if short[0] != short[1] else (f"{actual:,} bytes", f"{limit:,}")


def _size(size: int, binary: bool) -> str:
    units = ((GiB, "GiB"), (MiB, "MiB"), (KiB, "KiB")) if binary else ((GB, "GB"), (MB, "MB"), (KB, "KB"))
    for unit, name in units:
        if size >= unit:
            return f"{size / unit:.1f}".removesuffix(".0") + f" {name}"
    return "1 byte" if size == 1 else f"{size} bytes"
