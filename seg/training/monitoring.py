"""What TensorBoard shows of a segmentation run beside its numbers."""

import torch

from seg.class_crops import class_colours
from seg.model import EmbeddingSegmenter, Segmenter
from seg.trained import TrainedSegmenter
from shared.data.loader import Transform, build_eval_loader
from shared.data.spec import SegmentationDataset
from shared.run.directory import RunDirectory
from shared.visualise import UNIT, colour_label_map, picture_grid, to_uint8

PICTURES = 4


@torch.inference_mode()
def log_predictions(
    run: RunDirectory, model: Segmenter, dataset: SegmentationDataset, transform: Transform, step: int, device: torch.device
) -> None:
    """A grid of image, label map and prediction for the first images of `dataset`, of whatever sizes.

    Args:
        transform: as in evaluation.
    """
    first = range(min(PICTURES, len(dataset)))
    was_training = model.training
    model.eval()
    rows = []
    for batch in build_eval_loader(dataset, transform, batch_size=1, num_workers=0, samples=first):
        predictions = model.predict(batch.images.to(device)).cpu()
        rows.append(to_uint8(batch.images[0], value_range=UNIT))
        rows += [colour_label_map(ids[0], dataset.spec.palette) for ids in (batch.label_maps, predictions)]
    model.train(was_training)
    run.tensorboard.add_image("val/image, labels, prediction", picture_grid(rows, columns=3), step, dataformats="HWC")


def log_class_embeddings(run: RunDirectory, trained: TrainedSegmenter) -> None:
    """The class embeddings for TensorBoard's projector, with names and colours."""
    if isinstance(trained.model, EmbeddingSegmenter):
        vectors = trained.model.class_embeddings.detach().float().cpu()
        colours = class_colours(trained.spec.palette)
        run.tensorboard.add_embedding(vectors, list(trained.spec.class_names), colours, trained.meta["step"], "class embeddings")
