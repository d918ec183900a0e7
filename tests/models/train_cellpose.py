"""Train a small-job Cellpose checkpoint: `PYTHON train_cellpose.py CHECKPOINT [EPOCHS]`.

Runs inside the environment of the family cellpose. One thread and fixed seeds: the same
environment makes the same checkpoint.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from cellpose.models import CellposeModel
from cellpose.train import train_seg
from cells import make_cells

IMAGES, BATCH, BLOCK, RATE = 24, 8, 128, 0.002


def train(target: Path, epochs: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    np.random.seed(1)
    pairs = [make_cells(seed, (192, 192), diameter=24 + seed % 13) for seed in range(IMAGES)]
    # Every other image without nuclei, so that the checkpoint serves one channel as well as two.
    for index, (image, _) in enumerate(pairs):
        image[1] *= index % 2
    model = CellposeModel(pretrained_model=None, device=torch.device("cpu"), mkldnn=False)
    started = time.perf_counter()
    path, losses, _ = train_seg(
        model.net,
        train_data=[image for image, _ in pairs],
        train_labels=[labels for _, labels in pairs],
        channels=[1, 2],
        channel_axis=0,
        n_epochs=epochs,
        learning_rate=RATE,
        batch_size=BATCH,
        bsize=BLOCK,
        save_path=target.parent,
        model_name=target.name,
    )
    Path(path).replace(target)
    sys.stdout.write(
        f"cellpose: {epochs} epochs of {IMAGES} images in {time.perf_counter() - started:.0f} s, "
        f"loss {losses[0]:.2f} -> {losses[-1]:.2f}, {target.stat().st_size / 1e6:.1f} MB\n"
    )


if __name__ == "__main__":
    train(Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 60)
