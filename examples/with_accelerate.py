"""A plain training loop with accelerate around a network of one's own: `accelerate launch examples/with_accelerate.py`, or with python.

It ends with the file from which synth.train takes its semantics.
"""

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from seg.model import EmbeddingHead
from shared.data import DataConfig, build_dataset
from shared.data.spec import Sample
from shared.embedding_file import ClassEmbeddings


class Network(nn.Module):
    """Features at a quarter of the size, and the head. Everything is called through `forward`, so that processes share gradients."""

    def __init__(self, num_classes: int, embedding_dim: int = 12) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU()),
        )
        self.head = EmbeddingHead(32, num_classes, embedding_dim, band_rows=16)

    def forward(self, images: torch.Tensor, label_map: torch.Tensor | None = None) -> torch.Tensor:
        """Images (N, 3, H, W) and label maps (N, H, W) → the loss; images alone → class ids (N, H, W)."""
        features = self.features(images)
        return self.head.predict(features, images.shape[2:]) if label_map is None else self.head.loss(features, label_map)


def collate(samples: list[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    """Images in [0, 1] and label maps."""
    return torch.stack([sample.image for sample in samples]) / 255, torch.stack([sample.label_map for sample in samples])


def main(steps: int = 8, embeddings: str = "class_embeddings.safetensors") -> None:
    accelerator = Accelerator()
    torch.manual_seed(0)
    dataset = build_dataset(DataConfig(), "train")
    model = Network(dataset.spec.num_classes)
    # only the directions of class embeddings count, so that decay would only change how fast they turn
    kept = [parameter for name, parameter in model.named_parameters() if not name.endswith("raw_class_embeddings")]
    groups = [{"params": kept}, {"params": [model.head.raw_class_embeddings], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=5e-3)
    loader = DataLoader(dataset, batch_size=4, shuffle=True, collate_fn=collate)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for step, (images, label_map) in zip(range(steps), loader):
        loss = model(images, label_map)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        accelerator.print(f"step {step}: loss {loss.item():.3f}")
    if accelerator.is_main_process:
        head, spec = accelerator.unwrap_model(model).head, dataset.spec
        vectors, raw = head.class_embeddings.detach().cpu(), head.raw_class_embeddings.detach().cpu()
        ClassEmbeddings(vectors, raw, spec.class_names, spec.name, {"steps": steps}).save(embeddings)
        print(f"wrote {embeddings}: python -m synth.train --semantics learned --embeddings {embeddings}")


if __name__ == "__main__":
    main()
