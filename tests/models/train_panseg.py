"""Train small networks in the layout of pytorch-3dunet: `PYTHON train_panseg.py FOLDER WHAT`.

WHAT is `tissue` (YX, borders), `nuclei` (YX, nuclei and borders) or `solid` (ZYX, borders).
Runs inside the environment of the family panseg. One thread and fixed seeds.
"""

import importlib.util
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import yaml
from cells import make_cells
from tissue_panseg import borders_of, make_tissue

RUNNER = Path(__file__).parents[2] / "src" / "aiod" / "runners" / "panseg.py"
RATE = 0.003


@dataclass(frozen=True)
class Course:
    """What is trained, on blocks of which shape, how long."""

    model: dict[str, Any]
    block: tuple[int, ...]
    diameter: float
    steps: int
    batch: int


COURSES = {
    "tissue": Course(
        {"name": "UNet2D", "out_channels": 1, "f_maps": [16, 32, 64]}, (128, 128), 30, 220, 4
    ),
    "nuclei": Course(
        {"name": "UNet2D", "out_channels": 2, "f_maps": [16, 32, 64]}, (128, 128), 30, 220, 4
    ),
    "solid": Course(
        {"name": "UNet3D", "out_channels": 1, "f_maps": [8, 16, 32]}, (24, 56, 56), 20, 120, 1
    ),
}


def train(target: Path, what: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    random = np.random.default_rng(1)
    course = COURSES[what]
    target.mkdir(parents=True)
    config = target / "config_train.yml"
    model = {
        "in_channels": 1,
        "layer_order": "gcr",
        "num_groups": 8,
        "final_sigmoid": True,
        "is_segmentation": True,
        **course.model,
    }
    config.write_text(yaml.safe_dump({"model": model, "trainer": {"max_num_epochs": 1}}))
    runner = imported()
    network = runner.UNet(runner._told_by_config(config)).train()
    drawn = [_drawn(what, seed, course) for seed in range(8)]
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=course.steps)
    started = time.perf_counter()
    losses = []
    for _ in range(course.steps):
        seen, wanted = _batch(drawn, course, random)
        logits = network(seen)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        chance = torch.sigmoid(logits)
        loss = loss + 1 - 2 * (chance * wanted).sum() / (chance.square() + wanted).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
    file = target / "best_checkpoint.pytorch"
    torch.save({"num_epochs": 1, "model_state_dict": network.state_dict()}, file)
    sys.stdout.write(
        f"panseg {what}: {course.steps} steps in {time.perf_counter() - started:.0f} s, "
        f"loss {losses[0]:.2f} -> {np.mean(losses[-10:]):.2f}, "
        f"{file.stat().st_size / 1e6:.1f} MB\n"
    )


def imported() -> ModuleType:
    """The runner: its network is what is trained."""
    spec = importlib.util.spec_from_file_location("panseg", RUNNER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["panseg"] = module
    spec.loader.exec_module(module)
    return module


def _drawn(what: str, seed: int, course: Course) -> tuple[Any, Any]:
    """An image, standardised, and what the network is to answer (channels, space)."""
    shape = tuple(3 * n // 2 for n in course.block)
    diameter = course.diameter * (0.85 + 0.3 * seed / 7)
    if what == "nuclei":
        channels, labels = make_cells(seed, shape, diameter=diameter)
        image, answer = channels[0], [labels > 0, borders_of(labels)]
    else:
        image, labels = make_tissue(seed, shape, diameter=diameter)
        answer = [borders_of(labels)]
    return (image - image.mean()) / image.std(), np.stack(answer)


def _batch(drawn: list[Any], course: Course, random: np.random.Generator) -> tuple[Any, Any]:
    """Random blocks, mirrored and turned at random."""
    seen, wanted = [], []
    for _ in range(course.batch):
        image, answer = drawn[random.integers(len(drawn))]
        start = [
            int(random.integers(n - b + 1)) for n, b in zip(image.shape, course.block, strict=True)
        ]
        box = tuple(slice(s, s + b) for s, b in zip(start, course.block, strict=True))
        pair = [image[box][None], answer[(slice(None), *box)]]
        for axis in range(1, image.ndim + 1):
            if random.random() < 0.5:
                pair = [np.flip(array, axis) for array in pair]
        if random.random() < 0.5:
            pair = [np.swapaxes(array, -1, -2) for array in pair]
        seen.append(pair[0])
        wanted.append(pair[1])
    both = (np.stack(seen), np.stack(wanted))
    first, second = (torch.from_numpy(array.astype(np.float32)) for array in both)
    return first, second


if __name__ == "__main__":
    train(Path(sys.argv[1]).resolve(), sys.argv[2])
