"""Which modality a scene is: the one that is stated, else the one that its bands fit; several are asked about."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from xr_rsembed import bands
from xr_rsembed.config import family_option
from xr_rsembed.errors import BandOrderError, RsEmbedError, SceneError, UnknownModelError
from xr_rsembed.inputs.labels import band_labels
from xr_rsembed.inputs.units import stated_units
from xr_rsembed.models.spec import Modality, ModelSpec

_PRODUCTS = {"S2": ("S2L2A", "S2L1C"), "S1": ("S1RTC", "S1GRD")}
_OTHER_PRODUCT = {"S2L1C": "S2L2A", "S2L2A": "S2L1C", "S1GRD": "S1RTC", "S1RTC": "S1GRD"}


def named_modalities(spec: ModelSpec, name: str) -> list[Modality]:
    """The modalities that a name means: ``s1`` and ``s2`` may mean two."""
    offered = {one.name: one for one in spec.modalities}
    if name in offered:
        return [offered[name]]
    meant = [offered[own] for own in _products(name) if own in offered]
    if not meant:
        raise UnknownModelError(
            f"{spec.key} takes no modality {name!r}.",
            found=repr(name),
            expected=", ".join(offered),
            remedy=f'modality="{spec.modalities[0].name}", where the scene is that',
        )
    return meant


def _products(name: str) -> tuple[str, ...]:
    return _PRODUCTS.get(name.upper(), (name.upper(),))


def stated_modality(scene: xr.DataArray, spec: ModelSpec, asked: str | None) -> list[Modality]:
    """What the argument, else the attrs, say that the scene is; empty where nothing is said that the model knows."""
    attr = scene.attrs.get("modality")
    attr = attr if isinstance(attr, str) else ""
    if asked is not None:
        meant = named_modalities(spec, asked)
        return [one for one in meant if one.name == attr] or meant
    offered = {one.name for one in spec.modalities}
    if {attr, *_products(attr), _OTHER_PRODUCT.get(attr)} & offered:
        return named_modalities(spec, attr)
    return []  # a model of one's own may have another name for what the bands make certain


def choose_modality(scene: xr.DataArray, spec: ModelSpec, asked: str | None) -> Modality:
    """The modality that is stated, or that the bands leave no doubt of."""
    stated = stated_modality(scene, spec, asked)
    if len(stated) == 1:
        return stated[0]
    offered: Sequence[Modality] = stated or spec.modalities
    labels = band_labels(scene)
    if labels is None:
        fitting = [one for one in offered if len(one.bands) == scene.sizes["band"]]
    else:
        fitting = _fitting(scene, labels, offered)
    if not fitting:
        # The one that it may be, with a mask beside its bands perhaps.
        numbers = (scene.sizes["band"], scene.sizes["band"] - 1)
        raise unnamed(scene, next((one for one in offered if len(one.bands) in numbers), offered[0]))
    return pick_modality(fitting, spec, f"{scene.sizes['band']} bands {labels or 'without names'}")


def pick_modality(fitting: Sequence[Modality], spec: ModelSpec, found: str) -> Modality:
    """One of the modalities that fit: the first where it makes no difference, else the one of the user's options."""
    if _alike(fitting):
        return fitting[0]
    preferred = [one for one in fitting if one.name == family_option(spec.family, "modality")]
    if preferred:
        return preferred[0]
    raise SceneError(
        f"{spec.key} takes several modalities that fit, and the scene does not say its own.",
        found=f"{found}, attrs without 'modality'",
        expected=" or ".join(one.name for one in fitting),
        remedy=f'embed(..., modality="{fitting[0].name}") or da.attrs["modality"] = "{fitting[0].name}"',
    )


def unnamed(scene: xr.DataArray, kind: Modality) -> BandOrderError:
    """The error for bands that no modality has."""
    labels, number = band_labels(scene), scene.sizes["band"]
    remedy = 'name the bands by what they are, da.assign_coords(band=["B2", "B3", ...])'
    if labels is None and number == len(kind.bands) + 1:
        names = ", ".join(f'"{band}"' for band in kind.bands)
        remedy = (
            f'if the last one is a mask or alpha, da.assign_coords(band=[{names}, "alpha"]), or open the file with '
            f"xr_rsembed.open_scene; else {remedy}"
        )
    return BandOrderError(
        f"The scene has {number} bands, which is no input of this model.",
        found=" ".join(labels or [f"{number} bands without names"]),
        expected=f"{kind.name}: {' '.join(kind.bands)}",
        remedy=remedy,
    )


def incomplete(labels: Sequence[str], kind: Modality, spec: ModelSpec) -> RsEmbedError | None:
    """The error for a scene that holds some of a modality's bands and no others; None where that is not so."""
    held = _named(labels, kind)
    missing = [band for band in kind.bands if band not in held]
    if not missing or not held or len(set(held)) < len(held) or len(held) < len(labels):
        return None
    others = [one.name for one in spec.modalities if one is not kind and {*_named(labels, one)} == {*held}]
    some = "bands" in spec.options
    listed = ", ".join(f'"{band}"' for band in held)
    picture = any(one.name == "RGB" and _holds(labels, one) for one in spec.modalities)
    return BandOrderError(
        f"The scene lacks {len(missing)} of the {len(kind.bands)} bands of {kind.name} (missing: "
        f"{', '.join(missing)}).",
        found=" ".join(labels),
        expected=" ".join(kind.bands),
        remedy=(
            f'bands={{"{kind.name}": [{listed}]}} embeds what it has'
            + (f" ({' or '.join(others)} in its place, if it is that)" if others else "")
            if some
            else f"fetch those too: {spec.key} takes all of them or none"
        )
        + ('; modality="RGB", where these are 8-bit counts of a picture' if picture else ""),
    )


def _fitting(scene: xr.DataArray, labels: list[str], offered: Sequence[Modality]) -> list[Modality]:
    """Modalities that are exactly the labels; else the largest that are all among them; else the one nearest."""
    apt = [one for one in offered if _units_fit(scene, labels, one, offered)]
    whole = [one for one in apt if _holds(labels, one)]
    exact = [one for one in whole if len(one.bands) == len(labels)]
    if exact:
        return exact
    shared = {one: len({*_named(labels, one)}) for one in apt}
    most = max(shared.values(), default=0)
    # A small modality within a larger one is no way out of what the larger one lacks.
    largest = [one for one in whole if len(one.bands) == most]
    return largest or [one for one in apt if shared[one] == most][: 1 if most else 0]


def _units_fit(scene: xr.DataArray, labels: list[str], kind: Modality, offered: Sequence[Modality]) -> bool:
    """Whether labels that belong to a larger modality too may mean this one: red, green and blue of a picture."""
    larger = [
        one
        for one in offered
        if len(one.bands) > len(kind.bands)
        and one.units != kind.units
        and len({*_named(labels, one)}) >= len(kind.bands)
    ]
    if not larger or not _holds(labels, kind):
        return True
    return scene.dtype == "uint8" or stated_units(scene, None, kind.units) == kind.units


def _holds(labels: Sequence[str], kind: Modality) -> bool:
    """Whether each band of a modality is named once."""
    return sorted(_named(labels, kind)) == sorted(kind.bands)


def _named(labels: Sequence[str], kind: Modality) -> list[str]:
    """The bands of a modality that labels name, in the order of the labels."""
    names = [bands.canonical_name(label, kind.bands) for label in labels]
    return [name for name in names if name in kind.bands]


def _alike(modalities: Sequence[Modality]) -> bool:
    """Whether it makes no difference which of these is taken (TerraFM reads S1GRD and S1RTC alike)."""
    return len({(one.bands, one.units, one.normalization) for one in modalities}) == 1
