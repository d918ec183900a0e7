"""StarDist's own call: `PYTHON oracle_stardist.py FOLDER IMAGE.npy LABELS.npy`, for a stack.

Runs inside the environment of the family stardist. FOLDER is what StarDist itself saved.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from csbdeep.utils import normalize
from stardist.models import StarDist3D


def main(folder: Path, image: str, labels: str) -> None:
    model = StarDist3D(None, name=folder.name, basedir=str(folder.parent))
    found, _ = model.predict_instances(normalize(np.load(image), 1, 99.8))
    np.save(labels, found.astype(np.uint32))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), *sys.argv[2:])
