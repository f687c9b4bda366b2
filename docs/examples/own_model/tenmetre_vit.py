"""A timm vision transformer over the four 10 m bands of Sentinel-2, known to xr-rsembed by name.

The facts stand in a frozen ``ModelSpec``, which is read whenever models are listed, so torch and timm are imported
inside ``load`` alone. The encoder maps normalized tiles to tokens. Everything else (checks of bands and units,
tiling, batches, devices, geometry, dask, stores) is xr-rsembed's.
"""

from __future__ import annotations

from xr_rsembed.models.spec import Modality, ModelFamily, ModelSpec, Tokens
from xr_rsembed.normalize import Normalization

TEN_METRES = Modality(
    name="S2L2A",
    bands=("B2", "B3", "B4", "B8"),
    units="DN",
    # clip(DN), then z-score: the numbers of your own training set go here.
    normalization=Normalization(
        "zscore",
        mean=(1400.0, 1400.0, 1400.0, 2600.0),
        std=(1000.0, 1000.0, 1100.0, 1300.0),
        clip=(0.0, 10000.0),
        source="tenmetre-vit 0.1",
    ),
)


def load(spec, request):
    """Build the module, fill it, and put it on the device; called once in each process that embeds.

    ``checkpoint.fill`` takes the user's choice of weights: seeded random numbers, or a file, of which every parameter
    must be there in its shape. What the file has besides (here the head it was trained with) is left out and logged.
    """
    import timm
    import torch

    from xr_rsembed.models import checkpoint
    from xr_rsembed.models.precision import place

    with torch.no_grad():
        vit = timm.create_model("vit_tiny_patch16_224", in_chans=4, num_classes=0).eval()
        checkpoint.fill(vit, request.weights)
    dtype = place(vit.requires_grad_(False), request.precision, request.device)
    return Encoder(vit, spec.depth, dtype)


class Encoder:
    """Tokens of any block, with the class token as the tile's own vector."""

    def __init__(self, vit, depth, dtype):
        self.vit, self.depth, self.dtype = vit, depth, dtype

    def __call__(self, inputs, layers, options):
        """``inputs["S2L2A"]``: (tile, 4, 224, 224), float32, normalized; ``layers``: block numbers."""
        import torch

        from xr_rsembed.models.precision import layer_indices

        blocks = layer_indices(layers, self.depth)
        states = self.vit.forward_intermediates(
            inputs["S2L2A"].to(self.dtype),
            indices=sorted(blocks),
            norm=True,
            return_prefix_tokens=True,
            intermediates_only=True,
        )
        by_block = dict(zip(sorted(blocks), states, strict=True))
        grids = [by_block[block][0].float() for block in blocks]  # (tile, 192, 14, 14)
        vectors = [by_block[block][1][:, 0].float() for block in blocks]  # (tile, 192)
        if len(blocks) == 1:
            return Tokens(grids[0], vectors[0])
        return Tokens(torch.stack(grids, dim=1), torch.stack(vectors, dim=1))


FAMILY = ModelFamily(
    name="tenmetre",
    specs=(
        ModelSpec(
            key="tenmetre_tiny",
            family="tenmetre",
            embed_dim=192,
            depth=12,
            modalities=(TEN_METRES,),
            load=load,
            pooled="cls",
            summary="A vision transformer over the four 10 m bands of Sentinel-2",
            licence="Apache-2.0",
        ),
    ),
    aliases={"tenmetre": "tenmetre_tiny"},
)
