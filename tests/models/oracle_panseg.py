"""Compare the runner's networks with pytorch-3dunet's: `PYTHON oracle_panseg.py`.

Both get the same checkpoint, written by pytorch-3dunet. Prints the largest difference of each.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml
from pytorch3dunet.unet3d.model import get_model  # type: ignore[import-not-found]
from train_panseg import imported

CASES: list[dict[str, Any]] = [
    {"name": "UNet2D"},
    {"name": "UNet2D", "layer_order": "cl", "f_maps": [8, 16, 32]},
    {"name": "UNet2D", "layer_order": "gcrd", "upsample": "deconv"},
    {"name": "UNet3D"},
    {"name": "UNet3D", "layer_order": "bcr"},
    {"name": "UNet3D", "layer_order": "crg", "num_groups": 4},
    {"name": "UNet3D", "in_channels": 2, "out_channels": 2, "conv_upscale": 1},
    {"name": "ResidualUNet2D", "layer_order": "cge"},
    {"name": "ResidualUNet3D"},
    {"name": "ResidualUNet3D", "layer_order": "gcl", "upsample": "deconv"},
    {"name": "ResidualUNetSE3D"},
]
USUAL = {"in_channels": 1, "out_channels": 1, "f_maps": 16, "num_levels": 3}


def difference(model: dict[str, Any], folder: Path) -> float:
    """The largest of all probabilities, for arrays that are random."""
    torch.manual_seed(1)
    theirs = get_model(model).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    for name, values in theirs.named_buffers():
        if "running" in name:
            values.copy_(torch.rand_like(values) + 0.5)
    (folder / "config_train.yml").write_text(yaml.safe_dump({"model": model}), "utf-8")
    state = {f"module.{name}": values for name, values in theirs.state_dict().items()}
    torch.save({"model_state_dict": state}, folder / "last_checkpoint.pytorch")
    own = imported().load(str(folder), config=None, device="cpu")
    sides = (24, 32) if "2D" in model["name"] else (8, 12, 16)
    image = torch.randn(2, model["in_channels"], *sides)
    with torch.inference_mode():
        answer = theirs(image)
        assert answer.std() > 0.001
        return float((torch.sigmoid(own.network(image)) - answer).abs().max())


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        found = [difference({**USUAL, **case}, Path(made)) for case in CASES]
    sys.stdout.write(json.dumps(found) + "\n")
