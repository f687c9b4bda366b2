"""TerraFM's keys, modalities and options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from xr_rsembed.bands import S1, S2_L2A
from xr_rsembed.errors import OptionError
from xr_rsembed.models.encoder import load_from
from xr_rsembed.models.spec import HubFile, Modality, ModelFamily, ModelOption, ModelSpec, plain_input
from xr_rsembed.normalize import Normalization

_REFLECTANCE = Normalization("scale", divisor=10000.0, clip=(0.0, 1.0), source="DN / 10000, clipped to 0..1")
_BACKSCATTER = Normalization(
    "log_percentile",
    clip=(0.0, 1.0),
    percentile=99.0,
    source="log1p / the tile's 99th percentile, clipped to 0..1",
)

# Both optical products come in as the same twelve bands (L1C without B10); which of the two Sentinel-2 patch
# embeddings they go through is the option `product`.
_MODALITIES = (
    Modality("S2L2A", S2_L2A, "DN", _REFLECTANCE),
    Modality("S2L1C", S2_L2A, "DN", _REFLECTANCE),
    Modality("S1GRD", S1, "linear", _BACKSCATTER),
    Modality("S1RTC", S1, "linear", _BACKSCATTER),
)
_PRODUCTS = ("L1C", "L2A")
_NOT_PUBLISHED = (
    "TerraFM-L is described by its authors, but its weights were not published when this was written"
)


def _input(spec: ModelSpec, name: str, options: Mapping[str, Any]) -> Modality:
    """A fixed ``s1_scale`` takes the place of each tile's own percentile."""
    modality = plain_input(spec, name, options)
    scale = options.get("s1_scale")
    if scale is None or modality.normalization.kind != "log_percentile":
        return modality
    how = replace(modality.normalization, divisor=float(scale), source=f"log1p / {scale:g}, clipped to 0..1")
    return replace(modality, normalization=how)


def _check(spec: ModelSpec, modalities: tuple[str, ...], options: Mapping[str, Any]) -> None:
    if len(modalities) != 1:
        raise OptionError(
            "TerraFM embeds one modality at a time.", found=", ".join(modalities), expected="one modality"
        )
    scale = options.get("s1_scale")
    if scale is not None and not (isinstance(scale, (int, float)) and scale > 0):
        raise OptionError("s1_scale= must be a positive number.", found=repr(scale), expected="such as 0.35")


_OPTIONS = {
    "product": ModelOption(
        "L1C",
        "Sentinel-2's patch embedding: L2A too goes through L1C's, as published; they differ",
        _PRODUCTS,
        loads=True,
    ),
    "s1_scale": ModelOption(None, "one divisor of log1p(backscatter) for the whole scene, not one a tile"),
    "compile": ModelOption(False, "compile the blocks with torch.compile", (True, False), loads=True),
}


def _spec(key: str, width: int, depth: int, note: str = "") -> ModelSpec:
    size = key[-1].upper()
    return ModelSpec(
        key=key,
        family="terrafm",
        embed_dim=width,
        depth=depth,
        modalities=_MODALITIES,
        load=load_from("xr_rsembed.models.terrafm.encoder"),
        weights=HubFile("MBZUAI/TerraFM", f"TerraFM-{size}.pth", note=note),
        grid_type="feature_map",
        pooled="cls",
        declared=_OPTIONS,
        input=_input,
        check=_check,
        summary=f"TerraFM-{size}, a Sentinel-1 and Sentinel-2 transformer trained by self-distillation",
        licence="see the model card",
        url="https://huggingface.co/MBZUAI/TerraFM",
    )


FAMILY = ModelFamily(
    name="terrafm",
    specs=(
        _spec("terrafm_b", width=768, depth=12),
        _spec("terrafm_l", width=1024, depth=24, note=_NOT_PUBLISHED),
    ),
    aliases={"terrafm": "terrafm_b"},
)
