"""A cheap model of several modalities that go through one forward together, and its plain-numpy reference.

The vector of a patch depends on its modality, its place, its tile, and on which other modalities the tile has.
"""

from __future__ import annotations

import numpy as np

from tests import reference
from xr_rsembed.models.spec import Layout, Modality, ModelOption, ModelSpec, Tokens
from xr_rsembed.normalize import Normalization

S2 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
NAMES = ("S2L2A", "S1GRD", "DEM")
BANDS = dict(zip(NAMES, (S2, ("VV", "VH"), ("DEM",)), strict=True))
EMBED_DIM = 4
CELLS = 14

forwards: list[tuple[str, ...]] = []  # the modalities of every forward since it was cleared


def encode(tiles: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Modality to (C, 224, 224), to modality to (D, 14, 14)."""
    company = sum(2 ** NAMES.index(name) for name in tiles)
    rows, columns = np.mgrid[:CELLS, :CELLS].astype("float32")
    return {
        name: np.stack(
            [
                tile.reshape(len(tile), CELLS, 16, CELLS, 16)[-1].mean(axis=(1, 3)),
                np.full((CELLS, CELLS), tile.mean() + company),
                rows + 100 * NAMES.index(name),
                columns,
            ]
        ).astype("float32")
        for name, tile in tiles.items()
    }


class Encoder:
    def __init__(self, modalities):
        self.modalities = modalities

    def __call__(self, inputs, layers, options):
        import torch

        forwards.append(tuple(inputs))
        tiles = [
            encode({name: inputs[name][i].numpy() for name in inputs})
            for i in range(len(next(iter(inputs.values()))))
        ]
        grids = [merged(tokens, self.modalities, options["merge"]) for tokens in tiles]
        return Tokens(torch.from_numpy(np.stack(grids)))


def merged(tokens: dict[str, np.ndarray], names: tuple[str, ...], merge: str | None) -> np.ndarray:
    if merge in ("mean", "max"):
        return getattr(np, merge)(list(tokens.values()), axis=0)
    nothing = np.full_like(next(iter(tokens.values())), np.nan)
    every = [tokens.get(name, nothing) for name in names]
    return np.concatenate(every) if merge == "concat" else np.stack(every)


def layout(spec, modalities, layers, options):
    merge = options["merge"]
    extra = (("modality", modalities),) if merge in ("dict", None) else ()
    number = len(modalities) if merge == "concat" else 1
    return Layout(spec.embed_dim * number, extra, () if merge in ("mean", "max") else modalities)


def load(spec, request):
    return Encoder(request.modalities)


SPEC = ModelSpec(
    key="joint_probe",
    family="joint_probe",
    embed_dim=EMBED_DIM,
    depth=1,
    modalities=(
        Modality("S2L2A", S2, "DN", Normalization("scale", divisor=1000.0)),
        Modality("S1GRD", ("VV", "VH"), "dB", Normalization("zscore", mean=(-10.0, -20.0), std=(5.0, 5.0))),
        Modality("S1RTC", ("VV", "VH"), "dB", Normalization("none")),
        Modality("DEM", ("DEM",), "m", Normalization("zscore", mean=(500.0,), std=(100.0,))),
    ),
    load=load,
    declared={"merge": ModelOption("mean")},
    layout=layout,
    joint=True,
)


def normalized(name: str, pixels: np.ndarray) -> np.ndarray:
    """Raw pixels as the specs above say, 0 where a pixel is NaN."""
    pixels = pixels.astype("float32")
    if name == "S2L2A":
        seen = pixels / 1000
    elif name == "S1GRD":
        seen = (pixels - np.float32([-10, -20])[:, None, None]) / 5
    else:
        seen = (pixels - 500) / 100
    return np.where(np.isnan(pixels).any(axis=0), 0, seen)


def expected(scenes: dict[str, np.ndarray], merge, *, overlap=0, blend="center", edge="shift") -> np.ndarray:
    """Modality to raw (band, y, x) with NaN for invalid pixels, to (..., D, rows, columns): one tile at a time."""
    height, width = next(iter(scenes.values())).shape[1:]
    (ys, tall), (xs, wide) = (reference.tile_starts(n, overlap, edge) for n in (height, width))
    ends = ((0, tall - height), (0, wide - width))
    seen = {n: np.pad(normalized(n, p), ((0, 0), *ends), mode="edge") for n, p in scenes.items()}
    valid = {n: np.pad(~np.isnan(p).any(axis=0), ends) for n, p in scenes.items()}

    def tile(array, y, x):
        return array[..., y : y + 224, x : x + 224]

    tokens = {}
    for y in ys:
        for x in xs:
            present = {n: tile(seen[n], y, x) for n in scenes if tile(valid[n], y, x).any()}
            if present:
                tokens[y, x] = merged(encode(present), tuple(scenes), merge)
    rows, columns = -(-height // 16), -(-width // 16)
    out = np.full((*next(iter(tokens.values())).shape[:-2], rows, columns), np.nan, dtype="float32")
    for row, column in np.ndindex(rows, columns):
        at_y, at_x = row * 16, column * 16
        if blend == "center":
            tiles = [(reference.nearest(row, ys), reference.nearest(column, xs))]
        else:
            tiles = [(y, x) for y in ys for x in xs if y <= at_y < y + 224 and x <= at_x < x + 224]
        own = [bool(mask[at_y : at_y + 16, at_x : at_x + 16].any()) for mask in valid.values()]
        if not any(own):
            continue
        cell = np.mean([tokens[y, x][..., (at_y - y) // 16, (at_x - x) // 16] for y, x in tiles], axis=0)
        if merge in ("dict", None):
            cell[~np.array(own)] = np.nan
        elif merge == "concat":
            cell[~np.repeat(own, EMBED_DIM)] = np.nan
        out[..., row, column] = cell
    return out
