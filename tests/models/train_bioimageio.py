"""Trains a small network on synthetic cells and leaves it as TorchScript, and as arrays.

python train_bioimageio.py FOLDER      in the environment of the runner `bioimageio`

FOLDER/net.pt, net.npz     light, zero mean and unit variance -> logits of foreground and boundary
FOLDER/stack.pt            two channels of a stack -> their blurred mean; weights are set by hand
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from cells import make_cells
from scipy import ndimage
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, max_pool2d

STEPS, BATCH, SIDE = 300, 4, 96


class Net(nn.Module):  # type: ignore[misc]
    """Convolutions at full and at half size; it sees 14 pixels to each side."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [(1, 12), (12, 12), (12, 24), (24, 24), (36, 12), (12, 2)]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in sizes)

    def forward(self, x: Tensor) -> Tensor:
        first = self.convs[1](self.convs[0](x).relu()).relu()
        half = self.convs[3](self.convs[2](max_pool2d(first, 2)).relu()).relu()
        large = interpolate(half, scale_factor=2.0, mode="nearest")
        answer: Tensor = self.convs[5](self.convs[4](torch.cat([first, large], 1)).relu())
        return answer


class Stack(nn.Module):  # type: ignore[misc]
    """The mean of 3 x 3 x 3 pixels of two channels, made steep around one half."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 1, 3, padding=1)
        nn.init.constant_(self.conv.weight, 8 / 54)
        nn.init.constant_(self.conv.bias, -2)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.conv(x)
        return answer


def examples(count: int) -> tuple[Tensor, Tensor]:
    """Images (n, 1, y, x) and what is right for them (n, 2, y, x): foreground, boundary."""
    images, truths = [], []
    for seed in range(count):
        image, labels = make_cells(seed, (192, 192))
        light = image[0].astype(np.float64)
        edges = ndimage.grey_dilation(labels, 5) != ndimage.grey_erosion(labels, 5)
        images.append((light - light.mean()) / light.std())
        truths.append(np.stack([labels > 0, edges & (labels > 0)]))
    return (
        torch.tensor(np.stack(images)[:, None], dtype=torch.float32),
        torch.tensor(np.stack(truths), dtype=torch.float32),
    )


def main(folder: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    folder.mkdir(parents=True)
    started = time.monotonic()
    images, truths = examples(12)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(STEPS):
        at = torch.randint(0, len(images), (BATCH,)).tolist()
        y, x = torch.randint(0, images.shape[-1] - SIDE, (2,)).tolist()
        cut = (slice(None), slice(y, y + SIDE), slice(x, x + SIDE))
        seen = torch.stack([images[i][cut] for i in at])
        right = torch.stack([truths[i][cut] for i in at])
        loss = binary_cross_entropy_with_logits(net(seen), right)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    net.eval()
    torch.jit.script(net).save(str(folder / "net.pt"))
    np.savez(folder / "net.npz", **{k: v.numpy() for k, v in net.state_dict().items()})
    torch.jit.script(Stack().eval()).save(str(folder / "stack.pt"))
    seconds = time.monotonic() - started
    loss = f"{losses[0]:.2f} -> {losses[-1]:.2f}"
    print(f"bioimageio: {STEPS} steps in {seconds:.0f} s, loss {loss}")  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
