"""The page in a real browser: painted on with real pointers, undone, searched, mixed, taken home, reloaded."""

import shlex
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from shared.data.scenes.dataset import SceneDataset
from shared.files.tensor_file import read_tensors, write_tensors
from shared.run.checkpoint import FORMAT
from shared.run.directory import RunDirectory
from tests.shared.report.browser import browser, missing_browser, problems, resize
from tests.small import SEGMENTER, scenes, synthesis
from tests.synth.paint.serving import Served, serving

REASON = missing_browser()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))
Invoke = Callable[..., Any]
MANY = 1284
STEPS = ["--train.steps", 1, "--train.batch_size", 2, "--train.device", "cpu"]
DATA = scenes(classes=MANY, train=4, val=3)

READY = "return typeof state !== 'undefined' && state.map !== null && image.edit > 0 && image.shown === image.edit && !image.failed"
LABELS = "return [...state.map.ids]"
IMAGE = "const c = document.querySelector('#pane-image canvas'); return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, invoke: Invoke) -> Iterator[Served]:
    """A generator and a segmenter of one step, on 1284 classes."""
    folder = tmp_path_factory.mktemp("paint")
    for program, options in (("seg.train", SEGMENTER), ("synth.train", [*synthesis(), "--semantics", "random"])):
        outcome = invoke(program, *DATA, *options, *STEPS, "--run_dir", folder / program)
        assert outcome.status == 0, outcome.errors
    strengthen(folder / "synth.train")
    with serving(folder / "synth.train", folder, segmenter=str(folder / "seg.train")) as found:
        yield found


def strengthen(run: Path) -> None:
    """Other weights, with which images of different layouts differ by more than a shade."""
    path = RunDirectory(run).checkpoint("last")
    tensors, meta = read_tensors(path, FORMAT)
    draw = torch.Generator().manual_seed(0)
    for name, tensor in tensors.items():
        if name.startswith("average.") and tensor.dim() > 1 and not name.endswith("table"):
            tensors[name] = torch.randn(tensor.shape, generator=draw) * 0.3
    write_tensors(path, tensors, FORMAT, meta)


@pytest.fixture(scope="module")
def driver(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser() as chromium:
        downloads = tmp_path_factory.mktemp("downloads")
        chromium.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
        chromium.downloads = downloads
        yield chromium


@pytest.fixture(autouse=True)
def fresh_page(driver: Any, served: Served) -> None:
    """The page as a new tab shows it, with the first layout."""
    resize(driver, 1280, 800)
    driver.get(served.address + "/")
    driver.execute_script("sessionStorage.clear()")
    driver.get(served.address + "/")
    ready(driver)
    problems(driver)  # of the test before


def wait(driver: Any, script: str, *arguments: Any, seconds: float = 30) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, seconds, 0.05).until(lambda page: page.execute_script(script, *arguments))


def ready(driver: Any) -> None:
    """The image is that of the canvas."""
    wait(driver, READY)


def find(driver: Any, selector: str) -> Any:
    return driver.find_element("css selector", selector)


def look(driver: Any, script: str) -> bytes:
    return bytes(np.array(driver.execute_script(script), dtype=np.uint16).tobytes())


def drag(driver: Any, *places: tuple[int, int], kind: str = "mouse", pane: str = "#pane-labels") -> None:
    """Press, move and release over pixels (x, y) of the label map."""
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    builder = ActionBuilder(driver, mouse=PointerInput(kind, kind), duration=20)
    script = """const box = document.querySelector(arguments[0]).getBoundingClientRect();
        return arguments[1].map(([x, y]) => [box.left + view.x + (x + 0.5) * view.scale, box.top + view.y + (y + 0.5) * view.scale])"""
    first, *others = [(round(x), round(y)) for x, y in driver.execute_script(script, pane, list(map(list, places)))]
    builder.pointer_action.move_to_location(*first).pointer_down()
    for place in others:
        builder.pointer_action.move_to_location(*place)
    builder.pointer_action.pointer_up()
    builder.perform()


def press(driver: Any, *keys: str, control: bool = False) -> None:
    from selenium.webdriver import ActionChains, Keys

    chain = ActionChains(driver)
    if control:
        chain.key_down(Keys.CONTROL)
    chain.send_keys(*keys)
    if control:
        chain.key_up(Keys.CONTROL)
    chain.perform()


def choose(driver: Any, name: str) -> None:
    from selenium.webdriver import Keys

    driver.execute_script("setTab('classes')")
    search = find(driver, "#search")
    search.clear()
    search.send_keys(name, Keys.ENTER)
    assert find(driver, "#chosen strong").text == name


def downloaded(driver: Any, ending: str) -> Path:
    from selenium.webdriver.support.ui import WebDriverWait

    found = WebDriverWait(driver, 30, 0.1).until(lambda _: list(driver.downloads.glob(f"*{ending}")))
    return Path(found[0])


def test_page_loads_without_a_complaint(driver: Any, served: Served) -> None:
    driver.get(served.address + "/")
    ready(driver)
    assert problems(driver) == []
    assert find(driver, "#about").text.split(" · ")[2] == f"{MANY} classes"
    asked = driver.execute_script("return performance.getEntriesByType('resource').map((e) => new URL(e.name).origin)")
    assert {*asked} == {served.address}
    assert driver.execute_script("return document.documentElement.scrollHeight <= innerHeight")


@pytest.mark.parametrize("kind", ["mouse", "pen", "touch"])
def test_a_stroke_changes_the_image_and_undo_takes_it_back(kind: str, driver: Any) -> None:
    labels, image = look(driver, LABELS), look(driver, IMAGE)
    choose(driver, "sky 000")
    drag(driver, (10, 10), (40, 20), (50, 25), kind=kind)
    ready(driver)
    painted, made = look(driver, LABELS), look(driver, IMAGE)
    assert painted != labels and made != image
    press(driver, "z", control=True)
    ready(driver)
    assert look(driver, LABELS) == labels and look(driver, IMAGE) == image
    press(driver, "y", control=True)
    ready(driver)
    assert look(driver, LABELS) == painted and look(driver, IMAGE) == made


def focus_canvas(driver: Any) -> None:
    driver.execute_script("document.querySelector('#pane-labels').focus()")


def test_every_tool(driver: Any) -> None:
    """Each by its key; what it puts down is counted."""
    choose(driver, "sky 000")
    sky = int(driver.execute_script("return state.chosen"))

    def pixels() -> int:
        return int(driver.execute_script("return state.map.ids.filter((id) => id === arguments[0]).length", sky))

    driver.execute_script("change(() => setMap(new LabelMap(32, 64)))")
    focus_canvas(driver)
    assert pixels() == 0
    press(driver, "r")
    drag(driver, (4, 4), (13, 8))
    assert pixels() == 50
    press(driver, "[", "[", "[", "[", "[", "l")
    assert driver.execute_script("return state.size") == 1
    drag(driver, (20, 2), (20, 21))
    assert pixels() == 70
    press(driver, "p")
    for corner in ((30, 10), (50, 10), (50, 30), (30, 30)):
        drag(driver, corner)
    press(driver, "\ue007")  # Enter
    assert pixels() == 70 + 20 * 20
    press(driver, "e")
    drag(driver, (35, 12), (44, 12), pane="#pane-image")
    assert pixels() == 460
    press(driver, "g")
    drag(driver, (0, 0))
    assert pixels() == 32 * 64 - 10
    driver.execute_script("choose(5)")
    press(driver, "i")
    drag(driver, (1, 1))
    assert driver.execute_script("return [state.chosen, state.tool]") == [sky, "brush"]
    for _ in range(6):
        press(driver, "z", control=True)
    assert driver.execute_script("return steps.undone.length") == 6


def test_the_canvas_by_keyboard(driver: Any) -> None:
    from selenium.webdriver import Keys

    driver.execute_script("change(() => setMap(new LabelMap(32, 64))); choose(3); setSize(1)")
    focus_canvas(driver)
    press(driver, Keys.ARROW_LEFT, Keys.ENTER, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ENTER, Keys.ARROW_DOWN)
    assert driver.execute_script("return [...state.map.ids].filter((id) => id === 3).length") == 4
    ready(driver)


def test_zoom_and_pan_leave_the_point_where_it_is(driver: Any) -> None:
    where = "return [view.scale, ...onCanvas([100, 80])]"
    before = driver.execute_script(where)
    driver.execute_script(
        "const p = document.querySelector('#pane-labels'), b = p.getBoundingClientRect();"
        "p.dispatchEvent(new WheelEvent('wheel', {deltaY: -300, clientX: b.left + 100, clientY: b.top + 80, cancelable: true}))"
    )
    after = driver.execute_script(where)
    assert after[0] > 1.2 * before[0] and after[1:] == pytest.approx(before[1:])
    press(driver, "h")
    labels = look(driver, LABELS)
    drag(driver, (10, 10), (20, 15))
    assert driver.execute_script(where)[1] != pytest.approx(before[1]) and look(driver, LABELS) == labels
    press(driver, "0")
    assert driver.execute_script(where)[0] == pytest.approx(before[0])


def test_search_among_many_classes(driver: Any) -> None:
    from selenium.webdriver import Keys

    search = find(driver, "#search")
    press(driver, "/")
    search.send_keys("build")
    names = driver.execute_script("return list.ids.map(nameOf)")
    assert len(names) > 20 and all("build" in name for name in names)
    assert find(driver, "#count").text == f"{len(names)} of {MANY} classes"
    search.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_UP, Keys.ENTER)
    assert find(driver, "#chosen strong").text == names[1]
    search.send_keys(Keys.ESCAPE)
    rows = "return document.querySelectorAll('.class').length"
    assert driver.execute_script("return list.ids.length") == MANY and driver.execute_script(rows) < 60
    driver.execute_script("document.querySelector('#list').scrollTop = 1e6")
    wait(driver, "return document.querySelector('.class:last-child').getAttribute('aria-posinset') === arguments[0]", str(MANY))
    near = wait(driver, "return [...document.querySelectorAll('#near button')].map((b) => b.textContent)")
    assert len(near) == 6 and names[1] not in near
    driver.execute_script("setTab('map')")
    wait(driver, "return places && places.length === arguments[0]", MANY)
    find(driver, "#map").click()


def make_mix(driver: Any) -> None:
    """Half sky, half road, which is chosen then."""
    for name in ("sky 000", "road 000"):
        choose(driver, name)
        driver.execute_script("setTab('mix')")
        find(driver, "#mix-add").click()
    assert find(driver, "#chosen strong").text == "sky 000 + road 000"


def test_a_mix_is_a_class_at_once(driver: Any) -> None:
    from selenium.webdriver import Keys

    make_mix(driver)
    drag(driver, (5, 5), (50, 25))
    ready(driver)
    before = look(driver, IMAGE)
    slider = find(driver, "#parts input")
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert driver.execute_script("return state.settings.mixes[0].parts[0][0]") == pytest.approx(0.65)
    ready(driver)
    assert look(driver, IMAGE) != before
    name = find(driver, "#mix-name")
    name.clear()
    name.send_keys("hazy road", Keys.ENTER)
    assert find(driver, "#chosen strong").text == "hazy road"
    choose(driver, "hazy road")


def test_what_is_downloaded_is_what_the_command_makes(driver: Any, served: Served, invoke: Invoke, tmp_path: Path) -> None:
    make_mix(driver)
    drag(driver, (5, 5), (50, 25))
    ready(driver)
    driver.execute_script("setTab('take')")
    for what in ("image", "all"):
        find(driver, f"[data-take={what}]").click()
    image, archive = downloaded(driver, ".png"), downloaded(driver, ".zip")
    command = wait(driver, "const text = document.querySelector('#command').textContent; return text.startsWith('python') && text")
    zipfile.ZipFile(archive).extractall(tmp_path)
    assert (tmp_path / "command.txt").read_text().strip() == command
    outcome = invoke(*shlex.split(command)[2:], "--output", "again")
    assert outcome.status == 0, outcome.errors
    (made,) = Path("again").iterdir()
    assert made.read_bytes() == image.read_bytes()
    shown = np.frombuffer(look(driver, IMAGE), np.uint16).reshape(32, 64, 4)[..., :3]
    assert np.array_equal(np.array(Image.open(image)), shown)
    for file in driver.downloads.iterdir():
        file.unlink()


DROP = """const [bytes, name] = arguments, data = new DataTransfer();
data.items.add(new File([new Uint8Array(bytes)], name));
document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}))"""


def drop(driver: Any, file: Path) -> None:
    driver.execute_script(DROP, list(file.read_bytes()), file.name)
    wait(driver, "return document.querySelector('#message').textContent === `started from ${arguments[0]}`", file.name, seconds=120)


def test_a_photo_becomes_a_label_map(driver: Any, served: Served, tmp_path: Path) -> None:
    labels = look(driver, LABELS)
    scene: Tensor = SceneDataset("val", num_classes=MANY, height=48, width=96, length=1)[0].image
    Image.fromarray(scene.permute(1, 2, 0).numpy()).save(tmp_path / "street.png")
    drop(driver, tmp_path / "street.png")
    ready(driver)
    assert look(driver, LABELS) != labels
    assert driver.execute_script("return [state.map.height, state.map.width]") == [32, 64]
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    driver.execute_script(DROP, list(b"no picture"), "bad.jpg")
    wait(driver, "return document.querySelector('#message').textContent.includes('cannot read the picture bad.jpg')", seconds=120)


def test_label_files_and_layouts_are_where_a_painting_starts(driver: Any, served: Served, tmp_path: Path) -> None:
    ids = np.full((64, 96), 1283, np.uint16)
    ids[:8] = 65535
    Image.fromarray(ids).save(tmp_path / "plain.png")
    drop(driver, tmp_path / "plain.png")
    ready(driver)
    assert np.array_equal(np.frombuffer(look(driver, LABELS), np.uint16).reshape(64, 96), ids)
    driver.execute_script("setTab('start')")
    wait(driver, "return document.querySelectorAll('#layouts img').length === 3")
    driver.find_elements("css selector", "#layouts button")[1].click()
    wait(driver, "return state.map.height === 32")
    assert served.studio.layouts is not None
    expected = served.studio.layouts[1].astype(np.uint16)
    assert np.array_equal(np.frombuffer(look(driver, LABELS), np.uint16).reshape(32, 64), expected)
    press(driver, "z", control=True)
    assert driver.execute_script("return [state.map.height, state.map.width, steps.undone.length]") == [64, 96, 1]
    find(driver, "#empty").click()
    ready(driver)
    assert len({*np.frombuffer(look(driver, LABELS), np.uint16)}) == 1


def test_variants_are_one_click_away(driver: Any) -> None:
    wait(driver, "return variants.length === 1")
    labels, image = look(driver, LABELS), look(driver, IMAGE)
    choose(driver, "sky 000")
    drag(driver, (3, 3), (60, 28))
    wait(driver, "return variants.length === 2")
    driver.find_elements("css selector", "#gallery li button")[0].click()
    ready(driver)
    assert look(driver, LABELS) == labels and look(driver, IMAGE) == image
    press(driver, "z", control=True)
    ready(driver)
    assert look(driver, LABELS) != labels


def test_a_reload_keeps_the_canvas_and_another_tab_has_its_own(driver: Any, served: Served) -> None:
    make_mix(driver)
    drag(driver, (5, 5), (50, 25))
    ready(driver)
    wait(driver, "return variants.length >= 1 && variants.at(-1).of === signature()")
    driver.execute_async_script("save().then(arguments[0])")
    labels, image, first = look(driver, LABELS), look(driver, IMAGE), driver.current_window_handle
    driver.refresh()
    ready(driver)
    assert look(driver, LABELS) == labels and look(driver, IMAGE) == image
    assert find(driver, "#chosen strong").text == "sky 000 + road 000"
    assert len(driver.find_elements("css selector", "#gallery li")) >= 1
    driver.switch_to.new_window("tab")
    try:
        driver.get(served.address + "/")
        ready(driver)
        assert look(driver, LABELS) != labels
        driver.execute_script("choose(7); for (let i = 0; i < 5; i++) change(() => state.map.fill([i * 9, i * 5], i))")
        ready(driver)
        other = look(driver, LABELS)
    finally:
        driver.close()
        driver.switch_to.window(first)
    ready(driver)
    assert look(driver, LABELS) == labels != other and look(driver, IMAGE) == image


def test_it_fits_a_phone(driver: Any) -> None:
    resize(driver, 390, 844)
    for tab in ("classes", "mix", "map", "start", "look", "take"):
        driver.execute_script("setTab(arguments[0])", tab)
        assert driver.execute_script("return [innerWidth, document.documentElement.scrollWidth, document.body.scrollHeight]") == [
            390,
            390,
            844,
        ]
    outside = """const shown = [...document.querySelectorAll('button, input, select')].filter((e) => e.offsetParent);
        const within = ({left, right}) => left >= 0 && right <= innerWidth + 0.5;
        return shown.filter((e) => !e.closest('#gallery, #list') && !within(e.getBoundingClientRect())).map((e) => e.id)"""
    assert driver.execute_script(outside) == []
    labels = look(driver, LABELS)
    choose(driver, "sky 000")
    drag(driver, (10, 10), (40, 20), kind="touch")
    ready(driver)
    assert look(driver, LABELS) != labels


def test_two_fingers_move_the_canvas_and_paint_nothing(driver: Any) -> None:
    labels, before = look(driver, LABELS), driver.execute_script("return {...view}")
    driver.execute_script(
        """const pane = document.querySelector('#pane-labels'), box = pane.getBoundingClientRect();
        const fire = (type, id, x, y) => pane.dispatchEvent(new PointerEvent(type, {pointerId: id, pointerType: 'touch', bubbles: true,
            cancelable: true, clientX: box.left + x, clientY: box.top + y}));
        fire('pointerdown', 1, 100, 80); fire('pointermove', 1, 104, 80); fire('pointerdown', 2, 200, 80);
        fire('pointermove', 1, 50, 80); fire('pointermove', 2, 250, 80); fire('pointerup', 1, 50, 80); fire('pointerup', 2, 250, 80);"""
    )
    after = driver.execute_script("return {...view}")
    assert after["scale"] > 1.5 * before["scale"] and look(driver, LABELS) == labels
    assert driver.execute_script("return [pointers.size, stroke, pinch]") == [0, None, None]


def test_dark_where_the_reader_has_it_dark(driver: Any) -> None:
    paper = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    light = driver.execute_script(paper)
    resize(driver, 1280, 800, dark=True)
    dark = driver.execute_script(paper)
    assert min(light[:3]) > 200 and max(dark[:3]) < 60


def test_names_are_text(driver: Any) -> None:
    """A mix may be called anything."""
    make_mix(driver)
    name = find(driver, "#mix-name")
    name.clear()
    name.send_keys("<img src=x onerror=alert(1)><b>", "\ue007")
    shown = find(driver, "#chosen strong").text
    assert "<img src x onerror alert(1)><b>" in shown
    assert driver.execute_script("return document.querySelectorAll('#panel b, #panel img[src=x]').length") == 0
    assert not [line for line in problems(driver) if "Canvas2D" not in line]  # our own reading of pixels is slow


def test_a_server_that_is_gone_is_told(driver: Any) -> None:
    driver.execute_script("window.fetch = () => Promise.reject(new TypeError('gone')); changed(true)")
    wait(driver, "return document.querySelector('#message').textContent === 'the server does not answer; is it still running?'")
    assert find(driver, "#status").text == "no image"
