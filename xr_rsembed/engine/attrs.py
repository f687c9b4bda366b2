"""What the attrs of an embedding say: enough to make it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from xr_rsembed._version import __version__
from xr_rsembed.engine.block import Job
from xr_rsembed.errors import OptionError
from xr_rsembed.inputs.record import Input
from xr_rsembed.inputs.scene import input_attrs

# Settings that stand in the attrs under their own names.
_RECORDED = (
    *("output", "pooling", "input_prep", "overlap", "blend", "edge", "min_valid"),
    *("precision", "out_dtype", "normalize", "density"),
)
# What stands in the attrs of each input: plain for one, a list in the order of the modalities for several.
_OF_INPUTS = ("modality", "variable", "bands", "normalization", "units")

# What a provider says of a scene and its embedding keeps, under ``scene_...``.
_ORIGIN = (
    *("provider", "catalog", "collection", "composite", "dates", "item_ids"),
    *("covered", "time_start", "time_end"),
    *("reader", "resampling", "mask_clouds", "cloud_limit", "items_incomplete", "s1_orbit"),
    *("s1_iw_requested", "s1_iw_applied", "s1_iw_relaxed_on_empty", "s1_relax_iw_on_empty"),
)


def record(inputs: tuple[Input, ...], job: Job, options: Mapping[str, Any]) -> dict[str, Any]:
    """The attrs of an embedding: plain values that Zarr and NetCDF keep."""
    spec, settings, weights = job.spec, job.settings, job.request.weights
    attrs: dict[str, Any] = {
        "model": spec.family,
        "model_key": spec.key,
        **_input_attrs(inputs),
        "weights": weights.source,
        "weights_sha256": weights.sha256,
        "tile_size": spec.image_size,
        "patch_size": spec.patch_size,
        "layer": list(settings.layer) if isinstance(settings.layer, tuple) else settings.layer,
        "grid_type": spec.grid_type,
        **{name: getattr(settings, name) for name in _RECORDED},
        "model_options": json.dumps(dict(sorted(options.items()))),
        "xr_rsembed_version": __version__,
    }
    if len(inputs) == 1:
        origin = inputs[0].scene.attrs
        attrs |= {f"scene_{name}": origin[name] for name in _ORIGIN if name in origin}
    if len(inputs) > 1 and "merge" in options:
        attrs["merge"] = options["merge"] or "none"
    if spec.attrs is not None:
        attrs |= spec.attrs([band for item in inputs for band in item.bands])
    return attrs


def _input_attrs(inputs: tuple[Input, ...]) -> dict[str, Any]:
    """Of one input as they are; of several a list each, with a modality's bands in one string."""
    described = [input_attrs(item) for item in inputs]
    if len(described) == 1:
        return {name: described[0][name] for name in _OF_INPUTS}
    for attrs in described:
        attrs["bands"] = " ".join(attrs["bands"])
    return {name: [attrs[name] for attrs in described] for name in _OF_INPUTS}


def recorded_settings(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``embed`` as the attrs of an embedding record them; refuses attrs of anything else."""
    names = (*_RECORDED, *_OF_INPUTS, "layer", "model_key", "weights", "model_options")
    missing = [name for name in names if name not in attrs]
    if missing:
        raise OptionError(
            "These attrs do not say how the embedding was made.",
            found=f"no {', '.join(missing)}",
            expected="the attrs that embed() writes",
        )
    layer = attrs["layer"]
    weights = str(attrs["weights"])
    return {
        **{name: _plain(attrs[name]) for name in _RECORDED},
        **_recorded_inputs(attrs),
        "layer": _plain(layer) if np.ndim(layer) == 0 else tuple(int(one) for one in layer),
        "model": attrs["model_key"],
        "weights": "random" if weights.startswith("random") else weights,
        **json.loads(attrs["model_options"]),
    }


def _recorded_inputs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    modality, variable, units = (
        [str(one) for one in np.atleast_1d(attrs[name])] for name in ("modality", "variable", "units")
    )
    if not variable[0]:  # a DataArray, not a Dataset
        return {"modality": modality[0], "units": units[0] or None}
    return {
        "modalities": dict(zip(modality, variable, strict=True)),
        "units": {name: unit for name, unit in zip(modality, units, strict=True) if unit},
    }


def _plain(value: Any) -> Any:
    """A Python value: stores give numpy scalars back."""
    return value.item() if isinstance(value, np.generic) else value
