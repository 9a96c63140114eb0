"""The report's page in a real browser: it loads without a complaint, its interactions work, and it fits a phone."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.shared.report.browser import browser, missing_browser, problems, resize, write

REASON = missing_browser()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))
MANY = 1284


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser that shows the report of many classes."""
    with browser() as chromium:  # first, as it may be left out
        resize(chromium, 1280, 900)
        chromium.get(write(tmp_path_factory.mktemp("page"), MANY))
        yield chromium


@pytest.fixture(autouse=True)
def top_of_the_page(driver: Any) -> None:
    resize(driver, 1280, 900)
    driver.execute_script("document.getElementById('viewer').close(); scrollTo(0, 0)")


def find(driver: Any, selector: str) -> Any:
    return driver.find_element("css selector", selector)


def texts(driver: Any, selector: str) -> list[str]:
    return driver.execute_script("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent.trim())", selector)


def hover(driver: Any, element: Any) -> None:
    from selenium.webdriver import ActionChains

    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    ActionChains(driver).move_to_element(element).perform()


def press(driver: Any, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(driver).send_keys(*keys).perform()


def test_page_loads_without_a_complaint_and_shows_every_picture(driver: Any) -> None:
    assert problems(driver) == []
    widths = driver.execute_script(
        "return Promise.all([...document.images].filter((i) => i.src).map((i) => i.decode().then(() => i.naturalWidth)))"
    )
    assert widths == [200] * (6 * 5 + 6 * 4)
    assert driver.execute_script("return performance.getEntriesByType('resource').filter((e) => !e.name.startsWith('data:')).length") == 0
    assert driver.title == "Semantics <compared>"
    assert driver.execute_script("return document.querySelectorAll('main b:not([style]), main i:not(.mark)').length") == 0  # names are text


def test_viewer_swaps_arms_in_place_and_goes_to_other_layouts(driver: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    grid = driver.find_elements("css selector", "#pictures .pictures img")
    grid[0].click()
    assert find(driver, "#viewer").is_displayed() and find(driver, "#viewer strong").text == "val_<i>0"
    shown = "return document.querySelector('.stage img').src"
    hover(driver, driver.find_elements("css selector", ".tabs button")[4])
    assert driver.execute_script(shown) == grid[4].get_attribute("src")
    assert find(driver, ".tabs [aria-pressed=true]").text == "learned"
    press(driver, Keys.ARROW_LEFT)
    assert driver.execute_script(shown) == grid[3].get_attribute("src")
    press(driver, Keys.ARROW_DOWN)
    assert find(driver, "#viewer strong").text == "val_<i>1"
    assert driver.execute_script(shown) == grid[8].get_attribute("src")  # the same arm of the next layout
    press(driver, Keys.ESCAPE)
    assert not find(driver, "#viewer").is_displayed()


def test_viewer_opens_by_keyboard_zooms_and_names_the_class_under_the_pointer(driver: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    find(driver, "#pictures .pictures img").send_keys(Keys.ENTER)
    image = find(driver, ".stage img")
    hover(driver, image)
    assert find(driver, "#viewer .class").text == 'a "road" & more'  # the middle of three bands
    before = image.size["width"]
    press(driver, "+")
    assert image.size["width"] == pytest.approx(1.5 * before, rel=0.01)
    press(driver, "0")
    assert image.size["width"] == pytest.approx(before, rel=0.01)


def test_more_layouts_come_on_demand(driver: Any) -> None:
    hidden = driver.find_elements("css selector", "#pictures .more img")
    assert len(hidden) == 10 and not hidden[0].is_displayed()
    find(driver, "#pictures .more summary").click()
    assert hidden[0].is_displayed()


def test_tables_of_classes_sort_and_filter(driver: Any) -> None:
    driver.execute_script("document.querySelectorAll('#classes details').forEach((e) => (e.open = true))")
    heads = driver.find_elements("css selector", "#classes thead button")
    for direction, sign in (("descending", -1), ("ascending", 1)):
        driver.execute_script("arguments[0].click()", heads[4])
        change = [float(text.replace("−", "-")) for text in texts(driver, "#classes tbody td:nth-child(5)")]
        assert len(change) == MANY and change == sorted(change, key=lambda value: sign * value)
        assert find(driver, "#classes th[aria-sort]").get_attribute("aria-sort") == direction
    find(driver, "#classes .filter input").send_keys("class 128")
    assert sorted(texts(driver, "#classes tbody tr:not([hidden]) th")) == [
        "class 128",
        "class 1280",
        "class 1281",
        "class 1282",
        "class 1283",
    ]
    assert find(driver, "#classes .filter span").text == f"5 of {MANY}"


def test_map_shows_a_class_with_its_nearest_ones(driver: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    search = find(driver, "#map input")
    hover(driver, search)
    search.send_keys("class 77")
    assert find(driver, ".said").text.startswith("class 77 is nearest to ")
    row = texts(driver, "#embeddings tbody tr:nth-child(78) td")
    assert [name.rsplit(" ", 1)[0] in find(driver, ".said").text for name in row] == [True] * 3
    assert len(driver.find_elements("css selector", ".links line")) == 5
    find(driver, "#map svg").send_keys(Keys.ARROW_RIGHT)
    assert find(driver, ".said").text.startswith("class 78 is nearest to ")
    places = "return [...document.querySelectorAll('#map circle')].map((c) => c.getAttribute('cx'))"
    before = driver.execute_script(places)
    find(driver, "#map [data-map='1']").click()
    assert find(driver, "#map .note").text.startswith("The two main axes") and before != driver.execute_script(places)
    names = len(driver.find_elements("css selector", "#map text"))
    driver.execute_script("for (let i = 0; i < 8; i++) document.querySelector('[data-zoom=\"1.5\"]').click()")
    assert float(find(driver, "#map svg").get_dom_attribute("viewBox").split()[2]) < 40
    assert 0 < len([text for text in driver.find_elements("css selector", "#map text") if text.is_displayed()]) < names + 20


def test_legend_shows_the_lines_of_one_arm(driver: Any) -> None:
    driver.execute_script("document.querySelector('#training [data-line=line-1]').click()")
    faded = driver.execute_script(
        "return [...document.querySelectorAll('#training g.line-0, #training g.line-1')].map((g) => g.style.opacity)"
    )
    assert sorted(faded) == ["", "", "", "", "0.12", "0.12", "0.12", "0.12"]


def test_nothing_is_wider_than_a_phone(driver: Any) -> None:
    resize(driver, 390, 844)
    assert driver.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [390, 390]
    find(driver, "#pictures .pictures img").click()
    assert driver.execute_script("return document.querySelector('#viewer').scrollWidth") <= 390


def test_colours_follow_the_reader_and_stay_legible(driver: Any) -> None:
    def contrast() -> float:
        script = "const s = getComputedStyle(document.querySelector('main section > p')), b = getComputedStyle(document.body);"
        colours = driver.execute_script(script + "return [s.color, b.backgroundColor].map((c) => c.match(/\\d+/g).slice(0, 3).map(Number))")
        dark, light = sorted(luminance(colour) for colour in colours)
        return (light + 0.05) / (dark + 0.05)

    paper = "return getComputedStyle(document.body).backgroundColor"
    light, light_contrast = driver.execute_script(paper), contrast()
    resize(driver, 1280, 900, dark=True)
    assert driver.execute_script(paper) != light
    assert min(light_contrast, contrast()) > 4.5  # what accessibility guidelines ask of text


def luminance(colour: list[int]) -> float:
    """Relative luminance of 8-bit sRGB."""
    linear = [value / 3294.6 if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
