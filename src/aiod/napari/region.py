"""Which part of a layer is in view, for a look at it."""

from __future__ import annotations

from typing import Any

from aiod.errors import AiodError


def region_in_view(viewer: Any, layer: Any, axes: str, most: int) -> dict[str, tuple[int, int]]:
    """The part of a layer that is seen: axis -> first pixel and the first behind.

    Of axes that are not drawn the position of their slider, of wide ones the middle `most` pixels.
    Raises AiodError where nothing of the layer is in view.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    shape = data.shape[: len(axes)]
    factors = layer.downsample_factors[layer.data_level] if layer.multiscale else 1
    first, last = layer.corner_pixels.astype(float) * factors
    last = last + factors - 1  # the last pixel of a coarser level stands for several
    camera = getattr(viewer, "scene", viewer).camera  # napari 0.9 moved it there
    centre = (0.0,) * max(0, layer.ndim - 3) + tuple(camera.center)[-layer.ndim :]
    middle = layer.world_to_data(centre)
    solid = viewer.dims.ndisplay == 3
    drawn = set(viewer.dims.displayed)
    offset = viewer.dims.ndim - layer.ndim
    point = layer.world_to_data(viewer.dims.point[-layer.ndim :])
    region = {}
    for at, (axis, n) in enumerate(zip(axes, shape, strict=True)):
        if axis == "C":
            continue
        if at + offset in drawn:
            start, stop = int(first[at]), int(last[at]) + 1
            inside = 0 <= middle[at] < n
            if solid or (stop - start <= 1 < n and inside):  # nothing was drawn yet
                start, stop = 0, int(n)
            elif stop - start <= 1 < n:
                raise AiodError("Nothing of the image is in view.", hint="move to where it is")
            spare = max(0, stop - start - most)
            start, stop = start + spare // 2, stop - (spare - spare // 2)
        else:
            start = round(float(point[at]))
            stop = start + 1
        start, stop = max(0, start), min(int(n), stop)
        if start >= stop:
            raise AiodError("Nothing of the image is in view.", hint="move to where it is")
        region[axis] = (start, stop)
    return region
