"""Rules: what they refuse, what they say, and that they are values."""

import copy
import pickle
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading import rules
from lading.errors import ConfigurationError, ExtensionNotAllowed, Refused, TooLarge, TooSmall, TypeNotAllowed
from lading.record import Candidate
from lading.rules import (
    GB,
    KB,
    MB,
    GiB,
    KiB,
    MiB,
    Rule,
    all_of,
    check,
    content_types,
    extensions,
    max_size,
    min_size,
    size_limit,
)


def candidate(filename: str = "a.pdf", content_type: str = "application/pdf", size: int | None = 10) -> Candidate:
    return Candidate(filename=filename, content_type=content_type, size=size)


def no_drafts(file: Candidate) -> None:
    if "draft" in file.filename:
        raise Refused("no drafts", filename=file.filename)


class TestSizes:
    def test_units(self) -> None:
        """Decimal units are powers of 1000 and binary ones of 1024."""
        assert (KB, MB, GB) == (1000, 1000**2, 1000**3)
        assert (KiB, MiB, GiB) == (1024, 1024**2, 1024**3)

    @given(st.integers(0, 10**15), st.integers(0, 10**15))
    def test_the_limit_itself_is_allowed(self, limit: int, size: int) -> None:
        """`max_size` refuses exactly what is above its limit, `min_size` exactly what is below."""
        cases: list[tuple[Rule, type[Refused], bool]] = [
            (max_size(limit), TooLarge, size > limit),
            (min_size(limit), TooSmall, size < limit),
        ]
        for rule, error, refused in cases:
            if refused:
                with pytest.raises(error) as caught:
                    rule(candidate(size=size))
                assert (caught.value.filename, caught.value.limit, caught.value.actual) == ("a.pdf", limit, size)
            else:
                rule(candidate(size=size))

    @pytest.mark.parametrize("rule", [max_size(0), min_size(1)])
    def test_an_unknown_size_waits(self, rule: Rule) -> None:
        """While a stream has not ended no size rule refuses it; of its end it does."""
        rule(candidate(size=None))
        with pytest.raises((TooLarge, TooSmall)):
            rule(candidate(size=1 if rule == max_size(0) else 0))

    @pytest.mark.parametrize(
        ("limit", "size", "message"),
        [
            (5 * MB, 12_345_678, "'a.pdf' is too large: 12.3 MB is more than the 5 MB allowed"),
            (5 * MiB, 12 * MiB, "'a.pdf' is too large: 12 MiB is more than the 5 MiB allowed"),
            (5 * MB, 5_000_001, "'a.pdf' is too large: 5,000,001 bytes is more than the 5,000,000 allowed"),
            (0, 1, "'a.pdf' is too large: 1 byte is more than the 0 bytes allowed"),
            (128_000, 256_000, "'a.pdf' is too large: 256 KB is more than the 128 KB allowed"),
            (999, 2 * GB, "'a.pdf' is too large: 2 GB is more than the 999 bytes allowed"),
            (KiB, 1100, "'a.pdf' is too large: 1.1 KiB is more than the 1 KiB allowed"),
        ],
    )
    def test_the_message_says_both_sizes(self, limit: int, size: int, message: str) -> None:
        """Who is refused reads what there is and what is allowed, in units that tell the two apart."""
        with pytest.raises(TooLarge) as caught:
            max_size(limit)(candidate(size=size))
        assert str(caught.value) == message

    def test_too_small_says_both_sizes(self) -> None:
        """An empty file is told how much is required."""
        with pytest.raises(TooSmall, match=r"^'a\.pdf' is too small: 0 bytes is less than the 2 KB required$"):
            min_size(2 * KB)(candidate(size=0))

    @pytest.mark.parametrize("limit", [-1, 1.5, "5", None, True])
    def test_a_bad_limit_is_refused_at_once(self, limit: int) -> None:
        """A limit that is no number of bytes is an error of configuration."""
        for rule in (max_size, min_size):
            with pytest.raises(ConfigurationError, match="whole number of bytes"):
                rule(limit)


class TestContentTypes:
    def test_a_list_is_refused(self) -> None:
        """Types that are given as a list are said to be given one by one."""
        types: Any = ["image/png"]
        with pytest.raises(ConfigurationError, match="one by one"):
            content_types(types)

    @pytest.mark.parametrize(
        ("rule", "content_type", "allowed"),
        [
            (content_types("image/png"), "image/png", True),
            (content_types("IMAGE/PNG "), "image/png", True),
            (content_types("image/png"), "Image/PNG; q=1", True),
            (content_types("image/png"), "image/jpeg", False),
            (content_types("image/jpg"), "image/jpeg", True),
            (content_types(deny=["application/javascript"]), "text/javascript", False),
            (content_types("image/*"), "image/svg+xml", True),
            (content_types("image/*"), "imagex/png", False),
            (content_types("image/*"), "image", True),
            (content_types("image/*", "text/plain"), "text/plain", True),
            (content_types("image/*", "text/plain"), "text/html", False),
            (content_types("image/*"), "", False),
            (content_types("image/*", deny=["image/svg+xml"]), "image/svg+xml", False),
            (content_types("image/*", deny=["image/svg+xml"]), "IMAGE/SVG+XML;x=y", False),
            (content_types("image/*", deny=["image/svg+xml"]), "image/png", True),
            (content_types(deny=["text/*"]), "text/html", False),
            (content_types(deny=["text/*"]), "image/png", True),
            (content_types("text/html", deny=["text/*"]), "text/html", False),
            (content_types("*/*"), "x/y", True),
        ],
    )
    def test_what_is_allowed(self, rule: content_types, content_type: str, allowed: bool) -> None:
        """A type passes when a pattern names it or its family, and nothing denies it."""
        if allowed:
            rule(candidate(content_type=content_type))
        else:
            with pytest.raises(TypeNotAllowed):
                rule(candidate(content_type=content_type))

    def test_the_message_names_what_is_allowed(self) -> None:
        """Who is refused reads the type that was found and those that would have passed."""
        with pytest.raises(TypeNotAllowed, match=r"^'a\.png' is text/html; allowed: image/\*, video/mp4$") as caught:
            content_types("image/*", "video/mp4")(candidate("a.png", "text/html"))
        assert caught.value.limit == ("image/*", "video/mp4")
        assert caught.value.actual == "text/html"
        with pytest.raises(TypeNotAllowed, match=r"^'a\.png' is text/html, which is not allowed$"):
            content_types(deny=["text/html"])(candidate("a.png", "text/html"))

    @pytest.mark.parametrize(
        "pattern", ["", "image", "image/", "/png", "*", "*/png", "image/p*", "image/png; q=1", "a/b/c"]
    )
    def test_a_bad_pattern_is_refused_at_once(self, pattern: str) -> None:
        """A pattern that is no media type or family is an error of configuration, allowed or denied."""
        with pytest.raises(ConfigurationError, match="no content type"):
            content_types(pattern)
        with pytest.raises(ConfigurationError, match="no content type"):
            content_types("text/*", deny=[pattern])


class TestExtensions:
    @pytest.mark.parametrize(
        ("rule", "filename", "allowed"),
        [
            (extensions("pdf"), "a.pdf", True),
            (extensions(".PDF"), "a.Pdf", True),
            (extensions("pdf"), "a.exe", False),
            (extensions("pdf"), "pdf", False),
            (extensions("pdf"), ".pdf", False),
            (extensions("pdf"), "a.pdf.exe", False),
            (extensions("jpg"), "a.php.jpg", True),
            (extensions("gz"), "a.tar.gz", True),
            (extensions(deny=["exe"]), "a.pdf", True),
            (extensions(deny=["exe"]), "README", True),
            (extensions(deny=[".EXE"]), "a.exe", False),
            (extensions(deny=["php"]), "a.php.jpg", False),
            (extensions(deny=["php"]), "a.PHP;.jpg", False),
            (extensions(deny=["php"]), "a.php%00.jpg", False),
            (extensions(deny=["php"]), "a.php.", False),
            (extensions(deny=["php"]), "a.php ", False),
            (extensions(deny=["php"]), "a．ｐｈｐ", False),
            (extensions(deny=["php"]), "a.phpx", True),
            (extensions(deny=["php"]), "php.jpg", True),
            (extensions(deny=["htaccess"]), ".htaccess", False),
            (extensions("jpg", deny=["php"]), "a.php.jpg", False),
            (extensions("php", deny=["php"]), "a.php", False),
        ],
    )
    def test_what_is_allowed(self, rule: extensions, filename: str, allowed: bool) -> None:
        """A name passes when its last extension is allowed and none of its parts is denied."""
        if allowed:
            rule(candidate(filename))
        else:
            with pytest.raises(ExtensionNotAllowed):
                rule(candidate(filename))

    def test_the_message_names_what_is_allowed(self) -> None:
        """Who is refused reads the extension that was found and those that would have passed."""
        with pytest.raises(
            ExtensionNotAllowed, match=r"^'a\.exe' has the extension \.exe; allowed: \.pdf, \.png$"
        ) as caught:
            extensions("pdf", "png")(candidate("a.exe"))
        assert (caught.value.filename, caught.value.limit, caught.value.actual) == ("a.exe", ("pdf", "png"), "exe")
        with pytest.raises(ExtensionNotAllowed, match=r"^'README' has no extension; allowed: \.pdf$"):
            extensions("pdf")(candidate("README"))
        with pytest.raises(ExtensionNotAllowed, match=r"^'a\.php\.jpg' has the extension \.php, which is not allowed$"):
            extensions(deny=["php"])(candidate("a.php.jpg"))

    @pytest.mark.parametrize("spelled", ["", ".", "tar.gz", "..pdf", "p/f", "ü", "*", "x" * 17])
    def test_a_bad_extension_is_refused_at_once(self, spelled: str) -> None:
        """What cannot be an extension is an error of configuration, allowed or denied."""
        with pytest.raises(ConfigurationError, match="no extension"):
            extensions(spelled)
        with pytest.raises(ConfigurationError, match="no extension"):
            extensions("pdf", deny=[spelled])


class TestTogether:
    @pytest.mark.parametrize("make", [content_types, extensions])
    def test_a_rule_that_says_nothing_is_refused(self, make: type[content_types | extensions]) -> None:
        """A rule without names, or with one text where several are meant, is an error of configuration."""
        with pytest.raises(ConfigurationError, match="at least one name"):
            make()
        with pytest.raises(ConfigurationError, match="sequence of names"):
            make(deny="exe")

    def test_all_of_needs_callables(self) -> None:
        """`all_of` of nothing, or of something that cannot be called, is an error of configuration."""
        with pytest.raises(ConfigurationError, match="at least one rule"):
            all_of()
        with pytest.raises(ConfigurationError, match="cannot be called"):
            all_of(max_size(1), cast(Rule, 5))

    def test_the_first_refusal_is_raised(self) -> None:
        """Rules are asked in their order, whether in a list or by `all_of`, and no further than the first refusal."""
        asked: list[str] = []
        several: list[Rule] = [lambda _: asked.append("a"), max_size(5), lambda _: asked.append("b")]
        for ask in (lambda file: check(several, file), all_of(*several)):
            with pytest.raises(TooLarge):
                ask(candidate(size=6))
            assert asked == ["a"]
            ask(candidate(size=5))
            assert asked == ["a", "a", "b"]
            asked.clear()

    def test_any_callable_is_a_rule(self) -> None:
        """A plain function refuses like any other rule."""
        check([no_drafts], candidate())
        with pytest.raises(Refused, match="no drafts"):
            check([all_of(no_drafts)], candidate("draft.pdf"))

    def test_size_limit_is_the_smallest(self) -> None:
        """A stream is cut at the smallest maximum, also inside `all_of`; other rules set none."""
        assert size_limit([]) is None
        assert size_limit([min_size(1), no_drafts, all_of(extensions("pdf"))]) is None
        assert size_limit([max_size(7)]) == 7
        assert size_limit([max_size(7), all_of(min_size(1), all_of(max_size(0), max_size(3))), max_size(9)]) == 0
        assert size_limit(rule for rule in [max_size(7), max_size(5)]) == 5

    @pytest.mark.parametrize(
        ("rule", "spelled"),
        [
            (max_size(5 * MB), "max_size(5000000)"),
            (min_size(1), "min_size(1)"),
            (content_types("Image/*", "text/plain"), "content_types('image/*', 'text/plain')"),
            (content_types(deny=["text/html"]), "content_types(deny=('text/html',))"),
            (extensions(".PDF", "png", deny=("exe", "js")), "extensions('pdf', 'png', deny=('exe', 'js'))"),
            (all_of(max_size(1), extensions("pdf")), "all_of(max_size(1), extensions('pdf'))"),
        ],
    )
    def test_rules_are_values(self, rule: Any, spelled: str) -> None:
        """A rule's repr makes it again; it is equal to its copies, hashable, picklable and cannot be changed."""
        assert repr(rule) == spelled
        again = eval(spelled, {**vars(rules)})
        assert again == rule
        assert hash(again) == hash(rule)
        assert pickle.loads(pickle.dumps(rule)) == copy.deepcopy(rule) == rule
        assert rule != max_size(2)
        with pytest.raises(AttributeError):
            setattr(rule, type(rule).__slots__[0], 1)

    def test_all_of_spells_functions_by_name(self) -> None:
        """The repr of `all_of` names a function instead of giving its address."""
        assert repr(all_of(no_drafts, min_size(1))) == "all_of(no_drafts, min_size(1))"

    def test_a_refusal_pickles(self) -> None:
        """A refusal keeps its evidence on the way to another process."""
        with pytest.raises(TooLarge) as caught:
            max_size(1)(candidate(size=2))
        again = pickle.loads(pickle.dumps(caught.value))
        assert type(again) is TooLarge
        assert str(again) == str(caught.value)
        assert (again.filename, again.limit, again.actual) == ("a.pdf", 1, 2)
