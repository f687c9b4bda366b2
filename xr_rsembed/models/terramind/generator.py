"""TerraMind's generating modules: terratorch's own, filled strictly, with the noise of each tile from its own seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xr_rsembed.errors import OptionError
from xr_rsembed.models import checkpoint
from xr_rsembed.models.encoder import EncoderRequest, WeightsRef
from xr_rsembed.models.precision import own_random
from xr_rsembed.models.spec import ModelSpec, Output
from xr_rsembed.models.terramind.terratorch_encoder import build


class TerraMindGenerator:
    """terratorch's generation, one tile at a time.

    Its random numbers come from one stream for the whole batch, so a tile would look otherwise in another batch.
    """

    def __init__(self, model: Any, outputs: Mapping[str, Output]) -> None:
        self.model, self.outputs = model, outputs
        self.seed = 0
        draw = model.sampler.generate
        # terratorch seeds the sampler anew for every call. All that is drawn after it, the diffusion's noise, follows
        # from that seed too, because the sampler seeds torch itself.
        model.sampler.generate = lambda *args, **keywords: draw(*args, **{**keywords, "seed": self.seed})

    def __call__(self, inputs: Mapping[str, Tensor], seeds: Sequence[int]) -> dict[str, Tensor]:
        tiles = [
            self._one({name: image[number : number + 1] for name, image in inputs.items()}, seed)
            for number, seed in enumerate(seeds)
        ]
        return {name: torch.cat([tile[name] for tile in tiles]) for name in tiles[0]}

    def _one(self, tile: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        self.seed = seed
        with own_random(next(iter(tile.values()))):
            images = self.model(tile, standardize=False)
        return {name: _physical(self.outputs[name], image.float()) for name, image in images.items()}


def load(spec: ModelSpec, request: EncoderRequest) -> TerraMindGenerator:
    """Build through terratorch, fill the model and each tokenizer strictly, and move to the device."""
    if request.precision != "float32":
        raise OptionError(
            "Generation runs in float32.", found=f"precision={request.precision!r}", expected='"float32"'
        )
    tokenizers: dict[str, WeightsRef] = dict(request.option("tokenizers"))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = build(
            "FULL_MODEL_REGISTRY",
            spec.key,
            modalities=list(request.modalities),
            output_modalities=list(tokenizers),
            timesteps=request.option("timesteps"),
        )
        checkpoint.fill(model.sampler.model, request.weights)
        for name, ref in tokenizers.items():
            tokenizer = model.tokenizer[_key(model, name)]
            checkpoint.fill(tokenizer, ref, surplus="error")
            # Only its decoder draws; pixels to encode never reach it.
            tokenizer.encoder = nn.Identity()
    model.eval().requires_grad_(False)
    assert spec.generation is not None
    return TerraMindGenerator(model.to(request.device), spec.generation.outputs)


def _key(model: Any, name: str) -> str:
    return next(key for key, output in model.output_mod_name_mapping.items() if output == name)


def _physical(output: Output, image: Tensor) -> Tensor:
    """From the model's numbers to the output's units, or to probabilities of classes."""
    if output.classes:
        return image.softmax(dim=1)
    mean, std = (image.new_tensor(values)[:, None, None] for values in (output.mean, output.std))
    return image * std + mean
