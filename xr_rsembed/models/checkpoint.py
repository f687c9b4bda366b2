"""Weights files read safely and loaded strictly: no code runs, and no layer stays random without an error."""

from __future__ import annotations

import logging
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xr_rsembed.errors import WeightsError
from xr_rsembed.models.spec import WeightsRef
from xr_rsembed.models.weights import RANDOM_SEED, open_weights

if TYPE_CHECKING:
    import torch

# Training frameworks nest the weights under one of these entries ...
CONTAINERS = ("state_dict", "model_state_dict", "model", "module")
# ... and put some of these words before every key: DataParallel, Lightning tasks, TerraTorch's pixel-wise models
# (model.encoder.), torch.compile.
WRAPPERS = ("module", "model", "backbone", "encoder", "_orig_mod")
# Words of parts that fine-tuning puts into an encoder and that change what it gives.
_ADDED = re.compile(r"prompt|vpt|lora|adapter|ia3|linear_[ab]_|register_token|prefix_tuning")

log = logging.getLogger("xr_rsembed.models")


@dataclass(frozen=True)
class Loaded:
    """What a checkpoint gave a module: keys matched under ``prefix``, and keys of the file left out."""

    prefix: str
    matched: int
    surplus: tuple[str, ...]

    def __str__(self) -> str:
        under = f" under {self.prefix!r}" if self.prefix else ""
        if not self.surplus:
            return f"{self.matched} keys matched{under}, none left out"
        # Two words say which part of a model a key belongs to (decoder.0, head.weight) without listing thousands.
        parts = Counter(".".join(key.split(".")[:2]) for key in self.surplus)
        listed = ", ".join(f"{number} {part}" for part, number in parts.most_common(8))
        unused = f"{len(self.surplus)} left out, which this encoder does not use: {listed}"
        return f"{self.matched} keys matched{under}; {unused}"


def fill(
    module: torch.nn.Module,
    ref: WeightsRef,
    *,
    surplus: Literal["allow", "error"] = "allow",
    alias: Callable[[str], str] | None = None,
    fit: Callable[[dict[str, torch.Tensor]], None] | None = None,
) -> None:
    """Give a freshly built module its weights, whichever way they were chosen.

    ``fit`` sees the file's tensors first, and may change them to suit the module; the rest as in ``strict_load``.
    """
    if ref.kind == "random":
        randomize(module, alias=alias)
        return
    state = load_state_dict(ref)
    if fit is not None:
        fit(state)
    loaded = strict_load(module, state, surplus=surplus, alias=alias, source=ref.source)
    log.info("%s: %s", ref.source, loaded)


def load_state_dict(source: WeightsRef | str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a ``.safetensors`` file or of what ``torch.save`` wrote, read without running any code from it.

    They are taken out of containers such as ``{"state_dict": ...}``, and keep their keys.

    Raises
    ------
    WeightsError
        The file is truncated, is not a checkpoint, holds code, or is not the file that was resolved.
    """
    path = open_weights(source) if isinstance(source, WeightsRef) else Path(source)
    _check_sums(path)
    content = _read(path)
    for container in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
    tensors = _tensors(content) if isinstance(content, Mapping) else {}
    if not tensors:
        raise WeightsError(
            f"{path} holds no weights.",
            found=f"a {type(content).__name__}",
            expected="a state dict: names and tensors",
        )
    return tensors


def strict_load(
    module: torch.nn.Module,
    state: Mapping[str, torch.Tensor],
    *,
    surplus: Literal["allow", "error"] = "allow",
    alias: Callable[[str], str] | None = None,
    source: str = "the state dict",
) -> Loaded:
    """Load a state dict so that every parameter of the module comes from it.

    Buffers (position tables, the zero biases of bias-free norms) are constants that the model's code computes:
    they are taken from the file where it has them, and need not be there. What training left in batch norms must be.
    Prefixes made of ``WRAPPERS`` are taken off; ``alias`` gives another name under which a key may stand in the file;
    ``source`` is what messages call the state dict.

    Raises
    ------
    WeightsError
        Keys are missing, have another shape, or hold NaN; or are surplus inside the module (prompts, adapters, more
        layers), or, with ``surplus="error"``, anywhere.
    """
    targets = module.state_dict()
    needed = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    needed |= {name for name in targets if name.endswith((".running_mean", ".running_var"))}
    prefix = _common_prefix(state, targets)
    places = {key: _place(key, prefix, state, alias) for key in targets}
    missing = sorted(key for key in needed if places[key] is None)
    found = {key: state[place] for key, place in places.items() if place is not None}
    misfits = [
        f"{key}: {tuple(value.shape)}, not {tuple(targets[key].shape)}"
        for key, value in found.items()
        if value.shape != targets[key].shape
    ]
    used = set(places.values())
    loaded = Loaded(prefix, len(found) - len(misfits), tuple(key for key in state if key not in used))
    if missing or misfits:
        raise _mismatch(source, missing, misfits, loaded)
    floats = {key: value for key, value in found.items() if value.is_floating_point()}
    if bad := sorted(key for key, value in floats.items() if not value.isfinite().all()):
        raise WeightsError(
            f"{source} holds NaN or infinite weights.", found=_listed(bad), expected="finite numbers"
        )
    # What stands beside a wrapped encoder (a decoder, a loss) is another part of the task that it was trained in.
    strangers = [key for key in loaded.surplus if key.startswith(prefix)]
    if strangers and surplus == "error":
        raise WeightsError(
            f"{source} holds keys that this model has no place for.",
            found=_listed(strangers),
            expected="no other keys",
        )
    inside = [key for key in strangers if _is_inside(module, key.removeprefix(prefix))]
    if inside:
        raise WeightsError(
            f"{source} holds tensors inside the encoder that this model does not have: prompts, adapters, or layers.",
            found=_listed(inside),
            expected="a plain encoder, whose numbers do not hang on them",
            remedy="merge adapters into the weights before saving them (in peft: model.merge_and_unload()); an "
            "encoder with parts of its own runs as an object, embed(encoder)",
        )
    module.load_state_dict(found, strict=False)
    return loaded


def _is_inside(module: torch.nn.Module, key: str) -> bool:
    """Whether a surplus key belongs to a part that the module runs, rather than to what stands beside it.

    Other entries of a ModuleDict are other modalities, and a part without tensors stands for a head that was taken off.
    """
    import torch

    if _ADDED.search(key):
        return True
    words, part = key.split("."), module
    for depth, word in enumerate(words):
        children = dict(part.named_children())
        if word not in children:
            held = any(True for _ in (*part.parameters(), *part.buffers()))
            return depth > 0 and held and not isinstance(part, torch.nn.ModuleDict)
        part = children[word]
    return False


def randomize(
    module: torch.nn.Module, seed: int = RANDOM_SEED, *, alias: Callable[[str], str] | None = None
) -> None:
    """Fill a module with seeded random weights, each from its name in a weights file and its shape.

    So the same layer holds the same numbers in every process, whatever else the module holds, and torch's own
    random state is neither read nor moved.
    """
    import torch

    with torch.no_grad():
        for name, parameter in module.named_parameters():
            file_name = name if alias is None else alias(name)
            parameter.copy_(torch.from_numpy(_random_values(file_name, tuple(parameter.shape), seed)))


def _random_values(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    if name.endswith("bias"):
        return np.zeros(shape, dtype=np.float32)
    if len(shape) == 1 and name.endswith("weight"):
        return np.ones(shape, dtype=np.float32)
    # Vectors and tables that are added to tokens get a small scale; matrices keep the variance of what they map.
    matrix = name.endswith("weight") and "emb.weight" not in name
    fan_out, fan_in = shape[0], int(np.prod(shape[1:]))
    scale = (2.0 / (fan_in + fan_out)) ** 0.5 if matrix else 0.02
    values = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape, dtype=np.float32)
    values *= np.float32(scale)
    return values


def _check_sums(path: Path) -> None:
    """Raise where a checksum inside the file is wrong: torch.load does not look, and loads a flipped bit silently."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise _unreadable(path, error) from error
    if damaged is not None:
        raise WeightsError(
            f"{path} is damaged.",
            found=f"another checksum of its part {damaged}",
            expected="the bytes that were written",
            remedy="download or copy the file again",
        )


def _read(path: Path) -> Any:
    import pickle

    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch names the class or function that the file wants to call.
        wants = next((line for line in str(error).splitlines() if "GLOBAL" in line or "global" in line), None)
        if wants is None:
            raise _unreadable(path, error) from error
        raise WeightsError(
            f"{path} holds more than tensors, and reading it would run code from it.",
            found=wants.strip(),
            expected="tensors and plain values only",
            remedy="where you trust its maker, save its weights alone: "
            'torch.save(torch.load(path, weights_only=False)["state_dict"], "weights.pt")',
        ) from error
    except Exception as error:
        # zip, pickle, safetensors and torch each have their own words for a file that is no checkpoint.
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> WeightsError:
    first = next(iter(str(error).splitlines()), "")
    return WeightsError(
        f"{path} is not a checkpoint, or is truncated.",
        found=f"{path.stat().st_size} bytes; {type(error).__name__}: {first}",
        expected="a file written by torch.save, or a .safetensors file",
        remedy="download or copy the file again",
    )


def _tensors(content: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    import torch

    return {key: value for key, value in content.items() if isinstance(key, str) and torch.is_tensor(value)}


def _common_prefix(state: Mapping[str, Any], targets: Mapping[str, Any]) -> str:
    """The wrapper words before the module's keys: of all that the file has, those that match most keys."""
    matches: Counter[str] = Counter()
    for key in state:
        words = key.split(".")
        for count in range(len(words)):
            if ".".join(words[count:]) in targets:
                matches["".join(f"{word}." for word in words[:count])] += 1
            if words[count] not in WRAPPERS:
                break
    return max(matches, key=lambda prefix: (matches[prefix], -len(prefix)), default="")


def _place(key: str, prefix: str, state: Mapping[str, Any], alias: Callable[[str], str] | None) -> str | None:
    names = (prefix + key,) if alias is None else (prefix + key, prefix + alias(key))
    return next((name for name in names if name in state), None)


def _mismatch(source: str, missing: list[str], misfits: list[str], loaded: Loaded) -> WeightsError:
    lines = []
    if missing:
        lines.append(f"{len(missing)} keys missing: {_listed(missing)}")
    if misfits:
        lines.append(f"{len(misfits)} keys of another shape: {_listed(misfits)}")
    return WeightsError(
        f"{source} does not fit this model.",
        found="\n            ".join([*lines, str(loaded)]),
        expected="every parameter of the model, in its shape",
        remedy="check that the file belongs to this model key and holds the modalities asked for",
    )


def _listed(names: Iterable[str], most: int = 20) -> str:
    names = list(names)
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
