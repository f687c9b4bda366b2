"""Die at each change of the disk in turn, look at what stands there, and go on.

    python -m tests.chaos.every_step [fresh] [overwrite] [append] [region]

A store is begun, replaced, appended to, or has a region written. The run dies before its first change of a file, then
before its second, and so on; each time the run that goes on dies too, some changes later. What was to be replaced must
read as the old store or the new one throughout, and at the end the store must be that of an undisturbed run, byte for
byte but where it was replaced. The exit status is 1 where one is not.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr

from tests.chaos.fake import embedding, files
from xr_rsembed.errors import StoreError
from xr_rsembed.store import block_record, disk, target
from xr_rsembed.store.read import open_zarr
from xr_rsembed.store.zarr import to_zarr

CHUNKS = ((24,), (28, 10), (28, 19))
AGAIN = 7  # changes after which the run that goes on dies too
NEVER = 10**9


class Dies(BaseException):
    """The end of a process, which no ``except Exception`` outlives."""


class Steps:
    """Counts the changes of the disk, and dies when there are none left."""

    left = NEVER

    def __init__(self) -> None:
        put, remove = disk.put_file, disk.remove_files

        def put_file(*arguments: Any, **options: Any) -> None:
            self._step()
            put(*arguments, **options)

        def remove_files(root: Path, names: Iterable[str]) -> None:
            for name in names:
                self._step()
                remove(root, [name])

        disk.put_file = target.put_file = put_file
        target.remove_files = remove_files

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Dies

    def survived(self, left: int, call: Callable[[], object]) -> bool:
        self.left = left
        try:
            call()
        except Dies:
            return False
        finally:
            self.left = NEVER
        return True


@dataclass(frozen=True)
class Case:
    """What stands in a place before, and the call that changes it."""

    change: Callable[..., xr.DataArray]
    before: Callable[[Path], object] = lambda path: None
    replaces: bool = False  # what stood there must be readable until the new store is

    def go_on(self, path: Path) -> xr.DataArray:
        try:
            return self.change(path, resume=True)
        except StoreError as error:  # the first run died before it changed anything
            if "begun with other" not in str(error):
                raise
            return self.change(path, resume=False)


def numbered(seed: int, **attrs: Any) -> xr.DataArray:
    return embedding(chunks=CHUNKS, seed=seed, **attrs).assign_coords(day=seed)


def dated(seed: int) -> xr.DataArray:
    day = np.datetime64("2022-06-01", "ns") + np.timedelta64(seed, "D")
    return numbered(seed).drop_vars("day").expand_dims(time=[day])


def region(seed: int) -> xr.DataArray:
    return numbered(seed).isel(y=slice(0, 28)).drop_vars("day")


CASES = {
    "fresh": Case(lambda path, resume: to_zarr(numbered(1), path, resume=True)),
    "overwrite": Case(
        lambda path, resume: to_zarr(numbered(1), path, resume=resume, overwrite=not resume),
        before=lambda path: to_zarr(numbered(0), path),
        replaces=True,
    ),
    "append": Case(
        lambda path, resume: to_zarr(dated(1), path, append_dim="time", resume=resume),
        before=lambda path: to_zarr(dated(0), path),
    ),
    "region": Case(
        lambda path, resume: to_zarr(region(1), path, region="auto", resume=resume),
        before=lambda path: to_zarr(numbered(0).drop_vars("day"), path),
    ),
}


def sweep(case: Case, folder: Path, steps: Steps) -> tuple[int, list[str]]:
    """How many changes an undisturbed run makes, and what went wrong where it died at one of them."""
    path, wrong = folder / "emb.zarr", []
    case.before(path)
    old = open_zarr(path).compute() if path.exists() else None
    new, expected = case.change(path, resume=False).compute(), files(path)
    number = 0
    while True:
        shutil.rmtree(path)
        case.before(path)
        if steps.survived(number, lambda: case.change(path, resume=False)):
            return number, wrong
        for _ in range(2):
            if case.replaces and not any(open_zarr(path).compute().identical(one) for one in (old, new)):
                wrong.append(f"dead at {number}: neither the old store nor the new one")
            steps.survived(AGAIN, lambda: case.go_on(path))
        try:
            right = case.go_on(path).compute().identical(new) and (case.replaces or files(path) == expected)
        except StoreError as error:
            wrong.append(f"dead at {number}: {error}")
        else:
            wrong += [] if right else [f"dead at {number}: another store than that of an undisturbed run"]
        number += 1


def main() -> int:
    warnings.simplefilter("ignore")
    block_record.FLUSH_S = -1.0  # a file for each digest
    steps, failed = Steps(), False
    for name in sys.argv[1:] or CASES:
        with (
            tempfile.TemporaryDirectory(prefix="rsembed-chaos-") as folder,
            dask.config.set(scheduler="sync"),
        ):
            number, wrong = sweep(CASES[name], Path(folder), steps)
        print(f"{name}: dead at each of {number} changes, {len(wrong)} wrong", *wrong, sep="\n  ", flush=True)
        failed |= bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
