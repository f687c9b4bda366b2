"""One number a block that proves on resume that its scene is still the same, without the model.

The engine's windows are layers of the graph named ``rsembed-windows-``: the raw pixels that a block's tiles see. A
block's digest covers every window that it depends on, also those of neighbours it is blended with. What has no such
layers is proved by its own values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.core import flatten

from xr_rsembed.errors import StoreError
from xr_rsembed.store.layout import Index


def windows_of(array: da.Array) -> Mapping[Index, tuple[Any, ...]] | None:
    """Keys of the windows that each block of an array depends on; None where its graph has none.

    A block without a window of its own (padding only) has an empty tuple.
    """
    graph: Any = array.__dask_graph__()
    names = [name for name in graph.layers if str(name).startswith("rsembed-windows-")]
    if not names:
        return None
    windows = {key for name in names for key in graph.layers[name].get_output_keys()}
    needs = graph.get_all_dependencies()
    known: dict[Any, frozenset[Any]] = {}
    blocks = list(flatten(array.__dask_keys__()))
    waiting = list(blocks)
    while waiting:
        key = waiting[-1]
        below = () if key in windows else needs.get(key, ())
        unknown = [one for one in below if one not in known]
        if unknown:
            waiting += unknown
            continue
        own = (key,) if key in windows else ()
        known[waiting.pop()] = frozenset(own).union(*(known[one] for one in below))
    return {tuple(block[1:]): tuple(sorted(known[block], key=repr)) for block in blocks}


def digest(values: np.ndarray) -> int:
    """A number for an array's dtype, shape and bytes; never 0.

    Examples
    --------
    >>> digest(np.zeros(3)) == digest(np.zeros(3)), digest(np.zeros(3)) == digest(np.zeros(4))
    (True, False)
    """
    values = np.ascontiguousarray(values)
    head = f"{values.dtype.str}{values.shape}".encode()
    if values.dtype.kind not in "biufcmM":
        return _number(head + repr(values.tolist()).encode())
    hasher = hashlib.blake2b(head, digest_size=8)
    hasher.update(values.reshape(-1).view("u1").data)  # hashed without holding the interpreter
    return int.from_bytes(hasher.digest()) or 1


def combined(digests: Sequence[int]) -> int:
    """One number for several."""
    return _number(repr(list(digests)).encode())


@lru_cache(maxsize=1)
def code_digest() -> str:
    """A short text for all source files of the installed xr_rsembed."""
    root = Path(__file__).resolve().parents[1]
    hasher = hashlib.blake2b(digest_size=8)
    for file in sorted(root.rglob("*.py")):
        hasher.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes())
    return hasher.hexdigest()


def require_code(found: object, expected: str, worker: str = "this one") -> None:
    """A StoreError unless a worker's :func:`code_digest` is that of the process that writes the store."""
    if found != expected:
        raise StoreError(
            "A worker has another xr_rsembed than the process that writes the store.",
            found=f"{worker} with code {found}",
            expected=f"code {expected}",
            remedy="install the same version on every worker, then start the workers again",
        )


def _number(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest()) or 1
