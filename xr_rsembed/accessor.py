"""The accessor ``.rsembed`` of DataArrays and Datasets: the library's own functions, bound to the array.

A method has the signature, the defaults, the types and the docstring of the function that it stands for. That function
loads when the method is first looked at, so that importing the package stays quick.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

import xarray as xr

import xr_rsembed as rs
from xr_rsembed import api, explore, store

P = ParamSpec("P")
R = TypeVar("R")


class Method(Generic[P, R]):
    """A function as a method of an accessor: its first argument is the accessor's array."""

    def __init__(self, load: Callable[[], Callable[Concatenate[Any, P], R]]) -> None:
        self._load = load

    def __set_name__(self, owner: type, name: str) -> None:
        self._name, self._owner = name, owner

    @functools.cached_property
    def _method(self) -> Callable[..., R]:
        function = self._load()
        signature = inspect.signature(function)
        first, *others = signature.parameters.values()

        def method(accessor: _Accessor, /, *args: Any, **kwargs: Any) -> R:
            return self._load()(accessor._obj, *args, **kwargs)

        method.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[first.replace(name="self", annotation=first.empty), *others]
        )
        method.__doc__, method.__name__ = function.__doc__, self._name
        method.__qualname__, method.__module__ = f"{self._owner.__name__}.{self._name}", __name__
        return method

    @overload
    def __get__(self, accessor: None, owner: type) -> Callable[Concatenate[Any, P], R]: ...
    @overload
    def __get__(self, accessor: _Accessor, owner: type) -> Callable[P, R]: ...
    def __get__(self, accessor: _Accessor | None, owner: type) -> Any:
        return self._method if accessor is None else MethodType(self._method, accessor)


class _Accessor:
    def __init__(self, obj: Any) -> None:
        self._obj = obj


class SceneMethods(_Accessor):
    """Of the pixels that a model is to see."""

    embed = Method(lambda: rs.embed)
    validate = Method(lambda: rs.validate)
    generate = Method(lambda: rs.generate)


class DataArraySceneMethods(SceneMethods):
    """Of the pixels of one modality."""

    to_bands = Method(lambda: rs.to_bands)
    normalize = Method(lambda: api.normalize)
    plot_scene = Method(lambda: explore.plot_scene)


class EmbeddingMethods(_Accessor):
    """Of the vectors that a model gave, and of maps made from them."""

    to_zarr = Method(lambda: store.to_zarr)
    to_netcdf = Method(lambda: store.to_netcdf)
    to_cog = Method(lambda: store.to_cog)
    to_geoparquet = Method(lambda: explore.to_geoparquet)
    save = Method(lambda: store.save)
    similarity = Method(lambda: explore.similarity)
    nearest = Method(lambda: explore.nearest)
    change = Method(lambda: explore.change)
    pca = Method(lambda: explore.pca)
    cluster = Method(lambda: explore.cluster)
    classify = Method(lambda: explore.classify)
    regress = Method(lambda: explore.regress)
    sample = Method(lambda: explore.sample)
    zonal = Method(lambda: explore.zonal)
    plot_rgb = Method(lambda: explore.plot_rgb)
    plot_classes = Method(lambda: explore.plot_classes)
    plot_clusters = Method(lambda: explore.plot_clusters)
    plot_similarity = Method(lambda: explore.plot_similarity)
    explore = Method(lambda: explore.explore)


@xr.register_dataarray_accessor("rsembed")
class DataArrayRsEmbed(DataArraySceneMethods, EmbeddingMethods):
    """Embed a scene, and work with an embedding.

    Completion offers what fits: the methods of a scene where the array has a dim ``band``, and those of an embedding
    and of its maps elsewhere. All of them can be called.
    """

    _obj: xr.DataArray

    def __dir__(self) -> list[str]:
        other = EmbeddingMethods if "band" in self._obj.dims else DataArraySceneMethods
        hidden = {
            name for kind in other.__mro__ for name, value in vars(kind).items() if isinstance(value, Method)
        }
        return [name for name in super().__dir__() if name not in hidden]

    def _repr_html_(self) -> str:
        from xr_rsembed.explore.html import provenance_html

        return provenance_html(self._obj)


@xr.register_dataset_accessor("rsembed")
class DatasetRsEmbed(SceneMethods):
    """Embed several modalities together."""

    _obj: xr.Dataset

    align = Method(lambda: rs.align)
    plot_classes = Method(lambda: explore.plot_classes)
    to_zarr = Method(lambda: store.to_zarr)
