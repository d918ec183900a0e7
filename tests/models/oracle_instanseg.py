"""InstanSeg's own call: `PYTHON oracle_instanseg.py instanseg.pt IMAGE.npy LABELS.npy`.

Runs where InstanSeg can be imported. LABELS are (2, Y, X): nuclei and cells, each asked for alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from instanseg import InstanSeg  # type: ignore[import-not-found]


def main(weights: str, image: str, labels: Path) -> None:
    torch.set_num_threads(1)
    method = InstanSeg(torch.jit.load(weights), device="cpu", verbosity=0)
    found = []
    for target in ("nuclei", "cells"):
        pixels = np.load(image)  # anew: it is stretched in place
        answer = method.eval_small_image(
            pixels, pixel_size=0.5, return_image_tensor=False, target=target
        )
        found.append(answer[0, 0].numpy())
    np.save(labels, np.stack(found).astype(np.uint32))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
