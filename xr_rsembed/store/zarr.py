"""Embeddings to Zarr: metadata first, then shard by shard; a shard that is there is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Literal
from uuid import uuid4

import xarray as xr

from xr_rsembed.errors import OptionError, StoreError, StoreExistsError, StoreLockedError
from xr_rsembed.store import additions
from xr_rsembed.store.conventions import group_attrs
from xr_rsembed.store.fingerprint import ATTR, digest, fingerprint, require_format, require_same
from xr_rsembed.store.group import (
    Group,
    consolidate_root,
    ensure_parents,
    look,
    own_objects,
    promote,
    reads_from,
)
from xr_rsembed.store.layout import KEYS
from xr_rsembed.store.lock import locked
from xr_rsembed.store.metadata import as_dataset, write_metadata
from xr_rsembed.store.pieces import Piece, described_scales, measured, pieces_of
from xr_rsembed.store.read import open_target
from xr_rsembed.store.target import FOLDER, TOKEN, RunStore, StoreLike, Target, shared_token
from xr_rsembed.store.trouble import explained
from xr_rsembed.store.write import Run, anything_missing, begin_records, write

__all__ = ["to_zarr"]

_DTYPES = ("float32", "float16", "float64", "int8")
_MODES = ("w-", "w", "a", "r+")


def to_zarr(
    emb: xr.DataArray | xr.Dataset,
    store: StoreLike,
    *,
    group: str | None = None,
    mode: Literal["w-", "w", "a", "r+"] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    region: Mapping[str, slice | Literal["auto"]] | Literal["auto"] | None = None,
    append_dim: str | None = None,
    part: tuple[int, int] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    encoding: Mapping[str, Mapping[str, Any]] | None = None,
    dtype: str | None = None,
    scale: float | Literal["dimension"] | None = None,
    shards: Mapping[str, int] | None = None,
    chunks: Mapping[str, int] | None = None,
    verify: bool = True,
    retries: int = 1,
    compute: bool = True,
    model_url: str | None = None,
    source_data: Sequence[str] | None = None,
    progress: bool | None = None,
) -> Any:
    """Write an embedding to a Zarr v3 store, shard by shard; a run that was cut off can be resumed.

    The metadata comes first and says that the store is incomplete (``rsembed_state`` in the group's attrs). Every
    block is computed once and written as one shard, whole or not at all, by the worker that computed it. After a
    ``kill -9`` of the process, a worker or the scheduler, a full disk, a power cut or Ctrl-C the same call with
    ``resume=True`` computes the missing blocks only, and the store is byte for byte what an undisturbed run gives.
    The store can be read while it is written: cells that are not there yet are NaN.

    Parameters
    ----------
    emb : DataArray or Dataset
        Dims (..., D, y, x), lazy or not; a Dataset's variables (one for each modality, say) share one store, and
        what they share of a graph is computed once.
    store : path, URL or zarr.abc.store.Store
        A local path, an address that fsspec opens (chained ones too), or a store object such as ``MemoryStore``,
        ``ObjectStore`` (obstore) or the store of an Icechunk session, which you commit yourself.
    group : str, optional
        Path of the group in the store; by default its root.
    mode : {"w-", "w", "a", "r+"}, optional
        xarray's word: ``"w"`` is ``overwrite=True``; ``"a"`` goes with ``append_dim``, ``"r+"`` with ``region``.
    overwrite : bool
        Replace an embedding that is there, once the new one is complete.
    resume : bool
        Go on with the store that is there; starts one where there is none.
    region : mapping of dim to slice, or "auto"
        Write into this part of a store that is there; ``"auto"`` finds it by the coords. Its edges are shards' edges.
    append_dim : str, optional
        Add to the store along this dim, such as ``"time"``.
    part : (i, n), optional
        Write only the i-th (from 0) of n parts: n jobs write one store without talking to one another. Whoever
        finishes last marks it complete.
    storage_options : mapping, optional
        For fsspec.
    encoding : mapping of variable to mapping, optional
        xarray's; of it ``dtype``, ``chunks`` and ``shards``.
    dtype : {"float32", "float16", "float64", "int8"}, optional
        Type of the stored numbers; by default the embedding's own.
    scale : float or "dimension", optional
        For ``dtype="int8"``. By default one scale for all dimensions, which xarray decodes by itself (CF
        ``scale_factor``). It is taken from eight evenly spread blocks and stands in the store; values beyond 1.25
        times the largest of them are cut off there. A number sets the scale. ``"dimension"`` gives every dimension
        its own, which keeps more where ranges differ: kept in the array ``<name>_scale``, because xarray's decoding
        takes no array for a scale factor; :func:`xr_rsembed.open` applies it.
    shards, chunks : mapping of dim to length, optional
        Lengths of the shards (one object each) and of the chunks in them. By default a shard is a dask block where
        those are regular, else 112 x 112 cells in all dimensions, of chunks of 64 dimensions by 28 x 28 cells.
    verify : bool
        Prove on resume that the scene behind finished shards is still the same: the pixels are read again and
        compared by a digest that the store keeps of every block; an array that no model stands behind is computed
        again. ``False`` trusts, and is recorded in the store.
    retries : int
        How often a block that fails is tried again, before it is named in the error at the end.
    compute : bool
        ``False`` writes the metadata alone, for ``region=`` to fill in.
    model_url, source_data : str, sequence of str, optional
        URLs for the ``geoemb:`` attributes; by default from the embedding's attrs.
    progress : bool, optional
        Show a bar; by default in a terminal or notebook.

    Returns
    -------
    DataArray or Dataset
        The stored embedding, opened lazily.

    Raises
    ------
    StoreExistsError
        Where there is something already and none of ``overwrite``, ``resume``, ``region``, ``append_dim`` and
        ``part`` is set, or what is there was not written by this function.
    StoreLockedError
        While another process writes the store, or when another has taken it over.
    StoreError
        Where the store was begun with other data or settings (the message names them), the embedding reads from the
        store that it would replace, a coord cannot be stored, blocks failed, the disk is full, the place does not
        answer, or the cluster is gone; in the last four cases it can be resumed.
    OptionError
        For options that do not fit together.

    Examples
    --------
    >>> import tempfile
    >>> import dask.array as da
    >>> cells = da.ones((4, 30, 30), chunks=(4, 16, 16), dtype="float32")
    >>> emb = xr.DataArray(cells, dims=("D", "y", "x"), name="embedding")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stored = to_zarr(emb, f"{folder}/emb.zarr")
    ...     stored.sizes["D"], float(stored.mean())
    (4, 1.0)
    """
    overwrite = overwrite or mode == "w"
    _check_options(mode, overwrite, resume, region, append_dim, part, dtype, scale, retries)
    dataset = as_dataset(emb)
    target = Target.at(store, group=group, storage_options=storage_options)
    run_options: dict[str, Any] = {"retries": retries, "progress": progress}
    with explained(target, local=target.root is not None):
        if region is not None or append_dim is not None:
            there = look(target)
            if there is not None or region is not None:
                additions.add(
                    target, there, dataset, region, append_dim, resume=resume, verify=verify, **run_options
                )
                return open_target(target, quiet=region is not None)
        pieces = pieces_of(dataset, dtype, shards, chunks, encoding)
        attrs = group_attrs(
            dataset[pieces[0].name], dtype=pieces[0].layout.dtype, model=model_url, source_data=source_data
        )
        proof = {piece.name: piece.proof for piece in pieces}
        facts = fingerprint(
            dataset, [piece.layout for piece in pieces], proof=proof, group=attrs, scale=scale
        )
        begun = _there(target, facts, dataset, overwrite, resume, part)
        proved = False
        if begun is not None and begun.state == "complete" and not overwrite:
            run = Run(target, begun, pieces, b"", part)
            if not anything_missing(run, verify=verify, progress=progress):
                if begun.aside:
                    promote(target)
                return open_target(target)
            proved = verify
        with locked(_lock_path(target)) if part is None else nullcontext():
            begun = _there(target, facts, dataset, overwrite, resume, part)
            token = shared_token(digest(facts)) if part else uuid4().hex
            if begun is None or begun.state == "starting" or overwrite:
                begun, pieces, early = _begin(
                    target,
                    begun,
                    pieces,
                    dataset,
                    facts,
                    scale,
                    token.encode(),
                    part,
                    fresh=not (overwrite or resume or part),
                    **run_options,
                )
            else:
                pieces = [piece.scaled(begun.scale(piece.name)) for piece in pieces]
                early = {}
            run = Run(target, begun, pieces, token.encode(), part)
            if compute:
                write(run, early, verify=None if proved else verify, **run_options)
                if begun.aside and (look(target, aside=True) or begun).state == "complete":
                    promote(target)
            elif not target.commits:
                target.remove([TOKEN])
            consolidate_root(target)
        return open_target(target, quiet=part is not None or not compute)


def _check_options(
    mode: str | None,
    overwrite: bool,
    resume: bool,
    region: Any,
    append_dim: str | None,
    part: Any,
    dtype: str | None,
    scale: Any,
    retries: int,
) -> None:
    if mode is not None and mode not in _MODES:
        raise OptionError("There is no such mode.", found=repr(mode), expected=", ".join(_MODES))
    if (mode == "a" and append_dim is None) or (mode == "r+" and region is None):
        raise OptionError(
            f"mode={mode!r} needs to know where.",
            found=f"mode={mode!r} alone",
            expected='append_dim="time" beside "a", region={...} beside "r+"',
            remedy="overwrite=True replaces a store, resume=True goes on with it",
        )
    chosen = [
        name
        for name, on in (("overwrite", overwrite), ("region", region), ("append_dim", append_dim))
        if on not in (None, False)
    ]
    if overwrite and resume:
        chosen.append("resume")
    if part is not None and (chosen or resume):
        chosen += ["part"]
    if len(chosen) > 1:
        raise OptionError(
            f"{' and '.join(chosen)} exclude each other.", found="both", expected="at most one of them"
        )
    if part is not None:
        whole = isinstance(part, tuple | list) and len(part) == 2
        whole = whole and all(isinstance(n, int) and not isinstance(n, bool) for n in part)
        if not whole or not 0 <= part[0] < part[1]:
            raise OptionError("part names one of n parts.", found=repr(part), expected="(i, n), 0 <= i < n")
    if dtype is not None and dtype not in _DTYPES:
        raise OptionError("An embedding cannot be stored as this dtype.", found=dtype, expected=_DTYPES)
    if not isinstance(retries, int) or retries < 0:
        raise OptionError("retries is a number.", found=repr(retries), expected="0 or more")
    if scale is None:
        return
    if dtype != "int8":
        raise OptionError("scale is for int8 only.", found=f"dtype={dtype!r}", expected="dtype='int8'")
    number = isinstance(scale, int | float) and not isinstance(scale, bool) and 0 < scale < float("inf")
    if scale != "dimension" and not number:
        raise OptionError(
            "This scale cannot be used.", found=repr(scale), expected="a number above 0, or 'dimension'"
        )


def _lock_path(target: Target) -> Any:
    return None if target.root is None else target.root / target.group


def _there(
    target: Target, facts: Mapping[str, Any], dataset: xr.Dataset, overwrite: bool, resume: bool, part: Any
) -> Group | None:
    """What stands at the target; raises where going on would destroy or mix what nobody said to."""
    there = look(target)
    if there is None:
        held = {name for name in target.objects() if not name.startswith(f"{FOLDER}/")}
        begun = target.read(TOKEN) is not None if not target.commits else False
        if (held and not begun) or (target.root is not None and target.root.is_file()):
            raise StoreExistsError(
                f"{target} is there already and is no Zarr store.",
                found=f"a folder with {', '.join(sorted(held)[:3])}" if held else "a file",
                expected="a new path, or a store that to_zarr wrote",
                remedy="write to another path; what is there is left alone, whatever the options",
            )
        if begun and not (overwrite or resume or part):
            raise StoreExistsError(
                f"{target} is there already.",
                found="a store whose writing was cut off or has just begun",
                expected="a new path",
                remedy="resume=True to go on with it, overwrite=True to replace it",
            )
        return None
    if not there.ours:
        raise StoreExistsError(
            f"{target} is there already, and to_zarr did not write it.",
            found="a Zarr group without the fingerprint of an embedding",
            expected="a new path, or a store that to_zarr wrote",
            remedy="write to another path or group, or remove the store yourself; it is left alone, "
            "whatever the options",
        )
    if not (overwrite or resume or part):
        raise StoreExistsError(
            f"{target} is there already.",
            found="a finished store" if there.state == "complete" else "a store whose writing was cut off",
            expected="a new path",
            remedy="resume=True to go on with it, overwrite=True to replace it",
        )
    if overwrite:
        if reads_from(dataset, target):
            raise StoreError(
                f"{target} is what the embedding is read from, so it cannot be replaced by it.",
                found="overwrite=True onto the store of the source",
                expected="another place for the result",
                remedy="write to another path, and remove the old store when the new one is complete",
            )
        return there
    following = None if target.commits else look(target, aside=True)
    if following is not None and following.ours and digest(following.facts) == digest(facts):
        return following
    require_format(there.facts, str(target))
    require_same(there.facts, facts, str(target))
    return there


def _begin(
    target: Target,
    there: Group | None,
    pieces: Sequence[Piece],
    dataset: xr.Dataset,
    facts: Mapping[str, Any],
    scale: Any,
    token: bytes,
    part: Any,
    *,
    fresh: bool,
    retries: int,
    progress: bool | None,
) -> tuple[Group, list[Piece], dict[str, Any]]:
    """Settle the scales, and write all metadata and coords: aside, where another store keeps its place till the end."""
    pieces, early = measured(pieces, scale, progress=progress, retries=retries)
    aside = there is not None and not target.commits and (there.state != "starting" or there.aside)
    following = look(target, aside=True) if aside else None
    taken = {one.way for one in (there, following) if one is not None} if aside else set()
    way = next(n for n in range(len(KEYS)) if n not in taken)
    if not target.commits:
        if fresh and not target.create(TOKEN, token):
            raise StoreLockedError(
                f"Another writer has just begun {target}.",
                found="its token in the store",
                expected="one writer at a time",
                remedy="wait until it is done; if it died, go on with resume=True",
            )
        target.write(TOKEN, token)
        if aside:
            left = list(target.objects(f"{FOLDER}/next"))
            if left:
                target.remove(left)
    if (
        there is not None and not aside
    ):  # halves of a beginning; in an Icechunk session, what its commit replaces
        # The group's document is written over below: without it, Icechunk would drop the groups below it too.
        target.remove(sorted(own_objects(target) - {TOKEN, "zarr.json"}))
    ensure_parents(target)
    layouts = [piece.layout for piece in pieces]
    attrs = {**facts["group"], ATTR: dict(facts), **described_scales(layouts)}
    begun = Group.new(attrs, way, {one.name: one.scale for one in layouts}, aside)
    begun = begun.put(target)
    fenced = None if target.commits else token
    store = target.store if target.commits else RunStore(target.store, target.group, fenced, aside)
    write_metadata(store, target.group, dataset, layouts, begun.attrs, way)
    begin_records(Run(target, begun, pieces, token, part))
    begun = look(target, aside=aside) or begun
    return begun.put(target, rsembed_state="incomplete"), pieces, early
