"""A training whose networks have left each other behind says so once."""

from pathlib import Path

from shared.run.directory import RunDirectory
from synth.training.balance import WON_LINES, Balance

START = {"generator/gan": 1.0, "discriminator/fake": 1.0, "discriminator/real": 1.0, "learning_rate/generator": 500.0}
WON = START | {"discriminator/fake": 0.002, "discriminator/real": 0.001}


def log_of(folder: Path, lines: list[dict[str, float]]) -> str:
    run = RunDirectory(folder)
    balance = Balance(run)
    for step, line in enumerate(lines):
        balance.watch(step, line)
    path = folder / "log.txt"
    return path.read_text() if path.is_file() else ""


def test_an_even_training_says_nothing(tmp_path: Path) -> None:
    assert log_of(tmp_path, [START] * 30) == ""
    assert log_of(tmp_path, [START, *[WON] * (WON_LINES - 1), START, *[WON] * (WON_LINES - 1)]) == ""


def test_a_discriminator_that_has_won_is_told_once(tmp_path: Path) -> None:
    said = log_of(tmp_path, [START, *[WON] * 3 * WON_LINES])
    assert said.count("the discriminator has made no mistakes") == said.count("\n") == 1


def test_a_loss_that_runs_away_is_told_once(tmp_path: Path) -> None:
    said = log_of(tmp_path, [START, START | {"generator/gan": -150.0}, START | {"generator/gan": 2000.0}])
    assert said.count("generator/gan is -150 at step 1 and was 1 at first: the training diverges") == said.count("\n") == 1


def test_a_continued_training_compares_with_its_first_line(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.start({})
    run.log_metrics(1, START)
    run.close()
    assert "the discriminator has made no mistakes" in log_of(tmp_path, [WON] * WON_LINES)
