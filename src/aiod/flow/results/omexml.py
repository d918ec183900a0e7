"""OME-XML that names the label images of a collection, for readers that look for it.

Source: https://www.openmicroscopy.org/Schemas/OME/2016-06/ome.xsd, and the transitional layout
"bioformats2raw" of https://ngff.openmicroscopy.org/0.5/, where the id of an Image is its path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree as ET

_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


@dataclass(frozen=True, slots=True)
class Described:
    """A label image as OME-XML knows it: its path in the collection, name, sizes and pixels."""

    path: str
    name: str
    sizes: Mapping[str, int]
    dtype: str
    pixel_size: Mapping[str, float]


def ome_xml(images: Iterable[Described]) -> str:
    """The document for these label images; pixel sizes are in micrometres.

    OME-XML knows no integers of 64 bits: such labels, of which more than four thousand million
    would have to be counted, are said to be of 32.
    """
    root = ET.Element("OME", {"xmlns": _NAMESPACE, "Creator": "aiod"})
    for number, image in enumerate(images):
        element = ET.SubElement(root, "Image", {"ID": f"Image:{image.path}", "Name": image.name})
        sizes = {f"Size{axis}": str(image.sizes.get(axis, 1)) for axis in "XYZCT"}
        physical: dict[str, str] = {}
        for axis, size in image.pixel_size.items():
            physical |= {f"PhysicalSize{axis}": repr(size), f"PhysicalSize{axis}Unit": "µm"}
        pixels = ET.SubElement(
            element,
            "Pixels",
            {
                "ID": f"Pixels:{number}",
                "DimensionOrder": "XYZCT",
                "Type": image.dtype if image.dtype in ("uint8", "uint16") else "uint32",
                **sizes,
                **physical,
            },
        )
        for channel in range(image.sizes.get("C", 1)):
            ET.SubElement(
                pixels, "Channel", {"ID": f"Channel:{number}:{channel}", "SamplesPerPixel": "1"}
            )
        ET.SubElement(pixels, "MetadataOnly")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")
