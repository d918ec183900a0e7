"""Meta's own Segment Anything, for the tests of the family sam to compare with.

    PYTHON meta_sam.py make CHECKPOINT
    PYTHON meta_sam.py random CHECKPOINT ANSWERS
    PYTHON meta_sam.py masks CHECKPOINT IMAGE KEYWORDS FOUND

Runs inside the environment of the family cellposesam, which has segment-anything and torchvision.
`make` saves a small network that sees squares of 256 pixels, with weights set by hand so that a
point in a bright disc gives that disc. `random` saves a ViT-B with random weights, and what it
gives for an image and two points. `masks` leaves in FOUND (.npz) what the library's
SamAutomaticMaskGenerator finds in IMAGE (.npy, YXC) with the keywords in the file KEYWORDS (JSON).

The network set by hand: its encoder hands the brightness of 16 parts of each patch on; the token of
the point, whose code of places is alike for places that lie near, marks the patches near to it; a
pixel is in the mask where it is bright and marked. The quality is the brightness at the point. What
its blocks of attention add is made weak.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from segment_anything import (  # type: ignore[import-not-found]
    SamAutomaticMaskGenerator,
    sam_model_registry,
)
from segment_anything.modeling import (  # type: ignore[import-not-found]
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import Tensor, nn

MEAN, SPREAD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
SIDE, PATCH, PARTS = 256, 8, 16
CONSTANT = 100.0  # two channels of +- this make a layer norm divide by nearly the same everywhere
BRIGHT, PLUS, MINUS, LEVEL, MARK = slice(32, 48), 100, 101, 48, 110  # channels of an embedding
QUALITY, POINT, MASK, NONE, ASKED = 120, 123, 121, 122, 60
EMPTY = 125  # holds nothing, so that it shows the mean that a layer norm has taken away
NAMED = 10.0
WAVES = ((0.75, 0), (0.75, 60), (0.75, 120), (0.45, 30), (0.45, 90), (0.45, 150), (0.25, 0))
CODE = [*range(len(WAVES)), *range(128, 128 + len(WAVES))]  # of a place: sines and cosines
REACH = 0.19  # of the side: so far from the point a patch is marked
STEEP, GROUND, OUTSIDE, BASE = 40.0, 0.4, 40.0, 40.0  # of the logits of a mask


def small() -> Sam:
    grid = (SIDE // PATCH, SIDE // PATCH)
    return Sam(
        ImageEncoderViT(
            SIDE, PATCH, 3, 64, 2, 4, out_chans=256, use_rel_pos=True, window_size=7,
            norm_layer=partial(nn.LayerNorm, eps=1e-6), global_attn_indexes=(1,),
        ),
        PromptEncoder(256, grid, (SIDE, SIDE), 16),
        MaskDecoder(transformer_dim=256, transformer=TwoWayTransformer(2, 256, 8, 2048)),
        MEAN,
        SPREAD,
    ).eval()  # fmt: skip


def encoder(state: dict[str, Tensor]) -> None:
    """The brightness of the parts of each patch, from 0 to 1, and the two constants."""
    for name in [name for name in state if ".blocks." in name]:
        if name.endswith(("attn.proj.weight", "attn.proj.bias", "lin2.weight", "lin2.bias")):
            state[name] *= 0.01
    ahead = state["image_encoder.patch_embed.proj.weight"].zero_()
    bias = state["image_encoder.patch_embed.proj.bias"].zero_()
    state["image_encoder.pos_embed"].zero_()
    step = PATCH // 4
    for part in range(PARTS):
        row, column = step * (part // 4), step * (part % 4)
        for channel, spread in enumerate(SPREAD):
            ahead[part, channel, row : row + step, column : column + step] = (
                spread / 255 / 3 / step**2
            )
        bias[part] = sum(MEAN) / 255 / 3
    bias[20], bias[21] = CONSTANT, -CONSTANT
    first, second = (state[f"image_encoder.neck.{n}.weight"].zero_() for n in (0, 2))
    first[BRIGHT, :PARTS, 0, 0] = torch.eye(PARTS)
    first[LEVEL, :PARTS] = -1  # so that the mean of all channels is zero
    first[PLUS, 20] = first[MINUS, 21] = 1
    second[:, :, 1, 1] = torch.eye(256)
    for norm in ("image_encoder.neck.1", "image_encoder.neck.3"):
        state[f"{norm}.weight"].fill_(CONSTANT * (2 / 256) ** 0.5)
        state[f"{norm}.bias"].zero_()


def decoder(state: dict[str, Tensor], prompts: str, masks: str) -> None:
    """Marks the patches near to the point, and reads the brightness there."""
    for name in [name for name in state if name.startswith((prompts, masks))]:
        if ".mask_downscaling." not in name:
            state[name].zero_()
        elif ".mask_downscaling.6." in name:  # a mask that is shown again changes little
            state[name] *= 0.001
    waves = state[f"{prompts}pe_layer.positional_encoding_gaussian_matrix"]
    for number, (frequency, degrees) in enumerate(WAVES):
        waves[:, number] = frequency * torch.tensor(
            [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]
        )
    state[f"{prompts}point_embeddings.1.weight"][0, POINT] = NAMED
    state[f"{prompts}not_a_point_embed.weight"][0, NONE] = NAMED
    state[f"{masks}iou_token.weight"][0, QUALITY] = NAMED
    state[f"{masks}mask_tokens.weight"][:, MASK] = NAMED
    kept = [*CODE, QUALITY, POINT, MASK, NONE, ASKED, EMPTY]
    for layer in ("layers.0", "layers.1"):
        for norm in ("norm1", "norm2", "norm3"):
            state[f"{masks}transformer.{layer}.{norm}.weight"][kept] = 1
        state[f"{masks}transformer.{layer}.norm4.weight"].fill_(CONSTANT * (2 / 256) ** 0.5)
    state[f"{masks}transformer.norm_final_attn.weight"][kept] = 1
    # In the first layer each token keeps its name, and that of the quality gets the point's code.
    own = f"{masks}transformer.layers.0.self_attn."
    for number, token in enumerate((QUALITY, POINT, MASK, NONE)):
        for part in ("q_proj", "k_proj", "v_proj"):
            state[f"{own}{part}.weight"][number, token] = 1
        state[f"{own}out_proj.weight"][token, number] = 1
    state[f"{own}q_proj.weight"][32, QUALITY] = state[f"{own}k_proj.weight"][32, POINT] = 1
    for number, place in enumerate(CODE):
        state[f"{own}v_proj.weight"][32 + number, place] = 1
        state[f"{own}out_proj.weight"][place, 32 + number] = 1
    # Patches look at the tokens: near to the point they see the point's.
    there = f"{masks}transformer.layers.0.cross_attn_image_to_token."
    sharp = 12.0  # of the attention, where a head has 16 channels and divides by their root
    for number, place in enumerate(CODE):
        state[f"{there}q_proj.weight"][number, place] = sharp
        state[f"{there}k_proj.weight"][number, place] = 1
    state[f"{there}q_proj.bias"][14] = 1
    state[f"{there}k_proj.weight"][14, POINT] = -sharp * alike(REACH) / (15.8 + NAMED)
    state[f"{there}k_proj.weight"][14, QUALITY] = -4
    state[f"{there}v_proj.weight"][0, POINT] = 1 / 15.8
    state[f"{there}out_proj.weight"][MARK, 0] = 1
    # At last the token of the quality reads the brightness at the point.
    last = f"{masks}transformer.final_attn_token_to_image."
    for number, place in enumerate(CODE):
        state[f"{last}q_proj.weight"][number, [place, EMPTY]] = torch.tensor([400.0, -400.0])
        state[f"{last}k_proj.weight"][number, place] = 1
    state[f"{last}v_proj.weight"][0, BRIGHT] = 1 / PARTS
    state[f"{last}out_proj.weight"][ASKED, 0] = 1
    asked = torch.tensor([-1.0, 1.0])
    state[f"{masks}iou_prediction_head.layers.0.weight"][0, [ASKED, EMPTY]] = asked
    state[f"{masks}iou_prediction_head.layers.0.bias"][0] = 0.7
    state[f"{masks}iou_prediction_head.layers.1.weight"][0, 0] = 1
    state[f"{masks}iou_prediction_head.layers.2.weight"][:, 0] = -1
    state[f"{masks}iou_prediction_head.layers.2.bias"].fill_(0.97)


def alike(distance: float) -> float:
    """How alike the codes of two places are, on average of all directions."""
    turns = np.radians(np.arange(0, 360, 5))
    found = [
        np.cos(4 * np.pi * frequency * distance * np.cos(turns - np.radians(degrees)))
        for frequency, degrees in WAVES
    ]
    return float(np.sum(found, axis=0).mean())


def upscaling(state: dict[str, Tensor]) -> None:
    """Logits of each quarter of a part: bright and marked is above zero."""
    masks = "mask_decoder."
    first, second = (state[f"{masks}output_upscaling.{n}.weight"] for n in (0, 3))
    for row, column, down, across in np.ndindex(2, 2, 2, 2):
        part = BRIGHT.start + 4 * (2 * row + down) + 2 * column + across
        first[part, 2 * down + across, row, column] = 1
    first[MARK, 4], first[PLUS, 6], first[MINUS, 7] = 1, 1, 1
    first[:, 5] = -first[:, :5].sum(1)
    state[f"{masks}output_upscaling.1.weight"][:5] = CONSTANT * (2 / 64) ** 0.5
    state[f"{masks}output_upscaling.1.bias"][:5] = 10  # where a GELU changes nothing
    for row, column in np.ndindex(2, 2):
        second[2 * row + column, 0, row, column] = STEEP
    second[4, 0] = OUTSIDE
    state[f"{masks}output_upscaling.3.bias"][0] = -STEEP * (10 + GROUND) - OUTSIDE * (10 + 1) + BASE
    state[f"{masks}output_upscaling.3.bias"][1] = BASE
    for number in range(4):
        state[f"{masks}output_hypernetworks_mlps.{number}.layers.2.bias"][0] = 1
        state[f"{masks}output_hypernetworks_mlps.{number}.layers.2.bias"][1] = -1


def make(target: str) -> None:
    torch.manual_seed(1)
    network = small()
    state = network.state_dict()
    with torch.no_grad():
        encoder(state)
        decoder(state, "prompt_encoder.", "mask_decoder.")
        upscaling(state)
    network.load_state_dict(state)
    torch.save(network.state_dict(), target)


def random(target: str, answers: str) -> None:
    """A ViT-B with random weights, and its logits and scores for an image and two points."""
    torch.manual_seed(2)
    network = sam_model_registry["vit_b"]()
    for name, values in network.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            nn.init.normal_(values, std=0.1)
        elif values.ndim > 1:
            nn.init.normal_(values, std=1.2 * values[0].numel() ** -0.5)
    torch.save(network.state_dict(), target)
    image = np.random.default_rng(3).integers(0, 256, (768, 1024, 3), np.uint8)
    points = np.array([[10.0, 20.0], [600.0, 300.0]])
    with torch.inference_mode():
        seen = network.preprocess(torch.from_numpy(image).permute(2, 0, 1)[None])
        asked = (torch.from_numpy(points)[:, None], torch.ones(2, 1, dtype=torch.int))
        sparse, dense = network.prompt_encoder(points=asked, boxes=None, masks=None)
        logits, scores = network.mask_decoder(
            image_embeddings=network.image_encoder(seen),
            image_pe=network.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
    np.savez(answers, image=image, points=points, logits=logits.flatten(0, 1), scores=scores)


def masks(checkpoint: str, image: str, keywords: str, found: str) -> None:
    network = small()
    network.load_state_dict(torch.load(checkpoint, weights_only=True))
    chosen = json.loads(Path(keywords).read_text("utf-8"))
    answers = SamAutomaticMaskGenerator(network, **chosen).generate(np.load(image))
    np.savez(
        found,
        masks=np.array([answer["segmentation"] for answer in answers]),
        scores=np.array([answer["predicted_iou"] for answer in answers]),
    )


ACTIONS: dict[str, Callable[..., None]] = {"make": make, "random": random, "masks": masks}

if __name__ == "__main__":
    torch.set_num_threads(1)
    ACTIONS[sys.argv[1]](*sys.argv[2:])
