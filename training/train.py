"""Train `nuclei-mini` and write it as ONNX.

    python training/train.py mnfinder-1.2.3-py3-none-any.whl nuclei-mini.onnx

One thread, one seed; the same machine gives the same network.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import real
import synthetic
import torch
from network import MULTIPLE, Probabilities, UNet
from numpy.typing import NDArray
from patches import PERCENTILES, Example, batch, example, usual_diameter
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

SEED = 20
STEPS = 4400
BATCH = 4
SIDE = 128
DRAWN = 400
"""Drawn images, of 256 x 256 pixels."""
SHARES = {"real": 0.38, "real, glowing": 0.12, "drawn": 0.5}
"""How often each kind of image is shown; in the second the cells around the nuclei are drawn in."""
WAYS = 0.3
"""How much the ways to the middle count beside foreground and depth."""
RATE = 4e-3


def main() -> None:
    """The command of this module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path, help="the wheel of mnfinder 1.2.3")
    parser.add_argument("to", type=Path, help="where the network is written")
    parser.add_argument("--steps", type=int, default=STEPS)
    given = parser.parse_args()
    started = time.process_time()
    network = train(given.wheel, given.steps, given.to)
    export(network, given.to)
    minutes = (time.process_time() - started) / 60
    print(f"{given.to}: {given.to.stat().st_size:,} bytes, {minutes:.1f} CPU minutes")


def train(wheel: Path, steps: int, to: Path) -> UNet:
    """A network trained from its beginnings."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    random = np.random.default_rng(SEED)
    kinds = _kinds(wheel)
    print(", ".join(f"{len(of)} {kind}" for kind, of in kinds.items()), flush=True)
    network = UNet()
    export(network.eval(), to)  # what cannot be written is better known now
    network.train().to(memory_format=torch.channels_last)  # an eighth quicker on a CPU
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, RATE, total_steps=steps, pct_start=0.15
    )
    losses: list[float] = []
    for step in range(1, steps + 1):
        kind = random.choice(list(SHARES), p=list(SHARES.values()))
        losses.append(_step(network, optimiser, kinds[kind], random))
        schedule.step()
        if step % 200 == 0:
            recent, seconds = np.mean(losses[-200:]), time.process_time()
            print(f"step {step} of {steps}: loss {recent:.4f}, {seconds:.0f} s", flush=True)
    return network.eval().to(memory_format=torch.contiguous_format)


def _kinds(wheel: Path) -> dict[str, list[Example]]:
    """The images of each kind of :data:`SHARES`."""
    random = np.random.default_rng(SEED)
    taken = [(image, labels) for _, image, labels in real.read(wheel, "training-data")]
    drawn = [synthetic.draw(np.random.default_rng((SEED, n))) for n in range(DRAWN)]
    return {
        "real": [example(*one) for one in taken],
        "real, glowing": [example(_glowing(random, *one), one[1]) for one in taken],
        "drawn": [example(*one) for one in drawn],
    }


def _glowing(
    random: np.random.Generator, image: NDArray[np.float32], labels: NDArray[np.int32]
) -> NDArray[np.float32]:
    """A real image with cytoplasm, as bright as it would be beside a usual nucleus there."""
    nuclei, ground = np.median(image[labels > 0]), np.percentile(image, PERCENTILES[0])
    glow = synthetic.cytoplasm(random, labels, usual_diameter(labels))
    return (image + (nuclei - ground) * glow).astype(np.float32)


def _step(
    network: UNet,
    optimiser: torch.optim.Optimizer,
    examples: list[Example],
    random: np.random.Generator,
) -> float:
    shown = batch(random, examples, BATCH, SIDE)
    optimiser.zero_grad()
    said = network(shown.seen)
    loss = cross_entropy(said[:, :2], shown.answers, shown.weights.expand_as(shown.answers))
    apart = (said[:, 2:] - shown.ways).abs().sum(1, keepdim=True)
    loss = loss + WAYS * (apart * shown.known * shown.weights).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()
    return float(loss.detach())


def export(network: UNet, to: Path) -> None:
    """Write a network as ONNX: image (n, 1, y, x) -> (n, 2, y, x), sides any multiple of 8."""
    torch.onnx.export(
        Probabilities(network),
        (torch.zeros(1, 1, 8 * MULTIPLE, 8 * MULTIPLE),),
        str(to),
        input_names=["image"],
        output_names=["answer"],
        opset_version=17,
        dynamo=False,
        dynamic_axes={"image": {0: "n", 2: "y", 3: "x"}, "answer": {0: "n", 2: "y", 3: "x"}},
    )


if __name__ == "__main__":
    main()
