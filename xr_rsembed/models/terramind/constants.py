"""What TerraMind's keys are made of: modalities, statistics and names in weights files. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from xr_rsembed.bands import BANDS
from xr_rsembed.errors import OptionError
from xr_rsembed.models.spec import EncoderRequest, Modality, ModelSpec, plain_input
from xr_rsembed.normalize import Normalization

if TYPE_CHECKING:
    import torch

# The name of each modality's patch embedding in a weights file.
FILE_NAMES = {
    "S2L2A": "untok_sen2l2a@224",
    "S2L1C": "untok_sen2l1c@224",
    "S1GRD": "untok_sen1grd@224",
    "S1RTC": "untok_sen1rtc@224",
    "DEM": "untok_dem@224",
    "RGB": "untok_sen2rgb@224",
}

_DN_RANGE = (0.0, 10000.0)

_Statistics = dict[str, tuple[tuple[float, ...], tuple[float, ...]]]  # modality: means, deviations

# terratorch's terramind_register: v1_pretraining_mean / _std and v01_pretraining_mean / _std of the raw ("untok")
# inputs. A test holds them equal.
_V1: _Statistics = {
    "S2L2A": (
        (1390.458, 1503.317, 1718.197, 1853.91, 2199.1, 2779.975,
         2987.011, 3083.234, 3132.22, 3162.988, 2424.884, 1857.648),
        (2106.761, 2141.107, 2038.973, 2134.138, 2085.321, 1889.926,
         1820.257, 1871.918, 1753.829, 1797.379, 1434.261, 1334.311),
    ),
    "S2L1C": (
        (2357.089, 2137.385, 2018.788, 2082.986, 2295.651, 2854.537, 3122.849,
         3040.56, 3306.481, 1473.847, 506.07, 2472.825, 1838.929),
        (1624.683, 1675.806, 1557.708, 1833.702, 1823.738, 1733.977, 1732.131,
         1679.732, 1727.26, 1024.687, 442.165, 1331.411, 1160.419),
    ),
    "S1GRD": ((-12.599, -20.293), (5.195, 5.890)),
    "S1RTC": ((-10.93, -17.329), (4.391, 4.459)),
    "DEM": ((670.665,), (951.272,)),
    "RGB": ((87.271, 80.931, 66.667), (58.767, 47.663, 42.631)),
}  # fmt: skip
_V01: _Statistics = {
    "S2L2A": (
        (794.311, 925.161, 1183.128, 1338.041, 1667.254, 2233.633,
         2460.96, 2555.569, 2619.542, 2703.298, 2406.497, 1841.645),
        (1164.883, 1205.586, 1223.713, 1399.638, 1403.298, 1378.513,
         1434.924, 1491.141, 1454.089, 1660.395, 1473.248, 1365.080),
    ),
}  # fmt: skip
# Version 0.1 publishes statistics of raw inputs for S2L2A alone, so that is the input it takes here.
STATISTICS = {"v1": _V1, "v01": _V01}
_UNITS = {"S2L2A": "DN", "S2L1C": "DN", "S1GRD": "dB", "S1RTC": "dB", "DEM": "m", "RGB": "8-bit"}
# What a TiM key can imagine: the image modalities that have a tokenizer.
TIM = {"v1": ("LULC", "NDVI", "DEM", "S1GRD", "S1RTC", "S2L2A"), "v01": ("LULC", "DEM", "S1GRD", "S2L2A")}


def bands_of(modalities: tuple[str, ...], bands: Any) -> dict[str, tuple[str, ...]]:
    """The ``bands`` option by modality.

    Examples
    --------
    >>> bands_of(("S2L2A",), ["B2", "B3"])
    {'S2L2A': ('B2', 'B3')}
    """
    if bands is None:
        return {}
    # Inside an EncoderRequest the mapping is frozen to pairs.
    if not isinstance(bands, Mapping) and bands and all(isinstance(item, tuple) for item in bands):
        bands = dict(bands)
    if not isinstance(bands, Mapping):
        if len(modalities) != 1:
            raise OptionError(
                "bands= must say which modality it means.",
                found=f"a list, with the modalities {', '.join(modalities)}",
                expected=f'bands={{"{modalities[0]}": [...]}}',
            )
        bands = {modalities[0]: bands}
    return {name: tuple(names) for name, names in bands.items()}


def band_indices(spec: ModelSpec, request: EncoderRequest) -> dict[str, list[int]]:
    """The places of the bands asked for among all bands, for each modality of which not all are taken as they are."""
    return {
        name: [plain_input(spec, name, {}).bands.index(band) for band in chosen]
        for name, chosen in bands_of(request.modalities, request.option("bands")).items()
    }


def widen_embeddings(
    spec: ModelSpec, chosen: Mapping[str, list[int]], state: dict[str, torch.Tensor]
) -> None:
    """Give patch embeddings that were fine-tuned on just the ``chosen`` bands the others too, as zeros."""
    for name, index in chosen.items():
        ending, pixels = f"{FILE_NAMES[name]}.proj.weight", spec.patch_size**2
        bands = len(plain_input(spec, name, {}).bands)
        for key, stored in state.items():
            if key.endswith(ending) and stored.shape[-1] == len(index) * pixels < bands * pixels:
                wide = stored.new_zeros(len(stored), pixels, bands)
                wide[..., index] = stored.unflatten(1, (pixels, -1))
                state[key] = wide.flatten(1)


def tim_modalities(spec: ModelSpec, request: EncoderRequest) -> tuple[str, ...]:
    """What a TiM key imagines; nothing for the others."""
    return tuple(request.option("tim_modalities", spec.options.get("tim_modalities")) or ())


def modality(version: str, name: str) -> Modality:
    """One modality with the statistics of a version."""
    mean, std = STATISTICS[version][name]
    units = _UNITS[name]
    source = f"terratorch {version}_pretraining_mean/std"
    clip = _DN_RANGE if units == "DN" else None
    if clip:
        source += ", DN clipped to 0..10000"
    return Modality(
        name, BANDS[name], units, Normalization("zscore", mean=mean, std=std, clip=clip, source=source)
    )
