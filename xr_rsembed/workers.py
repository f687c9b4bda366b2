"""Whether a cluster still has workers, for those who wait for its results."""

from __future__ import annotations

import time
from typing import Any

from xr_rsembed.config import get_option
from xr_rsembed.errors import StoreError, warn

_ASK_EVERY_S = 2.0
_WARN_AFTER_S = 30.0


class WorkerWatch:
    """Ends the wait for a cluster that has no workers.

    A cluster that has none yet may be starting, or scaling up from 0: it has the seconds of the option
    ``workers_wait``. One that had workers and has lost all of them has a fifth of that to bring new ones.

    Parameters
    ----------
    client : distributed.Client
    remedy : str
        What to do after the cluster was mended.
    """

    def __init__(self, client: Any, remedy: str) -> None:
        self.client, self.remedy = client, remedy
        self._had_workers, self._warned = self._alive(), False
        self._asked = self._seen = time.monotonic()

    def check(self) -> None:
        """Ask the cluster, at most every other second; for callers to call again and again while they wait.

        Raises
        ------
        StoreError
            Where it has had no worker for too long, or where its scheduler is gone.
        """
        now = time.monotonic()
        if now - self._asked < _ASK_EVERY_S:
            return
        self._asked = now
        if self.client.status not in ("running", "connecting"):
            raise self.lost(f"a client that is {self.client.status}")
        if self._alive():
            self._seen, self._had_workers = now, True
            return
        wait = get_option("workers_wait") / (5 if self._had_workers else 1)
        if now - self._seen > wait:
            raise self.lost(f"no worker for {wait:.0f} seconds")
        if now - self._seen > _WARN_AFTER_S and not self._warned:
            self._warned = True
            warn(
                f"The cluster has no worker; it is waited for, {wait:.0f} seconds in all (option workers_wait)."
            )

    def lost(self, found: str) -> StoreError:
        """The error for a cluster that gives no more results."""
        return StoreError(
            "The cluster was lost while blocks were waited for.",
            found=found,
            expected="a scheduler that answers and workers that live",
            remedy=f"look into the workers' logs (memory?), start the cluster again, then {self.remedy}",
        )

    def _alive(self) -> bool:
        try:
            return self.client.status == "running" and bool(self.client.scheduler_info()["workers"])
        except Exception:  # the connection broke a moment ago, which its status will say
            return False
