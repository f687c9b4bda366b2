"""Where weights come from: a request such as ``"pretrained"`` becomes a checked file, the same on every worker.

``resolve`` runs on the client while the graph is built; ``open_weights`` runs on the worker that loads the encoder.
No torch here.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from dataclasses import replace
from pathlib import Path

from xr_rsembed.config import get_option
from xr_rsembed.errors import HubError, OptionError, WeightsError, WeightsNotFoundError
from xr_rsembed.models.spec import HubFile, ModelSpec, WeightsRef

RANDOM_SEED = 0
_RANDOM = WeightsRef("random", f"random (seed {RANDOM_SEED})")
_HUB_FILE = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[^/@\s]+)/(?P<filename>\S+)")

_CHOICES = (
    '"pretrained", "random", the path of a checkpoint file, or "repo@revision/filename" of one on the hub'
)


def resolve(weights: str | os.PathLike[str], spec: ModelSpec) -> WeightsRef:
    """Turn a choice of weights into one exact file, downloading it where needed.

    ``"pretrained"`` is the model's file on the Hugging Face hub (``HF_HOME``, ``HF_HUB_OFFLINE`` and ``HF_ENDPOINT``
    are honoured), and ``"pretrained@REVISION"`` the same at a branch, tag or commit; ``"random"`` is seeded, for
    trying things out. Any other file on the hub is ``"repo@revision/filename"``, which is also how an embedding's attrs
    name the weights that made it; anything else is the path of a file.

    Raises
    ------
    HubError, WeightsNotFoundError
        The hub cannot be reached or has no such file, or there is none at that path.

    Examples
    --------
    >>> from xr_rsembed.models.registry import find_spec
    >>> resolve("random", find_spec("terramind_v1_tiny")).source
    'random (seed 0)'
    """
    if weights == "pretrained" and spec.pretrained_option and not get_option(spec.pretrained_option):
        return _RANDOM
    if isinstance(spec.weights, WeightsRef):
        if weights not in ("pretrained", spec.weights.source):
            raise OptionError(
                f"{spec.key} has its own weights.", found=repr(weights), expected='"pretrained"'
            )
        return spec.weights
    if weights in ("random", _RANDOM.source):
        return _RANDOM
    if not isinstance(weights, (str, os.PathLike)):
        raise OptionError("weights= cannot be used.", found=repr(weights), expected=_CHOICES)
    word, _, revision = str(weights).partition("@")
    if word == "pretrained":
        if spec.weights is None:
            raise WeightsNotFoundError(
                f"{spec.key} has no published weights.",
                expected='a file path or "random"',
                remedy='weights="model.pt"',
            )
        return _from_hub(spec.weights, revision)
    path = Path(weights).expanduser().absolute()
    named = _HUB_FILE.fullmatch(str(weights))
    if named and not path.exists():
        return _from_hub(HubFile(named["repo"], named["filename"]), named["revision"])
    if not path.is_file():
        raise WeightsNotFoundError(
            "There is no weights file at this path.",
            found=str(path) + (" (a folder)" if path.is_dir() else ""),
            expected=_CHOICES,
        )
    return WeightsRef("file", str(path), file_sha256(path))


def open_weights(ref: WeightsRef) -> Path:
    """The local file of resolved weights, refused where it is not the very file that the graph was built with."""
    if ref.kind == "hub":
        named = _HUB_FILE.fullmatch(ref.source)
        assert named is not None, "resolve() writes this form"
        path = _download(HubFile(**named.groupdict()))
    else:
        path = Path(ref.source)
        if not path.is_file():
            raise WeightsNotFoundError(
                "The weights file is not there where the encoder is to be loaded.",
                found=f"nothing at {path}",
                expected="the same path on every worker",
                remedy="put the file on a file system that all workers share",
            )
    found = file_sha256(path)
    if found != ref.sha256:
        raise WeightsError(
            f"The weights file {path} has changed since the graph was built.",
            found=f"sha256 {found}",
            expected=f"sha256 {ref.sha256}",
            remedy="call embed again, or put the former file back",
        )
    return path


def file_sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, computed once for each version of it."""
    path = Path(path)
    stat = path.stat()
    return _sha256(str(path), stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=64)
def _sha256(path: str, mtime_ns: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_hub(file: HubFile, revision: str) -> WeightsRef:
    file = replace(file, revision=revision or file.revision)
    path = _download(file)
    # The cache keeps each file under snapshots/<commit>/, which is the revision that the attrs should name.
    parts = path.parts
    commit = parts[parts.index("snapshots") + 1] if "snapshots" in parts else file.revision or "main"
    return WeightsRef("hub", f"{file.repo}@{commit}/{file.filename}", file_sha256(path))


def _download(file: HubFile) -> Path:
    """The file from the local hub cache or, where that lacks it, from the hub."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = str(file) + (f" at revision {file.revision}" if file.revision else "")
    try:
        path = Path(hf_hub_download(file.repo, file.filename, revision=file.revision))
    except LocalEntryNotFoundError as error:
        raise HubError(
            f"The weights {where} are not in the local cache, and the Hugging Face hub cannot be reached.",
            found="HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _first_line(error),
            expected="a connection to the hub, or the file in its cache",
            remedy=f'on a connected machine run "hf download {file.repo} {file.filename}" and copy the file here, then'
            ' weights="path/to/file"; or weights="random" to try things out',
        ) from error
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise HubError(
            f"The Hugging Face hub does not give out {where}.",
            found=file.note or _first_line(error),
            expected="a published file (a gated or private one needs HF_TOKEN)",
            remedy='weights="path/to/file" runs a file of your own; weights="random" tries things out',
        ) from error
    except Exception as error:
        # The client lets its HTTP library's errors through, and has changed that library before.
        raise HubError(
            f"The weights {where} could not be downloaded.",
            found=f"{type(error).__name__}: {_first_line(error)}",
            remedy='try again later, or use weights="path/to/file"; weights="random" tries things out',
        ) from error
    _refuse_damaged(path)
    return path


def _refuse_damaged(path: Path) -> None:
    """Raise where a file of the hub's cache is not what the hub gave out: large ones are stored by their SHA-256."""
    blob = path.resolve().name
    if re.fullmatch("[0-9a-f]{64}", blob) and file_sha256(path) != blob:
        raise WeightsError(
            f"The cached weights file {path} is damaged.",
            found=f"sha256 {file_sha256(path)}",
            expected=f"sha256 {blob}",
            remedy=f"delete {path.resolve()} and run again, to download it anew",
        )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
