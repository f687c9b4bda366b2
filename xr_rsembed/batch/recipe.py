"""What is done to every scene of a batch, and the check that stops short of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from xr_rsembed import api
from xr_rsembed.bands import canonical_name
from xr_rsembed.config import set_options
from xr_rsembed.engine.align import align
from xr_rsembed.errors import BandOrderError
from xr_rsembed.models.registry import find_spec
from xr_rsembed.models.spec import EncoderRequest, ModelSpec, Tokens
from xr_rsembed.scenes import open_scene

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Recipe:
    """Everything but the files.

    Parameters
    ----------
    model : str
    settings : mapping
        Arguments of :func:`~xr_rsembed.embed` and model options.
    variable : str, optional
        Of Zarr stores and NetCDF files.
    bands : sequence of str
        Names for the bands of a file that has none, or which of its bands to take, in this order.
    companions : mapping of str to str
        Path by modality of the scenes that are embedded together with each input; ``{stem}`` stands for its name.
    dtype : str, optional
        Of the stored numbers.
    places : mapping
        Arguments of :func:`~xr_rsembed.get_embeddings_batch` for tables of places: ``temporal``, ``backend``, ...
    """

    model: str = "terramind"
    settings: Mapping[str, Any] = field(default_factory=dict)
    variable: str | None = None
    bands: Sequence[str] = ()
    companions: Mapping[str, str] = field(default_factory=dict)
    dtype: str | None = None
    places: Mapping[str, Any] = field(default_factory=dict)

    def scene(self, source: str) -> Any:
        """The input as :func:`~xr_rsembed.embed` takes it: a scene, or several on the grid of the first."""
        return self.prepared(open_scene(source, variable=self.variable), source)

    def prepared(self, scene: xr.DataArray, source: str = "") -> Any:
        """A scene with its bands named, and with its companions."""
        scene = name_bands(scene, self.bands) if self.bands else scene
        if not self.companions:
            return scene
        spec = find_spec(self.model)
        first = self.settings.get("modality") or scene.attrs.get("modality") or spec.modalities[0].name
        stem = Path(source.rstrip("/")).stem
        others = {name: open_scene(path.replace("{stem}", stem)) for name, path in self.companions.items()}
        return align({str(first): scene, **others})

    def embed(self, scene: Any, model: str | ModelSpec | None = None, **changes: Any) -> Any:
        """The lazy embedding of a prepared scene."""
        settings = {**self.settings, **changes}
        if self.companions:
            settings.pop("modality", None)
        return api.embed(scene, model or self.model, **settings)


def name_bands(scene: xr.DataArray, names: Sequence[str]) -> xr.DataArray:
    """Name the bands of a scene that has no names; of one that has, take these bands in this order.

    Raises
    ------
    BandOrderError
        If there are as many names as bands neither way.

    Examples
    --------
    >>> import numpy as np
    >>> scene = xr.DataArray(np.zeros((2, 4, 4)), dims=("band", "y", "x"), coords={"band": [1, 2]})
    >>> name_bands(scene, ["B4", "B3"]).band.values.tolist()
    ['B4', 'B3']
    """
    labels = [str(one) for one in scene["band"].values] if "band" in scene.coords else []
    found = {canonical_name(label) or label: number for number, label in enumerate(labels)}
    wanted = [canonical_name(name) or name for name in names]
    if all(name in found for name in wanted):
        return scene.isel(band=[found[name] for name in wanted]).assign_coords(band=wanted)
    if any(canonical_name(label) for label in labels) or scene.sizes.get("band") != len(wanted):
        raise BandOrderError(
            "The scene has other bands than those that were named.",
            found=", ".join(labels) or f"{scene.sizes.get('band', 'no')} bands without names",
            expected=", ".join(names),
            remedy="one name for each band of the file, or some of the names that it has",
        )
    attrs = {name: value for name, value in scene.attrs.items() if name not in ("long_name", "descriptions")}
    return scene.assign_coords(band=wanted).drop_attrs(deep=False).assign_attrs(attrs)


def check(recipe: Recipe, source: str, *, pixels: bool = True) -> None:
    """Raise what embedding this file would raise: all but the model's forward is run.

    Parameters
    ----------
    pixels : bool
        Read every pixel, so that wrong values are found too; else what labels and metadata say.
    """
    scene = recipe.scene(source)
    known = {} if "weights" in recipe.settings else {"weights": "random"}
    recipe.embed(scene, **known)  # the settings, and the weights where they were named
    if not pixels:
        return
    spec = replace(find_spec(recipe.model), load=_load_nothing)
    changes = {"weights": "random", "device": "cpu", "precision": "float32", "output": "grid", "layer": -1}
    embedding = recipe.embed(scene, spec, **changes)
    parts = embedding.data_vars.values() if isinstance(embedding, xr.Dataset) else [embedding]
    with set_options(progress=False):
        for part in parts:
            part.isel(D=0).count().compute()


def _load_nothing(spec: ModelSpec, request: EncoderRequest) -> Callable[..., Tokens]:
    """An encoder that costs nothing: all that is checked on the way to a model is checked."""

    def encode(
        inputs: Mapping[str, torch.Tensor], layers: tuple[int, ...], options: Mapping[str, Any]
    ) -> Tokens:
        import torch

        layout = spec.layout(
            spec, request.modalities, None, {**spec.options, **dict(request.options), **options}
        )
        cells = spec.image_size // spec.patch_size
        tiles = len(next(iter(inputs.values())))
        return Tokens(torch.zeros(tiles, *layout.shape, cells, cells))

    return encode
