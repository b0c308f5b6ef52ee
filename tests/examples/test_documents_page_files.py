"""The example's page in a browser: pictures, films, and a bucket of S3 that the page speaks to itself."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, Response, expect

from tests.examples.demo import Demo, OpenPage, loaded, pick, row, rows, sent, transfers


def test_an_image(page: Page, image: Path) -> None:
    """An image is shown small in the list, and large where one looks at it, until Escape."""
    pick(page, loaded(image))
    thumbnail = rows(page).locator("img")
    expect(thumbnail).to_have_js_property("naturalWidth", 320)
    view = page.get_by_role("button", name="View coast.png")
    view.click()
    viewer = page.get_by_role("dialog", name="coast.png")
    expect(viewer.get_by_role("img", name="coast.png")).to_have_js_property("naturalHeight", 200)
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(view).to_be_focused()


@pytest.mark.parametrize("place", ["local", "on_moto"])
def test_a_film_that_seeks(open_page: OpenPage, request: pytest.FixtureRequest, film: Path, place: str) -> None:
    """A film plays from where one jumps to, of which the server is asked for what is from there on."""
    page = open_page(request.getfixturevalue(place))
    page.get_by_label("Choose files").set_input_files(film)
    answers: list[Response] = []
    page.on(
        "response", lambda response: answers.append(response) if response.request.resource_type == "media" else None
    )
    page.get_by_role("button", name="Play harbour.mp4").click()
    video = page.locator("video")
    expect(video).to_have_js_property("duration", 20)
    video.evaluate(
        "video => new Promise((resolve) => { video.onseeked = resolve; video.currentTime = 17; })",
    )
    assert video.evaluate("video => [video.currentTime, video.readyState >= 2, video.videoWidth]") == [17, True, 640]
    expect(video).to_have_accessible_name("harbour.mp4")
    starts = [int(answer.request.headers["range"].removeprefix("bytes=").partition("-")[0]) for answer in answers]
    assert {answer.status for answer in answers} == {206}
    assert max(starts) > film.stat().st_size / 2
    page.get_by_role("button", name="Close").click()
    expect(video).to_have_count(0)


@pytest.mark.parametrize("place", ["on_moto", "on_ceph"])
def test_on_s3(open_page: OpenPage, request: pytest.FixtureRequest, image: Path, place: str) -> None:
    """On S3 files go straight to the bucket and come straight from it, and a replacement and a refusal are as ever."""
    on_s3: Demo = request.getfixturevalue(place)
    page = open_page(on_s3)
    elsewhere: set[tuple[str, int]] = set()

    def noticed(response: Response) -> None:
        if not response.url.startswith((on_s3.address, "data:")):
            elsewhere.add((response.request.method, response.status))

    page.on("response", noticed)
    pick(page, sent("报告 1.txt", b"first"), loaded(image))
    expect(rows(page)).to_have_count(2)
    expect(rows(page).locator("img")).to_have_js_property("naturalWidth", 320)
    assert {("PUT", 200), ("GET", 200)} <= elsewhere
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Replace 报告 1.txt").click()
    chooser.value.set_files(sent("b.txt", b"the second"))
    expect(row(page, "报告 1.txt")).to_contain_text("10 bytes")
    pick(page, sent("photo.png", b"#!/bin/sh\n"))
    expect(transfers(page)).to_contain_text("'photo.png' is text/x-shellscript, which is not allowed")
    page.get_by_label("through the application").check()
    pick(page, sent("through.txt", b"through the application"))
    expect(rows(page)).to_have_count(3)
    assert len(on_s3.documents()) == 3
