"""What the attrs of an embedding record, run again."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.api import embed
from xr_rsembed.engine.settings import Settings
from xr_rsembed.errors import OptionError, WeightsError, warn
from xr_rsembed.inputs.joint import Scenes
from xr_rsembed.inputs.read import read_scene
from xr_rsembed.models.registry import find_spec


def reproduce(embedding: xr.DataArray | xr.Dataset, scene: xr.DataArray | Scenes, **changes: Any) -> Any:
    """Make an embedding again from its scene, by the settings that its attrs record and none of today's options.

    Parameters
    ----------
    embedding : DataArray or Dataset
        As :func:`embed` gave it, or read back from a store.
    scene : DataArray, Dataset or mapping
        The scene it came from.
    **changes
        Arguments of :func:`embed` to set otherwise, such as ``device`` or a ``weights`` file at another path.

    Raises
    ------
    WeightsError
        If the weights are not those that the attrs name by their SHA-256.
    """
    from xr_rsembed.engine.attrs import recorded_settings

    arguments = recorded_settings(embedding.attrs)
    if arguments["normalize"] == "default":  # as an argument it would follow today's option
        arguments["normalize"] = "zscore"
    arguments |= changes
    if str(arguments["weights"]).startswith("object ") and "model" not in changes:
        raise OptionError(
            "This embedding was made by a model object, which attrs cannot hold.",
            found=arguments["weights"],
            expected="the object",
            remedy="reproduce(emb, scene, model=my_encoder)",
        )
    again = embed(scene, **arguments)
    recorded = embedding.attrs.get("weights_sha256", "")
    if recorded and again.attrs["weights_sha256"] != recorded and "weights" not in changes:
        raise WeightsError(
            "The weights found now are not the ones that made this embedding.",
            found=f"SHA-256 {again.attrs['weights_sha256']}",
            expected=f"SHA-256 {recorded}",
            remedy="reproduce(emb, scene, weights=PATH) with the former file, or say weights=... to accept others",
        )
    shared = [
        dim for dim in embedding.dims if dim != "D" and dim in embedding.indexes and dim in again.indexes
    ]
    if other := [str(dim) for dim in shared if not _same_labels(embedding[dim], again[dim])]:
        warn(
            f"This is another scene than the one that the embedding was made from: its {' and '.join(other)} differ."
        )
    return again


def _same_labels(one: xr.DataArray, other: xr.DataArray) -> bool:
    """Whether they are equal, or differ by no more than files round."""
    if one.dtype.kind != "f" or one.shape != other.shape:
        return one.equals(other)
    return bool(np.allclose(one, other, rtol=1e-9, atol=1e-3 * float(np.ptp(one.values)) / one.size))


def count_missing(embedding: xr.DataArray | xr.Dataset, scene: Scenes) -> dict[str, Any]:
    """Count the tiles that each modality was left out of, from the scene's valid pixels alone.

    An embedding of several modalities that is computed at once has these numbers in its attrs. A lazy one cannot know
    them before every pixel was read, which this does: ``emb.attrs.update(count_missing(emb, ds))``.

    Parameters
    ----------
    embedding : DataArray or Dataset
        As :func:`embed` gave it, or read back from a store.
    scene : Dataset or mapping
        The scene it came from.

    Returns
    -------
    dict
        ``tiles``: how many have a valid pixel of any modality; ``tiles_without``: for each modality, in the order of
        the attrs, how many of these have none of it.

    Examples
    --------
    >>> from xr_rsembed.datasets import synthetic_scene
    >>> s2, dem = (synthetic_scene((448, 448), modality=name) for name in ("S2L2A", "DEM"))
    >>> ds = xr.Dataset({"S2L2A": s2, "DEM": dem.where(dem.x > dem.x[300])})
    >>> count_missing(embed(ds, "terramind_v1_tiny", weights="random"), ds)
    {'tiles': 4, 'tiles_without': [0, 2]}
    """
    from xr_rsembed.engine.attrs import recorded_settings
    from xr_rsembed.engine.embed import plan_job, scene_blocks
    from xr_rsembed.engine.presence import count_missing as count
    from xr_rsembed.models.weights import resolve

    recorded = recorded_settings(embedding.attrs)
    spec = find_spec(recorded["model"])
    settings = Settings(
        **{name: recorded[name] for name in Settings.__dataclass_fields__ if name in recorded}
    )
    inputs, options = read_scene(
        scene,
        spec,
        {name: recorded[name] for name in spec.options if name in recorded},
        modalities=recorded.get("modalities"),
        normalize=settings.normalize,
        units=recorded.get("units"),
    )
    job = plan_job(inputs, spec, settings, resolve("random", spec), options)
    return count(inputs, scene_blocks(inputs[0].scene, job))
