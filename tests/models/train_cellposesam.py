"""Set the weights of a Cellpose-SAM network by hand: `PYTHON train_cellposesam.py CHECKPOINT`.

Runs inside the environment of the family cellposesam. Training 300 million weights is beyond a
CPU, but the network can be told what to do: its first layer hands the pixels of each patch of
8 x 8 on, the layers of its neck filter the 3 x 3 patches around, and its readout gives them out as
flows uphill of the smoothed brightness and, for the probability, that brightness itself. It finds
bright round cells about 16 pixels wide.

Its 24 attention blocks have the weights that a new network has, made weak: they are calculated,
and change the result a little.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from cellpose.vit import CPSAM
from numpy.typing import NDArray

PATCH, PIXELS = 8, 64
CHANNELS = (1.0, 0.5, 0.25)  # what a pixel is to the network: this sum of its channels
WEAK = 0.02  # of what an attention block usually adds
# A layer norm divides by the spread of its channels. Two large constants fix that spread, so that
# what passes beside them keeps its size.
FIRST, SECOND = 100.0, 3000.0
SIGMA, RADIUS = 2.0, 8  # pixels; no patch sees further than its neighbours
STEEP, SURE, GROUND = 50.0, 12.0, 0.3  # of the flows, of the probability, brightness of its zero


def make() -> CPSAM:
    torch.manual_seed(1)
    network = CPSAM()
    state = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    for name, value in network.state_dict().items():
        if ".blocks." in name or name in ("W2", "diam_mean", "diam_labels"):
            weak = name.endswith(("attn.proj.weight", "attn.proj.bias", "lin2.weight", "lin2.bias"))
            state[name] = value * WEAK if weak else value
    ahead, filters = state["encoder.patch_embed.proj.weight"], state["encoder.neck.2.weight"]
    sums, ground = state["encoder.patch_embed.proj.bias"], state["out.bias"]
    for pixel in range(PIXELS):
        for channel, share in enumerate(CHANNELS):
            ahead[pixel, channel, pixel // PATCH, pixel % PATCH] = share
    ahead[PIXELS] = -ahead[:PIXELS].sum(0)  # so that the mean of all channels is zero
    sums[PIXELS + 1], sums[PIXELS + 2] = FIRST, -FIRST
    state["encoder.neck.0.weight"][:, :256, 0, 0] = torch.eye(256)
    state["encoder.neck.0.weight"][PIXELS + 3 :] = 0
    answers = 3 * PIXELS
    filters[:answers, :PIXELS] = torch.from_numpy(_filters())
    filters[answers] = -filters[:answers].sum(0)
    filters[answers + 1, PIXELS + 1, 1, 1] = filters[answers + 2, PIXELS + 2, 1, 1] = SECOND / FIRST
    for layer, constant in ((1, FIRST), (3, SECOND)):
        state[f"encoder.neck.{layer}.weight"][:] = constant / np.sqrt(256 / 2)
    state["out.weight"][:, :answers, 0, 0] = torch.eye(answers)
    ground[2 * PIXELS :] = -SURE * GROUND
    network.load_state_dict(state)
    return network


def _filters() -> NDArray[np.float32]:
    """Flow along Y, along X and probability, for each pixel of a patch: (3 * 64, 64, 3, 3)."""
    own = np.arange(PATCH)
    seen = np.arange(3 * PATCH) - PATCH  # pixels of the patch before, its own, the one after
    away = seen - own[:, None]
    bell = np.where(abs(away) <= RADIUS, np.exp(-(away**2) / (2 * SIGMA**2)), 0)
    bell /= bell.sum(1, keepdims=True)
    slope = bell * away / SIGMA**2
    kinds = ((slope, bell, STEEP), (bell, slope, STEEP), (bell, bell, SURE))
    found = np.stack([scale * np.einsum("yi,xj->yxij", *pair) for *pair, scale in kinds])
    patches = found.reshape(3, PATCH, PATCH, 3, PATCH, 3, PATCH).transpose(0, 1, 2, 4, 6, 3, 5)
    return patches.reshape(3 * PIXELS, PIXELS, 3, 3).astype(np.float32)


def train(target: Path) -> None:
    started = time.perf_counter()
    network = make()
    network.save_model(target)
    count = sum(value.numel() for value in network.parameters())
    sys.stdout.write(
        f"cellposesam: {count / 1e6:.0f} million weights set by hand in "
        f"{time.perf_counter() - started:.0f} s, {target.stat().st_size / 1e6:.0f} MB\n"
    )


if __name__ == "__main__":
    train(Path(sys.argv[1]).resolve())
