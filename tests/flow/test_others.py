"""Formats of microscopes' makers are opened by bioio where it is installed, else it is named."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from aiod.flow.images.image import ImageError, open_image
from aiod.flow.images.others import READERS
from aiod.flow.source import Box
from pictures import COLOURS

installed = importlib.util.find_spec("bioio") is not None


@pytest.mark.skipif(installed, reason="bioio is installed")
@pytest.mark.parametrize("suffix", READERS)
def test_without_bioio_the_error_names_what_to_install(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"a format of its own")
    with pytest.raises(ImageError) as caught:
        open_image(path)
    assert (
        caught.value.what == f"{path} needs the reader {READERS[suffix]}, which is not installed."
    )
    hint = f"pip install bioio {READERS[suffix]}, or save it as OME-TIFF"
    assert caught.value.hint == hint


@pytest.mark.skipif(not installed, reason="bioio is not installed")
@pytest.mark.filterwarnings("default")  # bioio's own are no concern of ours
class TestWithBioio:
    def test_what_a_reader_of_it_opens_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "a.bmp"
        Pillow.fromarray(COLOURS).save(path)
        image = open_image(path)
        assert image.rgb
        assert image.source.sizes["C"] == 3
        flat = COLOURS.transpose(2, 0, 1)
        whole = image.source.read(Box.whole(image.source.shape))
        np.testing.assert_array_equal(whole.reshape(flat.shape), flat)
        shape = image.source.shape
        box = Box((*(0 for _ in shape[:-2]), 3, 4), (*shape[:-2], 20, 30))
        part = image.source.read(box)
        np.testing.assert_array_equal(part.reshape(3, 17, 26), flat[:, 3:20, 4:30])

    def test_what_no_reader_opens_is_a_sentence(self, tmp_path: Path) -> None:
        path = tmp_path / "a.czi"
        path.write_bytes(b"a format of its own")
        with pytest.raises(ImageError) as caught:
            open_image(path)
        assert "cannot be opened" in caught.value.what or "no installed reader" in caught.value.what
