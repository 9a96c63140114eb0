"""The documentation as a site: it builds in strict mode, and no page of it asks the network for anything."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FETCHED = re.compile(r"""<(?:script|img|iframe|source)[^>]*\ssrc=["']?(https?:|//)|<link[^>]*\bhref=["']?(?:https?:|//)[^>]*stylesheet""")


@pytest.mark.long
def test_the_site_builds_and_needs_no_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1", "http_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        assert not FETCHED.search(page.read_text(encoding="utf-8")), page
    reference = (tmp_path / "site/api.html").read_text(encoding="utf-8")
    for name in ("seg.api.load", "seg.model.EmbeddingHead", "synth.api.ImageGenerator", "shared.fid.folders.compare_folders"):
        assert f'id="{name}"' in reference
    assert "Label an image, or several" in reference and "temperature" in reference


def test_every_page_has_a_place_in_the_menu() -> None:
    """Pages of results, which others link to, aside."""
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert not [path.name for path in (ROOT / "docs").glob("*.md") if f": {path.name}\n" not in menu]
