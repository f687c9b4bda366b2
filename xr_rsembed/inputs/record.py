"""What the checks of a scene give to the engine: one ``Input`` for each modality, and how its pixels are read."""

from __future__ import annotations

from dataclasses import dataclass

import xarray as xr

from xr_rsembed.normalize import Normalization


@dataclass(frozen=True)
class Pixels:
    """How a block reads raw pixels of one modality; small and picklable.

    A model's pixel is ``raw * scale + offset``, in the model's units.

    Parameters
    ----------
    modality : str
    bands : tuple of str
        Canonical names, in the order of the pixels.
    normalization : Normalization
    nodata : tuple of float
        Raw values that mark an invalid pixel, besides NaN, which always does.
    nodata_stated : bool
        Whether anything says what marks an invalid pixel, NaN included.
    valid_range : (float, float), optional
        Raw values beyond it are invalid.
    scale, offset : float
        Packing and linear units (feet, percent) in one.
    floor : float, optional
        Least value of a valid pixel: 1 where 0 means nodata and an offset was taken off.
    to_db : bool
        True where linear power is turned into dB.
    power : bool
        Whether pixels are linear power, of which 0 and less was never measured.
    units : str
        Those that the model takes, which the block's values must bear out; empty where nothing is known of them.
    stated : str
        Those that the scene was said to be in; empty where nothing was said.
    packed : bool
        Whether raw pixels are packed: whole numbers, with ``scale_factor`` or ``add_offset`` in attrs.
    offset_due : bool
        Whether metadata say that 1000 had to be taken off these DN (Sentinel-2 from baseline 04.00 on).
    """

    modality: str
    normalization: Normalization
    bands: tuple[str, ...] = ()
    nodata: tuple[float, ...] = ()
    nodata_stated: bool = False
    valid_range: tuple[float, float] | None = None
    scale: float = 1.0
    offset: float = 0.0
    floor: float | None = None
    to_db: bool = False
    power: bool = False
    units: str = ""
    stated: str = ""
    packed: bool = False
    offset_due: bool = False


@dataclass(frozen=True)
class Input:
    """One checked modality: the scene with dims (..., band, y, x), north up and west left.

    ``units`` are those that the user gave as an argument, ``variable`` is the scene's name in a Dataset (both empty
    otherwise), and ``flipped`` are the dims that run the other way in the scene that was given.
    """

    scene: xr.DataArray
    bands: tuple[str, ...]
    pixels: Pixels
    units: str = ""
    variable: str = ""
    flipped: tuple[str, ...] = ()
