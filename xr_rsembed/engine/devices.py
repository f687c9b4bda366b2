"""Devices, the per-process encoder cache, and the rule of one forward at a time per device."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import dask
from dask.base import tokenize
from dask.system import CPU_COUNT

from xr_rsembed.config import family_option, get_option
from xr_rsembed.errors import DeviceError, warn
from xr_rsembed.models.precision import has_bfloat16
from xr_rsembed.models.spec import Encoder, EncoderRequest, ModelSpec
from xr_rsembed.progress import progress, say_when_slow

T = TypeVar("T", bound=Any)

_encoders: dict[tuple[EncoderRequest, str], Encoder] = {}
_locks: defaultdict[Any, threading.RLock] = defaultdict(threading.RLock)
_registry_lock = threading.Lock()
_batch_limits: dict[tuple[str, str], int] = {}
_forked = False  # from a process that had torch, and with it the threads of OpenMP

_LARGEST_KEPT = 2**25  # bytes: arrays from here on, glibc always takes from the kernel and gives back to it


def _semaphores_by_kind() -> dict[str, threading.BoundedSemaphore]:
    """Blocks at a time by kind of device: see ``in_flight``."""
    return {kind: threading.BoundedSemaphore(number) for kind, number in (("cpu", 3), ("cuda", 12))}


_semaphores = _semaphores_by_kind()


def _after_fork() -> None:
    """New locks in a forked process: those that another thread held would never be released there."""
    global _registry_lock, _semaphores, _forked
    _locks.clear()
    _registry_lock, _semaphores, _forked = threading.Lock(), _semaphores_by_kind(), "torch" in sys.modules


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


def resolve_device(device: str) -> str:
    """The torch device of this process: ``auto`` is its current CUDA device, else the CPU; ``cuda`` gets its number."""
    torch = _torch()
    number = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        device = "cuda" if number else "cpu"
    try:
        kind = torch.device(device)
    except RuntimeError:
        kind = None
    if kind is None or kind.type not in ("cpu", "cuda", "mps"):
        raise DeviceError(
            "Unknown device.", found=repr(device), expected='"auto", "cpu", "cuda", "cuda:0" or "mps"'
        )
    if kind.type == "cpu" or (kind.type == "mps" and torch.backends.mps.is_available()):
        return str(kind.type)
    index = kind.index if kind.index is not None else torch.cuda.current_device() if number else 0
    if kind.type == "cuda" and index < number:
        return f"cuda:{index}"
    raise DeviceError(
        f"device={device!r} was asked for, and this process has no such device.",
        found=f"{number} CUDA devices, torch {torch.__version__} on {sys.platform}",
        expected=f"at least {index + 1}" if kind.type == "cuda" else "a Mac with an Apple GPU",
        remedy='device="auto" takes a CUDA device where there is one and the CPU elsewhere',
    )


def resolve_precision(precision: str, device: str) -> str:
    """What ``auto`` means on a device of this process: bfloat16 where it has units for it, else float32."""
    if precision != "auto":
        return precision
    return "bfloat16" if has_bfloat16(resolve_device(device)) else "float32"


def _torch() -> Any:
    """torch, whose first import takes seconds."""
    with contextlib.nullcontext() if "torch" in sys.modules else say_when_slow("importing torch ..."):
        import torch
    return torch


def check_device(device: str) -> None:
    """Fail while the graph is built if a device named outright is missing, unless workers elsewhere may have it."""
    if device != "auto" and _of_distributed("client", "default_client") is None:
        resolve_device(device)


def get_encoder(spec: ModelSpec, request: EncoderRequest) -> Encoder:
    """The encoder of this process for a request, on the device that its ``auto`` means here; loaded once a process."""
    request = replace(request, device=resolve_device(request.device))
    # The spec's load belongs to the key: a spec or family may come anew under an old name, as in a notebook.
    key = (request, tokenize(spec.load))
    with _registry_lock:
        lock = _locks[key]
    with lock:
        if request.weights.kind == "object":
            return spec.load(spec, request)  # it is there already, and not ours to keep
        if key not in _encoders:
            with say_when_slow(f"loading {spec.key} ..."):
                _encoders[key] = spec.load(spec, request)
            if request.device == "cpu" and get_option("keep_pages"):
                _keep_pages()
        return _encoders[key]


def _keep_pages() -> None:
    """Give one array of nearly 32 MiB back, untouched, so that glibc keeps the pages of arrays up to that size.

    glibc learns from what is freed, up to 32 MiB, and so would come to the same point by chance, or not at all.
    TerraMind base, two cores: 9 000 to 11 000 page faults a tile and 22 to 37 ms of the system's time without this,
    30 to 400 and 4 to 5 ms with it, of 560 ms. Other allocators are not moved by it.
    """
    import torch

    torch.empty(_LARGEST_KEPT - 2**14, dtype=torch.uint8)


def compute_here(collection: T, tiles: int = 0, description: str = "") -> T:
    """Compute in this process on threads of its own, with a bar of tiles: dask's may be those of a forked parent.

    A scheduler that ``dask.config`` names is taken, but for a cluster: what is in this process already, it would only
    copy away and back.
    """
    chosen = dask.config.get("scheduler", None)
    with progress(tiles, description, enabled=None if tiles else False):
        if chosen not in (None, "threads", "threading", "distributed", "dask.distributed"):
            return collection.compute(scheduler=chosen)
        with ThreadPoolExecutor(CPU_COUNT) as pool:
            return collection.compute(scheduler="threads", pool=pool)


def clear_encoders() -> None:
    """Forget every loaded encoder, and give its memory back."""
    _encoders.clear()


def batch_size(asked: int | str | None, spec: ModelSpec, device: str, modalities: int = 1) -> int:
    """Tiles a forward: as asked, or what suits the device, and never more than once filled its memory.

    A GPU wants enough tiles to fill it. A CPU wants activations that stay below 32 MiB, from where on glibc gets
    every array from the kernel and gives it back, page by page: 8 tiles rather than 16 save 17 % of the CPU time of
    TerraMind tiny (21.1 to 17.6 ms a tile) and 10 % of small (57.9 to 52.2 ms), with 300 page faults a tile, not 3400.
    """
    if isinstance(asked, int):
        size = asked
    elif asked == "auto" and device.startswith("cuda"):
        size = _batch_that_fits(spec, device)
    else:
        usual = 64 if device.startswith("cuda") else _batch_below_threshold(spec, modalities)
        size = family_option(spec.family, "batch_size") or usual
    return min(size, _batch_limits.get((spec.key, device), size))


def smaller_batch(spec: ModelSpec, device: str, failed: int) -> int:
    """Half the batch that a GPU's memory could not hold; remembered for the process, with one warning."""
    import torch

    torch.cuda.empty_cache()
    if failed <= 1:
        raise DeviceError(
            f"{device} has too little free memory for one tile through {spec.key}.",
            found="out of memory with batch_size=1",
            expected="room for one tile",
            remedy='precision="bfloat16", a smaller model, or free the GPU of other work',
        )
    if (spec.key, device) not in _batch_limits:
        warn(
            f"{device} ran out of memory with {failed} tiles of {spec.key} a batch; going on with smaller batches. "
            f"Set batch_size={failed // 2} to begin there."
        )
    _batch_limits[spec.key, device] = failed // 2
    return failed // 2


def _batch_below_threshold(spec: ModelSpec, modalities: int) -> int:
    """Tiles whose widest activation, four times a token's vector in float32, stays below 32 MiB; at most 8."""
    tokens = modalities * (spec.image_size // spec.patch_size) ** 2
    return max(1, min(8, _LARGEST_KEPT // (tokens * 4 * spec.embed_dim * 4)))


def _batch_that_fits(spec: ModelSpec, device: str) -> int:
    """Tiles whose activations take at most half of the free memory, up to 256."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    tokens = (spec.image_size // spec.patch_size) ** 2
    # A block keeps about 16 float32 copies of a token's vector at its widest point (qkv, mlp, residual).
    each = tokens * spec.embed_dim * 4 * 16 + spec.image_size**2 * 16 * 4
    return int(max(1, min(256, free // 2 // each)))


@contextlib.contextmanager
def one_at_a_time(device: str) -> Iterator[None]:
    """Wait for the device: one block computes, while other threads read the next ones.

    Two forwards at once on one device only share its cores and double the memory.
    """
    with _registry_lock:
        lock = _locks[device]
    with lock, _own_threads(device), _full_float32():
        yield


@contextlib.contextmanager
def in_flight(device: str) -> Iterator[None]:
    """Bound the blocks that this process holds beyond their source chunks: one computes, the others are made ready.

    A block of 1792 px in 12 bands of uint16 is 75 MiB, so more than are needed would only fill the memory of a machine
    with many threads. On a CPU two that are ready keep it busy however unevenly blocks come in. A GPU is quicker than
    the core that feeds it: putting a tile's pixels together and looking for invalid ones takes a core 0.9 ms, where
    an H200 at half its peak embeds one with a base model in 0.1 ms (by arithmetic, not measured).
    """
    # Not resolve_device: a device that is missing is the block's own error, which names its window.
    kind = "cuda" if device != "cpu" and _torch().cuda.is_available() else "cpu"
    with _semaphores[kind], _own_threads(device) if _forked else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _full_float32() -> Iterator[None]:
    """Keep float32 products in float32, whatever other packages have set.

    terratorch, on import, allows bfloat16 (CPUs with AMX) and TF32 (GPUs) in float32 products of the whole process.
    """
    import torch

    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # set for each backend, on purpose
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextlib.contextmanager
def _own_threads(device: str) -> Iterator[None]:
    """For one forward, the number of threads that suits this process.

    distributed starts workers with OMP_NUM_THREADS=1, meant for tasks that run side by side; ours run one at a time,
    so one thread would leave the others idle. A process forked after torch had threads has lost them, and would wait
    for them for ever; it runs on one. Anywhere else torch's default, all cores, is right.
    """
    import torch

    number = 1 if _forked else _worker_threads() if device == "cpu" else None
    if number is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _worker_threads() -> int | None:
    """Threads of the distributed worker that runs this thread, if one does; never imports distributed."""
    worker = _of_distributed("worker", "get_worker")
    return None if worker is None else int(worker.state.nthreads)


def _of_distributed(module: str, function: str) -> Any:
    """What a function of distributed finds, None where it finds nothing or distributed is not in use."""
    if sys.modules.get(f"distributed.{module}") is None:
        return None
    try:
        return getattr(sys.modules["distributed"], function)()
    except ValueError:
        return None
