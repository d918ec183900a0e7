"""What a TIFF says about itself, in each dialect: kind, pixel size, channels, colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.parsers.expat import ExpatError

from aiod.flow.images.described import OmeImage, ome_images
from aiod.flow.images.units import micrometres

# Numbers that programs write as "dots per inch" where nobody measured anything.
PRINTERS = frozenset({1, 72, 96, 100, 150, 200, 300, 600, 1200})


@dataclass(frozen=True, slots=True)
class Known:
    """`squeeze`: whether axes of one pixel are left out (None: as tifffile does)."""

    kind: str
    squeeze: bool | None = None
    pixel_size: Mapping[str, float] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    rgb: bool = False
    alpha: bool = False
    warnings: tuple[str, ...] = ()


def describe(tif: Any) -> Known:
    """What is known of a TIFF's first image.

    Raises aiod.flow.images.described.Unbelievable where OME-XML asks for the impossible.
    """
    page = tif.pages.first
    rgb, alpha, warnings = _colours(page)
    how: dict[str, Any] = {"rgb": rgb, "alpha": alpha}
    if tif.is_ome:
        try:
            images = ome_images(tif.ome_metadata)
        except ExpatError as error:
            warnings.append(f"Its OME-XML is damaged ({error}) and not used.")
            return Known("TIFF", pixel_size=_resolution(page), warnings=tuple(warnings), **how)
        image = _that_of(page, images)
        names = tuple(image.channels) if any(image.channels) else ()
        return Known("OME-TIFF", False, image.pixel_size, names, warnings=tuple(warnings), **how)
    if tif.is_imagej:
        known = tif.imagej_metadata or {}
        return Known(
            "ImageJ TIFF",
            pixel_size=_imagej(page, known),
            channel_names=_labels(known),
            warnings=tuple(warnings),
            **how,
        )
    return Known("TIFF", pixel_size=_resolution(page), warnings=tuple(warnings), **how)


def _that_of(page: Any, images: list[OmeImage]) -> OmeImage:
    """The description of the first image that has the size of the first page."""
    size = (page.imagelength, page.imagewidth)
    same = [image for image in images if (image.sizes.get("Y"), image.sizes.get("X")) == size]
    return (same or images or [OmeImage()])[0]


def _colours(page: Any) -> tuple[bool, bool, list[str]]:
    """Whether the samples are red, green and blue, whether the last is none, and what is odd."""
    samples, extra = int(page.samplesperpixel), tuple(page.extrasamples or ())
    photometric = page.photometric
    warnings = []
    # 2 is RGB, 6 YCbCr, which tifffile turns into RGB.
    rgb = photometric in (2, 6) and samples in (3, 4)
    alpha = (rgb and samples == 4) or (samples in (2, 5) and bool(extra) and extra[-1] in (1, 2))
    if photometric == 3:
        warnings.append("Its table of colours is not used: the numbers stored are the image.")
    elif photometric == 0 and page.bitspersample > 1:  # a mask of two values is as it is
        warnings.append("It says that 0 is white; its numbers are read as they are.")
    elif photometric == 5:
        warnings.append("Its colours are those of a printer (CMYK) and are read as channels.")
    return rgb, alpha, warnings


def _tag(page: Any, name: str) -> Any:
    tag = page.tags.get(name)
    return None if tag is None else tag.value


def _per_unit(page: Any) -> tuple[float, float]:
    """Pixels per unit along Y and X, 0 where they are not known."""
    numbers = []
    for name in ("YResolution", "XResolution"):
        value = _tag(page, name)
        ok = isinstance(value, tuple) and len(value) == 2 and value[1]
        numbers.append(value[0] / value[1] if ok else 0.0)
    return numbers[0], numbers[1]


def sizes_from_density(
    per_unit: tuple[float, float], length: Callable[[float], float | None]
) -> dict[str, float]:
    """Axis -> micrometres from pixels per unit along Y and X; `length` turns units into those."""
    sizes = {
        axis: length(1 / number)
        for axis, number in zip("YX", per_unit, strict=True)
        if math.isfinite(number) and number > 0
    }
    known = {axis: size for axis, size in sizes.items() if size is not None}
    return known if len(known) == 2 else {}


def _resolution(page: Any) -> dict[str, float]:
    number = _tag(page, "ResolutionUnit")
    unit = {2: "inch", 3: "cm"}.get(2 if number is None else int(number))
    density = _per_unit(page)
    if unit is None or (unit == "inch" and is_a_printers(density)):
        return {}
    if unit == "cm" and is_a_printers((density[0] * 2.54, density[1] * 2.54)):
        return {}
    return sizes_from_density(density, lambda units: micrometres(units, unit))


def is_a_printers(per_inch: tuple[float, float]) -> bool:
    """Whether a density says what programs write by default, and nothing about a specimen."""
    return all(abs(number - round(number)) < 0.02 for number in per_inch) and (
        round(per_inch[0]) in PRINTERS and round(per_inch[1]) in PRINTERS
    )


def _imagej(page: Any, known: Mapping[str, Any]) -> dict[str, float]:
    unit = known.get("unit", "")
    sizes = sizes_from_density(_per_unit(page), lambda units: micrometres(units, unit))
    depth = micrometres(known.get("spacing"), known.get("zunit", unit))
    return ({"Z": depth} if depth else {}) | sizes


def _labels(known: Mapping[str, Any]) -> tuple[str, ...]:
    """ImageJ labels planes, not channels: they name channels where each plane is one."""
    labels = known.get("Labels") or []
    count = known.get("channels", 1)
    if count == len(labels) == known.get("images", 1):
        return tuple(str(label) for label in labels)
    return ()
