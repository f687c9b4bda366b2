"""Many things at work at once: those that are finished, one by one, and whether a cluster still has workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from xr_rsembed.config import get_option
from xr_rsembed.errors import StoreError, warn
from xr_rsembed.progress import say

_ASK_EVERY_S = 2.0
_WARN_AFTER_S = 30.0

Item = TypeVar("Item")


@contextmanager
def threads(number: int, name: str) -> Iterator[Executor]:
    """A pool of threads, for so many things of this name at a time; Ctrl-C waits for those at work, and says so."""
    with ThreadPoolExecutor(number, thread_name_prefix=f"xr-rsembed-{name}") as pool:
        try:
            yield pool
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, KeyboardInterrupt):
                say(f"interrupted: each {name} that is at work is finished first ...")
            raise


def as_finished(
    pool: Executor,
    work: Callable[[Item], Any],
    items: Iterable[Item],
    *,
    at_once: int,
    watch: WorkerWatch | None = None,
) -> Generator[tuple[Item, Future[Any]]]:
    """Work on items in a pool; gives each with its finished future, whose ``result()`` may raise.

    ``at_once`` of them are handed to the pool and not given back yet: the items, too, are taken one by one as there is
    room. ``watch`` is asked while a cluster is waited for.
    """
    items, begun = iter(items), dict[Future[Any], Item]()
    try:
        while True:
            for item in islice(items, at_once - len(begun)):
                begun[pool.submit(work, item)] = item
            if not begun:
                return
            for future in wait(begun, 1 if watch else None, FIRST_COMPLETED).done:
                yield begun.pop(future), future
                break  # the next item begins before another is given
            if watch:
                watch.check()
    finally:
        for future in begun:
            future.cancel()


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
