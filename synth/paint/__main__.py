"""A page on this machine where a label map becomes an image under the brush: `python -m synth.paint RUN`."""

import webbrowser
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from shared.run.program import run_program
from shared.run.training import choose_device
from synth.generator import in_pixels
from synth.paint.config import PaintConfig
from synth.paint.painter import Painter
from synth.paint.server import HOST, build_server, listen, require_libraries
from synth.paint.studio import Studio


def paint(config: PaintConfig) -> None:
    """Serve the page until Ctrl-C."""
    require_libraries()
    with TemporaryDirectory(prefix="paint-") as folder:
        painter = Painter(config.run, choose_device(config.device), Path(folder), config.table)
        studio = Studio(config, painter)
        size, count = in_pixels(painter.generator.image_size), painter.spec.num_classes
        print(f"{config.run}: {count} classes of {painter.spec.name}, images of {size} pixels (height x width) on {painter.device}")
        if studio.no_layouts:
            print(f"no layouts to start from: {studio.no_layouts}")
        with closing(listen(config.port)) as listener:
            port = listener.getsockname()[1]
            address = f"http://{HOST}:{port}/"
            if config.dry_run:
                print(f"would serve {address}")
                return
            studio.warm_up()
            server = build_server(studio, port)
            print(f"paint on {address} (Ctrl-C ends it)", flush=True)
            if config.open:
                Thread(target=webbrowser.open, args=(address,), daemon=True).start()
            with suppress(KeyboardInterrupt):  # how it is meant to end
                server.run(sockets=[listener])
            studio.turns.close()
    print("closed")


if __name__ == "__main__":
    run_program(paint, PaintConfig, "synth.paint", positional={"run": None})
