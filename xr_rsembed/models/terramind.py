"""TerraMind: its keys, modalities, pre-training statistics and options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xr_rsembed.errors import OptionError
from xr_rsembed.models.spec import (
    Encoder,
    EncoderRequest,
    Home,
    Layout,
    Modality,
    ModelFamily,
    ModelSpec,
    plain_input,
)
from xr_rsembed.normalize import Normalization

__all__ = ["FAMILY", "MERGES", "bands_of", "output_modalities"]

MERGES = ("mean", "max", "concat", "dict", None)

_L2A = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
_L1C = (*_L2A[:10], "B10", *_L2A[10:])
_RADAR = ("VV", "VH")
_DN_RANGE = (0.0, 10000.0)

_Statistics = dict[str, tuple[tuple[float, ...], tuple[float, ...]]]  # modality: means, deviations

# terratorch's terramind_register: v1_pretraining_mean / _std and v01_pretraining_mean / _std of the raw ("untok")
# inputs. Repeated here because importing terratorch takes ten seconds; a test holds them equal.
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
_STATISTICS = {"v1": _V1, "v01": _V01}
_BANDS_AND_UNITS: dict[str, tuple[tuple[str, ...], str]] = {
    "S2L2A": (_L2A, "DN"),
    "S2L1C": (_L1C, "DN"),
    "S1GRD": (_RADAR, "dB"),
    "S1RTC": (_RADAR, "dB"),
    "DEM": (("DEM",), "m"),
    "RGB": (("R", "G", "B"), ""),
}
# What a TiM key can imagine: the image modalities that have a tokenizer.
_TIM = {"v1": ("LULC", "NDVI", "DEM", "S1GRD", "S1RTC", "S2L2A"), "v01": ("LULC", "DEM", "S1GRD", "S2L2A")}


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


def output_modalities(modalities: tuple[str, ...], options: Mapping[str, Any]) -> tuple[str, ...]:
    """The modalities that have tokens in the output: the inputs, then those that a TiM key imagines."""
    return (*modalities, *(options.get("tim_modalities") or ()))


def _input(spec: ModelSpec, name: str, options: Mapping[str, Any]) -> Modality:
    modality = plain_input(spec, name, options)
    chosen = bands_of((name,), options.get("bands")).get(name)
    return modality.subset(chosen) if chosen else modality


def _layout(
    spec: ModelSpec, modalities: tuple[str, ...], layers: tuple[int, ...] | None, options: Mapping[str, Any]
) -> Layout:
    names = output_modalities(modalities, options)
    merge = options.get("merge", "mean")
    extra: list[tuple[str, tuple[Any, ...]]] = [("layer", layers)] if layers is not None else []
    if merge in ("dict", None):
        extra.append(("modality", names))
    apart = () if merge in ("mean", "max") else names
    return Layout(spec.embed_dim * (len(names) if merge == "concat" else 1), tuple(extra), apart)


def _check(spec: ModelSpec, modalities: tuple[str, ...], options: Mapping[str, Any]) -> None:
    merge = options.get("merge", "mean")
    if merge not in MERGES:
        raise OptionError("merge= cannot be used.", found=repr(merge), expected=", ".join(map(repr, MERGES)))
    declared = {modality.name: modality.bands for modality in spec.modalities}
    for name, chosen in bands_of(modalities, options.get("bands")).items():
        if name not in modalities:
            raise OptionError(
                f"bands= names {name!r}, which is not embedded.", found=name, expected=", ".join(modalities)
            )
        if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(declared[name]):
            raise OptionError(
                f"bands= for {name} cannot be used.",
                found=", ".join(map(str, chosen)) or "no band",
                expected=f"some of {' '.join(declared[name])}, each once",
            )
    if "tim_modalities" in spec.options:
        _check_tim(spec, modalities, options.get("tim_modalities", ()))


def _check_tim(spec: ModelSpec, modalities: tuple[str, ...], imagined: Any) -> None:
    possible = [name for name in _TIM[_version(spec.key)] if name not in modalities]
    known = not isinstance(imagined, str) and set(imagined) <= set(possible)
    if not known or not imagined or len(set(imagined)) < len(imagined):
        raise OptionError(
            f"tim_modalities= cannot be used with {', '.join(modalities)} as input.",
            found=repr(imagined),
            expected=f"a list with some of {', '.join(possible)}, each once",
        )


def _version(key: str) -> str:
    return key.split("_")[1]


def _load(spec: ModelSpec, request: EncoderRequest) -> Encoder:
    from xr_rsembed.models.terramind_torch import load

    return load(spec, request)


def _modality(version: str, name: str) -> Modality:
    mean, std = _STATISTICS[version][name]
    bands, units = _BANDS_AND_UNITS[name]
    source = f"terratorch {version}_pretraining_mean/std"
    clip = _DN_RANGE if units == "DN" else None
    if clip:
        source += ", DN clipped to 0..10000"
    return Modality(name, bands, units, Normalization("zscore", mean=mean, std=std, clip=clip, source=source))


@dataclass(frozen=True)
class _Size:
    version: str
    name: str
    embed_dim: int
    depth: int
    home: Home

    @property
    def key(self) -> str:
        return f"terramind_{self.version}_{self.name}"


def _spec(size: _Size, *, tim: bool = False) -> ModelSpec:
    options: dict[str, Any] = {"merge": "mean", "compile": False}
    options |= {"tim_modalities": ("LULC",)} if tim else {"bands": None}
    thinks = ", thinking in modalities (TiM)" if tim else ""
    return ModelSpec(
        key=size.key + ("_tim" if tim else ""),
        family="terramind",
        embed_dim=size.embed_dim,
        depth=size.depth,
        modalities=tuple(_modality(size.version, name) for name in _STATISTICS[size.version]),
        load=_load,
        home=size.home,
        options=options,
        load_options=frozenset(options) - {"merge"},
        input=_input,
        layout=_layout,
        check=_check,
        joint=True,
        pretrained_option="terramind.pretrained",
        summary=f"TerraMind {size.version} {size.name}{thinks}, an any-to-any transformer over modalities",
        licence="Apache-2.0",
        url=f"https://huggingface.co/{size.home.repo}",
    )


def _v1(name: str, embed_dim: int, depth: int) -> _Size:
    home = Home(f"ibm-esa-geospatial/TerraMind-1.0-{name}", f"TerraMind_v1_{name}.pt")
    return _Size("v1", name, embed_dim, depth, home)


_SIZES = (
    _v1("tiny", 192, 12),
    _v1("small", 384, 12),
    _v1("base", 768, 12),
    _v1("large", 1024, 24),
    _Size("v01", "base", 768, 12, Home("FAST-EO/TerraMind-0.1-base", "TerraMind_v01_base.pt")),
)

FAMILY = ModelFamily(
    name="terramind",
    specs=(*(_spec(size) for size in _SIZES), *(_spec(size, tim=True) for size in _SIZES)),
    aliases={"terramind": None},
)
