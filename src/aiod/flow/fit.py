"""Does this image fit this model? Asked before anything is downloaded or run.

What a model expects is in its manifest, what an image is in its header. The answer is a value: how
to read the image so that the model gets the axes it states, and what the user should know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from aiod.errors import AiodError
from aiod.flow.images.image import Image
from aiod.flow.source import AXES, Box, Pixels, Source
from aiod.registry.metadata import Metadata, PixelSize
from aiod.words import counted, listing

MICROMETRES = {"angstrom": 1e-4, "nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3}
NEAR = 1.25
"""Pixel sizes that differ by a smaller factor are taken as the same."""
_NEAR_GIVEN = 1.05
"""A diameter that the user gives is followed unless it makes less difference than this."""
_MOST_ENLARGED = 16
"""How many times as wide an image may become for a model's pixel size: more is a wrong unit."""
GRAY = "gray"
_MENDING = {"float32": "normalise", "uint8": "to_uint8", "uint16": "to_uint16"}
"""The step that gives pixels of a type."""
_LUMINANCE = (0.2125, 0.7154, 0.0721)
"""Weights of red, green and blue in `gray`, those of scikit-image's rgb2gray (Rec. 709)."""


class FitError(AiodError):
    """An image that the model cannot take as it is; each detail names what mends it."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How an image is read for a model.

    `axes` are what the model gets, in its order; `spatial` those of them that are cut into tiles
    (YX or ZYX); `loops` the image's axes that the model does not know, run through one by one.
    `channels` are indices into the image's, None where it has no such axis; `gray` mixes red,
    green and blue into one. `factors` (axis -> how many model pixels each image pixel becomes) are
    empty unless the image is resampled to the model's pixel size or object diameter.
    """

    axes: str
    spatial: str
    loops: str
    channels: tuple[int, ...] | None
    gray: bool = False
    factors: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def check_fit(
    image: Image,
    axes: str | None,
    metadata: Metadata,
    *,
    channels: Sequence[str] = (),
    rescale: bool | None = None,
    diameter: float | None = None,
    link_z: bool = False,
) -> Fit:
    """How `image` is read for a model with these `axes` and `metadata`.

    `channels` are names or numbers counted from 1, in the order in which the model gets them;
    `rescale` resamples to the model's pixel size, `diameter` (pixels of the image) to its object
    diameter; None leaves it to the model whether anything is done. Raises FitError with every
    misfit.
    """
    source = image.source
    name = image.path.name
    notes: list[str] = []
    misfits: list[str] = []
    if axes is None:
        axes = ("C" if source.sizes.get("C", 1) > 1 else "") + (
            "ZYX" if source.sizes.get("Z", 1) > 1 else "YX"
        )
        notes.append(f"The model does not say which axes it takes; it is given {axes}.")
    misfits += [
        _lacks(axis, source) for axis in axes if axis in "TZ" and source.sizes.get(axis, 1) == 1
    ]
    loops = "".join(axis for axis in source.axes if axis not in axes and axis != "C")
    picked, gray = _pick(image, "C" in axes, channels, misfits)
    wanted = _Zoom(rescale, diameter, always=metadata.rescale == "always")
    factors = _factors(source, axes, metadata, wanted, misfits, notes)
    if "Z" in loops and source.sizes["Z"] > 1 and not link_z:
        planes = counted(source.sizes["Z"], "plane")
        notes.append(
            f"The model takes planes: the {planes} are segmented one by one; "
            "--link-z joins what overlaps from plane to plane."
        )
    if gray:
        notes.append(
            "The colours are mixed into gray. In stained tissue nuclei are dark, and a model for "
            "bright objects finds what lies between them: `aiod list --axes YXC` shows models "
            "that take colours."
        )
    if source.dtype.kind == "b":
        notes.append("The image is a mask already (true or false in every pixel).")
    if misfits:
        raise FitError(f"{name} does not fit the model.", details=misfits)
    spatial = "".join(axis for axis in "ZYX" if axis in axes)
    return Fit(axes, spatial, loops, picked, gray, factors, tuple(notes))


def check_dtype(name: str, dtype: np.dtype[np.generic], metadata: Metadata) -> None:
    """Raise FitError where the pixels that a model would see, after all steps, are none it takes.

    `name` is what the message calls the image.
    """
    if metadata.dtypes is None or str(dtype) in metadata.dtypes:
        return
    step = next((_MENDING[kind] for kind in metadata.dtypes if kind in _MENDING), None)
    mend = f" --pre {step} stretches its brightness to that" if step else ""
    takes = listing(metadata.dtypes, "or")
    raise FitError(
        f"{name} does not fit the model.",
        details=[f"The model takes pixels of {takes}; those of the image are {dtype}.{mend}"],
    )


def chosen(source: Source, fit: Fit) -> Source:
    """The channels of an image that a model gets, as axes TCZYX: with C only if the model has it.

    An axis that the model has and the image lacks is added with size 1.
    """
    wanted = "".join(a for a in AXES if a in fit.loops or a in fit.axes)
    count = 1 if fit.channels is None or fit.gray else len(fit.channels)
    sizes = {**source.sizes, "C": count}
    dtype = np.dtype(np.uint8) if source.dtype.kind == "b" else source.dtype
    return Source(
        wanted,
        tuple(sizes.get(axis, 1) for axis in wanted),
        dtype,
        partial(_read_chosen, source, fit, wanted),
        source.pixel_size,
    )


def model_view(pixels: Pixels, axes: str, fit: Fit) -> Pixels:
    """One frame (loop axes of size 1) as exactly the axes the model states, in its order.

    >>> fit = Fit("YXC", "YX", "T", (0, 1))
    >>> model_view(np.zeros((1, 2, 5, 6)), "TCYX", fit).shape
    (5, 6, 2)
    """
    kept = [axis for axis in axes if axis in fit.axes]
    index = tuple(slice(None) if axis in fit.axes else 0 for axis in axes)
    return np.ascontiguousarray(pixels[index].transpose([kept.index(axis) for axis in fit.axes]))


def _lacks(axis: str, source: Source) -> str:
    stack = axis == "Z"
    what = "stacks of planes (axis Z)" if stack else "time series (axis T)"
    others = [other for other in source.axes if other in "TZ" and source.sizes[other] > 1]
    if others:
        right = "".join(
            axis if a == others[0] else a for a in source.axes if a == others[0] or a != axis
        )
        return (
            f"The model takes {what}; the image has {source.sizes[others[0]]} along "
            f"{others[0]} and none along {axis}. If that is {axis} in truth: --axes {right}"
        )
    one = "one plane" if stack else "one time point"
    hint = "`aiod list --axes YX` shows models for planes." if stack else ""
    return f"The model takes {what}; the image has {one}. {hint}".rstrip()


def _pick(
    image: Image, takes_channels: bool, given: Sequence[str], misfits: list[str]
) -> tuple[tuple[int, ...] | None, bool]:
    count = image.source.sizes.get("C", 1)
    has_axis = "C" in image.source.axes
    if image.rgb and not takes_channels and [g.casefold() for g in given] in ([GRAY], ["grey"]):
        return tuple(range(3)), True
    found = []
    for text in given:
        index = _channel(text, image, count)
        if index is None:
            misfits.append(
                f"There is no channel {text}; the image has {_channels(image, count)}. "
                "Name one, or count from 1, with --channel"
            )
        else:
            found.append(index)
    if not takes_channels and len(found) > 1:
        misfits.append(f"The model takes one channel, {len(found)} are named with --channel.")
    if given:
        return (tuple(found) if has_axis else None), False
    if not takes_channels and count > 1:
        example = GRAY if image.rgb else image.channel_names[0] or "1"
        colour = (
            " (for stained tissue, `aiod list --axes YXC` shows models that take colours)"
            if image.rgb
            else ""
        )
        misfits.append(
            f"The model takes one channel; the image has {_channels(image, count)}. "
            f"Choose one, for example --channel {example}{colour}"
        )
    return (tuple(range(count)) if has_axis else None), False


def _channel(text: str, image: Image, count: int) -> int | None:
    names = [name.casefold() for name in image.channel_names]
    if text.casefold() in names:
        return names.index(text.casefold())
    if text.isdecimal() and len(text) < 6 and 1 <= int(text) <= count:
        return int(text) - 1
    return None


def _channels(image: Image, count: int) -> str:
    if image.rgb:
        return "red, green and blue"
    named = [name for name in image.channel_names if name]
    if len(named) == count and count > 1:
        return f"{count} channels ({listing(named, 'and')})"
    return counted(count, "channel")


@dataclass(frozen=True, slots=True)
class _Zoom:
    """What is asked of the size of an image: by the user (None where nothing), by the model."""

    rescale: bool | None
    diameter: float | None
    always: bool

    @property
    def wanted(self) -> bool:
        return self.always if self.rescale is None else self.rescale


def _factors(
    source: Source,
    axes: str,
    metadata: Metadata,
    zoom: _Zoom,
    misfits: list[str],
    notes: list[str],
) -> dict[str, float]:
    """How many model pixels each image pixel is along Z, Y and X, where that is to be changed."""
    spatial = [axis for axis in "ZYX" if axis in axes]
    if zoom.diameter and metadata.object_diameter:
        if not zoom.wanted:
            misfits.append(
                "--param diameter zooms the image for this model, and --no-rescale forbids it. "
                "Leave one of the two out"
            )
        factors = dict.fromkeys(spatial, metadata.object_diameter / zoom.diameter)
        return _unless_near(factors, _NEAR_GIVEN)
    if metadata.pixel_size is None:
        if zoom.rescale:
            misfits.append(
                "--rescale: the model states no pixel size. "
                "Leave it out, or shrink the image with --pre downsample:factor=2"
            )
        return {}
    wanted = model_pixel_size(metadata.pixel_size, [axis for axis in axes if axis in "ZYX"])
    words = " × ".join(f"{wanted[axis]:g}" for axis in spatial)
    missing = [axis for axis in spatial if not source.pixel_size.get(axis)]
    if missing:
        where = f"the pixel size of the image along {listing(missing, 'and')} is not known"
        give = f"--pixel-size {words.replace(' × ', ',')}"
        if zoom.rescale:
            misfits.append(f"--rescale: {where}. Give it in micrometres: {give}")
        elif zoom.wanted:
            diameter = metadata.object_diameter
            or_so = f", or --param diameter={diameter:g}" if diameter else ""
            notes.append(
                f"T{where[1:]}: the image is taken as it is. Where objects are much smaller or "
                f"larger than the model's{f' {diameter:g} pixels' if diameter else ''}, say so: "
                f"{give}{or_so}, with your numbers."
            )
        return {}
    factors = _unless_near({axis: source.pixel_size[axis] / wanted[axis] for axis in spatial})
    own = " × ".join(f"{source.pixel_size[axis]:g}" for axis in spatial)
    if factors and not zoom.wanted:
        notes.append(
            f"Pixels are {own} µm, the model was trained on {words} µm: "
            "--rescale brings the image to that size and the masks back."
        )
    elif factors and max(factors.values()) > _MOST_ENLARGED:
        misfits.append(
            f"Pixels are {own} µm: for the model's {words} µm the image would be enlarged "
            f"{max(factors.values()):,.0f} times. If they are nanometres, say so: --pixel-size "
            f"{max(source.pixel_size.values()):g}nm; else --no-rescale takes the image as it is"
        )
    elif factors and zoom.rescale is None:
        notes.append(f"Pixels are {own} µm: the model sees the image at its own {words} µm.")
    return factors if zoom.wanted else {}


def _unless_near(factors: dict[str, float], within: float = NEAR) -> dict[str, float]:
    """The factors, none where all of them are near 1."""
    near = all(1 / within <= factor <= within for factor in factors.values())
    return {} if near else factors


def model_pixel_size(size: PixelSize, axes: Sequence[str]) -> dict[str, float]:
    """Micrometres an axis, from a manifest: one number for all, or one for each of `axes`."""
    values = size.value if isinstance(size.value, list) else [size.value] * len(axes)
    return {axis: v * MICROMETRES[size.unit] for axis, v in zip(axes, values, strict=True)}


def _read_chosen(source: Source, fit: Fit, wanted: str, box: Box) -> Pixels:
    ranges = dict(zip(wanted, zip(box.start, box.stop, strict=True), strict=True))
    mixed = fit.channels is not None and fit.gray
    indices: Sequence[int] = ()
    if "C" in source.axes:
        indices = range(3) if mixed else (fit.channels or ())
        if "C" in ranges and not mixed:
            indices = indices[slice(*ranges["C"])]
    planes = [_read_at(source, ranges, index) for index in (indices or (None,))]
    if mixed:
        mean = sum(w * p.astype(np.float32) for w, p in zip(_LUMINANCE, planes, strict=True))
        planes = [_as(np.asarray(mean), source.dtype)]
    at = wanted.index("C") if "C" in wanted else None
    pixels = planes[0] if at is None else np.stack(planes, axis=at)
    return pixels.astype(np.uint8) if pixels.dtype.kind == "b" else pixels


def _read_at(source: Source, ranges: Mapping[str, tuple[int, int]], channel: int | None) -> Pixels:
    """A box of one channel, as the axes of `ranges` without C (those the image lacks: size 1)."""
    parts = {**dict.fromkeys(source.axes, (0, 1)), **ranges}
    if channel is not None:
        parts["C"] = (channel, channel + 1)
    box = Box(
        tuple(parts[axis][0] for axis in source.axes), tuple(parts[axis][1] for axis in source.axes)
    )
    pixels = source.read(box)
    kept = [axis for axis in source.axes if axis in ranges and axis != "C"]
    pixels = pixels[tuple(slice(None) if axis in kept else 0 for axis in source.axes)]
    missing = [i for i, axis in enumerate(a for a in ranges if a != "C") if axis not in kept]
    return np.expand_dims(pixels, tuple(missing)) if missing else pixels


def _as(values: Pixels, dtype: np.dtype[np.generic]) -> Pixels:
    return values.astype(dtype) if dtype.kind == "f" else np.rint(values).astype(dtype)
