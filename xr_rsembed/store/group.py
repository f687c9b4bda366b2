"""What a group in a store says of itself: the fingerprint of its run, and whether it is complete."""

from __future__ import annotations

import gc
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from xr_rsembed.errors import StoreError
from xr_rsembed.store.fingerprint import ATTR
from xr_rsembed.store.layout import KEYS, shard_key
from xr_rsembed.store.target import FOLDER, NEXT, Target

STATE = "rsembed_state"  # "starting", "incomplete" or "complete"
BLOCKS = "rsembed_blocks"  # the group of the blocks' digests
BEFORE = "rsembed_before"  # the fingerprint that a store had before an append that is not finished
WAY = "rsembed_keys"  # how its chunks are named
SCALE = "rsembed_scale"  # of int8 arrays, by name


@dataclass(frozen=True)
class Group:
    """A group's document, as it stands in ``zarr.json``; ``aside`` where it is to take another's place."""

    document: Mapping[str, Any]
    aside: bool = False

    @property
    def attrs(self) -> dict[str, Any]:
        return dict(self.document.get("attributes", {}))

    @property
    def ours(self) -> bool:
        return ATTR in self.attrs

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return dict(self.attrs[ATTR])

    @property
    def half_grown(self) -> bool:
        """Whether an append was cut off before all of the store had grown."""
        return self.attrs.get(BEFORE, {}) == self.attrs.get(ATTR)

    @property
    def state(self) -> str:
        return str(self.attrs.get(STATE, "complete"))

    @property
    def way(self) -> int:
        return int(self.attrs.get(WAY, 0))

    def scale(self, name: str) -> tuple[float, ...]:
        return tuple(self.attrs.get(SCALE, {}).get(name, ()))

    def put(self, target: Target, **attrs: Any) -> Group:
        """Write the document with other attrs, without those that are None; what is consolidated in it stays."""
        kept = {key: value for key, value in (self.attrs | attrs).items() if value is not None}
        changed = replace(self, document={**self.document, "attributes": kept})
        name = f"{NEXT}/zarr.json" if self.aside else "zarr.json"
        target.write(name, json.dumps(changed.document, indent=2, allow_nan=True).encode())
        return changed


def read_group(target: Target, *, aside: bool = False) -> Group | None:
    """The group that stands at a target, or that is being written to take its place; None where there is none."""
    data = target.read(f"{NEXT}/zarr.json" if aside else "zarr.json")
    if data is None:
        # Zarr 2 has other documents.
        return None if aside or target.read(".zgroup") is None else Group({"zarr_format": 2})
    document, found = None, "no object"
    try:
        document = json.loads(data)
    except ValueError as error:
        found = str(error)
    if not isinstance(document, dict):
        raise StoreError(
            f"{target} cannot be read as a Zarr store.",
            found=f"zarr.json: {found}",
            expected="a document of Zarr 3",
            remedy="write to another path, or remove the store yourself",
        )
    return Group(document, aside)


def ensure_parents(target: Target) -> None:
    """Make the groups above a group, where they are not there."""
    document = json.dumps({"attributes": {}, "zarr_format": 3, "node_type": "group"}, indent=2).encode()
    parts = target.group.split("/") if target.group else []
    for depth in range(len(parts)):
        above = target.under("/".join(parts[:depth]))
        if above.read("zarr.json") is None:
            above.create("zarr.json", document)


def consolidate_again(target: Target) -> None:
    """Renew a group's consolidated metadata, where it has any."""
    there = read_group(target)
    if there is not None and there.document.get("consolidated_metadata"):
        consolidate(target)


def consolidate(target: Target) -> None:
    """Write a group's consolidated metadata, where the store supports them."""
    if target.store.supports_consolidated_metadata:
        with warnings.catch_warnings():
            # Zarr says that consolidated metadata are not in the v3 core yet; xarray reads and writes them.
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(target.store, path=target.group or None, zarr_format=3)


def promote(target: Target) -> None:
    """Let the group that was written aside take the place of the one that is there, then remove what was that one's.

    The group's own document goes last: who reads by it sees the old store or the new one. A run that is cut off here
    is finished by the next.
    """
    documents = sorted(name.removeprefix(f"{NEXT}/") for name in target.objects(NEXT))
    for name in sorted(documents, key=lambda one: one == "zarr.json"):
        target.write(name, target.read(f"{NEXT}/{name}") or b"")
    kept = set(documents).union(
        *(_chunks(name, json.loads(target.read(name) or b"{}")) for name in documents)
    )
    own = own_objects(target)
    groups_below = bool(target.objects() - own)  # that are not in the new consolidated metadata
    target.remove(name for name in own - kept if not name.startswith(f"{FOLDER}/"))
    if groups_below:
        consolidate(target)
    tidy(target)  # last: until then the next run does all this again


def own_objects(target: Target) -> set[str]:
    """The objects of the group itself: those of groups below it are others' and stay when it is replaced."""
    names = target.objects()
    below = set()
    for name in names:
        child, _, document = name.partition("/")
        is_group = document == ".zgroup" or (
            document == "zarr.json" and json.loads(target.read(name) or b"{}").get("node_type") == "group"
        )
        if child != BLOCKS and is_group:
            below.add(child)
    return {name for name in names if name.partition("/")[0] not in below}


def tidy(target: Target) -> None:
    """Remove what only a run at work needs, and halves of files that a killed one left."""
    found = target.objects() if target.root is not None else target.objects(FOLDER)
    target.remove(name for name in found if name.startswith(f"{FOLDER}/") or name.endswith(".partial"))


def _chunks(name: str, document: Mapping[str, Any]) -> set[str]:
    """Names of all chunks that an array's document speaks of."""
    if document.get("node_type") != "array":
        return set()
    encoding = document["chunk_key_encoding"]
    separator = encoding.get("configuration", {}).get("separator", "/")
    way = KEYS.index({"name": encoding["name"], "separator": separator})
    chunk = document["chunk_grid"]["configuration"]["chunk_shape"]
    grid = (-(-size // one) for size, one in zip(document["shape"], chunk, strict=True))
    return {name.removesuffix("zarr.json") + shard_key(index, way) for index in product(*map(range, grid))}


def reads_from(dataset: xr.Dataset, target: Target) -> bool:
    """Whether the graph of an embedding reads from the group that would be replaced."""
    roots = [array.data for array in dataset.data_vars.values() if array.chunks is not None]
    return any(
        f"{one.path}/".startswith(f"{target.group}/" if target.group else "") and _same(one.store, target)
        for one in _reachable(roots)
        if isinstance(one, zarr.Array)
    )


def _same(store: Store, target: Target) -> bool:
    while hasattr(store, "_store"):  # a WrapperStore's own word for what it wraps
        store = store._store
    if isinstance(store, LocalStore):
        return target.root is not None and os.path.realpath(store.root) == str(target.root)
    if isinstance(store, FsspecStore):
        return target.files is not None and store.path.strip("/") == target.files[1].strip("/")
    return store is target.store or (type(store) is type(target.store) and store == target.store)


def _reachable(roots: list[Any], limit: int = 5_000_000) -> Iterator[Any]:
    """All objects that some objects hold, but for code and the bytes of arrays."""
    skipped = (type, type(gc), type(_reachable), str, bytes, int, float, np.ndarray, Path)
    seen: set[int] = set()
    waiting = list(roots)
    while waiting and len(seen) < limit:
        one = waiting.pop()
        if id(one) not in seen and not isinstance(one, skipped):
            seen.add(id(one))
            yield one
            waiting += gc.get_referents(one)
