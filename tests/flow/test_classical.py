"""The family `classical`: good on real nuclei, and the same in a tile as in the whole image."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage import filters

import aiod
from aiod.registry import load

Array = NDArray[Any]

PACKAGE = Path(aiod.__file__).parent
SAMPLES = PACKAGE / "samples"
REGISTRY = load()
PARTING = ["otsu-watershed", "local-watershed", "voronoi-otsu"]
# Dim spots beside bright ones are hidden by the blur that voronoi-otsu counts spots after.
EXPECTED = {"otsu-watershed": 0.95, "local-watershed": 0.93, "voronoi-otsu": 0.85}
MODELS = [model.id for model in REGISTRY if model.family == "classical"]


def imported() -> ModuleType:
    """The runner, as a model's worker imports it."""
    path = PACKAGE / "runners" / "classical.py"
    spec = importlib.util.spec_from_file_location("classical", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["classical"] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


runner = imported()


def statistics_of(image: Array) -> list[dict[str, Array]]:
    finite = image[np.isfinite(image)]
    values, counts = np.unique(finite, return_counts=True)
    return [{"values": values, "counts": counts}]


def parameters_of(model_id: str) -> dict[str, Any]:
    """What the host passes where the user says nothing: the manifest's values."""
    return {
        item.arg_name or item.name: item.value[0] if isinstance(item.value, list) else item.value
        for item in REGISTRY.params_for(model_id)
    }


def segment(model_id: str, image: Array, *, of: Array | None = None, **changed: Any) -> Array:
    """Labels of `image` by a model of the manifest; `of` is the whole image, if it is a part."""
    params = {**parameters_of(model_id), **changed}
    found = runner.survey(statistics_of(image if of is None else of), **params)
    labels: Array = runner.predict(
        runner.load(None, config=None, device="cpu"),
        image,
        axes=REGISTRY.get(model_id).axes,
        **params,
        **found,
    )
    assert labels.dtype == np.uint32
    assert labels.shape == image.shape
    return labels


def f1(labels: Array, truth: Array) -> float:
    """F1 at IoU 0.5, straight from its definition."""
    pairs, both = np.unique(np.stack([labels.ravel(), truth.ravel()]), axis=1, return_counts=True)
    sizes = dict(zip(*np.unique(labels, return_counts=True), strict=True))
    true_sizes = dict(zip(*np.unique(truth, return_counts=True), strict=True))
    matched = sum(
        bool(a and b and n > 0.5 * (sizes[a] + true_sizes[b] - n))
        for (a, b), n in zip(pairs.T, both, strict=True)
    )
    objects = len(sizes) - (0 in sizes) + len(true_sizes) - (0 in true_sizes)
    return 2 * matched / objects


def same_up_to_numbers(labels: Array, others: Array) -> bool:
    pairs = np.unique(np.stack([labels.ravel(), others.ravel()]), axis=1)
    one_to_one = all(len(np.unique(row)) == pairs.shape[1] for row in pairs)
    return one_to_one and bool(((pairs[0] == 0) == (pairs[1] == 0)).all())


def nuclei(shape: tuple[int, ...], radius: float, seed: int, share: float = 0.95) -> Any:
    """Bright domes of about `radius`, set so close that most touch: (image uint16, truth)."""
    rng = np.random.default_rng(seed)
    truth, image = np.zeros(shape, np.int64), np.full(shape, 300.0)
    centres: list[Array] = []
    for _ in range(int(20 * share * np.prod(shape) / (2 * radius) ** len(shape))):
        centre = rng.uniform(0, shape)
        if any(((c - centre) ** 2).sum() < (1.85 * radius) ** 2 for c in centres):
            continue
        centres.append(centre)
        box = tuple(
            slice(max(0, int(c - 2 * radius)), min(n, int(c + 2 * radius)))
            for c, n in zip(centre, shape, strict=True)
        )
        away = [(axis - c) / radius for axis, c in zip(np.ogrid[box], centre, strict=True)]
        angle = rng.uniform(0, np.pi)
        y, x = away[-2], away[-1]
        away[-2] = 1.15 * (np.cos(angle) * y + np.sin(angle) * x)
        away[-1] = (np.cos(angle) * x - np.sin(angle) * y) / 1.15
        far = sum(a**2 for a in away)
        inside = (far <= 1) & (truth[box] == 0)
        truth[box][inside] = len(centres)
        image[box][inside] += rng.uniform(600, 2500) * np.sqrt(1.3 - far[inside])
    blurred = ndimage.gaussian_filter(image, 1) + rng.normal(0, 30, shape)
    return np.clip(blurred, 0, 65535).astype(np.uint16), truth


@pytest.fixture(scope="module")
def sample() -> tuple[Array, Array]:
    """Fluorescent nuclei of the 2018 Data Science Bowl and their outlines drawn by hand."""
    image = tifffile.imread(SAMPLES / "nuclei_2d.ome.tif")
    return image, tifffile.imread(SAMPLES / "nuclei_2d_truth.ome.tif")


# --- quality --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["otsu-watershed", "local-watershed"])
def test_real_nuclei_are_found_with_nothing_set(sample: Any, version: str) -> None:
    image, truth = sample
    assert f1(segment(f"classical/{version}/nuclei", image), truth) >= 0.88


@pytest.mark.parametrize("version", ["otsu-watershed", "local-watershed"])
@pytest.mark.parametrize("diameter", [20, 40])
def test_the_diameter_need_not_be_exact(sample: Any, version: str, diameter: float) -> None:
    image, truth = sample
    assert f1(segment(f"classical/{version}/nuclei", image, diameter=diameter), truth) >= 0.85


def test_real_nuclei_are_found_from_their_spots(sample: Any) -> None:
    image, truth = sample
    assert f1(segment("classical/voronoi-otsu/nuclei", image), truth) >= 0.75


@pytest.mark.parametrize("version", PARTING)
def test_touching_nuclei_are_told_apart(version: str) -> None:
    image, truth = nuclei((300, 300), radius=12, seed=1)
    assert ndimage.label(truth)[1] < 0.5 * len(np.unique(truth))  # they do touch
    assert f1(segment(f"classical/{version}/nuclei", image), truth) >= EXPECTED[version]


@pytest.mark.parametrize("version", PARTING)
def test_touching_nuclei_of_a_stack_are_told_apart(version: str) -> None:
    image, truth = nuclei((40, 90, 90), radius=9, seed=1)
    assert f1(segment(f"classical/{version}-3d/nuclei", image), truth) >= EXPECTED[version]


@pytest.mark.parametrize("version", PARTING)
def test_cells_are_nuclei_twice_as_large(version: str) -> None:
    image, truth = nuclei((400, 400), radius=26, seed=2)
    assert f1(segment(f"classical/{version}/cyto", image), truth) >= EXPECTED[version]


@pytest.mark.parametrize("version", PARTING)
def test_planes_that_are_far_apart_are_weighed_by_the_anisotropy(version: str) -> None:
    image, truth = nuclei((40, 90, 90), radius=9, seed=3)
    labels = segment(f"classical/{version}-3d/nuclei", image[::2], anisotropy=2)
    assert f1(labels, truth[::2]) >= EXPECTED[version] - 0.02


def test_ridges_are_those_of_scikit_image() -> None:
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.normal(0, 1, (80, 80)), 2).astype(np.float32)
    fields = dict.fromkeys(runner.Settings.__annotations__, 1.0)
    unit = runner.Settings(**{**fields, "spacing": (1.0, 1.0)})
    expected = filters.sato(image, sigmas=[2], black_ridges=False)
    np.testing.assert_allclose(
        runner._ridgeness(image, 2, unit)[20:-20, 20:-20], expected[20:-20, 20:-20], atol=2e-3
    )


@pytest.mark.parametrize("model_id", ["classical/ridge/mito", "classical/ridge-3d/mito"])
def test_ridges_follow_bent_tubes_and_leave_out_the_rest(model_id: str) -> None:
    axes = REGISTRY.get(model_id).axes
    shape = (24, 128, 128)[3 - len(axes or "") :]
    rng = np.random.default_rng(0)
    image = np.full(shape, 200.0)
    along = np.linspace(0, 1, 2000)
    path = np.stack([12 + 6 * np.sin(5 * along), 20 + 80 * along, 64 + 40 * np.sin(9 * along)])
    path = path[-len(shape) :].round().astype(int)
    tube = np.zeros(shape, bool)
    tube[tuple(path)] = True
    image[ndimage.distance_transform_edt(~tube) <= 1.5] = 1200
    image = ndimage.gaussian_filter(image, 1) + rng.normal(0, 20, shape)
    found = segment(model_id, np.clip(image, 0, None).astype(np.uint16))
    assert set(np.unique(found)) == {0, 1}
    assert found[tube].mean() > 0.97
    assert (ndimage.distance_transform_edt(~tube)[found > 0] < 5).all()


@given(st.dictionaries(st.integers(0, 65535), st.integers(1, 10**6), min_size=2, max_size=60))
@settings(deadline=None)
def test_the_threshold_is_that_of_scikit_image(histogram: dict[int, int]) -> None:
    values = np.array(sorted(histogram), np.float64)
    counts = np.array([histogram[int(value)] for value in values], np.float64)

    def between(threshold: float) -> float:
        low = values <= threshold
        means = [np.average(values[part], weights=counts[part]) for part in (low, ~low)]
        return float(counts[low].sum() * counts[~low].sum() * (means[0] - means[1]) ** 2)

    ours = runner.otsu(values, counts)
    theirs = filters.threshold_otsu(hist=(counts, values))
    assert between(ours) == pytest.approx(between(theirs))  # where two are equal, either will do


# --- a tile gives what the whole image gives ------------------------------------------------------


def crops(shape: tuple[int, ...], core: tuple[int, ...], count: int) -> list[tuple[slice, ...]]:
    rng = np.random.default_rng(7)
    found = []
    for _ in range(count):
        start = [int(rng.integers(0, n - c + 1)) for n, c in zip(shape, core, strict=True)]
        found.append(tuple(slice(a, a + c) for a, c in zip(start, core, strict=True)))
    return found


def check_crops(
    model_id: str, image: Array, cores: list[tuple[slice, ...]], **changed: Any
) -> None:
    """Each core, cut out with the halo that the manifest states, equals that part of the whole."""
    halo = REGISTRY.metadata_for(model_id).halo
    assert isinstance(halo, int)
    whole = segment(model_id, image, **changed)
    assert len(np.unique(whole)) > (1 if "ridge" in model_id else 20)
    for core in cores:
        outer = tuple(
            slice(max(0, c.start - halo), min(n, c.stop + halo))
            for c, n in zip(core, image.shape, strict=True)
        )
        inner = tuple(
            slice(c.start - o.start, c.stop - o.start) for c, o in zip(core, outer, strict=True)
        )
        part = segment(model_id, image[outer], of=image, **changed)
        assert same_up_to_numbers(part[inner], whole[core]), core


@pytest.mark.parametrize("version", [*PARTING, "ridge"])
def test_a_tile_of_a_real_image_gives_what_the_whole_gives(sample: Any, version: str) -> None:
    task = "mito" if version == "ridge" else "nuclei"
    check_crops(f"classical/{version}/{task}", sample[0], crops((512, 512), (90, 90), 12))


@pytest.mark.parametrize("version", PARTING)
def test_a_tile_of_touching_nuclei_gives_what_the_whole_gives(version: str) -> None:
    image, _ = nuclei((420, 420), radius=12, seed=4)
    check_crops(f"classical/{version}/nuclei", image, crops((420, 420), (100, 70), 8))


@pytest.mark.parametrize("version", PARTING)
def test_a_tile_of_a_stack_gives_what_the_whole_gives(version: str) -> None:
    image, _ = nuclei((24, 220, 120), radius=9, seed=5)
    cores = crops((24, 220, 120), (10, 30, 30), 3)
    check_crops(f"classical/{version}-3d/nuclei", image, cores)


@pytest.mark.parametrize("version", PARTING)
def test_pixels_of_equal_brightness_are_no_trouble(version: str) -> None:
    """Saturated, noiseless squares on a grid: plateaus and ties everywhere."""
    image = np.zeros((400, 400), np.uint8)
    for top in range(5, 380, 29):
        for left in range(3 + top % 7, 380, 31):
            image[top : top + 22, left : left + 20 + top % 5] = 255
    check_crops(f"classical/{version}/nuclei", image, crops((400, 400), (80, 80), 8))


# --- what may come in -----------------------------------------------------------------------------


@pytest.mark.parametrize("model_id", MODELS)
@pytest.mark.parametrize("value", [0, 7, 65535])
def test_an_image_of_one_brightness_holds_nothing(model_id: str, value: int) -> None:
    shape = (6, 20, 20)[3 - len(REGISTRY.get(model_id).axes or "") :]
    assert not segment(model_id, np.full(shape, value, np.uint16)).any()


@pytest.mark.parametrize("model_id", MODELS)
def test_an_image_of_noise_holds_next_to_nothing(model_id: str) -> None:
    shape = (16, 100, 100)[3 - len(REGISTRY.get(model_id).axes or "") :]
    image = np.random.default_rng(0).poisson(100, shape).astype(np.uint16)
    assert (segment(model_id, image) > 0).mean() < 0.01


@pytest.mark.parametrize("model_id", MODELS)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_an_image_may_be_tiny(model_id: str, size: int) -> None:
    image = np.zeros((size,) * len(REGISTRY.get(model_id).axes or ""), np.uint16)
    image.flat[0] = 100
    segment(model_id, image, min_diameter=0.0)


@pytest.mark.parametrize("version", PARTING)
@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float32", "float64"])
def test_the_type_of_the_numbers_is_no_matter(sample: Any, version: str, dtype: str) -> None:
    image = sample[0][:200, :200]
    model_id = f"classical/{version}/nuclei"
    np.testing.assert_array_equal(segment(model_id, image), segment(model_id, image.astype(dtype)))


@pytest.mark.parametrize("version", PARTING)
def test_brightness_and_offset_of_the_camera_are_no_matter(sample: Any, version: str) -> None:
    image = sample[0][:256, :256]
    model_id = f"classical/{version}/nuclei"
    brighter = segment(model_id, image.astype(np.uint16) * 128 + 1024)
    assert f1(segment(model_id, image), brighter) >= 0.99


def test_nan_is_background(sample: Any) -> None:
    image = sample[0].astype(np.float32)
    image[100:140] = np.nan
    labels = segment("classical/otsu-watershed/nuclei", image)
    assert not labels[104:136].any()
    assert labels[:100].any()


def test_an_image_of_nothing_but_nan_holds_nothing() -> None:
    image = np.full((30, 30), np.nan, np.float32)
    assert not segment("classical/otsu-watershed/nuclei", image).any()


def test_without_the_manifest_the_runner_does_what_the_manifest_says() -> None:
    shown = parameters_of("classical/otsu-watershed/nuclei")
    taken = inspect.signature(runner.predict).parameters
    assert shown.pop("method") == "otsu"
    assert shown == {name: taken[name].default for name in shown}


def test_turning_a_knob_does_what_its_tooltip_says(sample: Any) -> None:
    image = sample[0]
    model_id = "classical/otsu-watershed/nuclei"

    def count(**changed: Any) -> int:
        return len(np.unique(segment(model_id, image, **changed))) - 1

    def area(**changed: Any) -> float:
        return float((segment(model_id, image, **changed) > 0).mean())

    assert count(split=0.8) < count() < count(split=1.0)
    assert area(threshold_factor=0.5) > area() > area(threshold_factor=1)
    assert area(outline=0.4) > area() > area(outline=0.7)
    assert count(min_diameter=20.0) < count() < count(min_diameter=2.0)
