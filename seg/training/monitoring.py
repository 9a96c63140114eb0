"""What TensorBoard shows of a segmentation run beside its numbers."""

from collections.abc import Iterable

import torch

from seg.class_crops import class_colours
from seg.model import EmbeddingSegmenter, Segmenter
from seg.trained import TrainedSegmenter
from shared.data.loader import Batch
from shared.data.spec import DatasetSpec
from shared.run.directory import RunDirectory
from shared.visualise import UNIT, colour_label_map, picture_grid, to_uint8

PICTURES = 4


@torch.inference_mode()
def log_predictions(
    run: RunDirectory, model: Segmenter, loader: Iterable[Batch], spec: DatasetSpec, step: int, device: torch.device
) -> None:
    """A grid of image, label map and prediction for the first validation images."""
    batch = next(iter(loader))
    images, label_maps = batch.images[:PICTURES], batch.label_maps[:PICTURES]
    was_training = model.training
    predictions = model.eval().predict(images.to(device)).cpu()
    model.train(was_training)
    columns = (to_uint8(images, value_range=UNIT), colour_label_map(label_maps, spec.palette), colour_label_map(predictions, spec.palette))
    rows = [picture for row in zip(*columns) for picture in row]
    run.tensorboard.add_image("val/image, labels, prediction", picture_grid(rows, columns=3), step, dataformats="HWC")


def log_class_embeddings(run: RunDirectory, trained: TrainedSegmenter) -> None:
    """The class embeddings for TensorBoard's projector, with names and colours."""
    if isinstance(trained.model, EmbeddingSegmenter):
        vectors = trained.model.class_embeddings.detach().float().cpu()
        colours = class_colours(trained.spec.palette)
        run.tensorboard.add_embedding(vectors, list(trained.spec.class_names), colours, trained.meta["step"], "class embeddings")
