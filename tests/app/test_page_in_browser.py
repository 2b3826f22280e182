"""The page in a real browser: upload, legend, click, maps, wrong files, two visitors, keyboard."""

import re
import time
from collections.abc import Iterator

import pytest

from ccnet.app.loading import PageModel
from tests.app.serving import loaded, scene_png, serving
from tests.browser import chromium

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with chromium() as browser:
        yield browser


@pytest.fixture
def both(model_folder, other_folder, scene, tmp_path):
    """The page of two models, with an example and a report.

    It ends with its test, since Gradio takes uploads only from the folder of the newest page in a
    process.
    """
    report = tmp_path
    (report / "report.html").write_text("<h1>Errors</h1>")
    models = loaded(model_folder, other_folder)
    with serving(models, examples=[scene], report=report) as server:
        yield server


class Visit:
    """A visitor's page, with all that it asked for."""

    def __init__(self, browser, url: str, until: str = "Ready:") -> None:
        self.url = url
        self.context = browser.new_context(viewport={"width": 1280, "height": 900})
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(url)
        # Gradio shows a "Loading..." of its own for a moment
        self.page.locator("[role=status]").filter(has_text=until).first.wait_for()

    def upload(self, content: bytes, name: str = "scene.png") -> None:
        file = {"name": name, "mimeType": "image/png", "buffer": content}
        self.page.set_input_files("#upload input[type=file]", file)

    def click(self, x: float, y: float, picture: str = "#picture-0") -> None:
        """A place of the picture, as shares of its width and height."""
        image = self.page.locator(f"{picture} img")
        box = image.bounding_box()
        image.click(position={"x": x * box["width"], "y": y * box["height"]})

    def maps(self, panel: str = "#pixel-0") -> list[str]:
        images = self.page.locator(f"{panel} figure img")
        return images.evaluate_all("images => images.map(image => image.src)")

    def close(self) -> None:
        foreign = [url for url in self.requests if not url.startswith((self.url, "data:", "blob:"))]
        assert foreign == []
        assert self.errors == []
        self.context.close()


@pytest.fixture
def visit(browser, running) -> Iterator[Visit]:
    visit = Visit(browser, running.url)
    yield visit
    visit.close()


def test_an_upload_gets_a_picture_and_a_legend_and_a_click_gets_maps(visit, running):
    page = visit.page
    visit.upload(scene_png())
    table = page.locator("#shares-0 table")
    table.wait_for()
    model = running.bench.models[0]
    assert "share of the pixels" in table.inner_text()
    shares = [float(x) for x in re.findall(r"([\d.]+) %", table.inner_text())]
    assert sum(shares) == pytest.approx(100, abs=0.5)

    visit.click(0.33, 0.33)
    heading = page.locator("#pixel-0 h3")
    heading.filter(has_text=re.compile(r"Pixel \(21, 21\)")).wait_for()
    assert heading.inner_text().split(": ")[1] in model.predictor.classes
    first = visit.maps()
    assert len(set(first)) == 2
    assert page.locator("#x input").input_value() == "21"

    visit.click(0.8, 0.6)
    heading.filter(has_text=re.compile(r"Pixel \(51, 38\)")).wait_for()
    assert not set(visit.maps()) & set(first)


def test_the_strength_and_the_protocol_change_the_picture(visit):
    page = visit.page
    visit.upload(scene_png(1))
    page.locator("#shares-0 table").wait_for()
    picture = page.locator("#picture-0 img")
    before = picture.get_attribute("src")
    page.locator("#opacity input[type=range]").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "before => document.querySelector('#picture-0 img').src !== before", arg=before
    )
    page.locator("#protocol input").click()
    page.get_by_role("option", name=re.compile("^sliding")).click()
    page.locator("#shares-0").get_by_text("tiles 769").wait_for()


def test_files_can_be_downloaded(visit):
    page = visit.page
    visit.upload(scene_png())
    page.locator("#shares-0 table").wait_for()
    page.locator("#make-files").click()
    links = page.locator("#files a[download]")
    links.nth(2).wait_for()
    names = links.evaluate_all("links => links.map(link => link.download)")
    assert names == ["scene.png", "scene.overlay.png", "polygons.coco.json"]
    with page.expect_download() as download:
        links.first.click()
    assert download.value.path().read_bytes().startswith(b"\x89PNG")


def test_a_wrong_file_takes_the_result_away_and_says_why(visit):
    page = visit.page
    visit.upload(scene_png())
    page.locator("#shares-0 table").wait_for()
    visit.click(0.5, 0.5)
    page.locator("#pixel-0 figure").first.wait_for()
    page.locator("#upload button[aria-label=Clear]").first.click()
    page.locator("#shares-0").get_by_text("Choose an example").wait_for()
    visit.upload(b"%!PS-Adobe-3.0", "letter.jpg")
    alert = page.locator("#shares-0 [role=alert]")
    alert.wait_for()
    assert "since it is PostScript; save it as JPEG" in alert.inner_text()
    assert page.locator("#picture-0 img").count() == 0
    assert page.locator("#pixel-0 figure").count() == 0


def test_it_is_there_before_the_model_and_complete_soon_after(browser, model_folder):
    model = PageModel(str(model_folder))
    with serving([model]) as server:
        visit = Visit(browser, server.url, "Loading")
        visit.upload(scene_png())
        model.load("cpu", "float32")
        start = time.monotonic()
        visit.page.get_by_text("Ready:").wait_for()
        visit.page.locator("#shares-0 table").wait_for()
        visit.page.locator("#picture-0 img").wait_for()
        # the goal is 3 seconds, but other tests may run beside this one
        assert time.monotonic() - start < 10
        visit.close()


def test_two_visitors_do_not_see_each_other(browser, running):
    visits = [Visit(browser, running.url) for _ in range(2)]
    for number, visit in enumerate(visits):
        visit.upload(scene_png(number), f"scene{number}.png")
    for number, visit in enumerate(visits):
        visit.page.locator("#shares-0 table").wait_for()
        visit.click(0.2 + 0.6 * number, 0.5)
    for x, visit in zip((12, 51), visits, strict=True):
        visit.page.get_by_text(f"Pixel ({x}, 32)").wait_for()
    first, second = (visit.maps() for visit in visits)
    assert not set(first) & set(second)
    for visit in visits:
        visit.close()


def test_an_example_and_a_pixel_can_be_chosen_with_the_keyboard(browser, both):
    visit = Visit(browser, both.url)
    page = visit.page
    page.locator("#examples button").first.focus()
    page.keyboard.press("Enter")
    page.locator("#shares-1 table").wait_for()
    page.locator("#x input").focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("30")
    page.keyboard.press("Tab")
    page.keyboard.type("40")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "look"
    page.keyboard.press("Enter")
    for panel in ("#pixel-0", "#pixel-1"):  # of both models, for the same pixel
        page.locator(panel).get_by_text("Pixel (30, 40)").wait_for()
    assert len(visit.maps("#pixel-0")) == 2
    assert "no attention" in page.locator("#pixel-1").inner_text()
    with page.expect_popup() as popup:
        page.get_by_text("Errors on a data set").click()
    assert popup.value.locator("h1").inner_text() == "Errors"
    visit.close()


def test_it_fits_a_phone(browser, running):
    visit = Visit(browser, running.url)
    visit.page.set_viewport_size({"width": 390, "height": 800})
    visit.upload(scene_png())
    visit.page.locator("#shares-0 table").wait_for()
    visit.click(0.5, 0.5)
    visit.page.locator("#pixel-0 figure").first.wait_for()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    visit.close()
