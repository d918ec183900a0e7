"""What the runner gives beside what Meta's own code gave; runs in the environment of the family.

`PYTHON compare_sam.py network RUNNER CHECKPOINT ANSWERS` prints how far the logits and the scores
of a network are from those that `meta_sam.py random` left. `PYTHON compare_sam.py labels RUNNER
CHECKPOINT IMAGE KEYWORDS LABELS` leaves the labels of an image (uint8, YXC) as it is.
"""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch


def imported(script: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("runner", script)
    assert spec is not None
    assert spec.loader is not None
    runner = importlib.util.module_from_spec(spec)
    sys.modules["runner"] = runner
    spec.loader.exec_module(runner)
    return runner


def network(script: str, checkpoint: str, answers: str) -> None:
    runner, told = imported(script), np.load(answers)
    model = runner.load(checkpoint, config=None, device="cpu")
    with torch.inference_mode():
        features, _ = runner._features(model, told["image"])
        logits, scores = runner._asked(model, features, told["points"])
    found = [
        float(abs(logits.numpy() - told["logits"]).max()),
        float(abs(scores.numpy() - told["scores"].ravel()).max()),
        float(abs(told["logits"]).mean()),
    ]
    sys.stdout.write(json.dumps(found) + "\n")


def labels(script: str, checkpoint: str, image: str, keywords: str, found: str) -> None:
    runner, chosen = imported(script), json.loads(Path(keywords).read_text("utf-8"))
    model = runner.load(checkpoint, config=None, device="cpu")
    answer = runner.predict(model, np.load(image), axes="YXC", lowhigh=[0, 255], **chosen)
    assert answer.dtype == np.uint32
    np.save(found, answer)


ACTIONS: dict[str, Callable[..., None]] = {"network": network, "labels": labels}

if __name__ == "__main__":
    torch.set_num_threads(1)
    ACTIONS[sys.argv[1]](*sys.argv[2:])
