"""Nellie's own steps on a file: `PYTHON oracle_nellie.py IMAGE LABELS PIXEL_SIZE Z_STEP OTSU`.

Runs inside the environment of the family. The image (an .npy, YX or ZYX, uint16) is written as the
OME-TIFF that Nellie reads, and its labels are read from the file that it writes. OTSU is 0 or 1.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile
from nellie.im_info.verifier import FileInfo, ImInfo  # type: ignore[import-not-found]
from nellie.segmentation.filtering import Filter  # type: ignore[import-not-found]
from nellie.segmentation.labelling import Label  # type: ignore[import-not-found]


def main(image: str, labels: str, pixel_size: float, z_step: float, otsu: bool) -> None:
    pixels = np.load(image)
    axes = "ZYX"[-pixels.ndim :]
    sizes = {"PhysicalSizeX": pixel_size, "PhysicalSizeY": pixel_size}
    if "Z" in axes:
        sizes["PhysicalSizeZ"] = z_step
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image.ome.tif")
        tifffile.imwrite(path, pixels, metadata={"axes": axes, **sizes}, ome=True)
        told = FileInfo(str(path))
        told.find_metadata()
        told.load_metadata()
        info = ImInfo(told)
        Filter(info, device="cpu").run()
        Label(info, otsu_thresh_intensity=otsu, device="cpu").run()
        found = tifffile.imread(info.pipeline_paths["im_instance_label"])
    np.save(labels, found.reshape(pixels.shape).astype(np.uint32))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), sys.argv[5] == "1")
