"""The example's page for everybody: by keyboard, for a screen reader, in two colour schemes, on a phone."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.examples.demo import Demo, OpenPage, loaded, pick, rows, sent, slowly

# The roles of what a screen reader has to call by a name.
NAMED = {
    "alertdialog",
    "button",
    "dialog",
    "group",
    "image",
    "link",
    "list",
    "log",
    "progressbar",
    "radio",
    "region",
    "Video",
}

# The contrast ratio of each text that is seen (WCAG 2.2, relative luminance), and the text.
CONTRAST = """() => {
    const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const painted = (colours) => {
        for (const colour of colours) {
            context.fillStyle = colour;
            context.fillRect(0, 0, 1, 1);
        }
        return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map((byte) => byte / 255);
    };
    const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    const light = (colours) => {
        const [red, green, blue] = painted(colours).map(linear);
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const grounds = (node) =>
        node ? [...grounds(node.parentElement), getComputedStyle(node).backgroundColor] : [];
    const isText = (child) => child.nodeType === Node.TEXT_NODE && child.data.trim();
    return [...document.querySelectorAll("main *")]
        .filter((node) => node.checkVisibility() && [...node.childNodes].some(isText))
        .map((node) => {
            const lights = [light(grounds(node)), light([...grounds(node), getComputedStyle(node).color])];
            return [(Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05), node.textContent];
        });
}"""


def test_by_keyboard(page: Page, local: Demo) -> None:
    """Everything is done without a mouse: choosing, the way, opening a dialog, saying no and yes."""
    page.keyboard.press("Tab")
    expect(page.get_by_label("Choose files")).to_be_focused()
    assert page.locator("#drop").evaluate("drop => getComputedStyle(drop).outlineStyle") == "solid"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files([sent("a.txt", b"a"), sent("b.txt", b"b")])
    expect(rows(page)).to_have_count(2)
    page.keyboard.press("Tab")
    expect(page.get_by_label("straight to the store")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_label("through the application")).to_be_checked()
    names = rows(page).locator(".name").all_inner_texts()
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.textContent"))
    assert reached == [label for name in names for label in (name, f"Open {name}", f"Replace {name}", f"Delete {name}")]

    page.keyboard.press("Enter")
    dialog = page.get_by_role("alertdialog", name=f"Delete “{names[1]}”?")
    expect(dialog.get_by_role("button", name="Keep it")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("button", name=f"Delete {names[1]}")).to_be_focused()
    for left in (1, 0):
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(rows(page)).to_have_count(left)
        if left:
            expect(page.get_by_role("button", name=f"Delete {names[0]}")).to_be_focused()
    expect(page.get_by_label("Choose files")).to_be_focused()
    assert local.documents() == []


def test_the_keyboard_stays_where_it_was(page: Page) -> None:
    """When another file arrives the focus stays on the button that it was on."""
    pick(page, sent("a.txt", b"a"))
    replace = page.get_by_role("button", name="Replace a.txt")
    replace.focus()
    pick(page, sent("b.txt", b"b"))
    expect(rows(page)).to_have_count(2)
    expect(replace).to_be_focused()


def nameless(page: Page) -> list[str]:
    """What has to have a name and has none, as the browser tells it to screen readers."""
    session = page.context.new_cdp_session(page)
    nodes = [node for node in session.send("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
    names = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes]
    assert len(names) > 5
    return [role for role, name in names if role in NAMED and not name.strip()]


def test_everything_has_a_name(page: Page, image: Path) -> None:
    """Every control, picture and dialog has a name for who does not see it, and each progress says of what it is."""
    slowly(page, 300_000)
    pick(
        page, loaded(image), sent("a.txt", b"a"), sent("voyage.zip", b"PK\3\4" + bytes(3_000_000)), sent("x.exe", b"MZ")
    )
    expect(rows(page)).to_have_count(2)
    expect(page.get_by_role("progressbar", name="Upload of voyage.zip")).to_be_visible()
    assert nameless(page) == []
    page.get_by_role("button", name="View coast.png").click()
    expect(page.get_by_role("dialog").get_by_role("img")).to_have_js_property("naturalWidth", 320)
    assert nameless(page) == []
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Delete coast.png").click()
    assert nameless(page) == []
    assert page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(page: Page, scheme: Any) -> None:
    """In either colour scheme text stands out from its ground as WCAG 2.2 asks (1.4.3): 4.5 to 1."""
    page.emulate_media(color_scheme=scheme)
    pick(page, sent("a.txt", b"a"), sent("x.exe", b"MZ"))
    expect(rows(page)).to_have_count(1)
    ratios = page.evaluate(CONTRAST)
    assert len(ratios) > 10
    assert [text for ratio, text in ratios if ratio < 4.5] == []


def test_on_a_phone(open_page: OpenPage, local: Demo) -> None:
    """At 360 pixels nothing is wider than the screen, names have room, what is pressed is at least 40 pixels high."""
    page = open_page(local, width=360)
    name = "a very long name without any sense of when to stop " + "x" * 80 + ".txt"
    pick(page, sent(name, b"a"), sent("x" * 100 + ".exe", b"MZ"))
    page.get_by_role("link", name="Open").wait_for()
    assert page.locator(".document .name").evaluate("name => name.offsetWidth") >= 180
    widths = [page.evaluate("document.documentElement.scrollWidth")]
    page.get_by_role("button", name="Delete").click()
    widths.append(page.get_by_role("alertdialog").evaluate("dialog => dialog.scrollWidth"))
    assert max(widths) <= 360
    heights = page.locator(".acts > :not([hidden])").evaluate_all("items => items.map(item => item.offsetHeight)")
    assert len(heights) == 6
    assert min(heights) >= 40
