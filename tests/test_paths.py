"""Path makers, the guard, and names for display."""

import ntpath
import pickle
import posixpath
import re
import time
import unicodedata
from datetime import UTC, datetime
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lading import paths
from lading.errors import ConfigurationError, InvalidPath
from lading.paths import PathMaker, as_given, by_date, extension, fresh, guard, sanitise, token, under
from lading.record import Candidate

HOSTILE = st.text(
    alphabet=st.sampled_from([*"./\\%25ecfEC0:~ ab\x00\x7f\x85", *"．／＼‥…：％２ｅ\u202e\ud800é"]), max_size=24
)
NAMES = st.one_of(st.text(max_size=400), HOSTILE)
DOTS = st.sampled_from(["..", ".", "%2e%2e", "%2E.", ".%2e", "%252e%252e", "．．", "．.", "‥", "․․", ".. ", "％２ｅ．"])
SEPARATORS = st.sampled_from(["/", "\\", "%2f", "%5C", "%252f", "%25255c", "／", "＼", "﹨"])
SEGMENTS = st.text(alphabet="abc-_09é", min_size=1, max_size=8)


def candidate(filename: str) -> Candidate:
    return Candidate(filename=filename, content_type="application/octet-stream")


class TestFresh:
    def test_contains_the_token(self) -> None:
        """A fresh path is the candidate's token and the extension, so that a path can be told to be this file's own."""
        made = token()
        assert re.fullmatch(r"[0-9a-f]{44}", made)
        assert fresh(Candidate("a.PDF", "application/pdf", token=made)) == f"{made}.pdf"
        assert fresh(Candidate("README", "text/plain", token=made)) == made

    def test_keeps_only_the_extension(self) -> None:
        """Of the user's name nothing but the extension is in a fresh path."""
        assert re.fullmatch(r"[0-9a-f]{44}\.pdf", fresh(candidate("Secret plans.PDF")))
        assert re.fullmatch(r"[0-9a-f]{44}", fresh(candidate("README")))

    def test_sorts_by_time(self) -> None:
        """A path made a few milliseconds later sorts later, and begins with the time of its making."""
        before = time.time_ns() // 1_000_000
        first = fresh(candidate("z.pdf"))
        time.sleep(0.003)
        second = fresh(candidate("a.pdf"))
        assert first < second
        assert before <= int(first[:12], 16) < int(second[:12], 16) <= time.time_ns() // 1_000_000

    def test_is_new_each_time(self) -> None:
        """Ten thousand paths made at once differ, and no random bit is fixed."""
        made = [int(fresh(candidate("a"))[12:], 16) for _ in range(10_000)]
        assert len(set(made)) == 10_000
        ever_set, always_set = 0, -1
        for bits in made:
            ever_set |= bits
            always_set &= bits
        assert ever_set == 2**128 - 1
        assert always_set == 0

    @given(NAMES)
    def test_passes_the_guard(self, filename: str) -> None:
        """Whatever the user calls a file, its fresh path is valid."""
        path = fresh(candidate(filename))
        assert guard(path) is path


class TestMakers:
    def test_under_puts_a_prefix(self) -> None:
        """`under` prefixes the path of another maker, with or without a slash at the prefix's end."""
        assert under("A/b", as_given)(candidate("X.pdf")) == "A/b/X.pdf"
        assert under("a/b/", as_given)(candidate("x.pdf")) == "a/b/x.pdf"
        assert re.fullmatch(r"a/[0-9a-f]{44}\.pdf", under("a")(candidate("x.pdf")))

    def test_by_date_puts_the_utc_date(self) -> None:
        """`by_date` prefixes today's date in UTC."""
        before = datetime.now(UTC)
        path = by_date(as_given)(candidate("x.pdf"))
        after = datetime.now(UTC)
        assert path in {f"{day:%Y/%m/%d}/x.pdf" for day in (before, after)}

    def test_by_date_follows_its_pattern(self) -> None:
        """The pattern decides how fine the date is, and the default name is a fresh one."""
        assert re.fullmatch(r"\d{4}-\d\d/[0-9a-f]{44}\.pdf", by_date(pattern="%Y-%m")(candidate("x.pdf")))

    def test_makers_nest(self) -> None:
        """A maker may be put under another one."""
        assert re.fullmatch(r"in/\d{4}/x\.pdf", under("in", by_date(as_given, "%Y"))(candidate("x.pdf")))

    @pytest.mark.parametrize("prefix", ["", "/", "/a", "a//", "..", "a/../b", "C:/a", "%2e%2e"])
    def test_a_bad_prefix_is_refused_at_once(self, prefix: str) -> None:
        """A prefix that is no path is an error of configuration."""
        with pytest.raises(ConfigurationError, match="not a valid object path"):
            under(prefix)

    @pytest.mark.parametrize("pattern", ["", "/%Y", "%Y/", "%Y/../%m", "%Y//%m"])
    def test_a_bad_pattern_is_refused_at_once(self, pattern: str) -> None:
        """A date pattern that gives no path is an error of configuration."""
        with pytest.raises(ConfigurationError, match="not a valid object path"):
            by_date(pattern=pattern)

    @pytest.mark.parametrize(
        ("maker", "spelled"),
        [
            (under("a/"), "under('a')"),
            (under("a", as_given), "under('a', as_given)"),
            (under("a", by_date()), "under('a', by_date())"),
            (by_date(as_given), "by_date(as_given)"),
            (by_date(pattern="%Y"), "by_date(pattern='%Y')"),
            (by_date(as_given, "%Y"), "by_date(as_given, pattern='%Y')"),
        ],
    )
    def test_makers_are_values(self, maker: PathMaker, spelled: str) -> None:
        """A maker's repr makes it again; it is equal to its copies, hashable and picklable."""
        assert repr(maker) == spelled
        assert eval(spelled, {**vars(paths)}) == maker
        assert pickle.loads(pickle.dumps(maker)) == maker
        assert hash(eval(spelled, {**vars(paths)})) == hash(maker)

    def test_as_given_is_the_sanitised_name(self) -> None:
        """`as_given` names an object by the last component of what the user called it."""
        assert as_given(candidate("../../etc/passwd")) == "passwd"
        assert as_given(candidate("C:\\fake\\ü b.pdf")) == "ü b.pdf"

    @given(NAMES)
    @example("C:a")
    @example("%2e%2e")
    @example("‥")
    def test_as_given_is_one_segment_or_refused(self, filename: str) -> None:
        """A path from `as_given` is one segment, or the guard says why not."""
        path = as_given(candidate(filename))
        assert "/" not in path
        assert "\\" not in path
        try:
            assert guard(path) is path
        except InvalidPath as error:
            caught = error
        else:
            return
        assert caught.path == path
        assert caught.reason


class TestGuard:
    @pytest.mark.parametrize(
        "path",
        [
            "a", "a/b/c.pdf", "a b.pdf", " a", "a ",
            "ü#?.pdf", "100%.pdf", "100%cash.pdf", "a%20b%41.pdf", "a..b",
            "..a", "a..", ".hidden", "a/.hidden/b", "~$draft.docx", "a/~/b", "a~", "～2026.pdf",
            "2026／05.pdf", "wait….pdf",
            "nul", "b/C:x", "ab:c", "x\\y", "файл.pdf", "文件.pdf", "👩‍👩‍👧.png", "a%2eb", "%ff", "½ %.pdf",
            "a" * 255, "é" * 127, "/".join(["a" * 127] * 8),
        ],
    )  # fmt: skip
    def test_good_paths_pass(self, path: str) -> None:
        """A path that means one thing everywhere is returned as it is."""
        assert guard(path) is path

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("", "empty"),
            ("/", "empty segment"), ("/a", "empty segment"), ("a/", "empty segment"), ("a//b", "empty segment"),
            ("\\\\server\\share", "empty segment"), ("//server/share", "empty segment"), ("a\\", "empty segment"),
            ("\\a", "empty segment"), ("http://a", "empty segment"),
            (".", "dots"), ("..", "dots"), ("a/../b", "dots"), ("a/./b", "dots"), ("a\\..\\b", "dots"),
            ("a/..", "dots"),
            ("a/.. /b", "dots"), ("a/ ./b", "dots"), ("a/.../b", "dots"), (" ", "dots"), ("a/\u3000/b", "dots"),
            ("C:", "drive"), ("C:a", "drive"), ("a:b", "drive"), ("0:", "drive"), ("é:a", "drive"),
            ("c:/a", "drive"), ("C:\\a", "drive"),
            ("~", "home"), ("~/a", "home"), ("~root", "home"), ("~root/.ssh", "home"),
            ("a\0b", "control"), ("a\nb", "control"), ("a\x7f", "control"), ("a\x85b", "control"), ("a\n", "control"),
            ("%2e%2e", "dots"), ("a/%2E./b", "dots"), ("%252e%252e/a", "dots"), ("%25252e%25252e", "dots"),
            ("a%2fb", "encoded separator"), ("a%5Cb", "encoded separator"), ("a%252fb", "encoded separator"),
            ("%2fetc", "encoded separator"), ("％２ｆ", "encoded separator"),
            ("a％２ｆb", "encoded separator"), ("a%ef%bc%852fb", "encoded separator"), ("％２ｅ．", "dots"),
            ("a%00b", "control"), ("a%2500b", "control"), ("a%c2%85", "control"), ("a%0ab", "control"),
            ("%7f", "control"),
            ("C%3a", "drive"), ("%43%3Aa", "drive"), ("C：a", "drive"),
            ("%c0%ae%c0%ae/a", "overlong"), ("a%c1%9cb", "overlong"), ("%e0%80%ae", "overlong"), ("%u002e", "overlong"),
            ("．．/a", "dots"), ("‥", "dots"), ("․", "dots"), ("…", "dots"), ("a/．/b", "dots"), ("．．／a", "dots"),
            ("／etc", "empty segment"), ("a＼＼b", "empty segment"),
            ("a" * 256, "255 bytes"), ("é" * 128, "255 bytes"), ("b/" + "a" * 256, "255 bytes"),
            ("/".join(["a" * 127] * 8) + "/", "empty segment"), ("/".join(["a" * 127] * 8) + "/a", "1024 bytes"),
            ("a/" * 1_000_000, "1024 bytes"), ("\ud800", "surrogate"), ("a/\udcff.pdf", "surrogate"),
        ],
    )  # fmt: skip
    def test_bad_paths_are_refused(self, path: str, reason: str) -> None:
        """A path that some store or reader may take for another place is refused, and the error says why."""
        with pytest.raises(InvalidPath, match=reason) as caught:
            guard(path)
        assert caught.value.path == path
        assert reason in caught.value.reason

    @given(st.lists(SEGMENTS, max_size=3), DOTS, st.lists(SEGMENTS, max_size=3), st.data())
    def test_no_spelling_of_a_traversal_passes(
        self, before: list[str], dots: str, after: list[str], data: st.DataObject
    ) -> None:
        """A dot segment is refused wherever it stands and however it and the separators are spelled."""
        path = before[0] if before else ""
        for segment in [*before[1:], dots, *after]:
            path += (data.draw(SEPARATORS) if path else "") + segment
        with pytest.raises(InvalidPath):
            guard(path)

    @given(HOSTILE)
    @example("a/%252e%252e%252f")
    @example("．%2e/x")
    def test_what_passes_stays_below_its_root(self, path: str) -> None:
        """A guarded path, decoded any number of times, lies strictly below its root on POSIX and on Windows."""
        try:
            guard(path)
        except InvalidPath:
            return
        reading = path
        for _ in range(8):
            for read in (reading, unicodedata.normalize("NFKC", reading)):
                assert posixpath.normpath(posixpath.join("/root", read)).startswith("/root/")
                assert ntpath.normpath(ntpath.join("D:\\root", read)).startswith("D:\\root\\")
                assert not re.search(r"[\x00-\x1f\x7f-\x9f]", read)
            reading = unquote(reading)

    @given(st.lists(st.from_regex(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", fullmatch=True), min_size=1, max_size=4))
    def test_plain_paths_pass(self, segments: list[str]) -> None:
        """Letters, digits, `_`, `-` and single inner dots are always a good path, as far as the lengths allow."""
        path = "/".join(segments)
        if max(map(len, segments)) <= 255:
            assert guard(path) is path


class TestSanitise:
    @pytest.mark.parametrize(
        ("filename", "shown"),
        [
            ("a.pdf", "a.pdf"), ("/etc/passwd", "passwd"), ("C:\\Users\\me\\a.pdf", "a.pdf"), ("a/b\\c.pdf", "c.pdf"),
            ("", "unnamed"), ("..", "unnamed"), (" . ", "unnamed"), ("dir/", "unnamed"), ("\0", "unnamed"),
            (" a.pdf ", "a.pdf"), ("a.pdf.", "a.pdf"), (".htaccess", "htaccess"), ("\u3000a\u00a0", "a"),
            ("a\r\nSet-Cookie: x.pdf", "aSet-Cookie: x.pdf"), ("a\x85\x7fb", "ab"), ("a\u2028b", "ab"),
            ("photo\u202egpj.exe", "photogpj.exe"), ("\u2066a\u2069\u200e\u200f\u061c", "a"), ("a\ud800b", "ab"),
            ("u\u0308.pdf", "ü.pdf"), ("a..b", "a..b"), ("100%.pdf", "100%.pdf"), ('"<x>".html', '"<x>".html'),
            ("文件.pdf", "文件.pdf"), ("👩‍👩‍👧.png", "👩‍👩‍👧.png"), ("nul.txt", "nul.txt"),
        ],
    )  # fmt: skip
    def test_what_is_shown(self, filename: str, shown: str) -> None:
        """A name loses its directories, what is not seen, and what surrounds it, and nothing else."""
        assert sanitise(filename) == shown

    @pytest.mark.parametrize(
        ("filename", "shown"),
        [
            ("a" * 300 + ".PDF", "a" * 251 + ".PDF"),
            ("é" * 300 + ".pdf", "é" * 125 + ".pdf"),
            ("a" * 300, "a" * 255),
            ("a" * 250 + " .pdf" * 9, "a" * 250 + ".pdf"),
            ("a" * 251 + ".pdf", "a" * 251 + ".pdf"),
        ],
    )
    def test_a_long_name_keeps_its_extension(self, filename: str, shown: str) -> None:
        """A name is cut to 255 bytes between characters, before its extension."""
        assert sanitise(filename) == shown

    @given(NAMES)
    @example("." * 300 + "a" * 300 + ". " * 300 + ".x")
    def test_is_safe_and_settled(self, filename: str) -> None:
        """A sanitised name fits, is never empty, shows no hidden character, and stays as it is when sanitised again."""
        shown = sanitise(filename)
        assert 0 < len(shown.encode()) <= 255
        assert not set(shown) & set("/\\\0\r\n\u202e\u2066\u2028")
        assert shown.strip(" .") == shown
        assert unicodedata.is_normalized("NFC", shown)
        assert sanitise(shown) == shown


class TestExtension:
    @pytest.mark.parametrize(
        ("filename", "tail"),
        [
            ("a.pdf", "pdf"), ("A.PDF", "pdf"), ("a.tar.gz", "gz"), ("a..pdf", "pdf"), ("d.x/a.mp4", "mp4"),
            ("a", ""), ("", ""), (".profile", ""), ("..profile", ""), ("d/.profile", ""), ("d\\..x", ""), ("a.", ""),
            ("d.x/a", ""), ("d.x\\a", ""), ("a.p-f", ""), ("a.pdf ", ""), ("a.ÿ", ""), ("a.٣", ""), ("a.\u212a", ""),
            ("a." + "x" * 16, "x" * 16), ("a." + "x" * 17, ""),
        ],
    )  # fmt: skip
    def test_what_an_extension_is(self, filename: str, tail: str) -> None:
        """An extension is short, ASCII and in lower case, and follows the last dot, before which there is something."""
        assert extension(filename) == tail

    @given(NAMES)
    def test_is_always_safe(self, filename: str) -> None:
        """Whatever the name, its extension is 0 to 16 of `a-z` and `0-9`."""
        assert re.fullmatch(r"[a-z0-9]{0,16}", extension(filename))

    @given(st.text("ab é文.", max_size=300).map("a".__add__))
    def test_survives_sanitising(self, stem: str) -> None:
        """A sanitised name has the extension that the name had, however long it was."""
        assert extension(sanitise(stem + ".PDF")) == extension(stem + ".PDF")
