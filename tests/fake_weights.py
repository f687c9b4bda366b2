"""Weights made in the test: filled by a rule, so that no test needs a download."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from xr_rsembed.models import registry
from xr_rsembed.models.spec import Encoder, EncoderRequest, ModelSpec, WeightsRef
from xr_rsembed.models.weights import resolve

RANDOM = WeightsRef("random", "random (seed 0)")


def filled(shapes: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """A state dict by the rule of shared/reference: normal values of scale 0.02 from each key's name, norms near 1."""
    state = {}
    for key, shape in shapes.items():
        draw = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
        values = draw.standard_normal(tuple(shape), dtype="float32") * np.float32(0.02)
        if "norm" in key and key.endswith("weight"):
            values += 1
        state[key] = torch.from_numpy(values)
    return state


@contextmanager
def quick_init() -> Iterator[None]:
    """torch fills new layers from one buffer of noise, which takes a tenth of the time of drawing every value."""
    noise = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0))

    def fill(tensor: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        scale = max(tensor[0].numel(), 1) ** -0.5 if tensor.ndim > 1 else 0.02
        repeated = noise.repeat(-(-tensor.numel() // len(noise)))[: tensor.numel()]
        with torch.no_grad():
            return tensor.copy_(0.5 * scale * repeated.view_as(tensor))

    names = ("kaiming_uniform_", "xavier_uniform_", "uniform_", "normal_", "trunc_normal_")
    with mock.patch.multiple(torch.nn.init, **dict.fromkeys(names, fill)):
        yield


def filled_like(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A state dict for a module's parameters."""
    return filled({name: value.shape for name, value in module.named_parameters()})


def load(spec: ModelSpec, modality: str, weights: WeightsRef | Path = RANDOM, **options: Any) -> Encoder:
    """The encoder of a spec on the CPU; ``options`` are load options, and ``precision``."""
    precision = options.pop("precision", "float32")
    ref = weights if isinstance(weights, WeightsRef) else resolve(weights, spec)
    modalities = (modality,) if isinstance(modality, str) else tuple(modality)
    request = EncoderRequest(
        spec.key, modalities, ref, precision=precision, options=tuple(sorted(options.items()))
    )
    return spec.load(spec, request)


def small_terrafm(width: int = 128, depth: int = 3) -> ModelSpec:
    """TerraFM in all but its size."""
    return replace(registry.find_spec("terrafm_b"), key="terrafm_small", embed_dim=width, depth=depth)


def small_terrafm_shapes(width: int = 128, depth: int = 3) -> dict[str, tuple[int, ...]]:
    """Keys and shapes as the published code has them, at any width."""
    wide = 3 * width
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 197, width),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "patch_embed.projection.proj1.weight": (wide, wide),
        "patch_embed.projection.norm_input.weight": (wide,),
        "patch_embed.projection.norm_input.bias": (wide,),
        "patch_embed.projection.proj2.weight": (wide, wide),
        "patch_embed.projection.proj2.bias": (wide,),
        "patch_embed.projection.proj3.weight": (width, wide),
        "patch_embed.projection.proj3.bias": (width,),
    }
    for sensor, channels in (("s2_l2a", 12), ("s2_l1c", 12), ("s1", 2)):
        shapes[f"patch_embed.{sensor}_embed"] = (1, wide)
        shapes[f"patch_embed.conv2d_{sensor}.weight"] = (wide, channels, 16, 16)
        shapes[f"patch_embed.conv2d_{sensor}.bias"] = (wide,)
    layers = {"attn.qkv": (wide, width), "attn.proj": (width, width)}
    layers |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    for block in range(depth):
        for norm in ("norm1", "norm2"):
            shapes[f"blocks.{block}.{norm}.weight"] = shapes[f"blocks.{block}.{norm}.bias"] = (width,)
        for name, shape in layers.items():
            shapes[f"blocks.{block}.{name}.weight"] = shape
            shapes[f"blocks.{block}.{name}.bias"] = shape[:1]
    return shapes
