"""From a user's arguments to checked inputs and complete options."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import xarray as xr

from xr_rsembed.config import get_option
from xr_rsembed.errors import OptionError
from xr_rsembed.inputs.joint import Scenes, validate_joint
from xr_rsembed.inputs.subset import canonical_subset
from xr_rsembed.inputs.validate import Input, validate
from xr_rsembed.models.spec import ModelSpec

__all__ = ["checked_inputs", "complete_options", "configured"]


def checked_inputs(
    scene: xr.DataArray | Scenes,
    spec: ModelSpec,
    modality: str | None,
    modalities: Mapping[str, str] | Sequence[str] | None,
    normalize: str,
    units: Any,
    options: Mapping[str, Any],
) -> tuple[Input, ...]:
    """The checked input of one scene, or those of several."""
    if isinstance(scene, (xr.Dataset, Mapping)):
        if modality is not None:
            raise OptionError(
                "modality= is for a single DataArray.",
                found=f"modality={modality!r} with {type(scene).__name__}",
                expected='modalities={"S2L2A": "name of the variable"}',
            )
        return validate_joint(
            scene, spec, modalities=modalities, normalize=normalize, units=units, options=options
        )
    if modalities is not None:
        raise OptionError(
            "modalities= is for a Dataset.",
            found=f"modalities={modalities!r} with {type(scene).__name__}",
            expected='modality="S2L2A"',
        )
    if modality is None and options.get("bands"):
        modality = next(iter(options["bands"]))
    return (
        validate(scene, spec, modality=modality, normalize=normalize, units=units or None, options=options),
    )


def configured(spec: ModelSpec, normalize: str, layer: Any) -> tuple[str, Any]:
    """The user's options where an argument was left out; they belong to TerraMind."""
    ours = spec.family == "terramind"
    if normalize == "default" and ours:
        normalize = get_option("terramind.normalize")
    if layer is None:
        layer = get_option("terramind.layer_index") if ours else -1
    return normalize, layer


def complete_options(
    spec: ModelSpec,
    given: Mapping[str, Any],
    scene: xr.DataArray | Scenes,
    modality: str | None,
    *,
    arguments: Iterable[str] = (),
) -> dict[str, Any]:
    """Model options with their defaults and canonical band names; a name that the model does not know is refused.

    ``arguments`` are the caller's own, which a misspelt name may have meant.
    """
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
