"""The example's page in a browser."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect, sync_playwright

SERVE = Path(__file__).resolve().parents[2] / "examples" / "documents" / "serve.py"
CHROMIUM = Path("/usr/bin/chromium")

expect.set_options(timeout=15_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server keeps what it is sent."""
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def address(data: Path) -> Iterator[str]:
    """Where the server listens."""
    environment = os.environ | {"LADING_EXAMPLE_DATA": str(data), "LADING_EXAMPLE_STORE": ""}
    command = [sys.executable, str(SERVE), "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip().removeprefix("Documents: ")
        finally:
            server.terminate()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page, without documents; an error in its script fails the test."""
    with httpx.Client(base_url=address) as client:
        for item in client.get("/listing?pageSize=1000").json()["items"]:
            client.delete(f"/documents/{item['id']}").raise_for_status()
    with browser.new_context(locale="en-GB", timezone_id="UTC") as context:
        context.set_default_timeout(15_000)
        page = context.new_page()
        errors: list[object] = []

        def noticed(error: object) -> None:
            errors.append(error)

        page.on("pageerror", noticed)
        page.goto(address)
        yield page
    assert errors == []


def sent(name: str, content: bytes) -> FilePayload:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def test_life_on_the_page(page: Page, data: Path) -> None:
    """A person uploads files, sees them, opens one, replaces it and deletes it."""
    rows = page.get_by_role("list", name="Documents").get_by_role("listitem")
    expect(page.get_by_text("Nothing here yet.")).to_be_visible()
    page.get_by_label("Choose files").set_input_files([sent("report.txt", b"first edition"), sent("空.txt", b"")])
    expect(rows).to_have_count(2)
    expect(page.get_by_role("status").first).to_have_text("2 files")
    report = rows.filter(has_text="report.txt")
    expect(report).to_contain_text("13 bytes · text/plain · ")
    expect(rows.filter(has_text="空.txt")).to_contain_text("0 bytes")
    expect(page.get_by_role("progressbar")).to_have_count(0)

    with page.expect_popup() as opened:
        page.get_by_role("link", name="Open report.txt").click()
    expect(opened.value.locator("body")).to_have_text("first edition")

    page.get_by_label("Replace report.txt").set_input_files(sent("report 2.txt", b"the second edition"))
    expect(rows.filter(has_text="report 2.txt")).to_contain_text("18 bytes")
    expect(rows).to_have_count(2)

    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete report 2.txt").click()
    expect(rows).to_have_count(1)
    left = [path.stat().st_size for path in (data / "files").rglob("*") if path.is_file()]
    assert left == [0]


def test_a_refusal_on_the_page(page: Page) -> None:
    """What is refused is said in words, stays until it is dismissed, and does not stop the next upload."""
    page.get_by_label("Choose files").set_input_files([sent("photo.png", b"#!/bin/sh\n"), sent("a.txt", b"a")])
    alert = page.get_by_role("alert")
    expect(alert).to_have_text("'photo.png' is text/x-shellscript, which is not allowed")
    expect(page.get_by_role("list", name="Documents").get_by_role("listitem")).to_have_count(1)
    page.get_by_role("button", name="Dismiss").click()
    expect(alert).to_have_count(0)


def test_a_name_is_not_markup(page: Page) -> None:
    """A file name with markup in it is shown as it is."""
    name = "<img src=x onerror=alert(1)>.txt"
    page.get_by_label("Choose files").set_input_files(sent(name, b"a"))
    expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()


def test_dropping_a_file(page: Page) -> None:
    """A file that is dropped on the page is uploaded."""
    page.evaluate(
        """() => {
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File(["dropped"], "dropped.txt"));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
        }"""
    )
    expect(page.get_by_role("list", name="Documents").get_by_role("listitem")).to_contain_text("dropped.txt")


def test_by_keyboard(page: Page) -> None:
    """The first stop of the keyboard is the picker, and a document is deleted without a mouse."""
    page.keyboard.press("Tab")
    expect(page.get_by_label("Choose files")).to_be_focused()
    page.get_by_label("Choose files").set_input_files(sent("a.txt", b"a"))
    rows = page.get_by_role("list", name="Documents").get_by_role("listitem")
    expect(rows).to_have_count(1)
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete a.txt").focus()
    page.keyboard.press("Enter")
    expect(rows).to_have_count(0)
    expect(page.get_by_label("Choose files")).to_be_focused()


def test_on_a_phone(page: Page) -> None:
    """At 360 pixels nothing is wider than the screen, and what is pressed is at least 40 pixels high."""
    page.set_viewport_size({"width": 360, "height": 740})
    name = "a very long name without any sense of when to stop " + "x" * 80 + ".txt"
    page.get_by_label("Choose files").set_input_files(sent(name, b"a"))
    page.get_by_role("link", name="Open").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    heights = page.locator(".acts > *").evaluate_all("items => items.map(item => item.offsetHeight)")
    assert len(heights) == 3
    assert min(heights) >= 40


def test_the_server_goes_away(page: Page) -> None:
    """When the connection breaks the page says so."""
    page.route("**/documents", lambda route: route.abort())
    page.get_by_label("Choose files").set_input_files(sent("a.txt", b"a"))
    expect(page.get_by_role("alert")).to_have_text("The connection broke. Is the server running?")
