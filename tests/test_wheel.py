"""The wheel, built from the source distribution without network, has every file that a program opens, and its programs run from it."""

import configparser
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("seg", "synth", "shared", "configs", "docs", "examples", "tests")
FILES = ("README.md", "Makefile", "MANIFEST.in", "CHANGELOG.md", "CITATION.cff", "constraints.txt", "mkdocs.yml", "ruff.toml")
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"


def build(folder: Path, what: str, output: Path) -> Path:
    """Build a wheel or a source distribution of what is in a folder."""
    output.mkdir()
    done = subprocess.run([sys.executable, "-c", BUILD, f"build_{what}", str(output)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (built,) = output.iterdir()
    return built


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of a copy of the checkout, as a build leaves files beside what it builds; unpacked."""
    place = tmp_path_factory.mktemp("source")
    copy = place / "copy"
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "results"))
    for name in (*FILES, "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    with tarfile.open(build(copy, "sdist", place / "dist")) as archive:
        archive.extractall(place, filter="data")
    (unpacked,) = place.glob("essnet_spade-*")
    return unpacked


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, "wheel", tmp_path_factory.mktemp("wheel") / "dist")


def relative(*patterns: str) -> set[str]:
    """Files of the checkout by patterns, as they lie in the wheel."""
    return {path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}


def test_the_source_distribution_has_what_a_checkout_has(source: Path) -> None:
    for name in (
        *FILES,
        "setup.cfg",
        "pyproject.toml",
        "tests/test_wheel.py",
        "docs/python.md",
        "examples/with_smp.py",
        "configs/seg/demo.yaml",
    ):
        assert (source / name).is_file(), name


def test_the_wheel_has_the_packages_and_their_data_and_nothing_else(wheel: Path) -> None:
    wanted = relative("seg/**/*.py", "synth/**/*.py", "shared/**/*.py", "*/py.typed", "*/**/page/*", "shared/data/classes/*.txt")
    wanted |= {f"shared/{name}" for name in relative("configs/**/*.yaml")}
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
        entries = configparser.ConfigParser()
        entries.read_string(archive.read(next(name for name in archive.namelist() if name.endswith("entry_points.txt"))).decode())
    assert found == {name for name in wanted if name.startswith(("seg/", "synth/", "shared/"))}
    assert {"shared/configs/seg/demo.yaml", "shared/data/classes/ade20k.txt", "seg/py.typed"} <= found
    assert dict(entries["console_scripts"]) == {"essnet": "shared.console:main"}


@pytest.mark.long
def test_programs_run_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """Unpacked as an installation does it, in a folder without configs/."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            archive.extract(name, site)
    (tmp_path / "work").mkdir()
    ask = (
        "import sys, shared.config; from shared.console import main; print(shared.config.__file__); "
        "sys.argv = ['essnet', 'seg.train', '--config', 'configs/seg/demo.yaml', '--data.num_workers', '0', '--dry-run']; main()"
    )
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", ask], cwd=tmp_path / "work", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == str(site / "shared/config.py")
    assert "largest batch" in done.stdout
