"""A model that is cheap, exact, and sensitive to everything the engine could get wrong.

What it gives for a patch depends on the patch, on the whole tile, and on the place of the patch in its tile: a cell
that comes from the wrong tile, the wrong place or wrong neighbours comes out different.
"""

from __future__ import annotations

import threading

import numpy as np

from xr_rsembed.models import registry
from xr_rsembed.models.spec import Modality, ModelFamily, ModelSpec, Tokens
from xr_rsembed.normalize import Normalization

S2 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
EMBED_DIM = 5
CELLS = 14
DEPTH = 4

loads = 0
forwards: list[int] = []  # batch size of every forward since clear()
running = 0
most_running = 0
_lock = threading.Lock()


def clear() -> None:
    global most_running
    forwards.clear()
    most_running = 0


def encode(tile: np.ndarray, layer: int = DEPTH - 1) -> np.ndarray:
    """(C, 224, 224) to (D, 14, 14): patch mean, patch corner, tile mean, row and column in the tile."""
    patches = tile.reshape(len(tile), CELLS, 16, CELLS, 16)
    rows, columns = np.mgrid[:CELLS, :CELLS].astype("float32")
    values = [
        patches[0].mean(axis=(1, 3)),
        patches[-1][:, 5, :, 11],
        np.broadcast_to(tile.mean(), (CELLS, CELLS)),
        rows,
        columns,
    ]
    return np.stack(values).astype("float32") + np.float32(100 * (layer - (DEPTH - 1)))


class Probe:
    """The encoder; counts what it is asked for."""

    def __init__(self) -> None:
        global loads
        with _lock:
            loads += 1

    def __call__(self, inputs, layers, options):
        import torch

        global running, most_running
        with _lock:
            running += 1
            most_running = max(most_running, running)
        (tiles,) = inputs.values()
        forwards.append(len(tiles))
        layers = [layer % DEPTH for layer in layers]
        grids = np.stack([[encode(tile, layer) for layer in layers] for tile in tiles.numpy()])
        with _lock:
            running -= 1
        return Tokens(torch.from_numpy(grids))


def load(spec, request) -> Probe:
    return Probe()


SPEC = ModelSpec(
    key="probe",
    family="probe",
    embed_dim=EMBED_DIM,
    depth=DEPTH,
    modalities=(
        Modality(
            "S2L2A", S2, "DN", Normalization("scale", divisor=1000.0, clip=(0.0, 10.0), source="DN / 1000")
        ),
        Modality("S1GRD", ("VV", "VH"), "dB", Normalization("none")),
    ),
    load=load,
)


def modality_of(spec, name, options=None):
    """A modality as the model options leave it."""
    return spec.input(spec, name, {**spec.options, **(options or {})})


def register() -> None:
    registry.register(ModelFamily("probe", (SPEC,)))
