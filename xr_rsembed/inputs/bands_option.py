"""The ``bands`` option of models that take some of a modality's bands: from a user's names to the canonical ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import xarray as xr

from xr_rsembed.bands import canonical_name
from xr_rsembed.errors import OptionError
from xr_rsembed.inputs.joint import Scenes
from xr_rsembed.inputs.modality import named_modalities, pick_modality, stated_modality
from xr_rsembed.models.spec import Modality, ModelSpec

__all__ = ["canonical_subset"]


def canonical_subset(
    chosen: Any, spec: ModelSpec, scene: xr.DataArray | Scenes | None, modality: str | None
) -> dict[str, tuple[str, ...]]:
    """The bands of each modality by their canonical names, in the order given.

    Examples
    --------
    >>> from xr_rsembed.models.registry import find_spec
    >>> canonical_subset(["BLUE", "nir08"], find_spec("terramind_v1_tiny"), None, "S2L2A")
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
    if scene is not None and not isinstance(scene, xr.DataArray):
        raise OptionError(
            "bands= must say which modality it means.",
            found=repr(names),
            expected=f'bands={{"{spec.modalities[0].name}": [...]}}',
        )
    kind = _meant(names, spec, scene, modality)
    return {kind.name: _all_canonical(names, kind)}


def _meant(names: list[str], spec: ModelSpec, scene: xr.DataArray | None, modality: str | None) -> Modality:
    """The modality that a list of bands belongs to."""
    if scene is None:
        scene = xr.DataArray()
    own = stated_modality(scene, spec, modality)
    offered = own or list(spec.modalities)
    own = own if len(own) == 1 else []
    holding = [one for one in offered if all(canonical_name(name, one.bands) in one.bands for name in names)]
    fitting = own or holding
    if not fitting:
        # The one that knows most of the names, whose error then says which it does not know.
        fitting = [
            max(offered, key=lambda one: sum(canonical_name(name, one.bands) in one.bands for name in names))
        ]
    return pick_modality(fitting, spec, f"bands={names}")


def _all_canonical(names: list[str], kind: Modality) -> tuple[str, ...]:
    known = tuple(_canonical(name, kind) for name in names)
    if not known or len(set(known)) < len(known):
        raise OptionError(
            f"bands= for {kind.name} cannot be used.",
            found=", ".join(names) or "no band",
            expected=f"some of {' '.join(kind.bands)}, each once",
        )
    return known


def _canonical(name: str, kind: Modality) -> str:
    known = canonical_name(name, kind.bands)
    if known in kind.bands:
        return str(known)
    near = difflib.get_close_matches(name.upper(), kind.bands, n=1, cutoff=0.5)
    raise OptionError(
        f"bands= names a band that {kind.name} does not have.",
        found=name,
        expected=f"some of {' '.join(kind.bands)}, or their common names",
        remedy=f"did you mean {near[0]!r}?" if near else None,
    )
