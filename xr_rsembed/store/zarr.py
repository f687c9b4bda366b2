"""Embeddings to Zarr: metadata first, then shard by shard; a shard that is there is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Literal
from uuid import uuid4

import xarray as xr

from xr_rsembed.errors import OptionError, StoreError, one_of, whole_number
from xr_rsembed.store import additions
from xr_rsembed.store.begin import begin, found_there, next_group
from xr_rsembed.store.block_record import Run, shared_token
from xr_rsembed.store.conventions import group_attrs
from xr_rsembed.store.disk import locked
from xr_rsembed.store.fingerprint import fingerprint_of, hashed
from xr_rsembed.store.group import consolidate_again, promote, read_group
from xr_rsembed.store.io_errors import explained
from xr_rsembed.store.metadata import as_dataset, require_folder_name
from xr_rsembed.store.pieces import DTYPES, pieces_of, with_scale
from xr_rsembed.store.read import open_target
from xr_rsembed.store.target import TOKEN, StoreLike, Target
from xr_rsembed.store.write import write

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
    for name in target.group.split("/") if target.group else ():
        require_folder_name(name, "group")
    if target.store.read_only:
        raise StoreError(
            f"{target} cannot be written.",
            found="a store that was opened read-only",
            expected="a store that takes writes",
            remedy="open it without read_only=True; of Icechunk repository.writable_session(branch).store",
        )
    options: dict[str, Any] = {"retries": retries, "progress": progress}
    with explained(target, local=target.root is not None):
        if region is not None or (append_dim is not None and read_group(target) is not None):
            additions.add(target, dataset, region, append_dim, resume=resume, verify=verify, **options)
            return open_target(target, quiet=region is not None)
        pieces = pieces_of(dataset, dtype, {"shards": shards, "chunks": chunks}, encoding)
        about = dataset[pieces[0].name]
        attrs = group_attrs(about, dtype=pieces[0].layout.dtype, model=model_url, source_data=source_data)
        fingerprint = fingerprint_of(dataset, pieces, group=attrs, scale=scale)
        with locked(target.folder) if part is None else nullcontext():
            there = found_there(target, fingerprint, dataset, overwrite, resume, part)
            token = shared_token(hashed(fingerprint)) if part else uuid4().hex.encode()
            if there is None or there.state == "starting" or overwrite:
                pieces = [with_scale(one, scale, **options) for one in pieces]
                new = next_group(target, there, fingerprint, pieces)
                run = Run(target, new, pieces, token, part, shared=bool(part))
                run = begin(run, there, dataset, fresh=not (overwrite or resume or part))
            else:
                pieces = [one.scaled(there.scale(one.name)) for one in pieces]
                run = Run(target, there, pieces, token, part, shared=bool(part))
            if compute:
                write(run, verify=verify, **options)
                if run.group.aside and (read_group(target, aside=True) or run.group).state == "complete":
                    promote(target)
            elif not target.commits:
                target.remove([TOKEN])
            if target.group:
                consolidate_again(target.under(""))
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
    one_of("mode", mode, (None, *_MODES))
    whole_number("retries", retries, at_least=0)
    is_part = isinstance(part, tuple | list) and len(part) == 2 and all(type(n) is int for n in part)
    is_part = is_part and 0 <= part[0] < part[1]
    number = isinstance(scale, int | float) and not isinstance(scale, bool) and 0 < scale < float("inf")
    one_of("dtype", dtype, (None, *DTYPES))
    for name, value, fits, expected in (
        ("mode", mode, mode != "a" or append_dim is not None, 'append_dim="time" beside "a"'),
        ("mode", mode, mode != "r+" or region is not None, 'region={...} beside "r+"'),
        ("part", part, part is None or is_part, "(i, n): the i-th of n parts, from 0"),
        ("scale", scale, scale is None or dtype == "int8", "dtype='int8' beside it: scale is for int8 only"),
        ("scale", scale, scale in (None, "dimension") or number, "a number above 0, or 'dimension'"),
    ):
        if not fits:
            raise OptionError(
                f"{name} cannot be used like this.", found=f"{name}={value!r}", expected=expected
            )
    chosen = {"overwrite": overwrite, "region": region, "append_dim": append_dim, "part": part}
    names = [name for name, value in chosen.items() if value not in (None, False)]
    if resume and (overwrite or part):
        names.append("resume")
    if len(names) > 1:
        raise OptionError(
            f"{' and '.join(names)} exclude each other.", found="both", expected="at most one of them"
        )
