"""Entry point of ``inputs``: from a user's scene and arguments to checked inputs and complete options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import xarray as xr

from xr_rsembed.bands import canonical_name
from xr_rsembed.config import family_option
from xr_rsembed.errors import OptionError, check_names, known_name
from xr_rsembed.inputs.joint import Scenes, validate_joint
from xr_rsembed.inputs.labels import stack_bands
from xr_rsembed.inputs.modality import named_modalities, pick_modality, stated_modality
from xr_rsembed.inputs.record import Input
from xr_rsembed.inputs.scene import validate
from xr_rsembed.models.spec import Modality, ModelSpec


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
    check_names(given, spec.options, spec.key, near=(*arguments, "weights", "modality"))
    options = {**spec.options, **given}
    if options.get("bands") is not None:
        options["bands"] = canonical_subset(options["bands"], spec, scene, modality)
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


def canonical_subset(
    chosen: Any, spec: ModelSpec, scene: xr.DataArray | Scenes, modality: str | None
) -> dict[str, tuple[str, ...]]:
    """The bands of each modality by their canonical names, in the order given.

    >>> from xr_rsembed.models.registry import find_spec
    >>> canonical_subset(["BLUE", "nir08"], find_spec("terramind_v1_tiny"), xr.DataArray(), "S2L2A")
    {'S2L2A': ('B2', 'B8A')}
    """
    if isinstance(chosen, str) or not isinstance(chosen, Iterable):
        raise OptionError(
            "bands= is a list of band names, or one for each modality.",
            found=repr(chosen),
            expected='["BLUE", "GREEN"] or {"S2L2A": ["BLUE", "GREEN"]}',
        )
    if isinstance(chosen, Mapping):
        kinds = [(named_modalities(spec, str(word))[0], names) for word, names in chosen.items()]
        return {kind.name: _all_canonical([str(name) for name in names], kind) for kind, names in kinds}
    names = [str(name) for name in chosen]
    if not isinstance(scene, xr.DataArray):
        raise OptionError(
            "bands= must say which modality it means.",
            found=repr(names),
            expected=f'bands={{"{spec.modalities[0].name}": [...]}}',
        )
    offered = stated_modality(scene, spec, modality) or spec.modalities
    known = [sum(canonical_name(name, one.bands) in one.bands for name in names) for one in offered]
    fitting = [one for one, number in zip(offered, known, strict=True) if number == max(known)]
    # Where none knows all names, the error says which the first of these does not know.
    kind = pick_modality(fitting if max(known) == len(names) else fitting[:1], spec, f"bands={names}")
    return {kind.name: _all_canonical(names, kind)}


def _all_canonical(names: list[str], kind: Modality) -> tuple[str, ...]:
    known = [str(canonical_name(name, kind.bands)) for name in names]
    for name, canonical in zip(names, known, strict=True):
        if canonical not in kind.bands:
            expected = f"some of {' '.join(kind.bands)}, or their common names"
            problem = f"bands= names a band that {kind.name} does not have."
            known_name(name, kind.bands, problem, expected=expected, cutoff=0.5)
    if not known or len(set(known)) < len(known):
        raise OptionError(
            f"bands= for {kind.name} cannot be used.",
            found=", ".join(names) or "no band",
            expected=f"some of {' '.join(kind.bands)}, each once",
        )
    return tuple(known)
