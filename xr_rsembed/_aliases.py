"""Second names of arguments, and names of rs-embed that are something else here."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from xr_rsembed.errors import MissingDependencyError, OptionError

P = ParamSpec("P")
R = TypeVar("R")


def aliases(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function take arguments by other names too; a call that gives both names of one is an error.

    >>> @aliases(time="temporal")
    ... def ask(*, temporal):
    ...     return temporal
    >>> ask(time="2022-06")
    '2022-06'
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def renamed(*args: P.args, **kwargs: P.kwargs) -> R:
            for alias in names.keys() & kwargs.keys():
                value, other = kwargs.pop(alias), kwargs.get(names[alias])
                if value is not None and other is not None:
                    raise OptionError(
                        f"{alias} and {names[alias]} are one argument under two names.",
                        found="both",
                        expected="one of them",
                    )
                kwargs[names[alias]] = value if other is None else other
            return function(*args, **kwargs)

        return renamed

    return decorate


#: What is not here, and the line that does it.
_OURS = {
    "export_batch": 'get_embeddings_batch(model, spatials=..., out="rois.parquet"), which resumes by itself',
    "load_export": 'geopandas.read_parquet("rois.parquet"), or xarray.open_zarr("rois.zarr")',
    "ExportTarget": 'out="rois.parquet" of get_embeddings_batch',
    "ExportConfig": 'out="rois.parquet" and workers= of get_embeddings_batch',
    "ExportModelRequest": "one get_embeddings_batch call for each model",
    "BatchExporter": 'get_embeddings_batch(..., out="rois.parquet")',
    "Model": "xr_rsembed.describe_model and get_embedding; encoders are kept between calls",
    "Embedding": "the DataArray itself; emb.values for .data, emb.attrs for .meta",
    "inspect_model_input": "inspect_provider_patch, or da.rsembed.normalize(model) for what the model sees",
    "reset_runtime": "nothing: providers keep no state",
}


def refuse(name: str) -> None:
    """Raise for a name of rs-embed that is something else here: an ImportError, which ``from`` shows as it is."""
    if name in _OURS:
        raise MissingDependencyError(f"rs-embed's {name} is not part of xr-rsembed.", remedy=_OURS[name])
