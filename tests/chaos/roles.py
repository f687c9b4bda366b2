"""The processes of a chaos run: ``python -m tests.chaos.roles cluster FOLDER`` or ``client FOLDER BLOCKS``."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path

from tests.chaos.fake import embedding

SIDE = (28, 26, 26, 26, 26, 14)
CHUNKS = {"regular": ((24,), (28,) * 6, (28,) * 6), "overlapped": ((24,), SIDE, SIDE)}
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


def client(folder: Path, blocks: str) -> None:
    """Write the embedding, or go on with it."""
    import dask
    from distributed import Client

    from xr_rsembed.store.zarr import to_zarr

    address = json.loads((folder / "cluster.json").read_text())["address"]
    # Half a minute of trying to reach a dead scheduler would only make the runs longer.
    with dask.config.set({"distributed.comm.timeouts.connect": "3s"}), Client(address):
        emb = embedding(folder / "log", chunks=CHUNKS[blocks], seconds=SECONDS)
        to_zarr(emb, folder / "emb.zarr", resume=True, progress=False)


if __name__ == "__main__":
    role, folder, *rest = sys.argv[1:]
    {"cluster": cluster, "client": client}[role](Path(folder), *rest)
