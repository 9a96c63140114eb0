"""Image synthesis from class embeddings. From Python: `synth.load(run).make(label_map)`, see docs/python.md."""

from typing import TYPE_CHECKING

from shared.late import late_names

if TYPE_CHECKING:
    from synth.api import ImageGenerator, load

__all__ = ["ImageGenerator", "load"]
__getattr__ = late_names(__name__, "synth.api", __all__)
