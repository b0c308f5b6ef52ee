"""The example's page in a browser: files on their way in, and what becomes of them."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.examples.demo import (
    Demo,
    OpenPage,
    count,
    pick,
    row,
    rows,
    said,
    sent,
    slowly,
    transfer,
    transfers,
    wait_until,
)

WAYS = pytest.mark.parametrize("way", ["straight to the store", "through the application"])


def archive(path: Path, size: int) -> Path:
    """A file of that size, which takes no room."""
    with path.open("wb") as file:
        file.write(b"PK\3\4")
        file.truncate(size)
    return path


def unlimited(page: Page) -> None:
    """Make the page one that was loaded before there was a limit."""

    def forget(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=json.dumps(answer.json() | {"max_size": None, "accept": ""}))

    page.route("**/files/policies/*", forget)


# a file's life


@WAYS
def test_life_on_the_page(page: Page, local: Demo, way: str) -> None:
    """A person uploads files, sees them, opens one, replaces it and deletes it."""
    expect(page.get_by_text("Nothing here yet.")).to_be_visible()
    page.get_by_label(way).check()
    pick(page, sent("report.txt", b"first edition"), sent("空.txt", b""))
    expect(rows(page)).to_have_count(2)
    expect(count(page)).to_have_text("2 files")
    report = row(page, "report.txt")
    expect(report).to_contain_text("13 bytes · text/plain · ")
    expect(row(page, "空.txt")).to_contain_text("0 bytes")
    expect(transfers(page)).to_have_count(0)
    expect(said(page)).to_contain_text("report.txt is uploaded.")

    with page.expect_popup() as opened:
        page.get_by_role("link", name="Open report.txt").click()
    expect(opened.value.locator("body")).to_have_text("first edition")
    opened.value.close()

    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Replace report.txt").click()
    chooser.value.set_files(sent("report.txt", b"the second edition"))
    expect(report).to_contain_text("18 bytes")
    expect(rows(page)).to_have_count(2)
    expect(transfers(page)).to_have_count(0)

    page.get_by_role("button", name="Delete report.txt").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(rows(page)).to_have_count(1)
    expect(said(page)).to_contain_text("report.txt was deleted.")
    assert [document["size"] for document in local.documents()] == [0]


@WAYS
def test_the_way_that_was_chosen(page: Page, local: Demo, way: str) -> None:
    """The bytes of a file go by the way that was chosen, and only its id goes to the application by the other."""
    asked: list[tuple[str, str]] = []
    page.on("request", lambda request: asked.append((request.method, request.url.removeprefix(local.address)[:15])))
    page.get_by_label(way).check()
    pick(page, sent("a.txt", b"a"))
    expect(rows(page)).to_have_count(1)
    begun = [request for request in asked if request[0] != "GET"]
    direct = [("POST", "/files/uploads"), ("PUT", "/files/uploads/")]
    assert begun == [*(direct if "store" in way else []), ("POST", "/documents")]


def test_many_files(page: Page, local: Demo) -> None:
    """Of many files three are under way at a time, and all arrive."""
    slowly(page, 2_000_000)
    most = 0
    pick(page, *(sent(f"{number}.txt", b"x" * 200_000) for number in range(12)))
    while transfers(page).count():
        most = max(most, page.locator("[data-state=sending], [data-state=storing]").count())
    expect(rows(page)).to_have_count(12)
    assert most == 3
    assert {document["size"] for document in local.documents()} == {200_000}


def test_a_name_is_not_markup(page: Page) -> None:
    """A file name with markup in it is shown as it is."""
    name = "<img src=x onerror=alert(1)>.txt"
    pick(page, sent(name, b"a"))
    expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()


def test_dropping_files(page: Page) -> None:
    """Files that are dropped on the page are uploaded."""
    page.evaluate(
        """() => {
            const dataTransfer = new DataTransfer();
            for (const name of ["one", "two"]) dataTransfer.items.add(new File(["dropped"], `${name}.txt`));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
        }"""
    )
    expect(rows(page)).to_have_count(2)
    expect(row(page, "two.txt")).to_contain_text("7 bytes")


# on the way


@WAYS
def test_progress_cancelling_and_retrying(page: Page, local: Demo, tmp_path: Path, way: str) -> None:
    """An upload shows how far it is; cancelled, it leaves neither object nor row; tried again, it arrives."""
    before = len(local.objects())
    page.get_by_label(way).check()
    slowly(page, 6_000_000)
    page.get_by_label("Choose files").set_input_files(archive(tmp_path / "voyage.zip", 30_000_000))
    bar = page.get_by_role("progressbar", name="Upload of voyage.zip")
    expect(bar).to_have_js_property("position", 0)
    wait_until(lambda: len(local.objects()) > before)
    assert 0.1 < bar.evaluate("bar => bar.value") < 0.9
    expect(transfers(page)).to_contain_text("% of 30 MB")

    page.get_by_role("button", name="Cancel voyage.zip").click()
    expect(transfers(page)).to_contain_text("Cancelled.")
    expect(said(page)).to_contain_text("voyage.zip was cancelled.")
    expect(page.get_by_role("button", name="Retry voyage.zip")).to_be_focused()
    wait_until(lambda: len(local.objects()) == before)
    assert local.documents() == []

    slowly(page, 0)
    page.get_by_role("button", name="Retry voyage.zip").click()
    expect(rows(page)).to_contain_text("30 MB · application/zip")
    expect(transfers(page)).to_have_count(0)


def test_one_that_waits_is_cancelled(page: Page, local: Demo) -> None:
    """A file whose turn has not come can be cancelled, dismissed, or tried again, and goes once."""
    slowly(page, 300_000)
    pick(page, *(sent(f"{number}.txt", b"x" * 100_000) for number in range(5)))
    expect(transfer(page, "4.txt")).to_contain_text("Waiting")
    for number in (3, 4):
        page.get_by_role("button", name=f"Cancel {number}.txt").click()
    page.get_by_role("button", name="Retry 3.txt").click()
    page.get_by_role("button", name="Dismiss 4.txt").click()
    slowly(page, 0)
    expect(rows(page)).to_have_count(4)
    expect(transfers(page)).to_have_count(0)
    assert sorted(document["name"] for document in local.documents()) == ["0.txt", "1.txt", "2.txt", "3.txt"]


def test_the_server_goes_away(page: Page, local: Demo) -> None:
    """When the connection breaks the page says so; what the store has by then is not sent again."""
    page.route("**/documents", lambda route: route.abort())
    pick(page, sent("a.txt", b"a"))
    expect(transfers(page)).to_contain_text(f"There is no connection to {local.address.removeprefix('http://')}.")
    page.unroute("**/documents")
    puts: list[str] = []
    page.on("request", lambda request: puts.append(request.method) if request.method == "PUT" else None)
    page.get_by_role("button", name="Retry a.txt").click()
    expect(rows(page)).to_have_count(1)
    assert puts == []


# refusals


@WAYS
def test_a_refusal_on_the_page(page: Page, way: str) -> None:
    """What is refused is said in words, stays until it is dismissed, and does not stop the next upload."""
    page.get_by_label(way).check()
    pick(page, sent("photo.png", b"#!/bin/sh\n"), sent("a.txt", b"a"))
    words = "'photo.png' is text/x-shellscript, which is not allowed"
    expect(transfer(page, "photo.png")).to_contain_text(words)
    expect(said(page)).to_contain_text(words)
    expect(rows(page)).to_have_count(1)
    expect(page.get_by_role("button", name="Retry photo.png")).to_have_count(0)
    page.get_by_role("button", name="Dismiss photo.png").click()
    expect(transfers(page)).to_have_count(0)
    expect(page.get_by_label("Choose files")).to_be_focused()


def test_refusals_before_anything_is_sent(page: Page, tmp_path: Path) -> None:
    """What the column does not take is refused as soon as it is chosen."""
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.method))
    page.get_by_label("Choose files").set_input_files(archive(tmp_path / "large.zip", 500_100_000))
    pick(page, sent("setup.exe", b"MZ"))
    expect(transfer(page, "large.zip")).to_contain_text("It has 500 MB, and 500 MB are allowed.")
    expect(transfer(page, "setup.exe")).to_contain_text("Files of this kind are not taken.")
    assert page.get_by_label("Choose files").get_attribute("accept") is not None
    assert "POST" not in requests


@WAYS
def test_too_large_for_the_server(open_page: OpenPage, local: Demo, tmp_path: Path, way: str) -> None:
    """A page that knows no limit is told of it by the server."""
    page = open_page(local, before=unlimited)
    page.get_by_label(way).check()
    before = local.objects()
    page.get_by_label("Choose files").set_input_files(archive(tmp_path / "large.zip", 510_000_000))
    expect(transfers(page)).to_contain_text("too large")
    assert local.documents() == []
    assert local.objects() == before
