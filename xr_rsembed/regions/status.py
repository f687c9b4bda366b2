"""How far a region is, by the records in its store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xr_rsembed.regions.store import RegionStore
from xr_rsembed.regions.units import Key


@dataclass(frozen=True)
class Status:
    """How far a region is, by the records in its store.

    Parameters
    ----------
    done, empty, left : list of str
        Units and periods: embedded; without a valid pixel; not worked on yet.
    failed : dict of str to str
        The reason by unit and period.
    """

    done: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = f"{len(self.done)} done, {len(self.empty)} empty, {len(self.failed)} failed, {len(self.left)} left"
        return "\n".join([counts, *(f"  {name}: {reason}" for name, reason in self.failed.items())])


def status_of(store: RegionStore, keys: Sequence[Key]) -> Status:
    """The status of these units by the store's records."""
    records, status = store.records(keys), Status()
    for unit, period in keys:
        name, record = f"{unit} {period}", records.get((unit, period), {"state": "left"})
        if record["state"] == "failed":
            status.failed[name] = str(record["reason"])
        else:
            getattr(status, record["state"]).append(name)
    return status
