# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "appose==0.12.0",
#   "numpy==2.4.6",
#   "scikit-image==0.26.0",
#   "scipy==1.17.1",
# ]
# ///
"""Segmentation without weights: thresholds, distance transforms and watersheds.

Thresholds come from the histogram of the whole image (`survey`). Everything else is local: whether
a pixel belongs to an object is decided by the pixels around it and by that object and those that it
touches, so that a tile with a halo gives what the whole image gives. Hence no priority flood, whose
order depends on everything, but the watershed by the drop-of-water principle: each pixel climbs
to its highest neighbour until it stands on a summit (Cousty et al. 2009,
doi:10.1109/TPAMI.2008.173).

Lengths are pixels of Y and X; `anisotropy` is how many of them a step in Z is.

verified: the algorithms themselves (no weights; real and drawn images, planes and stacks, in tiles
and whole, on a CPU, in `make test`)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.feature import hessian_matrix_eigvals
from skimage.measure import label

Array = NDArray[Any]

_TRUNCATE = 3.0  # Gaussians end here, in standard deviations: what bounds their reach


@dataclass(frozen=True)
class Settings:
    """The parameters of one call, and what the survey of the whole image found."""

    diameter: float
    smoothing: float
    threshold_factor: float
    split: float
    outline: float
    min_diameter: float | None
    spot_sigma: float
    ridge_width: float
    ridge_threshold: float
    spacing: tuple[float, ...]
    threshold: float
    background: float
    noise: float

    @property
    def level(self) -> float:
        """The brightness above which a pixel is foreground; never down in the noise."""
        part = self.threshold_factor * (self.threshold - self.background)
        return self.background + max(part, 2 * self.noise)


def load(weights: str | None, *, config: str | None, device: str) -> Mapping[str, Method]:  # noqa: ARG001
    """The methods by name; there are no weights, and all run on the CPU."""
    return METHODS


def survey(statistics: Sequence[Mapping[str, Array]], **_: Any) -> dict[str, float]:
    """Otsu's threshold, the background's brightness and its noise, from the exact histogram.

    Background is the median of what lies at or below Otsu's threshold, noise the distance from
    there down to the 15.87th percentile, which is one standard deviation of a normal distribution
    and knows nothing of the dim objects above.
    """
    values = np.asarray(statistics[0]["values"], np.float64)
    counts = np.asarray(statistics[0]["counts"], np.float64)
    if not values.size:
        return {"threshold": 0.0, "background": 0.0, "noise": 0.0}
    threshold = otsu(values, counts)
    dark = values <= threshold
    share = np.cumsum(counts[dark]) / counts[dark].sum()
    low, middle = values[dark][np.searchsorted(share, (0.1587, 0.5))]
    return {
        "threshold": float(threshold),
        "background": float(middle),
        "noise": float(middle - low),
    }


def predict(
    model: Mapping[str, Method],
    image: Array,
    *,
    axes: str,
    threshold: float,
    background: float,
    noise: float,
    method: str = "local",
    diameter: float = 30.0,
    smoothing: float = 1.0,
    threshold_factor: float = 0.6,
    split: float = 0.95,
    outline: float = 0.5,
    min_diameter: float | None = None,
    spot_sigma: float = 4.0,
    ridge_width: float = 4.0,
    ridge_threshold: float = 0.15,
    anisotropy: float = 1.0,
) -> Array:
    """Labels, uint32, of an image with axes YX or ZYX of any number type; NaN is background."""
    pixels = np.nan_to_num(image.astype(np.float32), nan=background)
    settings = Settings(
        diameter=diameter,
        smoothing=smoothing,
        threshold_factor=threshold_factor,
        split=split,
        outline=outline,
        min_diameter=min_diameter,
        spot_sigma=spot_sigma,
        ridge_width=ridge_width,
        ridge_threshold=ridge_threshold,
        spacing=tuple(anisotropy if axis == "Z" else 1.0 for axis in axes),
        threshold=threshold,
        background=background,
        noise=noise,
    )
    return model[method](pixels, settings).astype(np.uint32)


def otsu(values: Array, counts: Array) -> float:
    """The value that splits a histogram into the two classes that differ most (Otsu 1979).

    The last value of the lower class, as `skimage.filters.threshold_otsu` gives it. `values` are
    sorted, finite and at least one.
    """
    if values.size == 1:
        return float(values[0])
    low, high = np.cumsum(counts)[:-1], np.cumsum(counts[::-1])[-2::-1]
    mass = values * counts
    means = np.cumsum(mass)[:-1] / low - np.cumsum(mass[::-1])[-2::-1] / high
    return float(values[np.argmax(low * high * means**2)])


# --- methods --------------------------------------------------------------------------------------


def otsu_watershed(pixels: Array, settings: Settings) -> Array:
    """Foreground above Otsu's threshold, parted where it is narrow or dim."""
    smooth = _gaussian(pixels, settings.smoothing, settings)
    return _parted(pixels, smooth, smooth > settings.level, settings)


def local_watershed(pixels: Array, settings: Settings) -> Array:
    """As `otsu_watershed`, but a pixel must also stand out from its surroundings.

    The surroundings are a Gaussian mean over the diameter of an object, as in the local thresholds
    of document images (Bradley and Roth 2007), counted from the background of the whole image.
    """
    smooth = _gaussian(pixels, settings.smoothing, settings)
    around = _gaussian(pixels, settings.diameter / 2, settings) - settings.background
    foreground = (smooth > settings.level) & (smooth - settings.background > 0.9 * around)
    return _parted(pixels, smooth, foreground, settings)


def voronoi_otsu(pixels: Array, settings: Settings) -> Array:
    """Each bright spot takes the foreground that is nearer to it than to any other spot.

    After Voronoi-Otsu-labelling of CLIJ and clesperanto: spots are maxima after one Gaussian, the
    outline is Otsu's threshold after another. Here the threshold is that of the image itself, not
    of the blurred one, so that all tiles share it.
    """
    foreground = _gaussian(pixels, settings.smoothing, settings) > settings.level
    slopes = _climb(_gaussian(pixels, settings.spot_sigma, settings), foreground)
    return _without_small(_grown(slopes), settings)


def ridge(pixels: Array, settings: Settings) -> Array:
    """1 where there is a bright ridge of about the width given: thin, long, branched things.

    Sato's filter (doi:10.1016/S1361-8415(98)80009-1): the strongest downward curvature across the
    ridge, at half and at the whole of its width, as a part of the contrast of the image.
    """
    contrast = settings.threshold - settings.background
    smooth = _gaussian(pixels, settings.smoothing, settings)
    if contrast <= 0:
        return np.zeros(pixels.shape, np.uint32)
    found = np.zeros(pixels.shape, np.float32)
    for sigma in (settings.ridge_width / 4, settings.ridge_width / 2):
        np.maximum(found, _ridgeness(pixels, sigma, settings), out=found)
    mask = (found > settings.ridge_threshold * contrast) & (smooth > settings.level)
    return _without_small(label(mask, connectivity=mask.ndim), settings) > 0


Method = Callable[[Array, Settings], Array]
METHODS: Mapping[str, Method] = {
    "otsu": otsu_watershed,
    "local": local_watershed,
    "voronoi": voronoi_otsu,
    "ridge": ridge,
}


# --- steps ----------------------------------------------------------------------------------------


def _gaussian(pixels: Array, sigma: float, settings: Settings) -> Array:
    sigmas = [sigma / step for step in settings.spacing]
    blurred: Array = ndimage.gaussian_filter(pixels, sigmas, truncate=_TRUNCATE)
    return blurred


def _ridgeness(pixels: Array, sigma: float, settings: Settings) -> Array:
    """The largest eigenvalue of minus the Hessian at one scale, where it is positive."""
    sigmas = [sigma / step for step in settings.spacing]
    elements = []
    for pair in itertools.combinations_with_replacement(range(pixels.ndim), 2):
        order = [pair.count(axis) for axis in range(pixels.ndim)]
        scale = sigma**2 / np.prod([settings.spacing[axis] for axis in pair])
        elements.append(-scale * ndimage.gaussian_filter(pixels, sigmas, order=order, truncate=4.0))
    strongest: Array = np.maximum(hessian_matrix_eigvals(elements)[0], 0)
    return strongest


def _parted(pixels: Array, smooth: Array, foreground: Array, settings: Settings) -> Array:
    """Objects: parts of the foreground, each with one summit, cut out at its own half height.

    Twice over: without the glow around bright objects, which the first round takes away, the
    second one sees their shapes.
    """
    reach = 0.75 * settings.diameter  # wider objects look flat in the middle
    bright = _gaussian(pixels, settings.diameter / 15, settings) - settings.background
    bright = np.maximum(bright, 1e-6)
    parts = foreground
    for _ in range(2):
        depth = ndimage.distance_transform_edt(parts, sampling=settings.spacing)
        depth = np.minimum(depth, reach, dtype=np.float32)
        depth = _gaussian(depth, settings.diameter / 20, settings)
        parts = _joined(_climb(depth * bright, parts > 0), settings.split)
        parts[smooth < _outline_of(parts, smooth, settings)] = 0
    return _filled(_without_small(label(parts, connectivity=1), settings))


@dataclass(frozen=True)
class Slopes:
    """Where each pixel of the foreground climbs to.

    `summits` numbers the tops (0 elsewhere); `goal` gives for the foreground pixels, whose places
    in the padded, flattened image are `places`, the number of their summit. `height` and `goals`
    are padded and flat, `steps` are the ways to the neighbours there.
    """

    shape: tuple[int, ...]
    summits: Array
    places: Array
    height: Array
    goals: Array
    steps: tuple[int, ...]


def _climb(height: Array, foreground: Array) -> Slopes:
    """Send each foreground pixel to its highest neighbour, and on, until it stands on a summit.

    Of equally high neighbours the first in reading order is taken: a rule that is the same in
    every tile. Neighbouring pixels without a higher neighbour are one summit.
    """
    padded = np.pad(np.where(foreground, height, -np.inf), 1, constant_values=-np.inf)
    flat = padded.ravel()
    places = np.flatnonzero(flat > -np.inf)
    steps = tuple(_steps(padded.shape))
    best, target = flat[places], places.copy()
    for step in steps:
        beside = flat[places + step]
        higher = beside > best
        best[higher] = beside[higher]
        target[higher] = places[higher] + step
    top = np.zeros(flat.size, bool)
    top[places[target == places]] = True
    summits, _ = ndimage.label(top.reshape(padded.shape), np.ones((3,) * padded.ndim))
    order = np.zeros(flat.size, np.intp)
    order[places] = np.arange(places.size)
    where = order[target]
    while not np.array_equal(further := where[where], where):  # each round doubles the way
        where = further
    goals = np.zeros(flat.size, np.intp)
    goals[places] = summits.ravel()[places[where]]
    inner = (slice(1, -1),) * padded.ndim
    return Slopes(padded.shape, summits[inner], places, flat, goals, steps)


def _steps(shape: tuple[int, ...]) -> Iterator[int]:
    """The ways to all neighbours, diagonal ones too, in a flattened array, in reading order."""
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    for offset in itertools.product((-1, 0, 1), repeat=len(shape)):
        if any(offset):
            yield sum(o * s for o, s in zip(offset, strides, strict=True))


def _grown(slopes: Slopes) -> Array:
    """Label image of the summits, grown through the foreground until they meet.

    Rounds of four and of eight neighbours (six and 26 in 3D) take turns, which makes octagons of
    discs. Where several arrive in the same round the one that comes first in reading order wins.
    """
    dimensions = len(slopes.shape)
    labels = np.pad(slopes.summits, 1).ravel()
    free = (slopes.height > -np.inf) & (labels == 0)
    offsets = itertools.product((-1, 0, 1), repeat=dimensions)
    straight = [sum(map(abs, offset)) == 1 for offset in offsets if any(offset)]
    front = np.flatnonzero(labels)
    for across in itertools.cycle((False, True)):
        steps = [s for s, plain in zip(slopes.steps, straight, strict=True) if plain or across]
        reached = np.concatenate([front + step for step in steps])
        comers = np.tile(labels[front], len(steps))
        comers, reached = comers[free[reached]], reached[free[reached]]
        if across and not reached.size:
            break
        new, first = np.unique(reached[order := np.argsort(comers)], return_index=True)
        labels[new] = comers[order][first]
        free[new] = False
        front = np.union1d(front, new) if not across else new
    inner = (slice(1, -1),) * dimensions
    grown: Array = labels.reshape(slopes.shape)[inner].copy()
    return grown


def _joined(slopes: Slopes, split: float) -> Array:
    """Label image of the summits' slopes, joined where the pass between two is hardly a dip.

    Two slopes are one object where their pass is at least `split` times as high as the lower of
    their summits. Each pair is judged by itself, so that no order of joining matters.
    """
    height, goals, places = slopes.height, slopes.goals, slopes.places
    count = int(goals.max(initial=0)) + 1
    peak = np.zeros(count)
    np.maximum.at(peak, goals[places], height[places])
    pairs, passes = [], []
    for step in slopes.steps[len(slopes.steps) // 2 :]:  # each pair of neighbours once
        other = goals[places + step]
        border = (other > 0) & (other != goals[places])
        here, there = places[border], places[border] + step
        low, high = np.sort((goals[here], goals[there]), axis=0)
        pairs.append(low * count + high)
        passes.append(np.minimum(height[here], height[there]))
    pair, which = np.unique(np.concatenate(pairs), return_inverse=True)
    highest = np.zeros(pair.size)
    np.maximum.at(highest, which, np.concatenate(passes))
    low, high = np.divmod(pair, count)
    one = highest >= split * np.minimum(peak[low], peak[high])
    graph = coo_array((np.ones(one.sum()), (low[one], high[one])), shape=(count, count))
    _, group = connected_components(graph, directed=False)
    inner = (slice(1, -1),) * len(slopes.shape)
    joined: Array = group[goals].reshape(slopes.shape)[inner].copy()
    return joined


def _outline_of(parts: Array, smooth: Array, settings: Settings) -> Array:
    """For each pixel the brightness at which its object ends: part of the way up to its own.

    A bright object's glow would else count as the object. Its brightness is the upper quartile.
    """
    numbers, values = parts.ravel(), smooth.ravel()
    inside = np.flatnonzero(numbers)
    order = inside[np.lexsort((values[inside], numbers[inside]))]
    sizes = np.bincount(numbers)
    sizes[0] = 0
    quartile = np.cumsum(sizes) - 1 - sizes // 4
    present = sizes > 0
    level = np.full(sizes.size, -np.inf, np.float32)
    level[present] = values[order[quartile[present]]]
    return (settings.background + settings.outline * (level - settings.background))[parts]


def _without_small(labels: Array, settings: Settings) -> Array:
    """Labels without those smaller than a disc (a ball) of the smallest diameter."""
    diameter = settings.min_diameter
    if diameter is None:
        diameter = settings.diameter / 4
    disc = np.pi / 4 * diameter**2 if labels.ndim == 2 else np.pi / 6 * diameter**3
    sizes = np.bincount(labels.ravel())
    keep = sizes >= disc / np.prod(settings.spacing)
    keep[0] = False
    return np.where(keep[labels], labels, 0)


def _filled(labels: Array) -> Array:
    """Holes inside an object become part of it."""
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            here = labels[box]
            hole = ndimage.binary_fill_holes(here == number) & (here == 0)
            here[hole] = number
    return labels
