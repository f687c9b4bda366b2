"""TerraMind's keys, aliases and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from xr_rsembed.bands import terramind_name
from xr_rsembed.config import OPTIONS
from xr_rsembed.errors import OptionError
from xr_rsembed.models.encoder import Layout, load_from
from xr_rsembed.models.spec import HubFile, Modality, ModelFamily, ModelOption, ModelSpec, plain_input
from xr_rsembed.models.terramind.constants import STATISTICS, TIM, bands_of, modality
from xr_rsembed.models.terramind.outputs import GENERATION

MERGES = ("mean", "max", "concat", "dict", None)


def _input(spec: ModelSpec, name: str, options: Mapping[str, Any]) -> Modality:
    modality = plain_input(spec, name, options)
    chosen = bands_of((name,), options.get("bands")).get(name)
    if not options.get("clip", True):
        how = modality.normalization
        modality = replace(
            modality, normalization=replace(how, clip=None, source=how.source.split(", DN clip")[0])
        )
    return modality.subset(chosen) if chosen else modality


def _layout(
    spec: ModelSpec, modalities: tuple[str, ...], layers: tuple[int, ...] | None, options: Mapping[str, Any]
) -> Layout:
    names = (*modalities, *(options.get("tim_modalities") or ()))
    merge = options.get("merge", "mean")
    extra: list[tuple[str, tuple[Any, ...]]] = [("layer", layers)] if layers is not None else []
    if merge in ("dict", None):
        extra.append(("modality", names))
    apart = () if merge in ("mean", "max") else names
    return Layout(spec.embed_dim * (len(names) if merge == "concat" else 1), tuple(extra), apart)


def _check(spec: ModelSpec, modalities: tuple[str, ...], options: Mapping[str, Any]) -> None:
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
    possible = [name for name in TIM[spec.key.split("_")[1]] if name not in modalities]
    known = not isinstance(imagined, str) and set(imagined) <= set(possible)
    if not known or not imagined or len(set(imagined)) < len(imagined):
        raise OptionError(
            f"tim_modalities= cannot be used with {', '.join(modalities)} as input.",
            found=repr(imagined),
            expected=f"a list with some of {', '.join(possible)}, each once",
        )


_OPTIONS = {
    "merge": ModelOption("mean", "how the tokens of several modalities become one", MERGES),
    "clip": ModelOption(True, "clip Sentinel-2 to 0..10000 DN before the z-score", (True, False)),
    "compile": ModelOption(False, "compile the blocks with torch.compile", (True, False), loads=True),
}


def _attrs(bands: Sequence[str]) -> dict[str, Any]:
    return {"bands_terramind": [terramind_name(band) for band in bands]}


def _spec(
    version: str, name: str, embed_dim: int, depth: int, file: HubFile, *, tim: bool = False
) -> ModelSpec:
    options = (
        {"tim_modalities": ModelOption(("LULC",), "what to imagine first: a list of modalities", loads=True)}
        if tim
        else {
            "bands": ModelOption(None, "the bands to embed, a list of names or one by modality", loads=True),
            "engine": ModelOption("own", OPTIONS["terramind.engine"].help, ("own", "terratorch"), loads=True),
        }
    )
    thinks = ", thinking in modalities (TiM)" if tim else ""
    return ModelSpec(
        key=f"terramind_{version}_{name}" + ("_tim" if tim else ""),
        family="terramind",
        embed_dim=embed_dim,
        depth=depth,
        modalities=tuple(modality(version, one) for one in STATISTICS[version]),
        load=load_from("xr_rsembed.models.terramind.encoder"),
        weights=file,
        declared=_OPTIONS | options,
        attrs=_attrs,
        input=_input,
        layout=_layout,
        check=_check,
        joint=True,
        pretrained_option="terramind.pretrained",
        generation=GENERATION if version == "v1" and not tim else None,
        summary=f"TerraMind {version} {name}{thinks}, an any-to-any transformer over modalities",
        licence="Apache-2.0",
        url=f"https://huggingface.co/{file.repo}",
    )


def _v1(name: str) -> HubFile:
    return HubFile(f"ibm-esa-geospatial/TerraMind-1.0-{name}", f"TerraMind_v1_{name}.pt")


_SIZES = (
    ("v1", "tiny", 192, 12, _v1("tiny")),
    ("v1", "small", 384, 12, _v1("small")),
    ("v1", "base", 768, 12, _v1("base")),
    ("v1", "large", 1024, 24, _v1("large")),
    ("v01", "base", 768, 12, HubFile("FAST-EO/TerraMind-0.1-base", "TerraMind_v01_base.pt")),
)

FAMILY = ModelFamily(
    name="terramind",
    specs=(*(_spec(*size) for size in _SIZES), *(_spec(*size, tim=True) for size in _SIZES)),
    aliases={"terramind": None},
)
