"""Whole regions: units of work on a grid of zones, one store, growing in time."""

from __future__ import annotations

from typing import Any

from xr_rsembed.regions.ledger import Ledger
from xr_rsembed.regions.run import RegionRun, Status, region, requested, status_of

__all__ = ["RegionRun", "Status", "region", "region_status"]


def region_status(store: Any, *, storage_options: Any = None) -> Status:
    """How far a region is, from its store alone.

    Raises
    ------
    StoreNotFoundError
        If there is no region.
    """
    ledger = Ledger(store, storage_options)
    return status_of(ledger, requested(ledger))
