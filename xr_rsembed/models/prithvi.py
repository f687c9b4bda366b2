"""Prithvi-EO, through terratorch: six bands of Harmonized Landsat and Sentinel-2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from xr_rsembed.models.spec import Encoder, EncoderRequest, Home, Modality, ModelFamily, ModelSpec, Tokens
from xr_rsembed.normalize import Normalization

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILY"]

_BANDS = ("B2", "B3", "B4", "B8A", "B11", "B12")
# terratorch's PRITHVI_V1_MEAN and so on; a test holds them equal.
_STATISTICS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "v1": ((775.0, 1081.0, 1229.0, 2497.0, 2204.0, 1611.0), (1282.0, 1270.0, 1399.0, 1368.0, 1292.0, 1155.0)),
    "v2": (
        (1087.0, 1342.0, 1433.0, 2734.0, 1958.0, 1363.0),
        (2248.0, 2179.0, 2178.0, 1850.0, 1242.0, 1049.0),
    ),
}


def _load(spec: ModelSpec, request: EncoderRequest) -> Encoder:
    """Build through terratorch for single dates, without the coordinates of time and place, and fill strictly."""
    import torch

    from xr_rsembed.models import checkpoint
    from xr_rsembed.models.precision import place
    from xr_rsembed.models.terratorch_build import build

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = build("BACKBONE_REGISTRY", spec.key, num_frames=1)
        checkpoint.fill(model, request.weights, fit=_drop_positions)
    dtype = place(model.eval().requires_grad_(False), request.precision, request.device)
    return _Prithvi(spec, model, dtype)


def _drop_positions(state: dict[str, torch.Tensor]) -> None:
    """Position tables are computed, not learned, and a file holds them for more dates than the one that is run."""
    for key in [key for key in state if key.endswith("pos_embed")]:
        del state[key]


class _Prithvi:
    def __init__(self, spec: ModelSpec, model: Any, dtype: torch.dtype) -> None:
        self.model = model
        self.dtype = dtype
        self.depth = spec.depth
        self.patch = spec.patch_size

    def __call__(
        self, inputs: Mapping[str, torch.Tensor], layers: tuple[int, ...], options: Mapping[str, Any]
    ) -> Tokens:
        import torch

        from xr_rsembed.models.precision import layer_indices

        image = inputs["S2L2A"]
        side = tuple(size // self.patch for size in image.shape[-2:])
        states = self.model(image.to(self.dtype))
        wanted = [states[layer].float() for layer in layer_indices(layers, self.depth)]
        grids = [state[:, 1:].transpose(1, 2).unflatten(2, side) for state in wanted]
        return Tokens(grids[0] if len(grids) == 1 else torch.stack(grids, dim=1))


def _spec(key: str, embed_dim: int, depth: int, patch: int, repo: str) -> ModelSpec:
    version = "v1" if "_v1_" in key else "v2"
    mean, std = _STATISTICS[version]
    how = Normalization(
        "zscore", mean=mean, std=std, source=f"terratorch PRITHVI_{version.upper()}_MEAN / _STD"
    )
    size = repo.split("-", 3)[-1].replace("-", "_")
    home = Home(f"ibm-nasa-geospatial/{repo}", f"Prithvi_EO_{version.upper()}_{size}.pt")
    return ModelSpec(
        key=key,
        family="prithvi",
        embed_dim=embed_dim,
        depth=depth,
        patch_size=patch,
        modalities=(Modality("S2L2A", _BANDS, "DN", how),),
        load=_load,
        home=home,
        resolution=30.0,
        summary=f"{repo}, a masked autoencoder of Harmonized Landsat and Sentinel-2, run on single dates",
        licence="Apache-2.0",
        url=f"https://huggingface.co/{home.repo}",
    )


FAMILY = ModelFamily(
    name="prithvi",
    specs=(
        _spec("prithvi_eo_v1_100", 768, 12, 16, "Prithvi-EO-1.0-100M"),
        _spec("prithvi_eo_v2_tiny_tl", 192, 12, 16, "Prithvi-EO-2.0-tiny-TL"),
        _spec("prithvi_eo_v2_100_tl", 768, 12, 16, "Prithvi-EO-2.0-100M-TL"),
        _spec("prithvi_eo_v2_300", 1024, 24, 16, "Prithvi-EO-2.0-300M"),
        _spec("prithvi_eo_v2_300_tl", 1024, 24, 16, "Prithvi-EO-2.0-300M-TL"),
        _spec("prithvi_eo_v2_600", 1280, 32, 14, "Prithvi-EO-2.0-600M"),
        _spec("prithvi_eo_v2_600_tl", 1280, 32, 14, "Prithvi-EO-2.0-600M-TL"),
    ),
    aliases={"prithvi": "prithvi_eo_v2_300"},
)
