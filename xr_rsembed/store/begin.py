"""The beginning of a store: what stands in its place already, and the metadata, which is written first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import xarray as xr

from xr_rsembed.errors import StoreError, StoreExistsError, StoreLockedError
from xr_rsembed.store import quantize
from xr_rsembed.store.additions import take_back
from xr_rsembed.store.block_record import Run
from xr_rsembed.store.fingerprint import ATTR, hashed, require_format, require_same
from xr_rsembed.store.group import (
    BLOCKS,
    SCALE,
    STATE,
    WAY,
    Group,
    ensure_parents,
    own_objects,
    read_group,
    reads_from,
)
from xr_rsembed.store.layout import KEYS
from xr_rsembed.store.metadata import metadata_objects
from xr_rsembed.store.pieces import Piece
from xr_rsembed.store.target import FOLDER, NEXT, TOKEN, Target


def found_there(
    target: Target,
    fingerprint: Mapping[str, Any],
    dataset: xr.Dataset,
    overwrite: bool,
    resume: bool,
    part: Any,
) -> Group | None:
    """The group at the target, to resume or to replace; raises where that would overwrite or mix data unasked."""
    existing = read_group(target)
    begun, foreign = existing is not None, ""
    if existing is None:
        names = target.objects()
        foreign_names = {name for name in names if not name.startswith(f"{FOLDER}/")}
        begun = not target.commits and TOKEN in names
        if (foreign_names and not begun) or (target.root is not None and target.root.is_file()):
            foreign = "is no Zarr store"
    elif not existing.ours:
        foreign = "to_zarr did not write it"
    if foreign:
        raise StoreExistsError(
            f"{target} is there already, and {foreign}.",
            found="other files, or a Zarr group without the fingerprint of an embedding",
            expected="a new path, or a store that to_zarr wrote",
            remedy="write to another path or group; what is there is left alone, whatever the options",
        )
    if begun and not (overwrite or resume or part):
        complete = existing is not None and existing.state == "complete"
        raise StoreExistsError(
            f"{target} is there already.",
            found="a finished store" if complete else "a store whose writing was cut off or has just begun",
            expected="a new path",
            remedy="resume=True to go on with it, overwrite=True to replace it",
        )
    if existing is None:
        return None
    if overwrite:
        if reads_from(dataset, target):
            raise StoreError(
                f"{target} is what the embedding is read from, so it cannot be replaced by it.",
                found="overwrite=True onto the store of the source",
                expected="another place for the result",
                remedy="write to another path, and remove the old store when the new one is complete",
            )
        return existing
    following = None if target.commits else read_group(target, aside=True)
    if following is not None and following.ours and hashed(following.fingerprint) == hashed(fingerprint):
        return following
    require_format(existing.fingerprint, str(target))
    if existing.half_grown:
        existing = take_back(target, existing)
    require_same(existing.fingerprint, fingerprint, str(target))
    return existing


def next_group(
    target: Target, there: Group | None, fingerprint: Mapping[str, Any], pieces: Sequence[Piece]
) -> Group:
    """The document of the group that is about to be written: aside, where another keeps its place till the end."""
    aside = there is not None and not target.commits and (there.state != "starting" or there.aside)
    layouts = [piece.layout for piece in pieces]
    attrs = {**fingerprint["group"], ATTR: dict(fingerprint)}
    if layouts[0].scale:
        quantization = quantize.described(layouts[0].name, layouts[0].scale, layouts[0].source)
        attrs["geoemb:quantization"] = quantization
    ways = list(range(len(KEYS)))
    if aside:
        old, half = read_group(target), read_group(target, aside=True)
        # Another kind of chunk key: keys of one kind differ in their separator alone, and those of scalars not at all.
        ways = [n for n in ways if old is None or KEYS[n]["name"] != KEYS[old.way]["name"]]
        ways = [n for n in ways if half is None or n != half.way]  # a straggling worker may still write those
    attrs |= {STATE: "starting", WAY: ways[0], SCALE: {one.name: list(one.scale) for one in layouts}}
    return Group({"attributes": attrs, "zarr_format": 3, "node_type": "group"}, aside)


def begin(run: Run, existing: Group | None, dataset: xr.Dataset, *, fresh: bool) -> Run:
    """Write all metadata and coords."""
    target, group = run.target, run.group
    if not target.commits:
        if not fresh:
            target.write(TOKEN, run.token)
        elif not target.create(TOKEN, run.token) or read_group(target) is not None:
            raise StoreLockedError(
                f"Another writer has just begun {target}.",
                found="its token in the store",
                expected="one writer at a time",
                remedy="wait until it is done; if it died, go on with resume=True",
            )
        if group.aside and (left := target.objects(NEXT)):
            target.remove(left)
    if existing is not None and not group.aside:
        # What an interrupted beginning left; in an Icechunk session, what its commit replaces. The group's document is
        # written over below: without it, Icechunk would drop the groups below it too.
        target.remove(own_objects(target) - {TOKEN, "zarr.json"})
    ensure_parents(target)
    group = group.put(target)
    # Where two parts begin at once, the first may have written digests already: those stay.
    left = set() if fresh or run.part else target.objects(BLOCKS)
    objects = metadata_objects(
        dataset,
        group,
        [piece.layout for piece in run.pieces],
        consolidated=target.store.supports_consolidated_metadata,
        parts=run.part[1] if run.part else 1,
        zeros=any(not name.endswith("zarr.json") for name in left),
    )
    document = json.loads(objects.pop("zarr.json"))
    for name, data in objects.items():
        target.write(f"{NEXT}/{name}" if group.aside and name.endswith("zarr.json") else name, data)
    return replace(
        run,
        group=replace(group, document=document).put(target, **{STATE: "incomplete"}),
        begun=run.part is None,
    )
