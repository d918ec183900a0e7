# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = [
#   "appose==0.12.0",
#   "numba==0.62.1",
#   "numpy==2.3.5",
#   "stardist==0.9.2",
#   "tensorflow==2.21.0",
# ]
# ///
"""StarDist: round and oval objects as star-convex polygons (2D) or polyhedra (3D).

Schmidt et al., https://doi.org/10.1007/978-3-030-00934-2_30; Weigert et al.,
https://doi.org/10.1109/WACV45572.2020.9093435; the calls are those of release 0.9.2.

The percentiles that brightness is stretched by come from the whole image (`survey`), so that
tiles agree. Nothing is ever downloaded.

verified: own weights (networks trained on drawn cells: planes, colours and a stack, in tiles and
whole, on a CPU. Not run: the published files, which lie on servers that could not be reached, and
any GPU)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from stardist.models import Config2D, Config3D, StarDist2D, StarDist3D

Pixels = NDArray[Any]


def load(weights: str | None, *, config: str | None, device: str) -> StarDist2D | StarDist3D:
    """A model from the folder that StarDist saved: config.json, weights*.h5, thresholds.json.

    The folder may lie in another one, as in some archives. A single .h5 file is taken together
    with the `config` that the manifest names for it.
    """
    _use(device)
    described, stored = _files(weights, config)
    settings = json.loads(described.read_text("utf-8"))
    make, kind = (StarDist3D, Config3D) if settings.get("n_dim") == 3 else (StarDist2D, Config2D)
    model = make(kind(**kind.update_loaded_config(settings)), basedir=None)
    model.keras_model.load_weights(str(stored))
    thresholds = described.with_name("thresholds.json")
    if thresholds.is_file():
        told = json.loads(thresholds.read_text("utf-8"))
        model.thresholds = {
            name: value if isinstance(value := told.get(name), float) and 0 < value < 1 else usual
            for name, usual in model.thresholds._asdict().items()
        }
    return model


def survey(
    statistics: Sequence[Mapping[str, Pixels]],
    *,
    normalize_pmin: float = 1,
    normalize_pmax: float = 99.8,
    normalize_img: bool = True,
) -> dict[str, Any]:
    """The brightness that becomes 0 and that which becomes 1: percentiles of the whole image.

    The channels of a colour image are taken together, as StarDist's own `normalize` takes them.
    """
    if not normalize_img:
        return {"black_white": None}
    values = np.concatenate([channel["values"] for channel in statistics])
    counts = np.concatenate([channel["counts"] for channel in statistics])
    return {"black_white": _range(values, counts, normalize_pmin, normalize_pmax)}


def predict(
    model: StarDist2D | StarDist3D,
    image: Pixels,
    *,
    axes: str,
    prob_thresh: float | None = None,
    nms_thresh: float | None = None,
    normalize_pmin: float = 1,
    normalize_pmax: float = 99.8,
    n_tiles: Sequence[int] | None = None,
    normalize_img: bool = True,
    scale: float | None = None,
    channel_idx: int = 0,
    black_white: Sequence[float] | None = None,
) -> Pixels:
    """Labels of one image with the axes of the network; Z, Y and X in the order of `axes`."""
    pixels, order = _arranged(model.config, image, axes, channel_idx)
    if normalize_img:
        if black_white is None:  # not surveyed: this image is the whole
            values, counts = np.unique(pixels, return_counts=True)
            black_white = _range(values, counts, normalize_pmin, normalize_pmax)
        black, white = black_white
        pixels = (pixels - black) / (white - black)
    pixels = np.nan_to_num(pixels.astype(np.float32), copy=False)
    labels, _ = model.predict_instances(
        pixels,
        axes=model.config.axes,
        prob_thresh=prob_thresh,
        nms_thresh=nms_thresh,
        scale=None if scale is None else tuple(scale if a != "C" else 1 for a in model.config.axes),
        n_tiles=None if n_tiles is None else (*map(int, n_tiles), 1),
        show_tile_progress=False,
    )
    return np.asarray(labels, np.uint32).transpose(order)


def _use(device: str) -> None:
    """Let TensorFlow see the device that was chosen, and no other."""
    kind, _, number = device.partition(":")
    cards = tf.config.list_physical_devices("GPU")
    if kind != "cpu" and (kind != "cuda" or int(number or 0) >= len(cards)):
        raise ValueError(
            f"TensorFlow can use {len(cards)} graphics cards here, and {device} is none of them; "
            "`--device cpu` works"
        )
    seen = [] if kind == "cpu" else [cards[int(number or 0)]]
    if tf.config.get_visible_devices("GPU") != seen:  # it may be said only once
        tf.config.set_visible_devices(seen, "GPU")
        for card in seen:
            tf.config.experimental.set_memory_growth(card, True)


def _files(weights: str | None, config: str | None) -> tuple[Path, Path]:
    """The description and the weights of a model."""
    if weights is None:
        raise ValueError("StarDist needs the folder of a trained network")
    path = Path(weights)
    if path.is_file():
        if config is None:
            raise ValueError(f"{path} alone does not tell the network; its config.json is needed")
        return Path(config), path
    found = [Path(config)] if config else sorted(path.rglob("config.json"))
    if len(found) != 1:
        raise ValueError(f"{path} has {len(found)} files config.json where one was expected")
    stored = sorted([*found[0].parent.glob("*.h5"), *found[0].parent.glob("*.hdf5")])
    if not stored:
        raise ValueError(f"no weights (*.h5) lie beside {found[0]}")
    return found[0], next((file for file in stored if "best" in file.name), stored[-1])


def _range(
    values: Pixels, counts: Pixels, percent_black: float, percent_white: float
) -> list[float]:
    """Two percentiles as numpy.percentile gives them, or the extremes where those two are one."""
    if percent_black >= percent_white:
        raise ValueError("the percentile that becomes black must be less than that for white")
    order = np.argsort(values, kind="stable")
    values, counts = values[order], counts[order]
    known = np.isfinite(values)
    values, counts = values[known], counts[known]
    if not len(values):
        return [0.0, 1.0]
    black, white = (_percentile(values, counts, part) for part in (percent_black, percent_white))
    if white <= black:  # a few nuclei on a flat ground
        black, white = float(values[0]), float(values[-1])
    return [black, white] if white > black else [black, black + 1.0]


def _percentile(values: Pixels, counts: Pixels, percent: float) -> float:
    ends = np.cumsum(counts)
    place = percent / 100 * (int(ends[-1]) - 1)
    below = math.floor(place)
    first, second = values[np.searchsorted(ends, [below, math.ceil(place)], side="right")]
    return float(first) + (place - below) * (float(second) - float(first))


def _arranged(config: Any, image: Pixels, axes: str, channel_idx: int) -> tuple[Pixels, list[int]]:
    """The image in the order of the network's axes, and the way back for labels."""
    wanted = config.axes.replace("C", "")
    given = axes.replace("C", "")
    if sorted(given) != sorted(wanted):
        raise ValueError(f"this network takes images with the axes {wanted}, not {given}")
    pixels = image if "C" in axes else image[..., np.newaxis]
    named = axes if "C" in axes else axes + "C"
    pixels = pixels.transpose([named.index(axis) for axis in wanted + "C"])
    if config.n_channel_in == 1 and pixels.shape[-1] > 1 and 0 <= channel_idx < pixels.shape[-1]:
        pixels = pixels[..., channel_idx : channel_idx + 1]
    if pixels.shape[-1] != config.n_channel_in:
        raise ValueError(
            f"this network takes {config.n_channel_in} channels, the image has {pixels.shape[-1]}"
        )
    return pixels, [wanted.index(axis) for axis in given]
