"""A few of the cases of `make fuzz`, and that it notices what it is there to notice."""

from pathlib import Path

import pytest

from tests.fuzz import QUICK, run_case
from tests.programs import Outcome
from tests.spoiling import Chance


@pytest.mark.parametrize("number", range(2 * len(QUICK)))
def test_spoilt_input_is_one_line(number: int) -> None:
    failure = run_case(number, seed=1, kinds=QUICK)
    assert failure is None, failure


def half_written(chance: Chance) -> Outcome:
    Path("out").mkdir()
    Path("out/a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return Outcome(0, "", "")


def broken(chance: Chance) -> Outcome:
    raise KeyError("ours")


@pytest.mark.parametrize(
    ("case", "told"),
    [
        (half_written, "cannot identify image file"),
        (broken, "KeyError: 'ours'"),
        (lambda chance: Outcome(1, "", "error: a\nerror: b\n"), "2 error lines"),
        (lambda chance: Outcome(0, "", "Traceback (most recent call last):"), "traceback"),
    ],
)
def test_what_must_not_happen_is_noticed(case, told: str) -> None:  # type: ignore[no-untyped-def]
    failure = run_case(0, seed=0, kinds=(case,))
    assert failure is not None
    assert told in failure.reason
