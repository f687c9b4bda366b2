"""The way into this room: from a user's scene and arguments to checked inputs and complete options."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import xarray as xr

from xr_rsembed.config import family_option
from xr_rsembed.errors import OptionError
from xr_rsembed.inputs.bands_option import canonical_subset
from xr_rsembed.inputs.joint import Scenes, validate_joint
from xr_rsembed.inputs.labels import stack_bands
from xr_rsembed.inputs.record import Input
from xr_rsembed.inputs.scene import validate
from xr_rsembed.models.spec import ModelSpec

__all__ = ["configured", "read_scene"]


def read_scene(
    scene: xr.DataArray | Scenes,
    spec: ModelSpec,
    given: Mapping[str, Any],
    *,
    modality: str | None = None,
    modalities: Mapping[str, str] | Sequence[str] | None = None,
    normalize: str = "default",
    units: Any = None,
    arguments: Iterable[str] = (),
) -> tuple[tuple[Input, ...], dict[str, Any]]:
    """The checked inputs of one scene or of several, and the complete model options; no pixel of a lazy one is read."""
    whole = stack_bands(scene) if modalities is None else None
    scene = scene if whole is None else whole
    options = _complete_options(spec, given, scene, modality, arguments)
    if isinstance(scene, (xr.Dataset, Mapping)):
        if modality is not None:
            raise OptionError(
                "modality= is for a single DataArray.",
                found=f"modality={modality!r} with {type(scene).__name__}",
                expected='modalities={"S2L2A": "name of the variable"}',
            )
        inputs = validate_joint(
            scene, spec, modalities=modalities, normalize=normalize, units=units, options=options
        )
        return inputs, options
    if modalities is not None:
        raise OptionError(
            "modalities= is for a Dataset.",
            found=f"modalities={modalities!r} with {type(scene).__name__}",
            expected='modality="S2L2A"',
        )
    if modality is None and options.get("bands"):
        modality = next(iter(options["bands"]))
    one = validate(scene, spec, modality=modality, normalize=normalize, units=units or None, options=options)
    return (one,), options


def configured(spec: ModelSpec, normalize: str, layer: Any) -> tuple[str, Any]:
    """The user's options for the model's family where an argument was left out."""
    if normalize == "default":
        normalize = family_option(spec.family, "normalize", "default")
    return normalize, family_option(spec.family, "layer_index", -1) if layer is None else layer


def _complete_options(
    spec: ModelSpec,
    given: Mapping[str, Any],
    scene: xr.DataArray | Scenes,
    modality: str | None,
    arguments: Iterable[str],
) -> dict[str, Any]:
    """Model options with their defaults and canonical band names; a name that the model does not know is refused."""
    for name in given:
        if name not in spec.options:
            near = difflib.get_close_matches(name, [*spec.options, *arguments, "weights", "modality"], n=1)
            raise OptionError(
                f"{spec.key} has no option {name!r}.",
                found=f"{name}={given[name]!r}",
                expected=", ".join(spec.options) or "no model options",
                remedy=f"did you mean {near[0]}=?" if near else None,
            )
    options = {**spec.options, **given}
    if options.get("bands") is not None:
        options["bands"] = canonical_subset(options["bands"], spec, scene, modality)
    return options
