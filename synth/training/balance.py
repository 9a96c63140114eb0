"""Whether the two networks still keep each other busy: told once, in the log, when they do not."""

from shared.run.directory import RunDirectory

WON_SHARE = 0.01
"""Of its first loss: below it a discriminator makes no more mistakes."""
WON_LINES = 10
"""Lines of metrics for which it must stay there."""
DIVERGED = 100.0
"""How often its first value, and at least how much, a loss is when a training diverges."""


class Balance:
    """Watches the lines of metrics of a training.

    Args:
        run: whose log it writes to, and whose first line of metrics it compares with.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.first: dict[str, float] = {}
        self._lines_won = 0
        self._told: set[str] = set()

    def watch(self, step: int, means: dict[str, float]) -> None:
        """Compare the mean losses up to `step` with the first ones."""
        self.first = self.first or _losses(next(self.run.metrics(), means)) or _losses(means)
        losses = _losses(means)
        for name, value in losses.items():
            if abs(value) > DIVERGED * max(1.0, abs(self.first.get(name, 0.0))):
                self._tell(
                    "diverged",
                    f"{name} is {value:.4g} at step {step} and was {self.first.get(name, 0.0):.4g} at first: the training diverges. "
                    "Lower train.learning_rate, or set train.clip_norm",
                )
        won = 0 <= _discriminator(losses) < WON_SHARE * _discriminator(self.first)
        self._lines_won = self._lines_won + 1 if won else 0
        if self._lines_won == WON_LINES:
            self._tell(
                "won",
                f"the discriminator has made no mistakes up to step {step}: the generator learns little from it. "
                "Set train.two_time_scales to false, or raise loss.feature_weight",
            )

    def _tell(self, what: str, message: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self.run.log(f"warning: {message}")


def _losses(line: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in line.items() if name.startswith(("generator/", "discriminator/")) and value is not None}


def _discriminator(losses: dict[str, float]) -> float:
    return losses.get("discriminator/fake", 0.0) + losses.get("discriminator/real", 0.0)
