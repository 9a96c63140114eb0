"""What stands for a class when images are synthesised, from the table of class vectors to what a convolution makes of a label map."""

from synth.semantics.build import SEMANTICS, Semantics, build_semantics, semantics_title

__all__ = ["SEMANTICS", "Semantics", "build_semantics", "semantics_title"]
