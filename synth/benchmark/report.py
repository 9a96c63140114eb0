"""Tables and curves of synthesis: distinct patches, parameters, time and memory of the networks."""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.benchmark.contest import Result
from shared.benchmark.isolation import MIB
from shared.benchmark.report import Curve, Grid, Plot, by_contestant, percent, three_digits
from synth.benchmark.cases import GROUPS, Share
from synth.benchmark.discriminators import ADAM_BYTES


def share_table(shares: list[Share]) -> Grid:
    """A row per size of patches, a column per size of maps."""
    columns = ["distinct patches per pixel", *(f"{share.height}×{share.width}" for share in shares), ""]
    return Grid(columns, [["3×3", *(percent(s.small) for s in shares), ""], ["5×5", *(percent(s.wide) for s in shares), ""]])


@dataclass(frozen=True)
class Parameters:
    """How many parameters the networks have for one kind of semantics."""

    semantics: str
    classes: int
    generator: int
    discriminator: int


def parameter_table(parameters: Sequence[Parameters]) -> Grid:
    """Millions of parameters, and what a training holds of them."""
    columns = ["semantics", "C", "generator, M", "discriminator, M", "weights, gradients and Adam, MiB", ""]
    rows = []
    for line in parameters:
        millions = [three_digits(count, 1e-6) for count in (line.generator, line.discriminator)]
        held = ADAM_BYTES * (line.generator + line.discriminator)
        rows.append([line.semantics, str(line.classes), *millions, three_digits(held, 1 / MIB), ""])
    return Grid(columns, rows)


def plots_of(results: Sequence[Result]) -> list[Plot]:
    """Time and memory of the networks."""
    plots = []
    for group in ("generator", "step", "discriminators"):
        lines = by_contestant(results, group)
        times = {name: Curve({r.setting["classes"]: r.timing.seconds for r in found if r.timing}) for name, found in lines.items()}
        peaks = {name: Curve({r.setting["classes"]: r.peak / MIB for r in found if r.peak}) for name, found in lines.items()}
        title = GROUPS[group].title
        plots += [
            Plot(f"{group}_time.png", f"{title}: time", "seconds", times),
            Plot(f"{group}_memory.png", f"{title}: memory above weights and optimiser", "MiB", peaks),
        ]
    return plots
