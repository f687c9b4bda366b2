"""Kill -9 region runs, or their workers, at random moments; each must end byte for byte as an undisturbed one.

python -m tests.chaos.run_regions --runs 20             the process that runs the region is killed, and started again
python -m tests.chaos.run_regions --runs 20 --workers   worker processes are killed again and again; the client lives
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import shutil
import signal
import tempfile
import threading
import warnings
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import WorkerPlugin

from tests import fakes
from tests.servers.region import make_region
from tests.test_regions import begin, content, kill_and_finish
from xr_rsembed import set_options


class Registered(WorkerPlugin):
    """The cheap model, and what takes long to import, on every worker, also on those that take a killed one's place."""

    name = "probe"

    def setup(self, worker: Any) -> None:
        warnings.simplefilter("ignore")
        fakes.register()
        for name in ("torch", "odc.stac", "xr_rsembed.regions"):
            importlib.import_module(name)


class Killer(threading.Thread):
    """Kills a worker process of a cluster now and then, until it is told to stop."""

    def __init__(self, client: Client, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self.client, self.rng, self.ended, self.kills = client, rng, threading.Event(), 0

    def run(self) -> None:
        nannies = self.client.cluster.workers
        while not self.ended.wait(self.rng.uniform(0.2, 8)):
            # Only those that have joined: a nanny gives a worker up that dies while it starts.
            joined = self.client.scheduler_info()["workers"]
            if up := [one.pid for one in list(nannies.values()) if one.worker_address in joined and one.pid]:
                os.kill(self.rng.choice(up), signal.SIGKILL)
                self.kills += 1


def kill_workers_and_finish(made: Any, whole: Path, store: Path, seed: int) -> str:
    """Run a region on a cluster whose workers die; go on without kills where units failed; compare every byte."""
    with (
        # A busy machine takes longer than the usual 15 s to start a worker, which the cluster would then do without.
        dask.config.set({"distributed.deploy.lost-worker-timeout": "10 minutes"}),
        set_options(workers_wait=3000),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(Registered())
        killer = Killer(client, random.Random(seed))
        killer.start()
        try:
            status = begin(store, made).run(client=client)
        finally:
            killer.ended.set()
            killer.join()
    assert not status.left, "every unit is done, empty or named as failed"
    failed = len(status.failed)
    if failed:
        status = begin(store, made).retry()
    assert not status.failed
    assert content(store) == content(whole)
    return f"{killer.kills} workers killed, {failed} units failed, were named and tried again"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--workers", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    fakes.register()
    disturbed = kill_workers_and_finish if arguments.workers else kill_and_finish
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "made").mkdir()
        made = make_region(folder / "made")
        begin(folder / "whole.zarr", made).run()
        for seed in range(arguments.runs):
            said = disturbed(made, folder / "whole.zarr", folder / "killed.zarr", seed)
            shutil.rmtree(folder / "killed.zarr")
            print(f"run {seed}: the same bytes ({said})", flush=True)


if __name__ == "__main__":
    main()
