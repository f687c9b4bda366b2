"""What the checks of a scene give to the engine: one ``Input`` for each modality, and how its pixels are read."""

from __future__ import annotations

from dataclasses import dataclass

import xarray as xr

from xr_rsembed.normalize import Normalization


@dataclass(frozen=True)
class Pixels:
    """How a block reads raw pixels of one modality; small and picklable.

    A model's pixel is ``raw * scale + offset``, in the model's units.
    """

    modality: str
    normalization: Normalization
    bands: tuple[str, ...] = ()  # canonical names, in the order of the pixels
    nodata: tuple[float, ...] = ()  # raw values that mark an invalid pixel, besides NaN, which always does
    nodata_stated: bool = False  # whether anything says what marks an invalid pixel, NaN included
    valid_range: tuple[float, float] | None = None  # raw values beyond it are invalid
    scale: float = 1.0  # packing and linear units (feet, percent) in one
    offset: float = 0.0
    floor: float | None = None  # least valid value: 1 where 0 means nodata and an offset was taken off
    to_db: bool = False  # whether linear power is turned into dB
    power: bool = False  # whether pixels are linear power, of which 0 and less was never measured
    units: str = ""  # what the model takes and the values must bear out; empty where they are not known
    stated: str = ""  # units that the scene was said to be in; empty where nothing was said
    packed: bool = False  # whether raw pixels are whole numbers, with scale_factor or add_offset in attrs
    offset_due: bool = False  # whether metadata say that 1000 had to be taken off (Sentinel-2 from 04.00 on)


@dataclass(frozen=True)
class Input:
    """One checked modality."""

    scene: xr.DataArray  # dims (..., band, y, x), north up and west left
    bands: tuple[str, ...]
    pixels: Pixels
    units: str = ""  # those that the user gave as an argument
    variable: str = ""  # the scene's name in a Dataset
    flipped: tuple[str, ...] = ()  # the dims that run the other way in the scene that was given
