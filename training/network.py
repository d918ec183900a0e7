"""The small U-Net of `nuclei-mini` (Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import interpolate, max_pool2d

CHANNELS = (8, 24, 48, 64)
MULTIPLE = 2 ** (len(CHANNELS) - 1)
"""Sides of what the network takes are multiples of this."""
_BEND = 5.0
REACH = 52
"""Pixels that an answer may depend on in each direction: 3 x 3 convolutions, pooled three times."""


class Block(nn.Sequential):
    """Two 3 x 3 convolutions with batch normalisation."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """(n, 1, y, x) of normalised brightness -> (n, 4, y, x).

    Foreground and depth as logits, then the way to the object's middle in X and Y, in units of
    `patches.WAY` pixels. Who knows that way knows objects apart: it is only learned for that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(map(Block, (1, *CHANNELS[:-1]), CHANNELS))
        pairs = zip(CHANNELS[:0:-1], CHANNELS[-2::-1], strict=True)
        self.up = nn.ModuleList(Block(below + beside, beside) for below, beside in pairs)
        self.out = nn.Conv2d(CHANNELS[0], 4, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        kept = []
        # Dim nuclei are seen beside bright ones: asinh, which older ONNX has no name for.
        bent = _BEND * image.clamp(min=-1.0)
        x = torch.log(bent + torch.sqrt(bent * bent + 1))
        for level, block in enumerate(self.down):
            x = block(max_pool2d(x, 2) if level else x)
            kept.append(x)
        for block, beside in zip(self.up, kept[-2::-1], strict=True):
            x = block(torch.cat([interpolate(x, scale_factor=2.0), beside], dim=1))
        result: torch.Tensor = self.out(x)
        return result


class Probabilities(nn.Module):
    """The network as it is exported: foreground and depth, between 0 and 1."""

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.network(image)[:, :2])
