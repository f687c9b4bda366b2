"""What a bug report needs first: versions, devices, caches, weights at hand, and what is wrong."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from xr_rsembed._version import __version__
from xr_rsembed.config import get_option, unknown_variables
from xr_rsembed.errors import OptionError, RsEmbedError
from xr_rsembed.models.registry import find_spec, list_models
from xr_rsembed.models.spec import EncoderRequest, HubFile


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    state: Literal["ok", "note", "wrong"]
    about: str
    says: str


def examine() -> list[Finding]:
    """Look at this installation, without reaching out to any server.

    >>> examine()[0].about
    'xr-rsembed'
    """
    return [
        Finding(
            "ok", "xr-rsembed", f"{__version__} on Python {platform.python_version()}, {platform.platform()}"
        ),
        *_packages(),
        _device(),
        _options(),
        _cache(),
        *_weights(),
    ]


def verify(key: str, weights: str = "pretrained") -> Finding:
    """Run a TerraMind encoder of this package and TerraTorch's on the same weights, and say how far they are apart.

    Wrong where any layer's tokens differ by more than 1e-5 of the largest value.
    """
    import torch

    from xr_rsembed.models.weights import resolve

    spec = find_spec(key)
    if "engine" not in spec.declared:
        both = [one for one in list_models() if "engine" in find_spec(one).declared]
        raise OptionError(f"{spec.key} has no second engine.", found=key, expected=", ".join(both))
    ref, names = resolve(weights, spec), tuple(one.name for one in spec.modalities)
    generator = torch.Generator().manual_seed(0)
    tile = {
        one.name: torch.randn(1, len(one.bands), spec.image_size, spec.image_size, generator=generator)
        for one in spec.modalities
    }
    grids = []
    for engine in ("own", "terratorch"):
        encoder = spec.load(spec, EncoderRequest(spec.key, names, ref, options=(("engine", engine),)))
        with torch.inference_mode():
            grids.append(encoder(tile, tuple(range(spec.depth)), {"merge": None}).grid)
        del encoder
    scale = grids[1].abs().amax(dim=(0, *range(2, grids[1].ndim))).clamp(min=1e-6)
    apart = (grids[0] - grids[1]).abs().amax(dim=(0, *range(2, grids[1].ndim))) / scale
    worst = int(apart.argmax())
    return Finding(
        "ok" if float(apart.max()) <= 1e-5 else "wrong",
        f"verify {spec.key}",
        f"own and TerraTorch's encoder differ by at most {float(apart.max()):.1e} of the largest value (layer {worst} "
        f"of {spec.depth}, {', '.join(names)}; {ref.source})",
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _packages() -> Iterator[Finding]:
    """The packages that this one needs, and its extras for users, as its own metadata list them."""
    needs: dict[str, list[str]] = {}
    for line in (_version("xr-rsembed") and metadata.requires("xr-rsembed")) or ():
        name, only_for = re.split(r"[^\w.-]", line, maxsplit=1)[0], re.search(r"extra == .(\w+)", line)
        needs.setdefault(only_for[1] if only_for else "", []).append(name)
    for name in sorted(needs.pop("", ()), key=str.lower):
        version = _version(name)
        yield Finding("ok" if version else "wrong", name, version or "missing: pip install xr-rsembed")
    for extra in sorted(needs.keys() - {"all", "dev", "docs", "test"}):
        missing = ", ".join(name for name in needs[extra] if _version(name) is None)
        says = f"without {missing}: pip install 'xr-rsembed[{extra}]'" if missing else "complete"
        yield Finding("note" if missing else "ok", f"extra {extra}", says)


def _device() -> Finding:
    try:
        import torch

        if torch.cuda.is_available():
            names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
            return Finding("ok", "device", ", ".join(names))
        return Finding("note", "device", f"CPU only, {torch.get_num_threads()} threads")
    except Exception as error:
        return Finding("wrong", "device", f"torch cannot be used: {error}")


def _options() -> Finding:
    try:
        get_option("block_tiles")
    except RsEmbedError as error:
        return Finding("wrong", "options", " ".join(str(error).split()))
    if unknown := unknown_variables():
        return Finding("note", "options", "; ".join(unknown))
    names = sorted(name for name in os.environ if name.startswith("RS_EMBED_"))
    return Finding("ok", "options", f"environment sets {', '.join(names)}" if names else "the defaults")


def _cache() -> Finding:
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    offline = ", offline (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else ""
    if not folder.exists():
        return Finding("note", "hub cache", f"{folder} is not there yet{offline}")
    if not os.access(folder, os.W_OK):
        return Finding("wrong", "hub cache", f"{folder} cannot be written{offline}")
    return Finding("ok", "hub cache", f"{folder}{offline}")


def _weights() -> Iterator[Finding]:
    from huggingface_hub import try_to_load_from_cache

    absent = []
    for key in list_models():
        file = find_spec(key).weights
        if not isinstance(file, HubFile):
            continue
        found = try_to_load_from_cache(file.repo, file.filename, revision=file.revision)
        if isinstance(found, str):
            yield Finding("ok", f"weights {key}", f"cached, {os.path.getsize(found) / 1e6:.0f} MB")
        else:
            absent.append(key)
    if absent:
        yield Finding("note", "weights", f"downloaded at first use: {', '.join(absent)}")
