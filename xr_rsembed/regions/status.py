"""How far a region is, by the records in its store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xr_rsembed.regions.ledger import Ledger
from xr_rsembed.regions.units import Lattice, Unit, units_of

__all__ = ["Key", "Status", "finished", "requested", "status_of"]

Key = tuple[Unit, str]


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
        lines = [
            f"{len(self.done)} done, {len(self.empty)} empty, {len(self.failed)} failed, {len(self.left)} left"
        ]
        lines += [f"  {name}: {reason}" for name, reason in self.failed.items()]
        return "\n".join(lines)


def status_of(ledger: Ledger, keys: Sequence[Key]) -> Status:
    """The status of these units by the store's records."""
    records, status = ledger.records(keys), Status()
    for key in keys:
        name, record = f"{key[0]} {key[1]}", records.get(key)
        if record is None:
            status.left.append(name)
        elif record["state"] == "failed":
            status.failed[name] = str(record["reason"])
        else:
            (status.done if record["state"] == "done" else status.empty).append(name)
    return status


def requested(ledger: Ledger) -> list[Key]:
    """Every unit and period that any call asked this store for."""
    from shapely.geometry import shape

    content = ledger.settings()
    keys: dict[Key, None] = {}
    for request in content["requests"]:
        area = shape(request["area"])
        for period in request["periods"]:
            for lattice in content["zones"].values():
                keys |= dict.fromkeys((unit, period) for unit in units_of(area, Lattice(**lattice)))
    return list(keys)


def finished(ledger: Ledger) -> list[Key]:
    """Every unit and period that has cells in the store."""
    records = ledger.records(requested(ledger))
    return [key for key, record in records.items() if record["state"] == "done"]
