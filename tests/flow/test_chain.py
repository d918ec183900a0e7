"""Steps one after the other: any box is that box of the whole image's result."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiod.errors import AiodError, UsageError
from aiod.flow.source import Box, Pixels, Source
from aiod.flow.steps import histogram
from aiod.flow.steps.before import STEPS, parse_step
from aiod.flow.steps.chain import apply, measure_steps, prepare
from aiod.flow.steps.resample import rescaled

STEP_TEXTS = [
    "clahe:kernel_size=4,clip_limit=3",
    "clahe:kernel_size=7,clip_limit=40",
    "clahe:kernel_size=64",
    "downsample:factor=2",
    "downsample:factor=3",
    "gaussian:sigma=0.7",
    "gaussian:sigma=3",
    "mean:radius=1",
    "mean:radius=3",
    "median:radius=2",
    "normalise:low=5,high=95",
    "subtract_background:radius=2",
    "to_uint16:low=1,high=99",
    "to_uint8",
]


@dataclass(frozen=True)
class Stored:
    """Pixels in memory, read as from a file."""

    pixels: Pixels

    def __call__(self, box: Box) -> Pixels:
        assert all(0 <= a < b for a, b in zip(box.start, box.stop, strict=True))
        assert all(b <= n for b, n in zip(box.stop, self.pixels.shape, strict=True))
        return self.pixels[box.slices]


def source_of(pixels: Pixels, axes: str, pixel_size: dict[str, float] | None = None) -> Source:
    return Source(axes, pixels.shape, pixels.dtype, Stored(pixels), pixel_size or {})


@st.composite
def sources(draw: st.DrawFn) -> Source:
    """A small image of any axes and of several dtypes."""
    axes = draw(st.sampled_from(["YX", "CYX", "TYX", "ZYX", "TCYX", "CZYX", "TCZYX"]))
    shape = tuple(
        draw(st.integers(1, {"T": 2, "C": 3, "Z": 5}.get(axis, 22 if len(axes) < 4 else 9)))
        for axis in axes
    )
    dtype = draw(st.sampled_from(["uint8", "uint16", "int16", "float32"]))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    pixels = rng.random(shape) ** 3 * 250
    if dtype == "int16":
        pixels -= 60
    pixels = pixels.astype(dtype)
    if dtype == "float32" and draw(st.booleans()):
        pixels[rng.random(shape) < 0.1] = np.nan
    return source_of(pixels, axes)


def spatial_of(data: st.DataObject, source: Source) -> str:
    return data.draw(st.sampled_from(["YX", "ZYX"] if "Z" in source.axes else ["YX"]))


def some_box(data: st.DataObject, shape: tuple[int, ...]) -> Box:
    start = tuple(data.draw(st.integers(0, size - 1)) for size in shape)
    stop = tuple(data.draw(st.integers(a + 1, size)) for a, size in zip(start, shape, strict=True))
    return Box(start, stop)


@given(st.data(), sources(), st.lists(st.sampled_from(STEP_TEXTS), min_size=1, max_size=3))
@settings(deadline=None, max_examples=250)
def test_any_box_is_that_box_of_the_whole(
    data: st.DataObject, source: Source, steps: list[str]
) -> None:
    calls = [parse_step(step) for step in steps]
    spatial = spatial_of(data, source)
    prepared = prepare(source, calls, spatial=spatial)
    whole = prepared.read(Box.whole(prepared.shape))
    assert (whole.shape, whole.dtype) == (prepared.shape, prepared.dtype)
    assert np.isfinite(whole).all()
    for _ in range(3):
        box = some_box(data, prepared.shape)
        np.testing.assert_array_equal(prepared.read(box), whole[box.slices])


@given(st.data(), sources(), st.sampled_from(STEP_TEXTS))
@settings(deadline=None, max_examples=100)
def test_the_whole_is_the_step_on_each_plane_or_stack(
    data: st.DataObject, source: Source, text: str
) -> None:
    call = parse_step(text)
    step = STEPS[call.name]
    if step.informed or step.factors:
        return  # what these are beside other libraries is told in test_steps
    spatial = spatial_of(data, source)
    found = prepare(source, [call], spatial=spatial).read(Box.whole(source.shape))
    pixels = source.read(Box.whole(source.shape))
    if pixels.dtype.kind == "f":
        pixels = np.nan_to_num(pixels)
    for index in np.ndindex(pixels.shape[: -len(spatial)]):
        np.testing.assert_array_equal(found[index], step.function(pixels[index], **call.params))


def test_statistics_are_of_each_channel_over_all_planes_and_times() -> None:
    pixels = np.random.default_rng(0).integers(0, 99, (3, 2, 4, 20, 20)).astype(np.uint16)
    pixels[:, 1] *= 50
    pixels[2] *= 3
    source = source_of(pixels, "TCZYX")
    found = prepare(source, [parse_step("normalise:low=0,high=100")], spatial="YX")
    whole = found.read(Box.whole(found.shape))
    for channel in range(2):
        expected = pixels[:, channel] / pixels[:, channel].max()
        np.testing.assert_allclose(whole[:, channel], expected, atol=1e-6)
    clahe = prepare(source, [parse_step("clahe:kernel_size=8")], spatial="YX")
    assert clahe.read(Box.whole(clahe.shape))[0].max() < 1  # the brightest are in the last frame


def test_statistics_are_those_of_the_image_at_that_point_of_the_chain() -> None:
    pixels = np.zeros((32, 32), np.uint8)
    pixels[::2, ::2] = 200
    steps = [parse_step("mean:radius=3"), parse_step("normalise:low=0,high=100")]
    measured = measure_steps(source_of(pixels, "YX"), steps, spatial="YX")
    smooth = prepare(source_of(pixels, "YX"), steps[:1], spatial="YX").read(Box.whole((32, 32)))
    assert dict(measured.steps[1].statistics[0]) == {"low": smooth.min(), "high": smooth.max()}


def test_what_is_prepared_goes_to_another_process_and_into_json() -> None:
    pixels = np.random.default_rng(0).random((2, 40, 50)).astype(np.float32)
    source = source_of(pixels, "CYX")
    steps = [parse_step(text) for text in ("gaussian:1", "clahe:8", "normalise")]
    measured = measure_steps(source, steps, spatial="YX")
    assert json.loads(json.dumps(asdict(measured)))["steps"][2]["name"] == "normalise"
    here = apply(source, measured)
    there = pickle.loads(pickle.dumps(apply(source, pickle.loads(pickle.dumps(measured)))))
    box = Box((0, 3, 5), (2, 20, 33))
    np.testing.assert_array_equal(here.read(box), there.read(box))


def test_a_parallel_map_measures_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histogram, "_SIDE", 16)
    pixels = np.random.default_rng(0).random((90, 90)).astype(np.float32)
    steps = [parse_step(text) for text in ("subtract_background:4", "normalise", "clahe:16")]
    source = source_of(pixels, "YX")
    with ThreadPoolExecutor(3) as pool:
        parallel = measure_steps(source, steps, spatial="YX", mapper=pool.map)
    assert parallel == measure_steps(source, steps, spatial="YX")


def test_only_statistics_read_the_image_before_it_is_read() -> None:
    reads: list[Box] = []

    def read(box: Box) -> Pixels:
        reads.append(box)
        return np.zeros(box.shape, np.uint8)

    source = Source("YX", (5000, 5000), np.dtype(np.uint8), read)
    prepared = prepare(source, [parse_step("gaussian:2"), parse_step("downsample:4")], spatial="YX")
    assert not reads
    assert prepared.shape == (1250, 1250)
    prepared.read(Box((600, 600), (610, 620)))
    assert reads == [Box((2400 - 8, 2400 - 8), (2440 + 8, 2480 + 8))]


def test_downsampling_changes_shape_and_pixel_size() -> None:
    source = source_of(np.zeros((5, 41, 40), np.uint8), "ZYX", {"Z": 2.0, "Y": 0.5, "X": 0.5})
    steps = [parse_step("downsample:factor=4"), parse_step("downsample:factor=2,z_factor=2")]
    measured = measure_steps(source, steps, spatial="ZYX")
    assert measured.factors == {"Z": 0.5, "Y": 0.125, "X": 0.125}
    prepared = apply(source, measured)
    assert prepared.shape == (3, 6, 5)
    assert prepared.pixel_size == {"Z": 4.0, "Y": 4.0, "X": 4.0}


def test_planes_are_not_put_together_where_there_are_none() -> None:
    with pytest.raises(UsageError, match="no axis Z"):
        prepare(
            source_of(np.zeros((3, 9, 9), np.uint8), "TYX"),
            [parse_step("downsample:z_factor=2")],
            spatial="YX",
        )


def test_no_steps_leave_integers_as_they_are_and_complex_numbers_out() -> None:
    source = source_of(np.zeros((3, 3), np.int16), "YX")
    assert prepare(source, [], spatial="YX") is source
    with pytest.raises(AiodError, match="complex"):
        prepare(source_of(np.zeros((3, 3), np.complex64), "YX"), [], spatial="YX")
    with pytest.raises(ValueError, match="no axes to act on"):
        prepare(source, [], spatial="ZYX")


def test_steps_and_rescaling_go_together() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 61)).astype(np.uint8)
    prepared = prepare(source_of(pixels, "YX"), [parse_step("median:1")], spatial="YX")
    small = rescaled(prepared, {"Y": 0.37, "X": 0.37})
    whole = small.read(Box.whole(small.shape))
    box = Box((3, 8), (9, 20))
    np.testing.assert_array_equal(small.read(box), whole[box.slices])
