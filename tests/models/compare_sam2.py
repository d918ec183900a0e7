"""What the runner finds in an image, for the tests to compare; runs in the family's environment.

`PYTHON compare_sam2.py RUNNER CHECKPOINT IMAGE KEYWORDS LABELS`; IMAGE (.npy) is uint8, YXC, and
not stretched.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import torch


def labels(script: str, checkpoint: str, image: str, keywords: str, found: str) -> None:
    spec = importlib.util.spec_from_file_location("runner", script)
    assert spec is not None
    assert spec.loader is not None
    runner = importlib.util.module_from_spec(spec)
    sys.modules["runner"] = runner
    spec.loader.exec_module(runner)
    model = runner.load(checkpoint, config=None, device="cpu")
    chosen = json.loads(Path(keywords).read_text("utf-8"))
    answer = runner.predict(model, np.load(image), axes="YXC", lowhigh=[0, 255], **chosen)
    assert answer.dtype == np.uint32
    np.save(found, answer)


if __name__ == "__main__":
    torch.set_num_threads(1)
    labels(*sys.argv[1:])
