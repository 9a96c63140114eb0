"""SegFormer of transformers with class embeddings in place of its class scores: `python examples/with_transformers.py`."""

import torch
from torch import nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from seg.model import EmbeddingHead


class SegformerWithEmbeddings(nn.Module):
    """The model without its classifier gives features (N, F, H/4, W/4) under the name of logits."""

    def __init__(self, model: SegformerForSemanticSegmentation, num_classes: int, embedding_dim: int = 12) -> None:
        super().__init__()
        channels = model.decode_head.classifier.in_channels
        model.decode_head.classifier = nn.Identity()
        self.model = model
        self.head = EmbeddingHead(channels, num_classes, embedding_dim, temperature="learned", ignore_index=255)

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """As transformers' Trainer calls it: {"loss"} with labels (N, H, W), else {"labels"}, the class ids."""
        features = self.model(pixel_values=pixel_values).logits
        if labels is None:
            return {"labels": self.head.predict(features, pixel_values.shape[2:])}
        return {"loss": self.head.loss(features, labels)}


def main(num_classes: int = 1284, steps: int = 3) -> None:
    torch.manual_seed(0)
    # SegformerForSemanticSegmentation.from_pretrained("nvidia/mit-b0") starts from published weights
    config = SegformerConfig(depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 64, 96], decoder_hidden_size=64)
    model = SegformerWithEmbeddings(SegformerForSemanticSegmentation(config), num_classes)
    images, label_map = torch.rand(2, 3, 64, 96), torch.randint(num_classes, (2, 64, 96))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(steps):
        optimizer.zero_grad()
        loss = model(images, label_map)["loss"]
        loss.backward()
        optimizer.step()
        print(f"step {step}: loss {loss.item():.3f}")
    print(f"class ids of the first row: {model.eval()(images)['labels'][0, 0, :8].tolist()}")


if __name__ == "__main__":
    main()
