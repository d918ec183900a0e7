"""What the OME-XML of a TIFF says: pixel size, channels, and whether it may be believed.

Source: https://www.openmicroscopy.org/Schemas/OME/2016-06/ome.xsd
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath
from xml.parsers import expat

from aiod.flow.images.units import micrometres
from aiod.words import shown

_MAX_PLANES = 1 << 24


class Unbelievable(Exception):
    """OME-XML that asks for more than any image has, or for files that are none of its own."""


@dataclass(slots=True)
class OmeImage:
    """One Image element: sizes of its axes, pixel size in micrometres, names of its channels."""

    sizes: dict[str, int] = field(default_factory=dict)
    pixel_size: dict[str, float] = field(default_factory=dict)
    channels: list[str] = field(default_factory=list)
    samples: int = 1


def ome_images(xml: str) -> list[OmeImage]:
    """The images that OME-XML describes, in its order.

    Raises Unbelievable where the numbers would make a reader fill the memory, and
    xml.parsers.expat.ExpatError where it is no XML.
    """
    images: list[OmeImage] = []
    planes = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal planes
        name = tag.rpartition(":")[2]
        if name == "Image":
            images.append(OmeImage())
        elif name == "Pixels" and images:
            _describe(images[-1], attributes)
        elif name == "Channel" and images:
            images[-1].channels.append(attributes.get("Name", ""))
            images[-1].samples = _count(attributes, "SamplesPerPixel", 1)
        elif name == "TiffData":
            planes += max(_count(attributes, "NumPlanes", 1), _count(attributes, "PlaneCount", 1))
            if planes > _MAX_PLANES:
                raise Unbelievable(f"its OME-XML names more than {_MAX_PLANES:,} planes")
        elif name == "UUID" and (file := attributes.get("FileName")):
            _check_name(file)
        elif name.startswith("ModuloAlong"):
            _check_modulo(attributes)

    def entity(name: str, *_: object) -> None:
        raise Unbelievable(f"its OME-XML defines the entity {shown(name)}, which OME never does")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EntityDeclHandler = entity
    parser.Parse(xml.encode(), True)
    return images


def _describe(image: OmeImage, attributes: dict[str, str]) -> None:
    for axis in "TCZYX":
        image.sizes[axis] = _count(attributes, f"Size{axis}", 1)
    if math.prod(image.sizes[axis] for axis in "TCZ") > _MAX_PLANES:
        raise Unbelievable(f"its OME-XML names more than {_MAX_PLANES:,} planes")
    for axis in "ZYX":
        unit = attributes.get(f"PhysicalSize{axis}Unit", "µm")
        length = micrometres(attributes.get(f"PhysicalSize{axis}"), unit)
        if length is not None:
            image.pixel_size[axis] = length


def _count(attributes: dict[str, str], name: str, default: int) -> int:
    text = attributes.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.strip().isdigit() or len(text) > 15:
        raise Unbelievable(f"its OME-XML gives {name} as {shown(text)}")
    return int(text)


def _check_name(file: str) -> None:
    for flavour in (PurePosixPath(file), PureWindowsPath(file)):
        if flavour.is_absolute() or flavour.drive or ".." in flavour.parts:
            raise Unbelievable(f"its OME-XML points to {shown(file)}, outside its own folder")


def _check_modulo(attributes: dict[str, str]) -> None:
    try:
        first, last, step = (
            float(attributes.get(name, default))
            for name, default in (("Start", "0"), ("End", "0"), ("Step", "1"))
        )
        count = (last - first) / step
    except (ValueError, ZeroDivisionError):
        count = math.inf
    if not abs(count) < _MAX_PLANES:
        raise Unbelievable("its OME-XML has a Modulo annotation that makes no sense")
