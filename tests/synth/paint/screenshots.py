"""The pictures of the page in the README, taken anew: `python -m tests.synth.paint.screenshots RUN -o docs/results/paint`."""

import argparse
import io
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from tests.shared.report.browser import browser, missing_browser, resize
from tests.synth.paint.serving import serving
from tests.synth.paint.test_browser import ready, wait

LAYOUT = 3
"""Of the validation split, which the pictures begin with."""
PAINT = """
const [layoutIndex, strokes] = arguments, done = arguments[arguments.length - 1];
(async () => {
  await layout(layoutIndex);
  for (const [name, size, ...places] of strokes) {
    const id = state.about.names.findIndex((other) => other.startsWith(name)), { height, width } = state.map;
    if (id < 0) continue;
    choose(id);
    setSize(Math.max(1, Math.round(size * height)));
    begin([places[0][0] * width, places[0][1] * height], "brush");
    for (const [x, y] of places.slice(1)) continueStroke([x * width, y * height]);
    finishStroke();
    await new Promise((resolve) => setTimeout(resolve, 2500));
  }
})().then(done);
"""
STROKES = [
    ["vegetation", 0.16, [0.02, 0.38], [0.10, 0.30], [0.16, 0.42], [0.06, 0.46]],
    ["vegetation", 0.20, [0.86, 0.34], [0.94, 0.26], [0.98, 0.42], [0.88, 0.44]],
    ["sky", 0.10, [0.30, 0.05], [0.72, 0.08]],
]
MIX = """
const [first, second] = arguments, done = arguments[arguments.length - 1];
const of = (name) => state.about.names.findIndex((other) => other.startsWith(name));
(async () => {
  change(() => state.settings.mixes.push({ name: "hedge", parts: [[0.65, of(first)], [0.35, of(second)]] }));
  choose(numClasses() - 1);
  const { height, width } = state.map;
  setSize(Math.round(0.14 * height));
  begin([0.02 * width, 0.62 * height], "brush");
  continueStroke([0.30 * width, 0.56 * height]);
  finishStroke();
  setTab("mix");
})().then(done);
"""


def picture(driver: Any, width: int) -> Image.Image:
    """What is on the screen, `width` pixels wide."""
    wait(driver, "return image.shown === image.edit && !document.querySelector('#status').classList.contains('late')")
    driver.execute_script("cursor = null; drawGhost(); document.querySelector('#message').hidden = true")
    shot = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    return shot.resize((width, round(shot.height * width / shot.width)), Image.Resampling.LANCZOS)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.synth.paint.screenshots", description=__doc__)
    parser.add_argument("run", help="run directory of synth.train on class vectors")
    parser.add_argument("-o", "--output", required=True, type=Path)
    options = parser.parse_args()
    if reason := missing_browser():
        sys.exit(f"error: {reason}")
    options.output.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder, serving(Path(options.run), Path(folder)) as served, browser() as driver:
        driver.set_script_timeout(120)
        resize(driver, 1280, 800)
        driver.get(served.address + "/")
        ready(driver)
        driver.execute_async_script(PAINT, LAYOUT, STROKES)
        picture(driver, 1280).save(options.output / "paint.webp", quality=82, method=6)
        resize(driver, 1280, 800, dark=True)
        driver.execute_async_script(MIX, "vegetation", "wall")
        picture(driver, 1280).save(options.output / "mix.webp", quality=82, method=6)
        resize(driver, 390, 844)
        driver.execute_script("setTab('map')")
        wait(driver, "return places !== null && places.length > 0")
        picture(driver, 390).save(options.output / "phone.webp", quality=85, method=6)
    print(f"wrote {', '.join(path.name for path in sorted(options.output.glob('*.webp')))} to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
