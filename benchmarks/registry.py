"""How quick the registry is, beside the package aiod-registry 0.2: ratios measured in one run.

    python benchmarks/registry.py

Every figure is the median over whole processes that take turns, so that a machine whose speed
drifts slows both sides alike, and all files were read just before. The 10,000 manifests are
copies of the shipped ones, exported to the format that both read. Memory is what the process
holds at its peak, less an idle Python.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure

MANIFESTS = 10_000
SMALLER = 2_500
TURNS = 7

# What each process does; `{folder}` is a layer. Both read every manifest and look at all of them.
PEER = """
from pathlib import Path
from aiod_registry import load_manifests
manifests = load_manifests(sorted(Path({folder!r}, "manifests").glob("*.json")))
count = len(manifests)
"""
OURS = """
from aiod.registry import load
registry = load([{folder!r}])
count = len(registry.families) - len(load_shipped)
"""
MEASURE = """
import json, resource, time
{prepare}
start = time.perf_counter()
{work}
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([seconds, peak, count]))
"""


def figures() -> Iterator[Figure]:
    """Every figure of the registry."""
    yield from starts()
    yield from loads()


def starts() -> Iterator[Figure]:
    """Whole commands, the second and later times they run."""
    aiod = str(Path(sys.executable).with_name("aiod"))
    python = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        world = {**os.environ, "AIOD_CACHE": folder, "AIOD_REGISTRIES": ""}
        for name, ours, theirs, limit in (
            ("`aiod --help` / `import pydantic`", [aiod, "--help"],
             [python, "-c", "import pydantic"], 2.0),
            ("`aiod list` / the peer's `load_manifests()`", [aiod, "list"],
             [python, "-c", "from aiod_registry import load_manifests; load_manifests()"], 1.0),
        ):  # fmt: skip
            pairs = [(wall(ours, world), wall(theirs, world)) for _ in range(4 * TURNS)][2:]
            yield seconds_figure(name, pairs, limit)


def loads() -> Iterator[Figure]:
    """Ten thousand manifests: the first start, the second, and how time grows with number."""
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder, "large"), Path(folder, "small")
        plain = Path(folder, "plain")
        make_layer(large, MANIFESTS)
        make_layer(plain, MANIFESTS, only="cellposesam")
        make_layer(small, SMALLER)
        idle = peak_of("pass")
        first, second, peer, fewer, ours_plain, peer_plain = [], [], [], [], [], []
        for turn in range(TURNS):
            cache = Path(folder, f"cache{turn}")
            fewer.append(ours(small, cache))
            first.append(ours(large, cache))
            peer.append(theirs(large))
            time.sleep(2.1)  # a file written within two seconds of its index is read again
            ours(large, cache)
            second.append(ours(large, cache))
            ours_plain.append(ours(plain, cache))
            peer_plain.append(theirs(plain))
        yield seconds_figure(
            f"first start, {MANIFESTS:,} manifests, time",
            [(a[0], b[0]) for a, b in zip(first, peer, strict=True)], 1 / 3,
        )  # fmt: skip
        yield memory_figure(
            f"first start, {MANIFESTS:,} manifests, memory",
            [(a[1] - idle, b[1] - idle) for a, b in zip(first, peer, strict=True)], 1 / 3,
        )  # fmt: skip
        yield seconds_figure(
            f"second start, {MANIFESTS:,} manifests, time",
            [(a[0], b[0]) for a, b in zip(second, peer, strict=True)], 1 / 10,
        )  # fmt: skip
        yield seconds_figure(
            f"the same of {MANIFESTS:,} with 14 parameters and 3 authors each, time",
            [(a[0], b[0]) for a, b in zip(ours_plain, peer_plain, strict=True)],
            1 / 3,
        )
        yield memory_figure(
            f"the same of {MANIFESTS:,} with 14 parameters and 3 authors each, memory",
            [(a[1] - idle, b[1] - idle) for a, b in zip(ours_plain, peer_plain, strict=True)],
            1 / 3,
        )
        growth = statistics.median(a[0] / b[0] for a, b in zip(first, fewer, strict=True))
        yield Figure(
            f"growth of the first start from {SMALLER:,} to {MANIFESTS:,}, per manifest",
            growth / (MANIFESTS / SMALLER), 1.25,
            f"{growth:.2f} x", f"{MANIFESTS / SMALLER:.0f} x is linear",
        )  # fmt: skip


def make_layer(folder: Path, count: int, only: str = "") -> None:
    """Copies of the shipped manifests under names of their own, as the peer writes them."""
    from aiod.registry import load
    from aiod.registry.export import export

    exported = export(load(), folder / "exported").files
    chosen = [path for path in exported if only in ("", path.stem)]
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in chosen]
    (folder / "manifests").mkdir(parents=True)
    for number in range(count):
        document = documents[number % len(documents)]
        document |= {"name": f"Copy {number}", "short_name": f"copy_{number}"}
        path = folder / "manifests" / f"copy_{number}.json"
        path.write_text(json.dumps(document, indent=2), encoding="utf-8")


def warm(folder: Path) -> None:
    """Read every file once, so that neither side waits for the disk where the other did not."""
    for path in (folder / "manifests").iterdir():
        path.read_bytes()


def ours(folder: Path, cache: Path) -> tuple[float, float]:
    warm(folder)
    prepare = "from aiod.registry.layers import NO_MANIFESTS, SHIPPED\n"
    prepare += "files = {p.name for p in SHIPPED.manifests.glob('*.json')}\n"
    prepare += "load_shipped = files - NO_MANIFESTS"
    return measured(prepare, OURS.format(folder=str(folder)), cache)


def theirs(folder: Path) -> tuple[float, float]:
    warm(folder)
    return measured("", PEER.format(folder=str(folder)), folder)


def measured(prepare: str, work: str, cache: Path) -> tuple[float, float]:
    """Seconds that `work` takes with its imports, and the process's peak memory in bytes."""
    program = MEASURE.format(prepare=prepare, work=work)
    world = {**os.environ, "AIOD_CACHE": str(cache), "AIOD_REGISTRIES": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], env=world, capture_output=True, text=True, check=True
    )
    seconds, peak, count = json.loads(done.stdout)
    if count not in (MANIFESTS, SMALLER, 0):
        raise SystemExit(f"{count} manifests were read")
    return seconds, peak * 1024


def peak_of(work: str) -> float:
    return measured("", f"{work}\ncount = 0", Path(tempfile.gettempdir()))[1]


def wall(command: list[str], world: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, env=world, capture_output=True, check=True)
    return time.perf_counter() - start


def seconds_figure(name: str, pairs: list[tuple[float, float]], limit: float) -> Figure:
    a, b = median_of(pairs)
    ratio = statistics.median(x / y for x, y in pairs)
    return Figure(name, ratio, limit, f"{a:.3f} s", f"{b:.3f} s")


def memory_figure(name: str, pairs: list[tuple[float, float]], limit: float) -> Figure:
    a, b = median_of(pairs)
    ratio = statistics.median(x / y for x, y in pairs)
    return Figure(name, ratio, limit, f"{a / 1e6:.0f} MB", f"{b / 1e6:.0f} MB")


def median_of(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


if __name__ == "__main__":
    for figure in figures():
        print(figure.row(), flush=True)
