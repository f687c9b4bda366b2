"""Which input becomes which output."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xr_rsembed.errors import OptionError

#: Suffixes of files that hold places, not pixels.
PLACES = (".parquet", ".geoparquet", ".geojson", ".gpkg", ".fgb", ".shp")


@dataclass(frozen=True)
class Job:
    """One input and where its embedding goes."""

    source: str
    output: str

    @property
    def places(self) -> bool:
        """Whether the input is a table of places to fetch, not a scene."""
        return Path(self.source).suffix.lower() in PLACES


def list_jobs(inputs: Sequence[str], output: str) -> list[Job]:
    """Pair every input with its output.

    Parameters
    ----------
    inputs : sequence of str
        Paths, URLs and patterns such as ``scenes/*.tif``.
    output : str
        One path for one input; else a folder (``out/``: Zarr stores named after the inputs), or a path with
        ``{stem}`` and, where inputs of one name lie in several folders, ``{parent}``.

    Raises
    ------
    OptionError
        If a pattern matches nothing, or two inputs would share one output.

    Examples
    --------
    >>> [job.output for job in list_jobs(["a.tif", "b.tif"], "out/{stem}.nc")]
    ['out/a.nc', 'out/b.nc']
    """
    sources = list_inputs(inputs)
    pattern = output
    if output.endswith("/") or (os.path.isdir(output) and not output.endswith(".zarr")):
        pattern = output.rstrip("/") + "/{stem}.zarr"
    if len(sources) > 1 and "{" not in pattern:
        raise OptionError(
            "Several inputs cannot share one output.",
            found=f"{len(sources)} inputs for {output}",
            expected="a folder, or a path with {stem}",
            remedy="output='out/', or output='out/{stem}.zarr'",
        )
    jobs = [Job(source, _output(source, pattern)) for source in sources]
    by_output: dict[str, str] = {}
    for job in jobs:
        other = by_output.setdefault(job.output, job.source)
        if other != job.source:
            raise OptionError(
                "Two inputs would share one output.",
                found=f"{other} and {job.source} for {job.output}",
                expected="an output for each",
                remedy="output='out/{parent}_{stem}.zarr'",
            )
    return jobs


def list_inputs(inputs: Sequence[str]) -> list[str]:
    """Each input once, with what patterns match in the order of their names.

    Raises
    ------
    OptionError
        If a pattern matches nothing.
    """
    return list(dict.fromkeys(path for text in inputs for path in _expanded(text)))


def _expanded(text: str) -> list[str]:
    if "://" in text or os.path.exists(text) or not glob.has_magic(text):
        return [text]
    found = sorted(glob.glob(text, recursive=True))
    if not found:
        raise OptionError(
            "No file matches.",
            found=text,
            expected="a pattern such as 'scenes/*.tif'",
            remedy="check the path",
        )
    return found


def _output(source: str, pattern: str) -> str:
    path = Path(source.rstrip("/"))
    try:
        output = pattern.format(stem=path.stem, name=path.name, parent=path.resolve().parent.name)
    except (KeyError, IndexError, ValueError) as error:
        raise OptionError(
            "The output's pattern has a field that is not known.",
            found=f"{pattern}: {error}",
            expected="{stem}, {name} or {parent}",
        ) from None
    if path.suffix.lower() in PLACES and Path(output).suffix not in (".parquet", ".zarr"):
        return str(Path(output).with_suffix(".parquet"))
    return output
