"""Meta's own Segment Anything 2, for the tests of the family sam2 to compare with.

    PYTHON meta_sam2.py make CHECKPOINT
    PYTHON meta_sam2.py masks CHECKPOINT IMAGE KEYWORDS FOUND

Runs inside the environment of the family cellposesam, which has torchvision, with `sam2` and what
it imports on the path. `make` saves the network "tiny" with weights set by hand, as in
`meta_sam.py`: a point in a bright disc gives that disc. `masks` leaves in FOUND (.npz) what the
library's SAM2AutomaticMaskGenerator finds in IMAGE (.npy, YXC) with KEYWORDS (a JSON file).
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from meta_sam import (
    BASE,
    BRIGHT,
    CONSTANT,
    GROUND,
    LEVEL,
    MARK,
    MINUS,
    OUTSIDE,
    PARTS,
    PLUS,
    STEEP,
    decoder,
)
from sam2.automatic_mask_generator import (  # type: ignore[import-not-found]
    SAM2AutomaticMaskGenerator,
)
from sam2.build_sam import build_sam2  # type: ignore[import-not-found]
from torch import Tensor, nn

MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MASKS = "sam_mask_decoder."


def tiny() -> nn.Module:
    network: nn.Module = build_sam2("configs/sam2/sam2_hiera_t.yaml", device="cpu")
    return network


def encoder(state: dict[str, Tensor]) -> None:
    """Its first three channels are brightness and two constants, its others next to nothing."""
    trunk, neck = "image_encoder.trunk.", "image_encoder.neck.convs."
    for name in [name for name in state if name.startswith(f"{trunk}blocks.")]:
        width = len(state[name])
        if name.endswith(("attn.proj.weight", "attn.proj.bias")) or ".mlp.layers.1." in name:
            state[name] *= 0.002
        elif name.endswith("norm1.weight"):  # as large after it as before
            state[name].fill_(CONSTANT * (2 / width) ** 0.5)
        elif name.endswith(("0.proj.weight", "1.proj.weight", "3.proj.weight", "10.proj.weight")):
            state[name].zero_()
            state[name][:3, :3] = torch.eye(3)
            state[name.replace("weight", "bias")].zero_()
    for name in (
        "pos_embed",
        "pos_embed_window",
        "patch_embed.proj.weight",
        "patch_embed.proj.bias",
    ):
        state[trunk + name].zero_()
    for channel, spread in enumerate(SPREAD):
        state[f"{trunk}patch_embed.proj.weight"][0, channel, 3:, 3:] = spread / 3 / 16
    bias = torch.tensor([sum(MEAN) / 3, CONSTANT, -CONSTANT])
    state[f"{trunk}patch_embed.proj.bias"][:3] = bias
    for name in [name for name in state if name.startswith(neck)]:
        state[name].zero_()
    state[f"{neck}1.conv.weight"][BRIGHT, 0] = 1
    state[f"{neck}1.conv.weight"][LEVEL, 0] = -PARTS
    state[f"{neck}1.conv.bias"][PLUS], state[f"{neck}1.conv.bias"][MINUS] = CONSTANT, -CONSTANT
    state[f"{neck}3.conv.weight"][0, 0] = 1
    state["no_mem_embed"].zero_()


def upscaling(state: dict[str, Tensor]) -> None:
    """Logits of each pixel of the finest level: bright and marked is above zero."""
    first, second = (state[f"{MASKS}output_upscaling.{n}.weight"] for n in (0, 3))
    first[MARK, 4], first[PLUS, 6], first[MINUS, 7] = 1, 1, 1
    first[MARK, 5] = -1
    state[f"{MASKS}output_upscaling.1.weight"][4] = CONSTANT * (2 / 64) ** 0.5
    state[f"{MASKS}output_upscaling.1.bias"][4] = 10  # where a GELU changes nothing
    second[4, 0] = OUTSIDE
    state[f"{MASKS}conv_s0.weight"][0, 0] = STEEP
    bias = torch.tensor([BASE - STEEP * GROUND - OUTSIDE * (10 + 1), BASE])
    state[f"{MASKS}output_upscaling.3.bias"][:2] = bias
    for number in range(4):
        state[f"{MASKS}output_hypernetworks_mlps.{number}.layers.2.bias"][0] = 1
        state[f"{MASKS}output_hypernetworks_mlps.{number}.layers.2.bias"][1] = -1
    state[f"{MASKS}iou_prediction_head.layers.2.weight"][:, 0] = -20  # a sigmoid follows
    state[f"{MASKS}iou_prediction_head.layers.2.bias"].fill_(4)


def make(target: str) -> None:
    torch.manual_seed(1)
    network = tiny()
    state = network.state_dict()
    with torch.no_grad():
        encoder(state)
        decoder(state, "sam_prompt_encoder.", MASKS)
        upscaling(state)
    network.load_state_dict(state)
    torch.save({"model": network.state_dict()}, target)


def masks(checkpoint: str, image: str, keywords: str, found: str) -> None:
    network = tiny()
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
    chosen = json.loads(Path(keywords).read_text("utf-8"))
    answers = SAM2AutomaticMaskGenerator(network, **chosen).generate(np.load(image))
    np.savez(
        found,
        masks=np.array([answer["segmentation"] for answer in answers]),
        scores=np.array([answer["predicted_iou"] for answer in answers]),
    )


ACTIONS: dict[str, Callable[..., None]] = {"make": make, "masks": masks}

if __name__ == "__main__":
    torch.set_num_threads(1)
    ACTIONS[sys.argv[1]](*sys.argv[2:])
