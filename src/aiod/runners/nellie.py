# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "appose==0.12.0",
#   "nd2==0.12.0",
#   "nellie==1.0.4",
#   "numpy==2.4.6",
#   "ome-types==0.7.0",
#   "scikit-image==0.26.0",
#   "scipy==1.17.1",
#   "tifffile==2026.3.3",
# ]
#
# [tool.uv]
# exclude-dependencies = ["imagecodecs", "matplotlib", "napari", "pandas"]
# ///
"""Nellie: organelles of any shape, by the curvature of brightness at several widths; no weights.

Lefebvre et al., https://doi.org/10.1038/s41592-025-02612-7. What runs are its own steps `Filter`
(a Frangi filter, in 2D also for dots) and `Label` (a threshold, pieces that touch, what is too
small taken away) on one image in memory; its skeletons, tracks and measures are not. Lengths are
micrometres. The host brings images to `pixel_size` and `z_step`, where it knows theirs.

Nellie sets its thresholds by the image as filtered, of which no histogram of the image as it is can
tell (`survey` gets only that). So they are those of the tile with its halo: wherever that is the
whole image, which is what the large halo is for, the result is Nellie's own; in larger images
thresholds change slowly from tile to tile. Only the intensity threshold is that of the whole image.

These two steps import neither napari and Qt nor pandas, matplotlib and imagecodecs, which the
package nellie asks for too: they are left out. It runs on the CPU.

verified: the algorithm itself (in this environment on a CPU: drawn planes and stacks and a real
stack came out exactly as from Nellie's own steps, which read and write files)
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from nellie.segmentation.filtering import Filter  # type: ignore[import-not-found]
from nellie.segmentation.labelling import Label  # type: ignore[import-not-found]
from nellie.utils.gpu_functions import otsu_threshold  # type: ignore[import-not-found]
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

logging.getLogger().setLevel(logging.WARNING)  # Nellie tells everybody's loggers to tell more

Array = NDArray[Any]

MOST_SAMPLES = 1_000_000  # pixels by which Nellie sets its threshold of intensity
LEAST_SIDE = 3  # pixels: a curvature needs that many


def load(weights: str | None, *, config: str | None, device: str) -> None:
    """There is nothing to load."""


def survey(
    statistics: Sequence[Mapping[str, Array]], *, otsu_thresh_intensity: bool = False
) -> dict[str, float]:
    """What stands out in the whole image; and, where it is asked for, Otsu's threshold.

    `floor` is the background's brightness and three times its noise, both of what lies below Otsu's
    threshold. `otsu` is, as in Nellie, that of what is brighter than 0.
    """
    sample = _sample(statistics[0]["values"], statistics[0]["counts"])
    if not sample.size:
        return {"floor": 0.0, "otsu": 0.0}
    dark = sample[sample <= _otsu(sample)]
    low, middle = np.percentile(dark, (15.87, 50))
    found = {"floor": float(middle + 3 * (middle - low))}
    return {**found, "otsu": _otsu(sample[sample > 0])} if otsu_thresh_intensity else found


def predict(
    model: None,  # noqa: ARG001
    image: Array,
    *,
    axes: str,
    pixel_size: float = 0.1,
    z_step: float = 0.2,
    min_radius_um: float = 0.25,
    max_radius_um: float = 1.0,
    otsu_thresh_intensity: bool = False,
    threshold: float | None = None,
    floor: float | None = None,
    otsu: float | None = None,
) -> Array:
    """Labels, uint32, of one channel with the axes YX or ZYX in any order; theirs are the same.

    `pixel_size` along Y and X, `z_step` along Z and the radii are micrometres; `threshold` is an
    intensity. `floor` and `otsu` are the survey's; an image that was not surveyed is taken for the
    whole. Where nothing rises above the floor there is no organelle.
    """
    if sorted(axes) not in (["X", "Y"], ["X", "Y", "Z"]):
        raise ValueError(f"Nellie takes one channel with the axes YX or ZYX, not {axes}")
    if not 0 < min_radius_um <= max_radius_um:
        raise ValueError(
            f"the radii are {min_radius_um:g} and {max_radius_um:g} micrometres; the smallest must "
            "be above 0 and no more than the largest"
        )
    order = [axes.index(axis) for axis in "ZYX" if axis in axes]
    pixels = np.nan_to_num(image.transpose(order))
    if floor is None:
        values, counts = np.unique(pixels, return_counts=True)
        found = survey(
            [{"values": values, "counts": counts}], otsu_thresh_intensity=otsu_thresh_intensity
        )
        floor, otsu = found["floor"], found.get("otsu")
    if otsu_thresh_intensity:
        threshold = otsu
    frame = pixels[0] if pixels.shape[0] == 1 and pixels.ndim == 3 else pixels
    labels = np.zeros(frame.shape, np.uint32)
    if min(frame.shape) >= LEAST_SIDE:
        about = _about(frame, pixel_size, z_step)
        try:
            with np.errstate(divide="ignore", invalid="ignore"):
                seen = _filtered(frame, about, min_radius_um, max_radius_um, floor)
                labels[...] = _labelled(frame, seen, about, min_radius_um, threshold)
        except ValueError as error:  # all that is above 0 is equally bright: nothing stands out
            if "empty sequence" not in str(error):
                raise
    return labels.reshape(pixels.shape).transpose(np.argsort(order))


def _sample(values: Array, counts: Array) -> Array:
    """The pixels of a histogram in their order, evenly thinned to as many as Nellie looks at."""
    known = np.isfinite(values)
    values, ends = np.asarray(values[known]), np.cumsum(counts[known])
    if not values.size:
        return values
    number = min(int(ends[-1]), MOST_SAMPLES)
    places = np.linspace(0, int(ends[-1]) - 1, number).astype(np.int64)
    sample: Array = values[np.searchsorted(ends, places, side="right")]
    return sample


def _otsu(sample: Array) -> float:
    """Nellie's Otsu threshold; of pixels that are all alike, their brightness."""
    if not sample.size or sample.min() == sample.max():
        return float(sample.max(initial=0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(otsu_threshold(sample)[0])


def _about(frame: Array, pixel_size: float, z_step: float) -> SimpleNamespace:
    """What Nellie's steps ask an `ImInfo` for, which it reads from a file otherwise."""
    solid = frame.ndim == 3
    return SimpleNamespace(
        axes="TZYX" if solid else "TYX",
        shape=(1, *frame.shape),
        no_t=True,
        no_z=not solid,
        dim_res={"X": pixel_size, "Y": pixel_size, "Z": z_step if solid else None, "T": None},
    )


def _filtered(
    frame: Array, about: SimpleNamespace, least: float, most: float, floor: float
) -> Array:
    """How much each pixel is part of something thin, as `Filter.run` writes it for one frame.

    Zeros where nothing, smoothed as for the thinnest, rises above the floor: in noise alone Nellie
    would set its thresholds by the noise.
    """
    step = Filter(about, num_t=1, min_radius_um=least, max_radius_um=most, device="cpu")
    step.im_memmap = frame[np.newaxis]
    step._set_default_sigmas()
    smooth = gaussian_filter(frame.astype(np.float32), step._get_sigma_vec(step.sigmas[0]))
    if smooth.max() <= floor:
        return np.zeros_like(smooth)
    try:
        seen: Array = step._run_frame(0)
    except NameError as error:  # Nellie's own way out of too little memory is broken
        raise MemoryError("the image does not fit into the memory") from error
    return step._mask_volume(seen) if seen.any() else seen


def _labelled(
    frame: Array, seen: Array, about: SimpleNamespace, least: float, threshold: float | None
) -> Array:
    """Numbers of the pieces above Nellie's thresholds, as `Label.run` writes them."""
    step = Label(about, num_t=1, threshold=threshold, min_radius_um=least, device="cpu")
    thresholds = step._compute_frame_thresholds(frame, seen)
    labels: Array = step._run_frame_full_volume(0, frame, seen, *thresholds)
    return labels
