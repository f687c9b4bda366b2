"""TerraMind's modules: terratorch's own, filled strictly, and run no further than the layers asked for."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from xr_rsembed.errors import RsEmbedWarning
from xr_rsembed.models import checkpoint
from xr_rsembed.models.packed import pack
from xr_rsembed.models.patches import patches
from xr_rsembed.models.precision import layer_indices, own_random, precision_dtype
from xr_rsembed.models.spec import EncoderRequest, ModelSpec, Tokens
from xr_rsembed.models.terramind import bands_of
from xr_rsembed.models.terratorch_build import build

__all__ = ["TerraMindEncoder", "load", "merge_modalities"]

TIM_SEED = 0
_USUAL_ROWS = 8 * 196  # tokens of a CPU batch
# The encoder and decoder that imagine a TiM key's tokens sit under this prefix; files hold them without it.
_SAMPLER = "sampler.model."

# Images by modality, and layers counted from the first, to a (B, modalities * h * w, D) tensor for each layer.
Forward = Callable[[dict[str, Tensor], tuple[int, ...]], list[Tensor]]
# terratorch is untyped: its models are `Any` here, and their attributes are taken at its word.


def load(spec: ModelSpec, request: EncoderRequest) -> TerraMindEncoder:
    """Build through terratorch, fill strictly, check the lean forward, and move to the device."""
    dtype = precision_dtype(request.precision, request.device)
    tim = tuple(request.option("tim_modalities", spec.options.get("tim_modalities")) or ())
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = _build(spec.key, request.modalities, tim)
        chosen = {
            name: [spec.input(spec, name, {}).bands.index(band) for band in bands]
            for name, bands in bands_of(request.modalities, request.option("bands")).items()
        }
        fit = functools.partial(_fit_bands, model, chosen, spec.patch_size**2)
        checkpoint.fill(model, request.weights, alias=_file_key if tim else None, fit=fit)
        for name, index in chosen.items():
            _keep_bands(_embedding(model, name), index, spec.patch_size**2)
    model.eval().requires_grad_(False)
    if tim:
        _fix_seed(model.sampler)
        forward = functools.partial(_think, model)
    else:
        forward = functools.partial(_checked(model, request.modalities, spec), model)
    model.to(device=request.device, dtype=dtype)
    if request.option("compile"):
        for block in model.encoder:
            block.compile()
    elif request.device == "cpu" and forward.func is _lean:
        pack(model.encoder_embeddings, rows=_USUAL_ROWS)
        pack(model.encoder, rows=_USUAL_ROWS)
    return TerraMindEncoder(spec, request.modalities, tim, dtype, forward)


class TerraMindEncoder:
    """TerraMind on a device: ``modalities`` go in, and come out together with the ``imagined`` ones."""

    def __init__(
        self,
        spec: ModelSpec,
        modalities: tuple[str, ...],
        imagined: tuple[str, ...],
        dtype: torch.dtype,
        forward: Forward,
    ) -> None:
        self.spec = spec
        self.modalities = modalities
        self.imagined = imagined
        self.dtype = dtype
        self.forward = forward

    def __call__(
        self, inputs: Mapping[str, Tensor], layers: tuple[int, ...], options: Mapping[str, Any]
    ) -> Tokens:
        images = {name: inputs[name].to(self.dtype) for name in self.modalities if name in inputs}
        present = (*images, *self.imagined)
        side = tuple(size // self.spec.patch_size for size in next(iter(images.values())).shape[-2:])
        grids = []
        for state in self.forward(images, layer_indices(layers, self.spec.depth)):
            tokens = dict(zip(present, state.float().chunk(len(present), dim=1), strict=True))
            merged = merge_modalities(
                tokens, (*self.modalities, *self.imagined), options.get("merge", "mean")
            )
            grids.append(merged.transpose(-1, -2).unflatten(-1, side))
        return Tokens(grids[0] if len(grids) == 1 else torch.stack(grids, dim=1))


def merge_modalities(tokens: Mapping[str, Tensor], names: tuple[str, ...], merge: str | None) -> Tensor:
    """Merge the tokens of the modalities that a tile has, as terratorch's ``merge_method`` does.

    Parameters
    ----------
    tokens : mapping of str to tensor, shape (B, N, D)
    names : tuple of str
        Every modality of the output. ``concat``, ``dict`` and None have a place for each of them, which is NaN where
        the modality is missing: terratorch puts a trained token there, and no published weights hold one.
    merge : {"mean", "max", "concat", "dict", None}

    Returns
    -------
    tensor, shape (B, N, D), (B, N, M * D) for ``concat``, or (B, M, N, D) for ``dict`` and None
    """
    if merge in ("mean", "max"):
        if len(tokens) == 1:
            return next(iter(tokens.values()))
        stacked = torch.stack(list(tokens.values()), dim=1)
        return stacked.mean(dim=1) if merge == "mean" else stacked.amax(dim=1)
    nothing = torch.full_like(next(iter(tokens.values())), torch.nan)
    every = [tokens.get(name, nothing) for name in names]
    return torch.cat(every, dim=-1) if merge == "concat" else torch.stack(every, dim=1)


def _build(key: str, modalities: tuple[str, ...], tim: tuple[str, ...]) -> Any:
    options = {"tim_modalities": list(tim)} if tim else {}
    model = build("BACKBONE_REGISTRY", key, modalities=list(modalities), merge_method=None, **options)
    # Tokenizers would encode inputs that are tokens already; pixels never pass through them.
    model.tokenizer = nn.ModuleDict()
    return model


def _file_key(key: str) -> str:
    return key.removeprefix(_SAMPLER)


def _embedding(model: Any, name: str) -> Any:
    return model.encoder_embeddings[model.mod_name_mapping[name]]


def _set_embedding(model: Any, name: str, embedding: nn.Module) -> None:
    model.encoder_embeddings[model.mod_name_mapping[name]] = embedding


class PatchEmbedding(nn.Module):
    """terratorch's patch embedding with its inputs in the order of ``patches``, and its places ready to be added."""

    def __init__(self, official: Any, patch: int) -> None:
        super().__init__()
        weight = official.proj.weight.unflatten(1, (patch**2, -1)).transpose(1, 2).flatten(1)
        self.patch = patch
        self.proj = nn.Linear(weight.shape[1], len(weight), bias=False)
        self.proj.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
        self.register_buffer("place", (official.pos_emb + official.mod_emb).detach())

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, bands, h, w) to tokens (B, N, D) with their places and modality added."""
        return self.proj(patches(image, self.patch)) + self.place


def _fit_bands(model: Any, chosen: dict[str, list[int]], pixels: int, state: Mapping[str, Tensor]) -> None:
    """Keep the chosen bands before loading where the file, fine-tuned on just these, has no others.

    Such modalities are done, and leave ``chosen``.
    """
    for name, index in list(chosen.items()):
        ending = f"{model.mod_name_mapping[name]}.proj.weight"
        stored = next((value for key, value in state.items() if key.endswith(ending)), None)
        width = pixels * len(index)
        if stored is not None and stored.shape[-1] == width < _embedding(model, name).proj.in_features:
            _keep_bands(_embedding(model, name), chosen.pop(name), pixels)


def _keep_bands(embedding: Any, index: list[int], pixels: int) -> None:
    """Keep the columns of some bands in a patch embedding, whose inputs run over pixels first and bands last."""
    kept = embedding.proj.weight.unflatten(1, (pixels, -1))[..., index].flatten(1)
    embedding.proj = nn.Linear(kept.shape[1], len(kept), bias=False)
    embedding.proj.weight.copy_(kept)


def _noise(embedding: Any, spec: ModelSpec) -> Tensor:
    """One tile of noise with as many bands as the embedding takes."""
    bands = embedding.proj.in_features // spec.patch_size**2
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, bands, spec.image_size, spec.image_size, generator=generator)


@torch.inference_mode()
def _checked(model: Any, modalities: tuple[str, ...], spec: ModelSpec) -> Callable[..., list[Tensor]]:
    """The lean forward where it gives the official one's numbers for a tile, else the official one."""
    official = {name: _embedding(model, name) for name in modalities}
    tile = {name: _noise(embedding, spec) for name, embedding in official.items()}
    layers = (0, spec.depth // 2, spec.depth - 1)
    expected = _official(model, tile, layers)
    try:
        for name, embedding in official.items():
            _set_embedding(model, name, PatchEmbedding(embedding, spec.patch_size))
        found = _lean(model, tile, layers)
        error = max(_relative_difference(a, b) for a, b in zip(found, expected, strict=True))
        if error <= 1e-5:
            return _lean
        reason = f"their outputs differ by {error:.1e}"
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as raised:
        reason = f"it fails with {type(raised).__name__}: {raised}"
    for name, embedding in official.items():
        _set_embedding(model, name, embedding)
    warnings.warn(
        f"The fast forward of {spec.key} does not match this terratorch ({reason}); terratorch's own, slower one "
        "is used.",
        RsEmbedWarning,
        stacklevel=2,
    )
    return _official


def _relative_difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1.0))


def _official(model: Any, images: dict[str, Tensor], layers: tuple[int, ...]) -> list[Tensor]:
    states = model(dict(images))
    return [states[layer] for layer in layers]


def _lean(model: Any, images: dict[str, Tensor], layers: tuple[int, ...]) -> list[Tensor]:
    """The official forward without the blocks beyond the deepest layer asked for, and without its clones."""
    x = torch.cat([_embedding(model, name)(image) for name, image in images.items()], dim=1)
    kept = {}
    for index, block in enumerate(model.encoder[: max(layers) + 1]):
        x = block(x)
        if index in layers:
            kept[index] = model.encoder_norm(x) if index == len(model.encoder) - 1 else x
    return [kept[layer] for layer in layers]


def _fix_seed(sampler: Any) -> None:
    """Make a sampler draw the same tokens for the same tile; terratorch seeds it anew for every call."""
    draw = sampler.generate
    sampler.generate = lambda *args, **keywords: draw(*args, **{**keywords, "seed": TIM_SEED})


def _think(model: Any, images: dict[str, Tensor], layers: tuple[int, ...]) -> list[Tensor]:
    """terratorch's own TiM forward, tile by tile from one seed.

    It draws tokens at random, from one stream for the whole batch: a tile would get other tokens in another batch.
    """
    tiles = []
    for index in range(len(next(iter(images.values())))):
        tile = {name: image[index : index + 1] for name, image in images.items()}
        with own_random(next(iter(tile.values()))):
            tiles.append(_official(model, tile, layers))
    return [torch.cat(states) for states in zip(*tiles, strict=True)]
