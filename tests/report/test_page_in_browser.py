"""The report in a real browser: from disk, by mouse and keyboard, light and dark, at all widths."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ccnet.report.evaluation import Evaluation
from ccnet.report.page import write_report
from tests.browser import chromium
from tests.report.test_page import HOSTILE

pytestmark = pytest.mark.slow
CLASSES = ("road", "sky", "car")
PALETTE = ((128, 64, 128), (70, 130, 180), (0, 0, 142))
NUM_IMAGES = 30


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with chromium() as browser:
        yield browser


def evaluation(classes: tuple[str, ...] = CLASSES, name: str = "img-{}.png") -> Evaluation:
    """30 images; every third has a car that is predicted as road, larger in later images."""
    found = Evaluation(classes, PALETTE)
    for index in range(NUM_IMAGES):
        label = np.zeros((60, 80), np.uint8)
        label[:20] = 1
        prediction = label.copy()
        prediction[20, 1:70] = 1  # the border is off by one
        if index % 3 == 0:
            label[30:50, 10 : 40 + index] = 2
        label[-5:] = 255
        label[55, 0] = prediction[55, 0] = 2  # so that there is a car in every image
        image = np.full((60, 80, 3), 90, np.uint8)
        confidence = np.full(label.shape, 0.9, np.float32)
        found(index, name.format(index), image, label, prediction, confidence)
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return write_report(folder, evaluation(), title="A model on val", facts={"model": "a"})


class Visit:
    """A page in a browser, with all that it asked for and complained about."""

    def __init__(self, browser, path: Path, **options) -> None:
        self.context = browser.new_context(
            **{"viewport": {"width": 1200, "height": 900}, **options}
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready=true]")
        self.page.locator("#grid .viewer").first.scroll_into_view_if_needed()
        self.page.wait_for_selector("#grid .viewer[data-painted]")
        self.page.evaluate("scrollTo({top: 0, behavior: 'instant'})")


@pytest.fixture
def visit(browser, report, request) -> Iterator[Visit]:
    visit = Visit(browser, report, **getattr(request, "param", {}))
    yield visit
    assert visit.complaints == []
    assert [url for url in visit.requests if not url.startswith("data:")] == [report.as_uri()]
    visit.context.close()


def names(visit: Visit) -> list[str]:
    return visit.page.locator("#grid h3").all_inner_texts()


def pixel(visit: Visit, x: int, y: int, layer: str = "canvas.front") -> list[int]:
    """Of the first picture."""
    program = f"""canvas => {{  // a copy, since reading from a canvas changes how it is painted
        const copy = document.createElement("canvas").getContext("2d");
        copy.drawImage(canvas, {-x}, {-y});
        return [...copy.getImageData(0, 0, 1, 1).data].slice(0, 3);
    }}"""
    return visit.page.locator(f"#grid .viewer {layer}").first.evaluate(program)


def focused(visit: Visit) -> str:
    return visit.page.evaluate("document.activeElement.id || document.activeElement.tagName")


def test_the_page_opens_from_disk_and_shows_the_scores(visit, report):
    page = visit.page
    assert page.title() == page.locator("h1").inner_text() == "A model on val"
    scores = evaluation().scores
    assert f"{100 * scores.miou:.2f}" in page.locator("#numbers").inner_text()
    rows = page.locator("#class-table tbody tr")
    assert [row.split()[:2] for row in rows.all_inner_texts()] == [
        [name, f"{100 * iou:.2f}"] for name, iou in scores.iou.items() if iou is not None
    ]
    assert page.locator("#matrix tbody td").count() == 9
    assert page.locator("figure svg").count() == 3
    assert "10 regions" in page.locator("#errors-text").inner_text()


def test_images_are_sorted_by_iou_and_more_of_them_come_on_request(visit):
    assert len(names(visit)) == 24
    assert names(visit)[0] == "img-27.png"  # the largest error
    visit.page.get_by_role("button", name="Show 6 more of 6").click()
    assert len(names(visit)) == NUM_IMAGES
    visit.page.select_option("#sort", "name")
    assert names(visit)[:3] == ["img-0.png", "img-1.png", "img-2.png"]
    visit.page.select_option("#sort", "best")
    assert names(visit)[0] == "img-1.png"


def test_pictures_show_truth_prediction_and_difference(visit):
    page = visit.page
    page.locator("#strength").fill("100")
    assert pixel(visit, 15, 40) == list(PALETTE[2])  # truth: a car
    assert pixel(visit, 15, 40, "canvas:not(.front)") == list(PALETTE[0])  # predicted: road
    page.select_option("#right", "difference")
    red, green, blue = pixel(visit, 15, 40, "canvas:not(.front)")
    assert red > 150 > green > blue
    red, green, blue = pixel(visit, 75, 40, "canvas:not(.front)")  # right: gray
    assert max(red, green, blue) - min(red, green, blue) < 4
    page.select_option("#left", "image")
    assert max(abs(value - 90) for value in pixel(visit, 15, 40)) < 4


def test_the_slider_moves_by_keyboard_and_mouse(visit):
    page = visit.page
    viewer = page.locator("#grid .viewer").first
    slider = viewer.locator("input")
    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert slider.input_value() == "54"
    assert slider.get_attribute("aria-valuetext") == "54 % Truth"
    assert "Truth to the left, Prediction to the right" in slider.get_attribute("aria-label")
    page.keyboard.press("Home")
    front = viewer.locator("canvas.front")
    assert front.evaluate("c => getComputedStyle(c).clipPath") == "inset(0px 100% 0px 0px)"
    viewer.scroll_into_view_if_needed()
    area = viewer.bounding_box()
    page.mouse.click(area["x"] + 0.75 * area["width"], area["y"] + 0.5 * area["height"])
    assert abs(int(slider.input_value()) - 75) <= 2


def test_pointing_at_a_pixel_names_its_classes(visit):
    viewer = visit.page.locator("#grid .viewer").first
    viewer.scroll_into_view_if_needed()
    area = viewer.bounding_box()
    visit.page.mouse.move(area["x"] + area["width"] * 15 / 80, area["y"] + area["height"] * 40 / 60)
    assert viewer.locator(".readout").inner_text() == "labeled car, predicted road"


def test_a_click_on_a_cell_shows_the_images_that_hold_it(visit):
    page = visit.page
    page.get_by_role("gridcell", name=re.compile("labeled car, predicted road")).click()
    expected = [f"img-{index}.png" for index in range(27, -1, -3)]
    assert names(visit) == expected  # most pixels first
    assert "10 images hold pixels labeled car and predicted road." in (
        page.locator("#filter").inner_text()
    )
    assert page.locator("#right").input_value() == "difference"
    page.wait_for_selector("#grid .viewer[data-painted='truth difference']")
    red, _, blue = pixel(visit, 15, 40, "canvas:not(.front)")
    assert red > blue  # the pixels of the cell
    red, _, blue = pixel(visit, 20, 20, "canvas:not(.front)")
    assert blue > red  # other errors
    page.get_by_role("button", name="Show all images").click()
    assert len(names(visit)) == 24
    assert page.locator("#filter").is_hidden()


def test_the_matrix_works_by_keyboard(visit):
    page = visit.page
    page.locator("#matrix td[tabindex='0']").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    assert "labeled car, predicted road" in page.evaluate("document.activeElement.ariaLabel")
    assert page.locator("#matrix td[tabindex='0']").count() == 1
    page.keyboard.press("Enter")
    assert len(names(visit)) == 10
    assert focused(visit) == "filter"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # back to the matrix
    assert "labeled car, predicted road" in page.evaluate("document.activeElement.ariaLabel")
    page.keyboard.press("End")  # a cell without a pixel
    assert "labeled car, predicted car: " in page.evaluate("document.activeElement.ariaLabel")


def test_the_first_stops_of_the_tab_key_lead_through_the_page(visit):
    seen = []
    for _ in range(14):
        visit.page.keyboard.press("Tab")
        seen.append(visit.page.evaluate("document.activeElement.innerText || ''").strip())
    assert seen[:3] == ["Skip to the images", "Dark theme", "Summary"]
    assert "class" in seen  # a button of the table of classes


def test_a_name_opens_the_large_picture_and_escape_leads_back(visit):
    page = visit.page
    button = page.locator("#grid h3 button").first
    button.focus()
    page.keyboard.press("Enter")
    large = page.locator("#large")
    assert large.is_visible()
    assert "car → road" in " ".join(large.inner_text().split())
    page.wait_for_selector("#large .viewer[data-painted]")
    page.keyboard.press("ArrowLeft")
    assert large.locator("input").input_value() == "49"
    page.get_by_role("button", name="Next →").click()
    assert page.locator("#large-title").inner_text() == names(visit)[1]
    page.keyboard.press("Escape")
    assert not large.is_visible()
    assert button.evaluate("b => b === document.activeElement")


def test_the_table_of_classes_is_sorted_by_a_column(visit):
    page = visit.page
    page.get_by_role("button", name="boundary IoU %").focus()
    page.keyboard.press("Enter")
    header = page.get_by_role("columnheader", name="boundary IoU %")
    assert header.get_attribute("aria-sort") == "descending"
    descending = page.locator("#class-table tbody th").all_inner_texts()
    page.keyboard.press("Enter")  # it still has the focus
    assert header.get_attribute("aria-sort") == "ascending"
    assert page.locator("#class-table tbody th").all_inner_texts() == descending[::-1]


def test_suspected_errors_have_pictures_with_the_region(visit):
    page = visit.page
    card = page.locator("#errors .card").first
    card.scroll_into_view_if_needed()
    page.wait_for_selector("#errors .viewer[data-painted='truth prediction']")
    assert "1. labeled car, the model sees road" in " ".join(card.inner_text().split())
    assert "img-27.png" in card.inner_text()
    assert card.locator(".region").is_visible()


@pytest.mark.parametrize(
    "visit", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True
)
def test_the_theme_follows_the_system_and_the_button_changes_it(visit):
    page = visit.page

    def brightness() -> int:
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", color)[:3]))

    before = brightness()
    page.locator("#theme").click()
    assert (before > 600) == (brightness() < 150)


@pytest.mark.parametrize("width", [320, 390, 800, 1800])
def test_the_page_fits_screens_of_all_widths(browser, report, width):
    visit = Visit(browser, report, viewport={"width": width, "height": 800})
    assert visit.page.evaluate("document.documentElement.scrollWidth") == width
    visit.context.close()


def test_hostile_names_are_shown_and_not_run(browser, tmp_path):
    found = evaluation((HOSTILE, "\u202egnp.exe", "c" * 300), HOSTILE.replace("{", "") + "{}")
    path = write_report(tmp_path, found, title=HOSTILE[:-1], facts={HOSTILE: HOSTILE})
    visit = Visit(browser, path)
    page = visit.page
    page.locator("#confusions button").first.click()
    page.locator("#grid h3 button").first.click()
    assert "<img src=x onerror=alert(2)>" in page.locator("h1").inner_text()
    assert "\ufffdgnp.exe" in page.locator("#class-table").inner_text()
    assert page.locator("img").count() == 0
    assert visit.complaints == []
    assert [url for url in visit.requests if not url.startswith("data:")] == [path.as_uri()]
    visit.context.close()


def test_text_has_contrast_in_both_themes(visit):
    for _ in range(2):
        for ink, paper in (
            *(("ink", "paper"), ("quiet", "paper"), ("quiet", "panel"), ("accent", "paper")),
            *(("mark", "paper"), ("ink", "warn"), ("accent-ink", "accent")),
        ):
            assert contrast(*(color_of(visit, name) for name in (ink, paper))) >= 4.5, (ink, paper)
        visit.page.locator("#theme").click()


def color_of(visit: Visit, name: str) -> list[float]:
    program = f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()"
    text = visit.page.evaluate(program).lstrip("#")
    text = "".join(2 * digit for digit in text) if len(text) == 3 else text
    return [value / 255 for value in bytes.fromhex(text)]


def contrast(first: list[float], second: list[float]) -> float:
    """The contrast ratio of the Web Content Accessibility Guidelines."""

    def luminance(color: list[float]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)
