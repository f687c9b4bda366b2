"""The processes of a chaos run: ``python -m tests.chaos.roles cluster FOLDER`` or ``client FOLDER BLOCKS PLACE``."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from tests.chaos.fake import embedding

CHUNKS = {
    "regular": ((24,), (28,) * 6, (28,) * 6),
    "with an edge": ((24,), (28,) * 5 + (14,), (28,) * 5 + (9,)),
}
SECONDS = 0.15  # that a block takes


def cluster(folder: Path) -> None:
    """A LocalCluster of two workers; ``cluster.json`` says where it is and which processes its workers are."""
    from distributed import LocalCluster

    options = {
        "n_workers": 2,
        "threads_per_worker": 1,
        "dashboard_address": ":0",
        "silence_logs": logging.CRITICAL,
    }
    with LocalCluster(**options) as local:
        while True:
            pids = [nanny.pid for nanny in local.workers.values() if nanny.pid]
            part = folder / "cluster.part"
            part.write_text(json.dumps({"address": local.scheduler_address, "workers": pids}))
            os.replace(part, folder / "cluster.json")
            time.sleep(0.1)


def place(name: str, folder: Path) -> tuple[Any, dict[str, Any]]:
    """A store, and its options for to_zarr; objects lie in the bucket ``chaos`` of a server on loopback."""
    if name == "local":
        return folder / "emb.zarr", {}
    endpoint = os.environ["CHAOS_S3"]
    key = f"{folder.name}/emb.zarr"
    if name == "s3":
        return f"s3://chaos/{key}", {"storage_options": {"client_kwargs": {"endpoint_url": endpoint}}}
    import obstore.store
    import zarr.storage

    options = {"endpoint": endpoint, "access_key_id": "a", "secret_access_key": "b", "region": "us-east-1"}
    bucket = obstore.store.S3Store("chaos", prefix=key, **options, client_options={"allow_http": True})
    return zarr.storage.ObjectStore(bucket), {}


def icechunk(folder: Path) -> None:
    """Write the embedding in one session, which is committed at its end."""
    import icechunk

    from xr_rsembed.store.zarr import to_zarr

    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(folder / "ice")))
    session = repository.writable_session("main")
    emb = embedding(folder / "log", chunks=CHUNKS["regular"], seconds=SECONDS / 3, seed=1)
    to_zarr(emb, session.store, overwrite=True, progress=False)
    session.commit("embedded")


def client(folder: Path, blocks: str, where: str) -> None:
    """Write the embedding, or go on with it."""
    import dask
    from distributed import Client

    from xr_rsembed.store.zarr import to_zarr

    address = json.loads((folder / "cluster.json").read_text())["address"]
    # Half a minute of trying to reach a dead scheduler would only make the runs longer.
    with dask.config.set({"distributed.comm.timeouts.connect": "3s"}), Client(address):
        emb = embedding(folder / "log", chunks=CHUNKS[blocks], seconds=SECONDS)
        store, options = place(where, folder)
        to_zarr(emb, store, resume=True, progress=False, **options)


if __name__ == "__main__":
    role, folder, *rest = sys.argv[1:]
    {"cluster": cluster, "client": client, "icechunk": icechunk}[role](Path(folder), *rest)
