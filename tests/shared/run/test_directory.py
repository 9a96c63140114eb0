"""Run directories are numbered, resumable and say what made them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shared.errors import InputError
from shared.run.directory import RunDirectory, find_runs


def test_runs_are_numbered_and_found_newest_first(tmp_path: Path) -> None:
    for expected in ("scenes-001", "scenes-002"):
        run = RunDirectory.choose("seg.train", "scenes", None)
        assert run.path == Path("runs/seg.train") / expected
        run.start({"a": 1, "run_dir": "x"})
    assert find_runs("seg.train")[0].path.name == "scenes-002"
    assert find_runs("seg.train")[0].config == {"a": 1}


def test_metrics_after_the_checkpoint_are_forgotten(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.start({})
    for step in (1, 2, 3):
        run.log_metrics(step, {"loss": float(step), "bad": float("nan")})
        run.log_metrics(step, {"val/miou": 0.1})
    run.forget_after(2, evaluated=1)
    run.close()
    assert [{**entry, "seconds": 0} for entry in run.metrics()] == [
        {"step": 1, "seconds": 0, "loss": 1.0, "bad": None},
        {"step": 1, "seconds": 0, "val/miou": 0.1},
        {"step": 2, "seconds": 0, "loss": 2.0, "bad": None},
    ]


def test_environment_names_versions_and_command(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.start({})
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["libraries"].keys() >= {"torch", "numpy"}
    assert environment["command"].startswith("python -m ")


def test_no_run_and_no_folder_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run directory"):
        RunDirectory.open(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write run directory"):
        RunDirectory(tmp_path / "file" / "run").start({})


def test_a_half_written_last_line_is_left_out_and_others_are_named(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3, "lo')
    assert [entry["step"] for entry in run.metrics()] == [1, 2]
    run.forget_after(1, evaluated=1)
    assert path.read_text() == '{"step": 1}\n'
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(InputError, match=r"line 2 of .*metrics.jsonl is damaged"):
        list(run.metrics())


def test_a_run_directory_belongs_to_one_process(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.start({})
    attempt = "import sys; from pathlib import Path; from shared.files.atomic import lock; lock(Path(sys.argv[1]))"
    command = [sys.executable, "-c", attempt, str(run.path / ".lock")]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert "InputError: another process is at work in" in refused.stderr
    run.close()
    assert subprocess.run(command, capture_output=True).returncode == 0
