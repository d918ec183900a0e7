# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "appose==0.12.0",
#   "numpy==2.4.6",
#   "scipy==1.17.1",
#   "torch==2.13.0",
#   "transformers==5.24.0",
# ]
# ///
"""Segment Anything 2: whatever lies under each point of a grid, the good masks kept.

Ravi et al., https://arxiv.org/abs/2408.00714. It takes the checkpoints of Meta's own code (sam2),
tiny, small, base plus and large; their arrays are given the names of the same network in Hugging
Face's transformers, which needs no torchvision, hydra or CUDA of its own. Which network it is is
read off the arrays; those for videos are left out. The search with points, crops, scores and boxes
follows SAM2AutomaticMaskGenerator of that code, step by step, but for small holes and specks: they
are removed at the size of the image, as in the first Segment Anything and on any device.

A pixel of several masks belongs to the one with the highest predicted quality, of equal ones to the
smaller. Brightness is stretched by percentiles of the whole image (`survey`), so that tiles agree.
Nothing is ever downloaded.

verified: own weights (the network tiny, set by hand, finds drawn discs, in tiles and whole, and the
masks of Meta's generator; on a CPU. Not run: the other sizes, the published files, which lie on a
server that could not be reached, and any GPU)
"""

from __future__ import annotations

import itertools
import math
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional
from transformers import Sam2Config, Sam2Model  # type: ignore[import-not-found]

Array = NDArray[Any]
Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels
Features = list[Tensor]  # of an image, from fine to coarse

MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of photographs, red to blue
PERCENTILES = (1.0, 99.8)
NEAR = 20  # pixels: a mask that ends so near to the edge of a crop was cut by it
MASKS_AT_ONCE = 16  # that are brought to the size of the image: 64 MB of a tile of 1024 x 1024
POINTS_ON_CPU = 16  # at once: more take more memory and save no time
SIDE = 1024  # pixels of the square that the network sees
MOST = 32.0  # of a logit that is shown to the network again

_RENAMED = (
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"^sam_(prompt_encoder|mask_decoder)\.", r"\1."),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"\.norm", ".layer_norm"),
    (r"\.out_proj\.", ".o_proj."),
    (r"\.pe_layer\.positional_encoding_gaussian_matrix$", ".shared_embedding.positional_embedding"),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (r"(_head|_mlps\.\d|\.mlp)\.layers\.0\.", r"\1.proj_in."),
    (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
    (r"(_head|_mlps\.\d)\.layers\.1\.", r"\1.layers.0."),
    (r"(_head|_mlps\.\d)\.layers\.2\.", r"\1.proj_out."),
)
_OF_VIDEOS = re.compile(r"(memory_|mask_downsample|maskmem_|obj_ptr_|no_obj_|no_mem_pos_enc)")


@dataclass(frozen=True)
class Kind:
    """What the arrays of a network do not tell: blocks and windows of its four stages."""

    name: str
    stages: tuple[int, int, int, int]
    windows: tuple[int, int, int, int]
    whole: tuple[int, int, int]  # the blocks that see all of the image at once
    heads: int


_KINDS = {  # by the width of the first stage and the number of blocks
    (96, 12): Kind("tiny", (1, 2, 7, 2), (8, 4, 14, 7), (5, 7, 9), 1),
    (96, 16): Kind("small", (1, 2, 11, 2), (8, 4, 14, 7), (7, 10, 13), 1),
    (112, 24): Kind("base plus", (2, 3, 16, 3), (8, 4, 14, 7), (12, 16, 20), 2),
    (144, 48): Kind("large", (2, 6, 36, 4), (8, 4, 16, 8), (23, 33, 43), 2),
}
_EXPECTED = ", ".join(kind.name for kind in _KINDS.values())


@dataclass(frozen=True)
class Model:
    """A loaded network."""

    network: Sam2Model
    device: torch.device


@dataclass(frozen=True)
class Search:
    """Where to ask, and which masks to keep; the names are the parameters'."""

    points_per_side: int
    points_per_batch: int
    pred_iou_thresh: float
    stability_score_thresh: float
    stability_score_offset: float
    box_nms_thresh: float
    crop_n_layers: int
    crop_nms_thresh: float
    crop_overlap_ratio: float
    crop_n_points_downscale_factor: int
    min_mask_region_area: int
    max_mask_region_area: int
    use_m2m: bool
    multimask_output: bool


@dataclass(frozen=True)
class Mask:
    """A mask as the bits of its box, both of whose ends belong to it."""

    box: Box
    bits: Array
    area: int
    score: float

    @property
    def place(self) -> tuple[slice, slice]:
        left, top, right, bottom = self.box
        return slice(top, bottom + 1), slice(left, right + 1)

    def pixels(self) -> Array:
        """bool, (Y, X) of the box."""
        left, top, right, bottom = self.box
        shape = (bottom - top + 1, right - left + 1)
        found: Array = np.unpackbits(self.bits, count=math.prod(shape)).reshape(shape).astype(bool)
        return found


def load(weights: str | None, *, config: str | None, device: str) -> Model:  # noqa: ARG001
    """The network of a checkpoint; pickled code in it is refused."""
    path = _checkpoint(weights)
    state = _state(path)
    described = _config(state, path)
    with torch.device("meta"):  # shapes without numbers
        network = Sam2Model(described)
    _require_same(network.state_dict(), state, path)
    network.load_state_dict(state, assign=True)
    where = torch.device(device)
    return Model(network.float().to(where).eval(), where)


def survey(statistics: Sequence[Mapping[str, Array]]) -> dict[str, Any]:
    """The brightness of the whole image that becomes black, and that which becomes white."""
    values = np.concatenate([np.asarray(channel["values"]) for channel in statistics])
    counts = np.concatenate([np.asarray(channel["counts"]) for channel in statistics])
    order = np.argsort(values, kind="stable")
    return {"lowhigh": list(_range(values[order], counts[order]))}


def predict(
    model: Model,
    image: Array,
    *,
    axes: str,
    points_per_side: int = 32,
    points_per_batch: int = 64,
    pred_iou_thresh: float = 0.8,
    stability_score_thresh: float = 0.95,
    stability_score_offset: float = 1.0,
    box_nms_thresh: float = 0.7,
    crop_n_layers: int = 0,
    crop_nms_thresh: float = 0.7,
    crop_overlap_ratio: float = 512 / 1500,
    crop_n_points_downscale_factor: int = 1,
    min_mask_region_area: int = 0,
    max_mask_region_area: int = 0,
    use_m2m: bool = False,
    multimask_output: bool = True,
    lowhigh: Sequence[float] | None = None,
) -> Array:
    """Labels, uint32, of a grey (YX) or coloured (with C: red, green, blue) image, in its order.

    `lowhigh` is the survey's; an image that was not surveyed is taken for the whole.
    """
    pixels = _coloured(image, axes)
    low, high = lowhigh or _range(*np.unique(pixels, return_counts=True))
    search = Search(
        points_per_side,
        points_per_batch,
        pred_iou_thresh,
        stability_score_thresh,
        stability_score_offset,
        box_nms_thresh,
        crop_n_layers,
        crop_nms_thresh,
        crop_overlap_ratio,
        crop_n_points_downscale_factor,
        min_mask_region_area,
        max_mask_region_area,
        use_m2m,
        multimask_output,
    )
    with torch.inference_mode():
        masks = _masks(model, _stretched(pixels, low, high), search)
    labels = _painted(masks, pixels.shape[:2])
    return labels if axes.index("Y") < axes.index("X") else labels.T


# --- the checkpoint -------------------------------------------------------------------------------


def _checkpoint(weights: str | None) -> Path:
    """The checkpoint itself: a file, or the only one of an unpacked archive."""
    if weights is None:
        raise ValueError("Segment Anything 2 needs the file of a trained network (.pt)")
    path = Path(weights)
    if path.is_dir():
        files = [item for item in path.rglob("*") if item.is_file() and item.name[0] != "."]
        if len(files) != 1:
            raise ValueError(f"{path} holds {len(files)} files where one checkpoint was expected")
        path = files[0]
    return path


def _state(path: Path) -> dict[str, Tensor]:
    """The arrays of a checkpoint by their new names, left on the disk where that can be."""
    is_archive = zipfile.is_zipfile(path)  # as PyTorch writes since release 1.6
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except Exception as error:  # its own words advise to run the code
        if is_archive and isinstance(error, pickle.UnpicklingError):
            raise ValueError(
                f"{path} is refused: beside arrays it holds pickled Python objects, which could do "
                "anything when they are read"
            ) from error
        raise ValueError(f"{path} is no checkpoint that PyTorch reads") from error
    if isinstance(found, Mapping) and isinstance(found.get("model"), Mapping):
        found = found["model"]
    if not isinstance(found, Mapping):
        raise ValueError(f"{path} holds no arrays by name; a network was expected: {_EXPECTED}")
    state = {}
    for name, value in found.items():
        if isinstance(value, Tensor) and not _OF_VIDEOS.match(str(name)):
            for old, new in _RENAMED:
                name = re.sub(old, new, str(name))
            state[name] = value
    return state


def _config(state: dict[str, Tensor], path: Path) -> Sam2Config:
    """The network that has these arrays; two of them get the form that it has them in."""
    blocks = "vision_encoder.backbone.blocks."
    depth = len({name.split(".")[3] for name in state if name.startswith(blocks)})
    points = "prompt_encoder.point_embeddings.{}.weight"
    try:
        width, *_ = state["vision_encoder.backbone.patch_embed.projection.weight"].shape
        _, _, *background = state["vision_encoder.backbone.pos_embed"].shape
        state["shared_image_embedding.positional_embedding"] = state[
            "prompt_encoder.shared_embedding.positional_embedding"
        ]
        asked = [state.pop(points.format(number)) for number in range(4)]
        state["prompt_encoder.point_embed.weight"] = torch.cat(asked)
        kind = _KINDS[width, depth]
    except (KeyError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path} is no checkpoint of Segment Anything 2: {error} was not found as expected; "
            f"its network should be {_EXPECTED}"
        ) from error
    widths = [width * 2**stage for stage in range(4)]
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": width,
        "num_attention_heads": kind.heads,
        "blocks_per_stage": list(kind.stages),
        "embed_dim_per_stage": widths,
        "num_attention_heads_per_stage": [kind.heads * 2**stage for stage in range(4)],
        "window_size_per_stage": list(kind.windows),
        "global_attention_blocks": list(kind.whole),
        "window_positional_embedding_background_size": [min(n, 64) for n in background],
    }
    return Sam2Config(
        vision_config={"backbone_config": backbone, "backbone_channel_list": widths[::-1]}
    )


def _require_same(own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> None:
    wrong = [n for n in own if n not in state or state[n].shape != own[n].shape]
    unknown = [n for n in state if n not in own]
    if wrong or unknown:
        raise ValueError(
            f"{path} is no checkpoint of Segment Anything 2: {len(wrong)} of {len(own)} arrays are "
            f"missing or of another shape, {len(unknown)} are unknown (the first is "
            f"{(wrong or unknown)[0]}); its network should be {_EXPECTED}"
        )


# --- the image ------------------------------------------------------------------------------------


def _coloured(image: Array, axes: str) -> Array:
    """The image as YXC with one channel (grey) or three."""
    if sorted(axes) not in (["X", "Y"], ["C", "X", "Y"]):
        raise ValueError(f"Segment Anything 2 takes planes with the axes YX or YXC, not {axes}")
    pixels = image if "C" in axes else image[..., np.newaxis]
    named = axes if "C" in axes else axes + "C"
    pixels = pixels.transpose([named.index(axis) for axis in "YXC"])
    if pixels.shape[2] not in (1, 3):
        raise ValueError(
            f"Segment Anything 2 sees one channel or three (red, green, blue), and the image has "
            f"{pixels.shape[2]}: choose one with --channel"
        )
    return pixels


def _range(values: Array, counts: Array) -> tuple[float, float]:
    """Two percentiles, or the extremes where those are one."""
    known = np.isfinite(values)
    values, counts = values[known], counts[known]
    if not len(values):
        return 0.0, 1.0
    low, high = (_percentile(values, counts, percent) for percent in PERCENTILES)
    if high <= low:  # a few objects on a flat ground
        low, high = float(values[0]), float(values[-1])
    return (low, high) if high > low else (low, low + 1.0)


def _percentile(values: Array, counts: Array, percent: float) -> float:
    """What numpy.percentile gives for the pixels that a histogram counts."""
    ends = np.cumsum(counts)
    place = percent / 100 * (int(ends[-1]) - 1)
    below = math.floor(place)
    first, second = values[np.searchsorted(ends, [below, math.ceil(place)], side="right")]
    return float(first) + (place - below) * (float(second) - float(first))


def _stretched(pixels: Array, low: float, high: float) -> Array:
    """uint8: 0 where it is `low` or less, 255 where it is `high` or more."""
    known = np.nan_to_num(pixels.astype(np.float32), nan=low, posinf=high, neginf=low)
    scaled: Array = ((known - low) / (high - low)).clip(0, 1) * 255
    return scaled.round().astype(np.uint8)


# --- the network ----------------------------------------------------------------------------------


def _features(model: Model, part: Array) -> Features:
    """What the network makes of a part of the image (YXC), which it sees as a square."""
    square = torch.from_numpy(np.ascontiguousarray(part.transpose(2, 0, 1)))[None] / 255
    square = functional.interpolate(square, (SIDE, SIDE), mode="bilinear", antialias=True)
    mean, spread = (torch.tensor(of, device=model.device).view(1, 3, 1, 1) for of in (MEAN, SPREAD))
    seen = (square.to(model.device).expand(1, 3, -1, -1) - mean) / spread
    found: Features = model.network.get_image_embeddings(seen)
    return found


def _asked(
    model: Model, features: Features, points: Array, search: Search
) -> tuple[Tensor, Tensor]:
    """One or three masks for each point (X, Y of the square): logits (n, Y, X), scores (n)."""
    where = torch.from_numpy(points.astype(np.float32)).to(model.device)[:, None, None]
    answer = model.network(
        image_embeddings=features,
        input_points=where.transpose(0, 1),
        multimask_output=search.multimask_output,
    )
    logits, scores = answer.pred_masks.flatten(0, 2), answer.iou_scores.flatten()
    if not search.use_m2m:
        return logits, scores
    where = where.repeat_interleave(len(logits) // len(where), dim=0)
    step = _at_once(model, search)
    again = [
        model.network(
            image_embeddings=[level.expand(len(some), -1, -1, -1) for level in features],
            input_points=where[start : start + step],
            input_masks=some[:, None].clamp(-MOST, MOST),
            multimask_output=False,
        )
        for start, some in zip(range(0, len(where), step), logits.split(step), strict=True)
    ]
    return (
        torch.cat([answer.pred_masks.flatten(0, 2) for answer in again]),
        torch.cat([answer.iou_scores.flatten() for answer in again]),
    )


def _enlarged(logits: Tensor, shape: Sequence[int]) -> Tensor:
    """Logits of the network's square, at the size of the part that it saw."""
    return functional.interpolate(logits[None], tuple(shape), mode="bilinear", align_corners=False)[
        0
    ]


def _at_once(model: Model, search: Search) -> int:
    """How many points are asked for at once."""
    most = POINTS_ON_CPU if model.device.type == "cpu" else search.points_per_batch
    return min(search.points_per_batch, most)


# --- the search -----------------------------------------------------------------------------------


def _masks(model: Model, image: Array, search: Search) -> list[Mask]:
    """All masks of an image that are good, each once."""
    found: list[Mask] = []
    small: list[float] = []  # 1 / the area of the crop, since masks from small crops are preferred
    for crop, layer in _crops(image.shape, search):
        made = list(_masks_of_crop(model, image, crop, layer, search))
        best = _best(made, [mask.score for mask in made], search.box_nms_thresh)
        found += [made[n] for n in best]
        small += [1 / ((crop[2] - crop[0]) * (crop[3] - crop[1]))] * len(best)
    if search.crop_n_layers:
        found = [found[n] for n in _best(found, small, search.crop_nms_thresh)]
    if search.min_mask_region_area:
        cleaned = [_cleaned(mask, image.shape, search.min_mask_region_area) for mask in found]
        same = [float(old is new) for old, new in zip(found, cleaned, strict=True)]
        overlap = max(search.box_nms_thresh, search.crop_nms_thresh)
        found = [cleaned[n] for n in _best(cleaned, same, overlap)]
    return [mask for mask in found if not _too_large(mask.area, search)]


def _too_large(area: int, search: Search) -> bool:
    return 0 < search.max_mask_region_area <= area


def _crops(shape: Sequence[int], search: Search) -> Iterator[tuple[Box, int]]:
    """The whole (layer 0), then for each layer twice as many parts a side; far ends exclusive."""
    height, width = shape[:2]
    yield (0, 0, width, height), 0
    for layer in range(1, search.crop_n_layers + 1):
        parts = 2**layer
        overlap = int(search.crop_overlap_ratio * min(height, width) * 2 / parts)
        across, down = (math.ceil((overlap * (parts - 1) + n) / parts) for n in (width, height))
        for column, row in itertools.product(range(parts), repeat=2):
            left, top = (across - overlap) * column, (down - overlap) * row
            if left < width and top < height:
                yield (left, top, min(left + across, width), min(top + down, height)), layer


def _masks_of_crop(
    model: Model, image: Array, crop: Box, layer: int, search: Search
) -> Iterator[Mask]:
    part = image[crop[1] : crop[3], crop[0] : crop[2]]
    features = _features(model, part)
    count = max(1, search.points_per_side // search.crop_n_points_downscale_factor**layer)
    line = (np.arange(count) + 0.5) / count * SIDE
    points = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    step = _at_once(model, search)
    for start in range(0, len(points), step):
        logits, scores = _asked(model, features, points[start : start + step], search)
        if search.pred_iou_thresh > 0:
            good = scores > search.pred_iou_thresh
            logits, scores = logits[good], scores[good]
        for first in range(0, len(logits), MASKS_AT_ONCE):  # there may be none
            some = slice(first, first + MASKS_AT_ONCE)
            enlarged = _enlarged(logits[some], part.shape[:2])
            stable = _stable(enlarged, search)
            masks, good = (enlarged[stable] > 0).cpu().numpy(), scores[some][stable].tolist()
            for mask, score in zip(masks, good, strict=True):
                packed = _packed(mask, score, crop[:2])
                if (
                    packed is not None
                    and not _too_large(packed.area, search)
                    and not _cut(packed.box, crop, image.shape)
                ):
                    yield packed


def _stable(logits: Tensor, search: Search) -> Tensor:
    """For each mask whether it stays nearly the same when its threshold is moved up and down."""
    if search.stability_score_thresh <= 0:
        return torch.ones(len(logits), dtype=torch.bool, device=logits.device)
    inner = (logits > search.stability_score_offset).sum((1, 2))
    outer = (logits > -search.stability_score_offset).sum((1, 2))
    return inner / outer >= search.stability_score_thresh  # 0 / 0 is none


def _packed(mask: Array, score: float, corner: Sequence[int]) -> Mask | None:
    """A mask (bool, YX) that lies in the image with its first pixel at `corner` (X, Y)."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    (left, right), (top, bottom) = columns[[0, -1]].tolist(), rows[[0, -1]].tolist()
    inside = mask[top : bottom + 1, left : right + 1]
    box = (left + corner[0], top + corner[1], right + corner[0], bottom + corner[1])
    return Mask(box, np.packbits(inside), int(np.count_nonzero(inside)), score)


def _cut(box: Box, crop: Box, shape: Sequence[int]) -> bool:
    """Whether a box ends near an edge of its crop that is no edge of the image."""
    whole = (0, 0, shape[1], shape[0])
    return any(
        abs(end - edge) <= NEAR < abs(end - far)
        for end, edge, far in zip(box, crop, whole, strict=True)
    )


def _best(masks: Sequence[Mask], scores: Sequence[float], most: float) -> list[int]:
    """Numbers of the masks whose box overlaps that of no better one by more than `most` (IoU)."""
    boxes = np.array([mask.box for mask in masks], np.float32).reshape(-1, 4)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    order = np.argsort(-np.asarray(scores, np.float32), kind="stable")
    kept = []
    while len(order):
        first, order = order[0], order[1:]
        kept.append(int(first))
        near = np.maximum(boxes[first, :2], boxes[order, :2])
        far = np.minimum(boxes[first, 2:], boxes[order, 2:])
        both = (far - near).clip(0).prod(1)
        either = areas[first] + areas[order] - both
        order = order[both <= most * either]
    return kept


def _cleaned(mask: Mask, shape: Sequence[int], least: int) -> Mask:
    """The mask without holes and loose pieces of fewer than `least` pixels; itself if it has none.

    Pixels that meet at a corner belong together. Of a mask of small pieces the largest stays.
    """
    left, top, right, bottom = mask.box
    # One pixel of surroundings where there are any: what it touches is no hole.
    before, after = (int(top > 0), int(left > 0)), (bottom < shape[0] - 1, right < shape[1] - 1)
    margins = [(first, int(last)) for first, last in zip(before, after, strict=True)]
    pixels = np.pad(mask.pixels(), margins)
    ring = np.pad(np.zeros(mask.pixels().shape, bool), margins, constant_values=True)
    holes, count = ndimage.label(~pixels, np.ones((3, 3)))
    is_hole = np.bincount(holes.ravel(), minlength=count + 1) < least
    is_hole[np.unique(holes[ring])] = is_hole[0] = False
    filled = pixels | is_hole[holes]
    pieces, count = ndimage.label(filled, np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    is_kept = sizes >= least if sizes.max() >= least else np.arange(count + 1) == sizes.argmax()
    if not is_hole.any() and is_kept[1:].all():
        return mask
    made = _packed(is_kept[pieces], mask.score, (left - before[1], top - before[0]))
    assert made is not None  # a piece was kept
    return made


def _painted(masks: Sequence[Mask], shape: Sequence[int]) -> Array:
    """Labels, the best mask painted last; of equal ones the smaller, then the earlier."""
    labels = np.zeros(tuple(shape), np.uint32)
    order = sorted(range(len(masks)), key=lambda n: (masks[n].score, -masks[n].area, -n))
    for number in order:
        labels[masks[number].place][masks[number].pixels()] = number + 1
    return labels
