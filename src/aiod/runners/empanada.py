# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = [
#   "appose==0.12.0",
#   "numpy==2.4.6",
#   "pyyaml==6.0.3",
#   "scipy==1.17.1",
#   "torch==2.13.0",
# ]
# ///
"""Empanada (MitoNet, NucleoNet, DropNet): organelles in electron microscopy, plane by plane.

Conrad & Narayan, https://doi.org/10.1016/j.cels.2022.12.006. The network (Panoptic-DeepLab, Cheng
et al., https://doi.org/10.1109/CVPR42600.2020.01249, with PointRend) says of a plane which pixels
are inside an object, where the middles of objects are, and from each pixel the way to its middle;
each pixel inside goes to the middle that it points to. In a stack objects are followed from plane
to plane, in one direction or in three, whose objects are then joined by vote. What follows the
network is written anew here after that of empanada-napari 1.2.4, because it needs packages that
nothing here uses; docs/models.md says where the two differ.

The published networks are TorchScript, which is a program and not only arrays: loading and running
such a file does what is written in it, with the rights of this process. It cannot call Python, but
it may use every operator of torch, of which some read and write files, and it may never end. Use
files of people you trust. Nothing is ever downloaded.

An image of 8 bits is taken as it is; any other is stretched between two percentiles of the whole
image (`survey`), where empanada takes the whole range that its numbers could have.

verified: own weights (a network of empanada's own classes, smaller, was trained on drawn
organelles and exported as empanada does; run on a CPU in tiles, whole and in three directions it
finds them, and planes and stacks are those of empanada's own engines. Not run: the published
files, which lie on a server that could not be reached, and any GPU)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from torch.nn import functional

Array = NDArray[Any]

NORMS = (0.57571, 0.12765)  # mean and deviation of brightness: those of all published networks
PERCENTILES = (0.01, 99.99)  # the range of an image but for its odd pixels
COARSE = 4  # pixels from one point of the network's own grid to the next
HEADS = {"sem_logits": 1, "ctr_hmp": 1, "offsets": 2}
PLANES = {"XY": (0,), "XZ": (1,), "YZ": (2,), "All": (0, 1, 2)}  # the axes that are cut across
CONTINUES = 0.25  # of the union, or of an object alone, that two planes of one object share
SAME = 0.75  # IoU above which objects of two directions are one at once
TOUCHES = (0.01, 100)  # IoU, and voxels, above which they may still become one


@dataclass(frozen=True)
class Model:
    """A loaded program; sides of its input are multiples of `multiple`."""

    program: Any
    multiple: int
    mean: float
    std: float
    device: torch.device


@dataclass(frozen=True)
class Plane:
    """How a plane is read: thresholds, and `nearest`, the side of the window of one middle."""

    scale: int
    inside: float
    middle: float
    nearest: int
    single: bool
    fine: bool
    fill: bool


@dataclass(frozen=True)
class Solid:
    """How planes become solid objects; sizes in voxels."""

    median: int
    size: int
    extent: int
    erode: int
    dilate: int


def load(weights: str | None, *, config: str | None, device: str) -> Model:
    """The program in a TorchScript file, or in the only one of a folder beside quantized ones.

    A config (YAML, as empanada exports it) tells `norms` and `padding_factor`; without one they are
    those of the published networks, and the least multiple that the architecture needs.
    """
    path, described = _files(weights, config)
    where = torch.device(device)
    try:
        program = torch.jit.load(str(path), map_location=where)
    except Exception as error:
        raise ValueError(
            f"{path} is no TorchScript file, which is what empanada exports and publishes (.pth); "
            "a checkpoint of its training has to be exported first"
        ) from error
    schema = getattr(getattr(program, "forward", None), "schema", None)
    known = {argument.name for argument in getattr(schema, "arguments", ())}
    if not {"render_steps", "interpolate_ins"} <= known:
        raise ValueError(
            f"{path} is TorchScript, but no network with PointRend that empanada exported: that "
            "takes render_steps and interpolate_ins"
        )
    multiple = 128 if "BiFPN" in str(getattr(program, "original_name", "")) else 16
    mean, std = NORMS
    if described:
        mean, std, multiple = _told(described, multiple)
    return Model(program.eval(), multiple, mean, std, where)


def survey(statistics: Sequence[Mapping[str, Array]]) -> dict[str, Any]:
    """The brightness that becomes 0, and what becomes 1: of 8 bits all, else two percentiles."""
    return {"brightness": _range(statistics[0]["values"], statistics[0]["counts"])}


def predict(
    model: Model,
    image: Array,
    *,
    axes: str,
    downsampling: int = 1,
    conf_threshold: float = 0.5,
    center_threshold: float = 0.1,
    min_distance: int = 3,
    semantic_only: bool = False,
    fine_boundaries: bool = False,
    fill_holes_in_segmentation: bool = False,
    plane: str = "XY",
    median_slices: int = 3,
    min_size: int = 500,
    min_extent: int = 5,
    label_erosion: int = 0,
    label_dilation: int = 0,
    pixel_vote_thr: int = 2,
    allow_one_view: bool = False,
    brightness: Sequence[float] | None = None,
) -> Array:
    """Labels, uint32, of a plane (Y, X) or a stack (Z, Y, X); their axes are in the image's order.

    What stands after `fill_holes_in_segmentation` is for stacks. `brightness` is the survey's; an
    image that was not surveyed is taken for the whole.
    """
    if sorted(axes) not in (["X", "Y"], ["X", "Y", "Z"]):
        raise ValueError(f"empanada takes planes (YX) or stacks (ZYX) of one channel, not {axes}")
    if plane not in PLANES:
        raise ValueError(f"there is no plane {plane!r}; known are {', '.join(PLANES)}")
    if downsampling < 1 or downsampling & (downsampling - 1):
        raise ValueError(f"downsampling {downsampling} is no power of two, such as 2, 4 or 8")
    order = [axes.index(axis) for axis in "ZYX" if axis in axes]
    if brightness is None:
        brightness = _range(*np.unique(image, return_counts=True))
    seen = _normalised(model, image.transpose(order), *brightness)
    settings = Plane(
        downsampling,
        conf_threshold,
        center_threshold,
        min_distance,
        semantic_only,
        fine_boundaries,
        fill_holes_in_segmentation,
    )
    if seen.ndim == 2:
        labels = _objects(*_read(model, seen, settings), settings)
    else:
        solid = Solid(median_slices, min_size, min_extent, label_erosion, label_dilation)
        views = [_followed(model, seen, axis, settings, solid) for axis in PLANES[plane]]
        labels = views[0]
        if len(views) > 1:
            vote = _common if semantic_only else _consensus
            labels = _large(vote(views, pixel_vote_thr, allow_one_view), solid)
    return labels.astype(np.uint32).transpose(np.argsort(order))


# --- files ----------------------------------------------------------------------------------------


def _files(weights: str | None, config: str | None) -> tuple[Path, Path | None]:
    """The program, and its config if there is one."""
    if weights is None:
        raise ValueError("empanada needs the file of a network (.pth)")
    path = Path(weights)
    if path.is_dir():
        found = [file for file in sorted(path.rglob("*.pth")) if "quantized" not in file.name]
        if len(found) != 1:
            raise ValueError(f"{path} holds {len(found)} files *.pth where one was expected")
        told = sorted(path.rglob("*.yaml"))
        path = found[0]
        if config is None and len(told) == 1:
            return path, told[0]
    return path, Path(config) if config else None


def _told(path: Path, multiple: int) -> tuple[float, float, int]:
    """Mean, deviation and padding of a config, checked."""
    try:
        told = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no YAML that can be read safely: {error}") from error
    norms = told.get("norms") if isinstance(told, dict) else None
    if not isinstance(norms, dict):
        raise ValueError(
            f"{path} has no section `norms`; expected the config that empanada exports"
        )
    padding = told.get("padding_factor", multiple)
    if not isinstance(padding, int) or not 16 <= padding <= 1024 or padding % 16:
        raise ValueError(
            f"{path} has padding_factor {_shown(padding)}; expected a multiple of 16, at most 1024"
        )
    labels = told.get("labels", [1])
    if not isinstance(labels, list) or len(labels) != 1:
        raise ValueError(
            f"{path} does not tell one label; only networks for one kind of object are known"
        )
    return _fraction(path, norms, "mean"), _fraction(path, norms, "std"), padding


def _fraction(path: Path, norms: Mapping[str, Any], name: str) -> float:
    value = norms.get(name)
    if not isinstance(value, float) or not 0 < value < 1:
        raise ValueError(f"{path} has {name} {_shown(value)}; expected a number between 0 and 1")
    return value


def _shown(value: Any) -> str:
    """A number; of anything else, which may be endless when written out, its kind."""
    return repr(value) if isinstance(value, int | float) else f"of type {type(value).__name__}"


# --- brightness -----------------------------------------------------------------------------------


def _range(values: Array, counts: Array) -> list[float]:
    """What becomes 0 and 1 in an image with this histogram, whose values are sorted."""
    if values.dtype == np.uint8:
        return [0.0, 255.0]
    known = np.isfinite(values)
    values, ends = values[known], np.cumsum(counts[known])
    if not values.size:
        return [0.0, 1.0]
    places = [round(percent / 100 * (int(ends[-1]) - 1)) for percent in PERCENTILES]
    low, high = (float(value) for value in values[np.searchsorted(ends, places, side="right")])
    return [low, high] if high > low else [low, low + 1.0]


def _normalised(model: Model, image: Array, low: float, high: float) -> Array:
    """The image in float32 as the network knows brightness."""
    shown = (np.nan_to_num(image.astype(np.float32)) - low) / (high - low)
    return ((shown.clip(0, 1) - model.mean) / model.std).astype(np.float32)


# --- a plane --------------------------------------------------------------------------------------


def _read(model: Model, plane: Array, settings: Plane) -> tuple[Array, Array]:
    """How likely each pixel is inside (float32), and the number of its middle (int32, 0: none)."""
    height, width = plane.shape
    scale, step = settings.scale, 1 if settings.fine else COARSE
    tensor = torch.from_numpy(np.ascontiguousarray(plane))[None, None].to(model.device)
    if scale > 1:
        size = (math.ceil(height / scale), math.ceil(width / scale))
        tensor = functional.interpolate(tensor, size, mode="bilinear", align_corners=False)
    fill = [-side % model.multiple for side in tensor.shape[2:]]
    tensor = functional.pad(tensor, (0, fill[1], 0, fill[0]))
    large = tuple(side * scale for side in tensor.shape[2:])
    small = tuple(side // step for side in tensor.shape[2:])
    # The network doubles its quarter of the size twice, and once more for each halving.
    with torch.no_grad():
        answer = model.program(tensor, 1 + scale.bit_length(), interpolate_ins=settings.fine)
    for name, channels in HEADS.items():
        found = answer.get(name) if isinstance(answer, dict) else None
        shape = tuple(getattr(found, "shape", ()))
        wanted = (1, channels, *(large if name == "sem_logits" else small))
        if shape != wanted:
            raise ValueError(
                f"the empanada network answers {shape} as {name} where {wanted} is expected: it is "
                "none for one kind of object"
            )
        if not torch.isfinite(answer[name]).all():
            raise ValueError(f"the empanada network answers numbers as {name} that are not finite")
    chances = torch.sigmoid(answer["sem_logits"])[0, 0, :height, :width].cpu().numpy()
    if settings.single:
        return chances, np.ones((height, width), np.int32)
    cells = _cells(answer["ctr_hmp"], answer["offsets"], settings, step)
    return chances, cells.repeat(step * scale, 0).repeat(step * scale, 1)[:height, :width]


def _cells(heat: torch.Tensor, offsets: torch.Tensor, settings: Plane, step: int) -> Array:
    """The number of the middle that each point of the grid points to, from 1 on; 0 without any."""
    window = settings.nearest
    highest = functional.max_pool2d(heat, window, stride=1, padding=window // 2)
    top = heat == highest[..., : heat.shape[2], : heat.shape[3]]
    middles = torch.nonzero((top & (heat > max(settings.middle, 0)))[0, 0]).cpu().numpy()
    grid = np.moveaxis(np.indices(tuple(heat.shape[2:])), 0, -1) * step
    if not len(middles):
        return np.zeros(grid.shape[:2], np.int32)
    targets = grid + offsets[0].permute(1, 2, 0).cpu().numpy()
    number: Array = cKDTree(middles * step).query(targets)[1]
    return (number + 1).astype(np.int32)


def _objects(chances: Array, cells: Array, settings: Plane) -> Array:
    """Labels, int32, of a plane: each is in one piece."""
    labels = _pieces(np.where(chances >= settings.inside, cells, 0))
    for number, box in enumerate(ndimage.find_objects(labels) if settings.fill else (), start=1):
        holes = ndimage.binary_fill_holes(labels[box] == number) & (labels[box] == 0)
        labels[box][holes] = number
    return labels


def _pieces(labels: Array) -> Array:
    """Labels, int32, of which none is in two pieces; pieces hang together by corners too."""
    made = np.zeros(labels.shape, np.int32)
    last = 0
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        parts, count = ndimage.label(labels[box] == number, np.ones((3,) * labels.ndim))
        made[box][parts > 0] = parts[parts > 0] + last
        last += count
    return made


# --- a stack --------------------------------------------------------------------------------------


def _followed(model: Model, stack: Array, axis: int, settings: Plane, solid: Solid) -> Array:
    """Solid objects (int32, ZYX, 1…N) of the planes across one axis."""
    planes = np.moveaxis(stack, axis, 0)
    read = [_read(model, item, settings) for item in planes]
    chances = _smoothed(np.stack([item[0] for item in read]), solid.median)
    pairs = zip(chances, (item[1] for item in read), strict=True)
    labels = np.stack([_objects(*pair, settings) for pair in pairs])
    if settings.single:
        labels = _pieces((labels > 0).astype(np.int32))
    else:
        fresh = int(labels[0].max(initial=0)) + 1
        for place in range(1, len(labels)):
            labels[place], fresh = _continued(labels[place - 1], labels[place], fresh)
        # Back again: what only later turned out to be one object becomes one.
        for place in range(len(labels) - 2, -1, -1):
            labels[place], _ = _continued(labels[place + 1], labels[place])
    labels = _large(np.moveaxis(labels, 0, axis), solid)
    cross = ndimage.generate_binary_structure(3, 1)
    for _ in range(solid.erode):
        lowest = ndimage.grey_erosion(labels, footprint=cross)
        highest = ndimage.grey_dilation(labels, footprint=cross)
        labels = np.where(lowest == highest, labels, 0)
    for _ in range(solid.dilate):
        grown = ndimage.grey_dilation(labels, footprint=cross)
        labels = np.where(labels == 0, grown, labels)
    return _pieces(labels) if solid.erode or solid.dilate else labels


def _smoothed(chances: Array, count: int) -> Array:
    """The median of each pixel over `count` planes; the first and the last stay as they are."""
    smooth = chances.copy()
    half = count // 2
    for place in range(half, len(chances) - half):
        smooth[place] = np.median(chances[place - half : place + half + 1], axis=0)
    return smooth


def _continued(before: Array, now: Array, fresh: int = 0) -> tuple[Array, int]:
    """The plane `now` with the numbers of the objects of `before` that go on in it.

    First each object of one plane is paired with at most one of the other, by IoU; what is left
    joins the object that covers it most. The rest gets numbers from `fresh` on (and the next one is
    answered too), or keeps its own where that is 0.
    """
    old, first = np.unique(before, return_inverse=True)
    new, second = np.unique(now, return_inverse=True)
    codes = first.ravel() * len(new) + second.ravel()
    shared = np.bincount(codes, minlength=len(old) * len(new)).reshape(len(old), len(new))
    union = shared.sum(1)[:, None] + shared.sum(0) - shared
    alike, covered = shared / union, shared / shared.sum(0)
    alike[old == 0], covered[old == 0] = 0, 0  # the background is nothing that goes on
    alike[:, new == 0], covered[:, new == 0] = 0, 0
    numbers = np.where(covered.max(0) >= CONTINUES, old[covered.argmax(0)], 0)
    rows, columns = linear_sum_assignment(alike, maximize=True)
    paired = alike[rows, columns] >= CONTINUES
    numbers[columns[paired]] = old[rows[paired]]
    alone = (numbers == 0) & (new > 0)
    numbers[alone] = fresh + np.arange(alone.sum()) if fresh else new[alone]
    return numbers[second].reshape(now.shape), fresh + int(alone.sum())


def _large(labels: Array, solid: Solid) -> Array:
    """Objects (1…N) of enough voxels, which are long enough along each axis."""
    sizes = np.bincount(labels.ravel())
    kept = np.zeros(len(sizes), np.int32)
    last = 0
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None or sizes[number] < solid.size:
            continue
        spans = zip(box, labels.shape, strict=True)
        if all(side.stop - side.start >= min(solid.extent, whole) for side, whole in spans):
            last += 1
            kept[number] = last
    return np.ascontiguousarray(kept[labels])


# --- three directions -----------------------------------------------------------------------------


def _common(views: Sequence[Array], votes: int, _: bool) -> Array:
    """Connected regions of what enough directions have."""
    return _pieces((np.sum([view > 0 for view in views], axis=0) >= votes).astype(np.int32))


def _consensus(views: Sequence[Array], votes: int, one_view: bool) -> Array:
    """Objects that several directions have found, of the voxels that `votes` of them have.

    Objects that overlap are a group. In it those that are almost the same are a cluster at once,
    and clusters that touch are joined to the one that touches most, unless a neighbour has more
    objects: then it is the bridge between two, and each neighbour gets it.
    """
    least = 1 if one_view else len(views) // 2 + 1
    same = SAME if votes >= least else 0.0
    starts = np.cumsum([0, *(int(view.max(initial=0)) for view in views)])
    sizes = np.concatenate([np.bincount(view.ravel(), minlength=1)[1:] for view in views])
    boxes = [box for view in views for box in ndimage.find_objects(view)]
    links = _links(views, starts, sizes)
    made = np.zeros(views[0].shape, np.int32)
    last = 0
    for group in _groups(links, links):
        sides = zip(*(boxes[node] for node in group), strict=True)
        hull = tuple(slice(min(s.start for s in of), max(s.stop for s in of)) for of in sides)
        close = {a: {b for b, (iou, _) in links[a].items() if iou > same} for a in group}
        masks = []
        for cluster in _merged(_groups(group, close), links) if len(group) >= least else ():
            places = [(node, int(np.searchsorted(starts, node, "right")) - 1) for node in cluster]
            found = [views[view][hull] == node - starts[view] + 1 for node, view in places]
            if len(cluster) >= least:
                masks.append(np.sum(found, axis=0) >= votes)
        for mask in _unions([mask for mask in masks if mask.any()]):
            last += 1
            made[hull][mask] = last
    return made


def _links(
    views: Sequence[Array], starts: Array, sizes: Array
) -> dict[int, dict[int, tuple[float, int]]]:
    """IoU and shared voxels of each two objects of different directions that overlap."""
    links: dict[int, dict[int, tuple[float, int]]] = {node: {} for node in range(len(sizes))}
    for one in range(len(views)):
        for two in range(one + 1, len(views)):
            both = (views[one] > 0) & (views[two] > 0)
            first = views[one][both].astype(np.int64) - 1 + starts[one]
            second = views[two][both] - 1 + starts[two]
            codes, counts = np.unique(first * len(sizes) + second, return_counts=True)
            for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
                a, b = divmod(code, len(sizes))
                links[a][b] = links[b][a] = (count / int(sizes[a] + sizes[b] - count), count)
    return links


def _groups(nodes: Iterable[int], near: Mapping[int, Iterable[int]]) -> list[set[int]]:
    """What hangs together."""
    left = dict.fromkeys(nodes)
    groups = []
    while left:
        group, waiting = set(), [next(iter(left))]
        while waiting:
            node = waiting.pop()
            if node in left:
                del left[node]
                group.add(node)
                waiting.extend(near[node])
        groups.append(group)
    return groups


def _merged(
    clusters: list[set[int]], links: Mapping[int, Mapping[int, tuple[float, int]]]
) -> list[set[int]]:
    """Clusters joined until none touches another; the one with most neighbours comes first."""
    left = dict(enumerate(clusters))
    near: dict[int, set[int]] = {name: set() for name in left}
    for a in left:
        for b in range(a + 1, len(clusters)):
            pairs = [links[i].get(j, (0.0, 0)) for i in left[a] for j in left[b]]
            means = [sum(values) / len(pairs) for values in zip(*pairs, strict=True)]
            if means[0] > TOUCHES[0] or means[1] > TOUCHES[1]:
                near[a].add(b)
                near[b].add(a)
    while any(near.values()):
        hub = max(near, key=lambda name: len(near[name]))
        around = near[hub]
        bridge = max(len(left[name]) for name in around) > len(left[hub])
        for name in around:
            if bridge:
                left[name] = left[name] | left[hub]
            else:
                left[hub] = left[hub] | left[name]
        for gone in [hub] if bridge else list(around):
            del left[gone]
            for name in near.pop(gone):
                near[name].discard(gone)
    return list(left.values())


def _unions(masks: Sequence[Array]) -> list[Array]:
    """Masks, those as one that overlap by more than a trifle."""
    near: dict[int, set[int]] = {name: set() for name in range(len(masks))}
    for a in near:
        for b in range(a + 1, len(masks)):
            shared = int((masks[a] & masks[b]).sum())
            if shared > TOUCHES[1] or shared / int((masks[a] | masks[b]).sum()) > TOUCHES[0]:
                near[a].add(b)
                near[b].add(a)
    return [np.any([masks[name] for name in group], axis=0) for group in _groups(near, near)]
