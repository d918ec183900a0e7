"""Which device a model works on: what its environment's libraries see of this machine."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from aiod.errors import UsageError
from aiod.flow.models.environments import Environment
from aiod.words import counted, shown

_SECONDS = 180  # a cold disk, a large library
_LIBRARIES = {
    "torch": ("torch",),
    "tensorflow": ("tensorflow", "tensorflow-gpu"),
    "jax": ("jax",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
}
# Without one of these there is no GPU on Linux, and no need to load a library to hear so.
_GPU_FILES = ("nvidiactl", "kfd", "dxg", "nvhost-ctrl", "nvhost-gpu", "nvmap")
_PROBES = {
    "torch": (
        "import torch\n"
        "cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0\n"
        "mps = torch.backends.mps.is_available()\n"
    ),
    "tensorflow": (
        "import tensorflow\n"
        "cuda = len(tensorflow.config.list_physical_devices('GPU'))\n"
        "mps = False\n"
    ),
    "jax": (
        "import jax\ncuda = sum(d.platform in ('gpu', 'cuda', 'rocm') for d in jax.devices())\n"
        "mps = False\n"
    ),
    "onnxruntime": (
        "import onnxruntime\n"
        "cuda = sum(d.ep_name == 'CUDAExecutionProvider' for d in onnxruntime.get_ep_devices())\n"
        "mps = False\n"
    ),
}
_log = logging.getLogger(__name__)


def choose_device(text: str, environment: Environment) -> str:
    """ "cpu", "cuda:0" or "mps" for what a user asks for; `auto` is the best that works here.

    Raises UsageError for a device that is none, or that is not here.
    """
    found = re.fullmatch(r"(auto|cpu|mps|cuda)(?::([0-9]{1,3}))?", text.strip().lower())
    if found is None or (found[2] and found[1] != "cuda"):
        raise UsageError(
            f"{shown(text)} is no device.", hint="--device auto, cpu, cuda, cuda:1 or mps"
        )
    kind, number = found[1], int(found[2] or 0)
    if kind == "cpu":
        return "cpu"
    library = _library(environment)
    if kind == "auto":
        return _best(environment, library)
    if library is None:
        raise UsageError(
            f"{environment.family} has no library that works on a GPU, so not on {text}.",
            hint="--device cpu",
        )
    cuda, mps, why = _seen(environment.python, library)
    if kind == "mps" and not mps:
        raise UsageError(f"{environment.family} sees no Apple GPU here{why}.", hint="--device cpu")
    if kind == "cuda" and number >= cuda:
        version = environment.version_of(library) or ""
        if not cuda and "+cpu" in version:
            raise UsageError(
                f"The environment of {environment.family} has {library} {version}, which works "
                "on the CPU only.",
                hint=f"on a machine with a GPU, `aiod env build {environment.family} --again`",
            )
        have = "no GPU" if not cuda else f"{counted(cuda, 'GPU')} (cuda:0 is the first)"
        raise UsageError(f"{environment.family} sees {have} here{why}.", hint="--device auto")
    return "mps" if kind == "mps" else f"cuda:{number}"


def _best(environment: Environment, library: str | None) -> str:
    if library is None or not _may_have_gpu():
        return "cpu"
    version = environment.version_of(library) or ""
    if "+cpu" in version:
        _log.warning(
            "This machine may have a GPU, but the environment of %s has %s %s, which works on the "
            "CPU only; `aiod env build %s --again` chooses anew.",
            *(environment.family, library, version, environment.family),
        )
        return "cpu"
    cuda, mps, why = _seen(environment.python, library)
    if why:
        _log.warning("%s works on the CPU%s.", environment.family, why)
    return "cuda:0" if cuda else "mps" if mps else "cpu"


def _library(environment: Environment) -> str | None:
    for library, packages in _LIBRARIES.items():
        if any(environment.version_of(package) for package in packages):
            return library
    return None


def _may_have_gpu() -> bool:
    return sys.platform != "linux" or any((Path("/dev") / name).exists() for name in _GPU_FILES)


@lru_cache(maxsize=64)
def _seen(python: Path, library: str) -> tuple[int, bool, str]:
    """Number of CUDA (or ROCm) devices, whether there is an Apple GPU, and why it is not known."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    script = _PROBES[library] + "import json\nprint('\\n' + json.dumps([int(cuda), bool(mps)]))"
    try:
        done = subprocess.run(  # noqa: S603 -- the environment's own Python
            [python, "-s", "-c", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=variables,
            timeout=_SECONDS,
            check=False,
        )
        cuda, mps = json.loads(done.stdout.rstrip().rpartition("\n")[2])
        return int(cuda), bool(mps), ""
    except subprocess.TimeoutExpired:
        return 0, False, f": {library} did not answer within {_SECONDS} s"
    except OSError as error:
        return 0, False, f": {error.strerror}"
    except (ValueError, TypeError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return 0, False, f": {library} cannot be asked ({last[:200]})"
