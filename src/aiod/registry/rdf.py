"""Descriptions of models as the BioImage Model Zoo has them (rdf.yaml), read as manifest entries.

A description may come from anybody. Its text is bounded, and read as plain data; bioimageio.spec
(`pip install "aiod-hub[bioimageio]"`) judges it and brings older formats to the latest, without
asking a server or opening a file. What cannot be carried over is told in `Entry.notes`, what
cannot be run here is refused.
"""

from __future__ import annotations

import io
import math
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic_core import PydanticCustomError

from aiod.errors import AiodError, UsageError
from aiod.registry import forms
from aiod.registry.settings import cache_folder
from aiod.registry.urls import is_url
from aiod.words import listing, shown, version_slug

MAX_DESCRIPTION_BYTES = 500_000
_MAX_NODES = 100_000
_MAX_WORDS = 50  # letters of a version's name
_MAX_CARD = 1000
_FORMATS = {"onnx": "ONNX", "torchscript": "TorchScript"}
_OTHERS = {"stardist_postprocessing": "stardist", "cellpose_flow_dynamics": "cellpose"}
_LISTS = ("covers", "test_inputs", "test_outputs", "sample_inputs", "sample_outputs", "files")
_UNITS = ("angstrom", "nanometer", "micrometer", "millimeter")
_HALO = {"Z": 16, "Y": 64, "X": 64}
"""Pixels; wider than most objects, as it is for models that state none."""
_FOREGROUND = re.compile(r"foreground|\bfg\b|prob|mask|object|nucle|cell")
_BOUNDARY = re.compile(r"bound|border|contour|edge|membrane|outline")
_BACKGROUND = re.compile(r"background|\bbg\b")
_TASK_OF_TAG = {
    **dict.fromkeys(("nuclei", "nucleus", "nuclear"), "nuclei"),
    **dict.fromkeys(("mitochondria", "mitochondrion"), "mito"),
    **dict.fromkeys(("cell", "cells", "cytoplasm", "cyto", "whole-cell"), "cyto"),
    **dict.fromkeys(("membrane", "membranes", "cell-membrane", "cell-membranes"), "boundaries"),
    **dict.fromkeys(("endoplasmic-reticulum", "er"), "er"),
    **dict.fromkeys(("nuclear-envelope",), "ne"),
    **dict.fromkeys(("lipid-droplets", "lipid-droplet"), "drop"),
}


@dataclass(frozen=True, slots=True)
class File:
    """A file of a package: a URL, or a path inside the package; its SHA-256 where it is known."""

    source: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """What a manifest says of a model: `params` are values that differ from the family's.

    `task` is what the tags say that it segments, None where they do not say just one thing.
    """

    name: str
    slug: str
    axes: str
    task: str | None
    weights: File
    test: tuple[File, File] | None
    metadata: dict[str, Any]
    params: dict[str, Any]
    notes: tuple[str, ...]


# --- reading --------------------------------------------------------------------------------------


def parse_description(text: str) -> dict[str, Any]:
    """The content of a description. Raises AiodError for what is none, or is made to do harm."""
    yaml = _yaml()
    from ruyaml.error import YAMLError

    if len(text) > MAX_DESCRIPTION_BYTES:
        raise AiodError(f"The description has more than {MAX_DESCRIPTION_BYTES:,} letters.")
    try:
        content = yaml.load(text)
    except (YAMLError, ValueError, RecursionError, TypeError, OverflowError) as error:
        told = " ".join(str(error).split())[:300]
        raise AiodError(f"The description is not YAML: {told}.") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise AiodError("The description is no YAML mapping with names as keys.")
    _count(content)
    return content


def _count(content: Any) -> None:
    """Raise AiodError where aliases make a short text very long, or endless."""
    waiting, seen = [content], 0
    while waiting:
        item = waiting.pop()
        seen += 1
        if seen > _MAX_NODES:
            raise AiodError(f"The description has more than {_MAX_NODES:,} entries.")
        if isinstance(item, dict | list):
            waiting.extend(item.values() if isinstance(item, dict) else item)


def described(content: Mapping[str, Any]) -> Any:
    """The description in bioimageio.spec's latest format.

    Raises AiodError with the first things that are wrong with it.
    """
    _yaml()  # or the sentence that says how to get it
    if content.get("type") != "model":
        raise AiodError(f"This describes {shown(content.get('type'))}, not a model.")
    inputs = content.get("inputs")
    for tensor in inputs if isinstance(inputs, list) else ():
        if isinstance(tensor, dict) and tensor.get("output_of"):
            # bioimageio.spec would ask a server for that model to look at it.
            raise _cannot(
                f"its input is the output of another model, {shown(tensor['output_of'])}",
                "a model that takes an image",
            )
    os.environ.setdefault("BIOIMAGEIO_CACHE_PATH", str(cache_folder() / "bioimageio"))
    from bioimageio.spec import InvalidDescr, ValidationContext, build_description

    context = ValidationContext(perform_io_checks=False, log_warnings=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are for who writes a description
            made = build_description(content, context=context, format_version="latest")
    except Exception as error:  # whatever the library says of a hostile text
        told = " ".join(str(error).split())[:300]
        raise AiodError(f"bioimageio.spec cannot read the description: {told}") from error
    if isinstance(made, InvalidDescr):
        errors = [entry for item in made.validation_summary.details for entry in item.errors]
        raise AiodError(
            "The description is not valid.",
            details=[
                f"{'.'.join(map(str, entry.loc)) or 'it'}: {' '.join(str(entry.msg).split())[:200]}"
                for entry in errors[:5]
            ],
            hint="ask its authors to mend it",
        )
    return made


def _yaml() -> Any:
    """A reader and writer of plain YAML. Raises UsageError where the extra is not installed."""
    try:
        from ruyaml import YAML
    except ImportError as error:
        raise UsageError(
            "Reading a description of the BioImage Model Zoo needs bioimageio.spec.",
            hint='pip install "aiod-hub[bioimageio]"',
        ) from error
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    return yaml


def kept_text(content: Mapping[str, Any], base: str | None) -> str:
    """A description as it is kept beside a manifest: relative files are those below the URL."""
    stream = io.StringIO()
    _yaml().dump(_absolute(content, base) if base else dict(content), stream)
    return stream.getvalue()


def _absolute(value: Any, base: str, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {k: v if k == "config" else _absolute(v, base, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_absolute(item, base, key) for item in value]
    is_file = key in ("source", "documentation", "icon", *_LISTS)
    return joined(base, value) if is_file and isinstance(value, str) else value


def joined(base: str, relative: str) -> str:
    """The URL of a file named relatively in the description at `base`, as bioimageio.spec has it.

    >>> joined("https://example.org/a/files/rdf.yaml?v=1", "weights.onnx")
    'https://example.org/a/files/weights.onnx?v=1'
    """
    if is_url(relative):
        return relative
    parts = urlsplit(base)
    folders = parts.path.split("/")
    # Zenodo: …/api/records/1/files/rdf.yaml/content
    at = -2 if "/api/records/" in parts.path and folders[-1] == "content" else -1
    folders[at] = _inside(relative)
    return urlunsplit(parts._replace(path="/".join(folders)))


def _inside(path: str) -> str:
    """A relative path that stays inside the package. Raises AiodError for any other."""
    plain = PurePosixPath(path)
    if plain.is_absolute() or ".." in plain.parts or "\\" in path or ":" in path or not path:
        raise AiodError(f"The description names a file outside its package: {shown(path)}.")
    return str(plain)


# --- mapping --------------------------------------------------------------------------------------


def entry_of(description: Any, base: str | None, weights_format: str | None = None) -> Entry:
    """What a manifest says of a described model.

    `base` is the URL of the description; None for a package on disk, whose files have paths. Raises
    AiodError for a model that cannot be run here.
    """
    notes: list[str] = []
    if len(description.inputs) != 1:
        raise _cannot(f"it takes {len(description.inputs)} arrays", "a model with one input")
    if description.run_mode:
        raise _cannot(f"a run mode of its own, {description.run_mode.name}", "a plain network")
    tensor = description.inputs[0]
    axes = _letters(tensor.axes, "its input")
    number, output = _output(description, axes, notes)
    for step in (*tensor.preprocessing, *output.postprocessing):
        _check_step(step)
    params, kind = _objects(number, output, description, notes)
    spatial = [axis for axis in axes if axis in "ZYX"]
    channels = next((len(a.channel_names) for a in tensor.axes if a.type == "channel"), 1)
    test = _test(tensor, output, base, notes)
    metadata = {
        "description": str(description.description or description.name).strip(),
        "authors": list(_authors(description.authors, notes)) or None,
        "pubs": list(_publications(description.cite, notes)) or None,
        "url": _documentation(description, base),
        "repo": _checked(description.git_repo, forms.check_url, "the URL of its code", notes),
        "license": _licence(description.license, notes),
        "keywords": [str(tag) for tag in description.tags if str(tag).strip()][:30] or None,
        "output": kind,
        "pixel_size": _pixel_size(tensor, spatial, notes),
        "halo": _halo(tensor, output, spatial),
        "card": _card(description),
    }
    return Entry(
        name=_name(description.name),
        slug=_slug(description),
        axes="".join(a for a in axes if a != "B" and (a != "C" or channels > 1)),
        task=_task(description.tags),
        weights=_weights(description, base, weights_format),
        test=test,
        metadata={key: value for key, value in metadata.items() if value is not None},
        params=params,
        notes=tuple(notes),
    )


def _cannot(has: str, needed: str, hint: str | None = None) -> AiodError:
    return AiodError(
        f"This model cannot be run here: {has}, and {needed} is needed.",
        hint=hint or "choose another model: https://bioimage.io lists them",
    )


def _weights(description: Any, base: str | None, wanted: str | None) -> File:
    """The weights in ONNX where there are any, else in TorchScript."""
    there = {name: entry for name, entry in description.weights if entry is not None}
    usable = {name: there[name] for name in _FORMATS if name in there}
    if getattr(usable.get("onnx"), "external_data", None) is not None:
        del usable["onnx"]  # its numbers lie in a second file
    chosen = wanted or next(iter(usable), None)
    if chosen not in usable:
        raise _cannot(
            f"it has weights as {listing(there, 'and')}",
            f"{_FORMATS[wanted] if wanted else 'ONNX (in one file) or TorchScript'}",
            "ask its authors for weights in one of these formats: bioimageio.core converts them",
        )
    return _file(usable[chosen], base)


def _file(item: Any, base: str | None) -> File:
    source = str(item.source)
    if not is_url(source):
        source = joined(base, source) if base else _inside(source)
    return File(source, str(item.sha256) if item.sha256 else None)


def _letters(axes: Iterable[Any], whose: str) -> str:
    """The axes of a tensor as letters of BCZYX."""
    found = ""
    for axis in axes:
        name = str(axis.id).lower()
        letter = {"batch": "B", "channel": "C"}.get(axis.type, name.upper())
        if letter not in "BCZYX" or len(letter) != 1 or letter in found:
            raise _cannot(f"{whose} has an axis {shown(name)}", "channel, z, y and x, each once")
        found += letter
    if not {"Y", "X"} <= set(found):
        raise _cannot(f"{whose} has the axes {found}", "an image with y and x")
    return found


def _output(description: Any, axes: str, notes: list[str]) -> tuple[int, Any]:
    """The first output that has an answer for each pixel, and its number, counted from 1."""
    tensor = description.inputs[0]
    fitting = [
        (number, output)
        for number, output in enumerate(description.outputs, start=1)
        if _is_map(output, tensor, axes)
    ]
    if not fitting:
        raise _cannot("no output of it is as large as the image", "an answer for each pixel")
    if len(description.outputs) > 1:
        names = listing([str(output.id) for output in description.outputs], "and")
        notes.append(f"Of its outputs ({names}), {fitting[0][1].id} is used.")
    return fitting[0]


def _is_map(output: Any, tensor: Any, axes: str) -> bool:
    try:
        letters = _letters(output.axes, "an output")
    except AiodError:
        return False
    answers = dict(zip(letters, output.axes, strict=True))
    spatial = {a: axis for a, axis in zip(axes, tensor.axes, strict=True) if a in "ZYX"}
    if spatial.keys() != {a for a in letters if a in "ZYX"}:
        return False
    for letter, axis in spatial.items():
        size = answers[letter].size
        if isinstance(size, int):
            if size != axis.size:
                return False
        elif (str(size.tensor_id), str(size.axis_id), size.offset, answers[letter].scale) != (
            str(tensor.id),
            str(axis.id),
            0,
            axis.scale,
        ):
            return False
    return True


def _check_step(step: Any) -> None:
    name = str(step.id)
    if name == "custom":
        raise _cannot("it asks for a step in Python that the package brings", "known steps alone")
    if name in _OTHERS:
        raise _cannot(
            f"it asks for {name}",
            "a step that makes no objects",
            f"the family {_OTHERS[name]} runs such networks: `aiod list --search {_OTHERS[name]}`",
        )


def _objects(
    number: int, output: Any, description: Any, notes: list[str]
) -> tuple[dict[str, Any], str]:
    """How objects are made of an output, by the names of its channels; instance or semantic."""
    names = next((a.channel_names for a in output.axes if a.type == "channel"), [output.id])
    told = [str(name).lower() for name in names]
    background = _place(_BACKGROUND, told)
    boundary = _place(_BOUNDARY, told)
    foreground = next(
        (
            place
            for place, name in enumerate(told, start=1)
            if _FOREGROUND.search(name) and place not in (background, boundary)
        ),
        0,
    )
    params: dict[str, Any] = {"output": number}
    about = f"{description.name} {output.id} {' '.join(map(str, description.tags))}".lower()
    if len(told) == 1:
        only = "boundary" if boundary else "foreground"
        params |= {"objects": only, "foreground": 1, "boundary": int(bool(boundary))}
        notes.append(f"Its one channel ({names[0]}) is taken for the {only}.")
    elif foreground and (boundary or not background):
        params |= {"objects": "foreground", "foreground": foreground, "boundary": boundary}
        edges = f", channel {boundary} for boundaries" if boundary else ""
        notes.append(f"Channel {foreground} is taken for the foreground{edges}.")
    elif boundary:
        params |= {"objects": "boundary", "boundary": boundary}
        notes.append(f"Channel {boundary} is taken for the boundaries of objects.")
    elif len(told) == 2 and not background and _BOUNDARY.search(about):
        params |= {"objects": "foreground", "foreground": 1, "boundary": 2}
        notes.append("Its two channels have no names: taken for foreground and boundaries.")
    else:
        params |= {"objects": "classes", "background": background}
        notes.append(f"Its channels ({', '.join(map(str, names))}) are taken for classes.")
    return params, "semantic" if params["objects"] == "classes" else "instance"


def _place(pattern: re.Pattern[str], names: list[str]) -> int:
    """The number, from 1, of the first name with the pattern; 0 where there is none."""
    return next((at for at, name in enumerate(names, start=1) if pattern.search(name)), 0)


def _test(tensor: Any, output: Any, base: str | None, notes: list[str]) -> tuple[File, File] | None:
    if tensor.test_tensor is None or output.test_tensor is None:
        notes.append("It has no test tensors.")
        return None
    return _file(tensor.test_tensor, base), _file(output.test_tensor, base)


def _halo(tensor: Any, output: Any, spatial: list[str]) -> int | list[int]:
    """Twice the description's, as neighbours are joined by the inner halves; 64 (Z 16) at least.

    Rounded up to the step of the axis, so that a tile is pooled as the whole image is.
    """
    answers = {str(axis.id).upper(): axis for axis in output.axes}
    steps = {str(axis.id).upper(): getattr(axis.size, "step", 1) for axis in tensor.axes}
    halo = [
        math.ceil(max(_HALO[a], 2 * int(getattr(answers[a], "halo", 0))) / steps[a]) * steps[a]
        for a in spatial
    ]
    halo = [min(item, 4096) for item in halo]
    return halo[0] if len(set(halo)) == 1 else halo


def _pixel_size(tensor: Any, spatial: list[str], notes: list[str]) -> dict[str, Any] | None:
    axes = {str(axis.id).upper(): axis for axis in tensor.axes}
    units = {str(axes[a].unit) if axes[a].unit else "" for a in spatial}
    if units == {""}:
        return None
    if len(units) > 1 or not units <= set(_UNITS):
        notes.append(f"Its pixel size is left out: in {listing(sorted(units - {''}), 'and')}.")
        return None
    sizes = [float(axes[a].scale) for a in spatial]
    value = sizes[0] if len(set(sizes)) == 1 else sizes
    return {"value": value, "unit": units.pop()}


def _authors(authors: Iterable[Any], notes: list[str]) -> Iterator[dict[str, str]]:
    for author in authors:
        name = str(author.name).partition(";")[0].strip()
        if not name:
            continue
        told = {
            "name": name,
            "affiliation": str(author.affiliation).strip() if author.affiliation else None,
            "github": _matching(author.github_user, forms.GITHUB),
            "orcid": _checked(author.orcid, forms.check_orcid, f"the ORCID iD of {name}", notes),
        }
        yield {key: value for key, value in told.items() if value}


def _publications(cite: Iterable[Any], notes: list[str]) -> Iterator[dict[str, str]]:
    for item in cite:
        title = " ".join(str(item.text).split())
        told = {
            "title": title,
            "url": _checked(item.url, forms.check_url, f"the URL of {shown(title)}", notes),
            "doi": _checked(item.doi, forms.check_doi, f"the DOI of {shown(title)}", notes),
        }
        if title:
            yield {key: value for key, value in told.items() if value}


def _licence(text: Any, notes: list[str]) -> dict[str, str] | None:
    found = _checked(text, forms.check_licence, "its licence", notes)
    return {"weights": found} if found else None


def _documentation(description: Any, base: str | None) -> str | None:
    source = description.documentation and str(description.documentation.source)
    if not source or not (is_url(source) or base):
        return None
    return joined(str(base), source)


def _card(description: Any) -> dict[str, str] | None:
    told = {}
    data = getattr(description.training_data, "id", None)
    if data:
        told["training_data"] = f"The data set {data} of the BioImage Model Zoo."
    not_for = getattr(description.config.bioimageio, "out_of_scope_use", None)
    if isinstance(not_for, str) and 0 < len(not_for.strip()) <= _MAX_CARD:
        told["not_for"] = " ".join(not_for.split())
    return told or None


def _checked(value: Any, check: Callable[[str], str], what: str, notes: list[str]) -> str | None:
    """A text of the right form; else None, and a note."""
    if not value:
        return None
    try:
        return check(str(value))
    except PydanticCustomError:
        notes.append(f"Left out: {what}, {shown(str(value))}.")
        return None


def _matching(value: Any, pattern: str) -> str | None:
    return str(value) if value and re.fullmatch(pattern, str(value)) else None


def _task(tags: Iterable[Any]) -> str | None:
    found = {_TASK_OF_TAG.get(str(tag).lower()) for tag in tags} - {None}
    return found.pop() if len(found) == 1 else None


def _name(name: Any) -> str:
    plain = re.sub(r"[/\\\x00-\x1f\x7f]+", " ", str(name)).strip()
    return plain[:_MAX_WORDS].strip()


def _slug(description: Any) -> str:
    """The nickname by which the zoo knows it (affable-shark), else one made of its name."""
    extra = getattr(description.config.bioimageio, "model_extra", None) or {}
    for given in (description.id, extra.get("nickname")):
        last = str(given or "").rstrip("/").rpartition("/")[2]
        if last and not last[0].isdigit() and re.fullmatch(forms.VERSION_SLUG, last):
            return last[:_MAX_WORDS]
    return version_slug(str(description.name))[:_MAX_WORDS].strip("_.-") or "model"
