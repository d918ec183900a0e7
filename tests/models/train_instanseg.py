"""Train a small InstanSeg network and export it: `PYTHON train_instanseg.py FOLDER [STEPS]`.

Runs where InstanSeg can be imported. Its own classes are the network (for any number of channels,
nuclei and cells), the loss and what is exported; the loop around them is ours, because InstanSeg's
own wants a data set on the disk. FOLDER/instanseg.pt is the file. One thread and fixed seeds.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells_instanseg import make_both
from instanseg.utils.loss.instanseg_loss import InstanSeg, InstanSeg_Torchscript  # type: ignore[import-not-found]
from instanseg.utils.model_loader import build_model_from_dict  # type: ignore[import-not-found]
from instanseg.utils.models.ChannelInvariantNet import AdaptorNetWrapper  # type: ignore[import-not-found]
from instanseg.utils.utils import percentile_normalize  # type: ignore[import-not-found]

IMAGES = 12
CROP = 96
BATCH = 2
OBJECTS = 12  # of a crop, from which the loss learns in one step
SHAPE = {
    "model_str": "InstanSeg_UNet",
    "dim_in": None,
    "layers": (16, 32, 64),
    "norm": "BATCH",
    "dropprob": 0.0,
    "multihead": False,
    "cells_and_nuclei": True,
    "n_sigma": 2,
    "dim_coords": 2,
    "dim_seeds": 1,
}


def batch(pictures: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Random crops, turned and mirrored."""
    images: list[Any] = []
    labels: list[Any] = []
    for _ in range(BATCH):
        image, both = random.choice(pictures)
        y, x = (random.randrange(n - CROP + 1) for n in image.shape[1:])
        turns, mirrored = random.randrange(4), random.random() < 0.5
        for kept, whole in ((images, image), (labels, both)):
            crop = torch.rot90(whole[:, y : y + CROP, x : x + CROP], turns, (1, 2))
            kept.append(crop.flip(2) if mirrored else crop)
    return torch.stack(images), torch.stack(labels).float()


def train(folder: Path, steps: int) -> None:
    torch.set_num_threads(1)
    random.seed(1)
    torch.manual_seed(1)
    method = InstanSeg(
        n_sigma=2,
        device="cpu",
        binary_loss_fn_str="lovasz_hinge",
        seed_loss_fn="l1_distance",
        cells_and_nuclei=True,
        window_size=64,
    )
    method.num_instance_cap = OBJECTS
    network = method.initialize_pixel_classifier(build_model_from_dict(dict(SHAPE)), MLP_width=5)
    network = AdaptorNetWrapper(network, adaptor_net_str="1", norm="BATCH")
    pictures = []
    for seed in range(IMAGES):
        image, nuclei, cells = make_both(seed, (192, 192))
        stretched = percentile_normalize(torch.from_numpy(image.astype(np.float32)))
        pictures.append((stretched, torch.from_numpy(np.stack([nuclei, cells]))))
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    started, losses = time.perf_counter(), []
    network.train()
    for _ in range(steps):
        images, labels = batch(pictures)
        loss = method(network(images), labels).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 20)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    exported = InstanSeg_Torchscript(
        network, cells_and_nuclei=True, pixel_size=0.5, n_sigma=2, backbone_dim_in=3
    )
    folder.mkdir(parents=True)
    torch.jit.script(exported).save(str(folder / "instanseg.pt"))
    size = (folder / "instanseg.pt").stat().st_size / 1e6
    sys.stdout.write(
        f"instanseg: {steps} steps in {time.perf_counter() - started:.0f} s, loss "
        f"{np.mean(losses[:10]):.2f} -> {np.mean(losses[-10:]):.2f}, {size:.1f} MB\n"
    )


if __name__ == "__main__":
    train(Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 200)
