"""Names for samples: from a file's name or a user's, unique, and safe as a file name everywhere."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from aiod.words import RESERVED

_MAX_CHARACTERS = 100
_MAX_BYTES = 180  # leaves room for what is appended, below the 255 of most file systems
_SUFFIXES = re.compile(
    r"(?i)(\.ome)?(\.(tiff?|btf|tf[28]|zarr|png|jpe?g|[a-z][a-z0-9]{1,5}))$|\.zarr$"
)


def safe_name(text: str) -> str:
    """`text` as a name that every file system takes; never empty, and no path.

    >>> safe_name("plate 3/../A:1 (µm)")
    'plate_3_A_1_μm'
    """
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(r"[^\w.+=@-]+", "_", text)
    text = re.sub(r"\.{2,}", ".", text)
    text = re.sub(r"_*(\._+|_+\.)_*|_{2,}", "_", text).strip("._-")[:_MAX_CHARACTERS]
    while len(text.encode()) > _MAX_BYTES:
        text = text[:-1]
    text = text.rstrip("._-") or "image"
    return f"image_{text}" if RESERVED.match(text) else text


def stem(path: Path) -> str:
    """A file's name without its suffixes; of a part of an OME-Zarr, with the way to it.

    >>> stem(Path("data/cells.ome.tif")), stem(Path("plate.zarr/A/1/0"))
    ('cells', 'plate_A_1_0')
    """
    parts = path.absolute().parts
    outer = next((i for i, part in enumerate(parts) if part.lower().endswith(".zarr")), None)
    if outer is None:
        return _SUFFIXES.sub("", path.name) or path.name
    return "_".join((_SUFFIXES.sub("", parts[outer]) or parts[outer], *parts[outer + 1 :]))


def sample_names(known: Sequence[tuple[str, Path]]) -> list[str]:
    """A name for each sample: the user's where there is one, else from the path.

    Samples of the same name get the folder's in front, and where that does not help a number
    behind. Names that differ in nothing but capitals are the same, as they are on some systems.
    """
    names = [safe_name(name or stem(path)) for name, path in known]
    twice = Counter(map(str.casefold, names))
    for i, (given, path) in enumerate(known):
        if twice[names[i].casefold()] > 1 and not given:
            names[i] = safe_name(f"{path.absolute().parent.name}_{names[i]}")
    taken: set[str] = set()
    every = {name.casefold() for name in names}
    for i, name in enumerate(names):
        number, unique = 1, name
        while unique.casefold() in taken or (number > 1 and unique.casefold() in every):
            number += 1
            unique = f"{name[:_MAX_CHARACTERS]}_{number}"
        names[i] = unique
        taken.add(unique.casefold())
    return names
