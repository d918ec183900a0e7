"""Train a small StarDist network: `PYTHON train_stardist.py FOLDER YX|YXC|ZYX [EPOCHS]`.

Runs inside the environment of the family stardist. FOLDER is what StarDist itself saves:
config.json, thresholds.json and the weights. One thread and fixed seeds, which for
stacks do not make two trainings alike.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from cells import make_cells
from csbdeep.utils import normalize
from stardist.models import Config2D, Config3D, StarDist2D, StarDist3D

IMAGES = 16
FLAT = {
    "grid": (2, 2),
    "n_rays": 32,
    "unet_n_filter_base": 16,
    "net_conv_after_unet": 64,
    "train_patch_size": (128, 128),
    "train_batch_size": 4,
}
SOLID = {
    "grid": (2, 2, 2),
    "rays": 32,
    "unet_n_filter_base": 32,
    "net_conv_after_unet": 64,
    "train_patch_size": (32, 64, 64),
    "train_batch_size": 2,
}
LEARNING = {
    "train_steps_per_epoch": 25,
    "train_learning_rate": 0.001,
    "train_tensorboard": False,
}


def picture(seed: int, axes: str) -> tuple[Any, Any]:
    """An image as the axes have it, brightness from 0 to 1, and its labels."""
    if axes == "ZYX":
        image, labels = make_cells(seed, (48, 80, 80), diameter=22 + seed % 5)
    else:
        image, labels = make_cells(seed, (192, 192), diameter=24 + seed % 13)
    image = np.moveaxis(image[[0, 1, 0]], 0, -1) if axes == "YXC" else image[0]
    return normalize(image, 1, 99.8), labels


def train(folder: Path, axes: str, epochs: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.keras.utils.set_random_seed(1)
    pictures = [picture(seed, axes) for seed in range(IMAGES)]
    images, labels = map(list, zip(*pictures, strict=True))
    make, kind, settings = (
        (StarDist3D, Config3D, SOLID) if axes == "ZYX" else (StarDist2D, Config2D, FLAT)
    )
    described = kind(axes=axes, n_channel_in=3 if "C" in axes else 1, **settings, **LEARNING)
    model = make(described, name=folder.name, basedir=folder.parent)
    started = time.perf_counter()
    kept = (images[-3:], labels[-3:])
    history = model.train(images[:-3], labels[:-3], kept, seed=1, epochs=epochs)
    model.optimize_thresholds(*kept, nms_threshs=[0.3, 0.4])
    losses = history.history["val_loss"]
    sys.stdout.write(
        f"stardist {axes}: {epochs} epochs of {LEARNING['train_steps_per_epoch']} batches in "
        f"{time.perf_counter() - started:.0f} s, validation loss {losses[0]:.2f} -> "
        f"{min(losses):.2f}, thresholds {model.thresholds.prob:.2f} and "
        f"{model.thresholds.nms:.2f}\n"
    )


if __name__ == "__main__":
    train(Path(sys.argv[1]).resolve(), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 12)
