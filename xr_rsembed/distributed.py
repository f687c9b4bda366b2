"""A cluster's workers made ready; needs dask.distributed, which local use never imports."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import xarray as xr
from dask.base import tokenize

from xr_rsembed.engine import devices
from xr_rsembed.engine.plan import planned_jobs
from xr_rsembed.errors import OptionError
from xr_rsembed.extras import require

if TYPE_CHECKING:
    from distributed import Client, Worker

__all__ = ["EncoderPlugin", "warm"]


WorkerPlugin: Any = require("distributed.diagnostics.plugin", "A cluster").WorkerPlugin


class EncoderPlugin(WorkerPlugin):
    """Loads encoders when a worker starts, so that its first block does not wait for them.

    Parameters
    ----------
    jobs : tuple of Job
        Of the embeddings that the workers will compute.
    """

    idempotent = True

    def __init__(self, jobs: tuple[Any, ...]) -> None:
        self.jobs = jobs
        self.name = "rsembed-encoders-" + tokenize([job.request for job in jobs])

    async def setup(self, worker: Worker) -> None:
        # In a thread: loading takes seconds, in which the worker must go on answering the scheduler.
        await asyncio.to_thread(self._load)

    def _load(self) -> None:
        for job in self.jobs:
            devices.get_encoder(job.spec, job.request)


def warm(client: Client, *embeddings: xr.DataArray | xr.Dataset) -> None:
    """Load the encoders of lazy embeddings on every worker, also on those that join later.

    Without it each worker process loads an encoder when it meets its first block; once in either case.

    Parameters
    ----------
    client : distributed.Client
    *embeddings : DataArray or Dataset
        As ``embed`` gives them, lazy: they say which model, weights, device and precision.

    Raises
    ------
    OptionError
        If one of them is not a lazy embedding.
    WeightsError, DeviceError
        If a worker cannot load an encoder.

    Examples
    --------
    >>> warm(client, emb)  # doctest: +SKIP
    >>> emb.rsembed.to_zarr("emb.zarr")  # doctest: +SKIP
    """
    jobs: dict[Any, Any] = {}
    for embedding in embeddings:
        found = {job.request: job for job in planned_jobs(embedding.__dask_graph__())}
        if not found:
            raise OptionError(
                "There is no encoder to load for this.",
                found=f"a {type(embedding).__name__} without blocks that wait to be embedded",
                expected="what embed() gives for a lazy scene",
                remedy="da.chunk() the scene first; a computed embedding needs no encoder any more",
            )
        jobs |= found
    client.register_plugin(EncoderPlugin(tuple(jobs.values())))
