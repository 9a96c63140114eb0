"""Joint transforms of an image, its label map and its instance map: callables Sample -> Sample."""

from shared.data.transforms.segmentation import EvalResize, TrainCrop
from shared.data.transforms.steps import JointTransform, Size
from shared.data.transforms.synthesis import SIZED_MODES, SynthMode, SynthTransform

__all__ = ["SIZED_MODES", "EvalResize", "JointTransform", "Size", "SynthMode", "SynthTransform", "TrainCrop"]
