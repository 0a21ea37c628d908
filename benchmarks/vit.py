"""A small vision transformer in plain torch, and its training: nothing in it knows of spikes."""

import time

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["VisionTransformer", "train"]


class VisionTransformer(nn.Module):
    """Patches of 4 x 4, a class token, learned positions, pre-norm blocks with GELU; 28 x 28 -> 10 classes.

    Source: Dosovitskiy et al. 2021 (arXiv 2010.11929), at a size that a CPU trains in minutes.
    """

    def __init__(self, width: int = 48, depth: int = 3, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 50, width))
        block = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, 1, 28, 28) to logits (N, 10)."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x)[:, 0]))


def train(x: Tensor, y: Tensor, *, epochs: int, seed: int, rate: float = 2e-3) -> tuple[VisionTransformer, float]:
    """Train on prepared images with AdamW, one cosine and shifts by a pixel; returns the seconds that it took too."""
    torch.manual_seed(seed)
    network, begin = VisionTransformer(), time.perf_counter()
    steps = epochs * (len(x) // 128)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        batch = torch.randint(len(x), (128,))
        shift = torch.randint(-1, 2, (2,)).tolist()
        images = torch.roll(x[batch], shift, (2, 3))
        optimizer.zero_grad()
        functional.cross_entropy(network(images), y[batch]).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 200 == 0:
            print(f"step {step} of {steps}, {time.perf_counter() - begin:.0f} s", flush=True)
    return network.eval(), time.perf_counter() - begin
