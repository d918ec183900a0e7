"""Train a small network of empanada and export it: `PYTHON train_empanada.py FILE [STEPS]`.

Runs where empanada can be imported. Its own Panoptic-DeepLab is the network (with one block a
level instead of 3, 4, 6 and 3), the targets and the loss, and it is exported as empanada does it;
the loop is ours, because empanada's own wants folders of images. One thread and fixed seeds.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from empanada.data.utils import heatmap_and_offsets  # type: ignore[import-not-found]
from empanada.losses import PanopticLoss  # type: ignore[import-not-found]
from empanada.models.quantization import encoders  # type: ignore[import-not-found]
from empanada.models.quantization.encoders.resnet import (  # type: ignore[import-not-found]
    QuantizableBottleneck,
    QuantizableResNet,
)
from empanada.models.quantization.panoptic_deeplab import (  # type: ignore[import-not-found]
    QuantizablePanopticDeepLabPR,
)
from organelles_empanada import make_organelles

MEAN, STD = 0.57571, 0.12765
CROP = 128
BATCH = 2


def network() -> Any:
    """The classes of MitoNet v1, with fewer blocks and channels."""
    encoders.resnet50 = lambda **options: QuantizableResNet(
        QuantizableBottleneck, [1, 1, 1, 1], **options
    )
    return QuantizablePanopticDeepLabPR(
        encoder="resnet50",
        num_classes=1,
        stage4_stride=16,
        decoder_channels=32,
        low_level_stages=[1],
        low_level_channels_project=[16],
        atrous_rates=[2, 4, 6],
        ins_decoder=True,
        ins_ratio=0.5,
        num_fc=3,
        quantize=False,
    )


def pictures() -> list[tuple[Any, Any]]:
    """Planes, and sections through stacks in the three directions."""
    drawn = [make_organelles(seed, (256, 256)) for seed in range(6)]
    for seed in range(3):
        stack, labels = make_organelles(seed, (CROP, CROP, CROP))
        for axis in range(3):
            pairs = zip(np.moveaxis(stack, axis, 0), np.moveaxis(labels, axis, 0), strict=True)
            drawn += list(pairs)[5::24]
    return drawn


def batch(drawn: list[tuple[Any, Any]]) -> tuple[Any, dict[str, Any]]:
    """Random crops, turned, with what the network shall say of them."""
    images, inside, heat, offsets = [], [], [], []
    for _ in range(BATCH):
        image, labels = random.choice(drawn)
        y, x = (random.randrange(n - CROP + 1) for n in image.shape)
        turns = random.randrange(4)
        crop = np.rot90(image[y : y + CROP, x : x + CROP], turns).astype(np.float32)
        truth = np.ascontiguousarray(np.rot90(labels[y : y + CROP, x : x + CROP], turns))
        middles, ways = heatmap_and_offsets(truth)
        images.append(torch.from_numpy((crop / 255 - MEAN) / STD)[None])
        inside.append(torch.from_numpy(truth > 0).float())
        heat.append(torch.from_numpy(middles))
        offsets.append(torch.from_numpy(ways))
    targets = {"sem": inside, "ctr_hmp": heat, "offsets": offsets}
    return torch.stack(images), {name: torch.stack(item) for name, item in targets.items()}


def train(file: Path, steps: int) -> None:
    torch.set_num_threads(1)
    random.seed(1)
    torch.manual_seed(1)
    model, loss = network(), PanopticLoss()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    drawn = pictures()
    started, first, last = time.perf_counter(), 0.0, 0.0
    model.train()
    for step in range(steps):
        images, targets = batch(drawn)
        value, _ = loss(model(images), targets)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        schedule.step()
        last = 0.9 * last + 0.1 * value.item() if step else value.item()
        first = first or last
        if step % 20 == 0:
            sys.stderr.write(f"step {step}: {last:.3f}\n")
    model.eval()
    model.fuse_model()
    torch.jit.save(torch.jit.script(model), file)
    size = file.stat().st_size / 1e6
    sys.stdout.write(
        f"empanada: {steps} steps in {time.perf_counter() - started:.0f} s, loss {first:.2f} -> "
        f"{last:.2f}, {size:.1f} MB\n"
    )


if __name__ == "__main__":
    train(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 260)
