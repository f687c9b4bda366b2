"""Kill -9 whoever writes a store, at random moments, and see whether the store comes out as if nothing had happened.

    python -m tests.chaos.run_chaos --runs 20 --seed 0

Each run has a LocalCluster in a process of its own (its scheduler lives there), two worker processes, and a client in
another process that writes an embedding to Zarr. One or two of these are killed while blocks are run, and a client
with ``resume=True`` finishes the store, on a new cluster where the old one is gone. The store must be byte for byte
the one of an undisturbed run; the exit status is 1 where one is not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.fake import embedding, files, runs, starts
from tests.chaos.roles import CHUNKS, SECONDS
from xr_rsembed.store.zarr import to_zarr

ROOT = Path(__file__).resolve().parents[2]
VICTIMS = ("worker", "client", "scheduler")
BLOCKS = 36
PATIENCE = 120.0  # seconds


@dataclass
class Outcome:
    """What happened in one run."""

    blocks: str
    kills: list[str] = field(default_factory=list)
    lost: int = 0
    twice: int = 0
    identical: bool = False


class Stage:
    """The processes of one run."""

    def __init__(self, folder: Path, blocks: str) -> None:
        self.folder, self.blocks, self.log = folder, blocks, folder / "log"
        folder.mkdir()
        self.start_cluster()
        self.start_client()

    def start_cluster(self) -> None:
        (self.folder / "cluster.json").unlink(missing_ok=True)
        self.cluster = self._start("cluster")
        wait_until((self.folder / "cluster.json").exists)

    def start_client(self) -> None:
        self.client = self._start("client", self.blocks)

    def kill(self, victim: str, chance: random.Random) -> None:
        """Kill one process, and start what a user would have to start again."""
        if victim == "worker":  # distributed starts another one by itself
            pids = json.loads((self.folder / "cluster.json").read_text())["workers"]
            os.kill(chance.choice(pids), signal.SIGKILL)
            return
        process = self.client if victim == "client" else self.cluster
        process.kill()
        process.wait()
        if victim == "scheduler":
            self.client.wait(timeout=PATIENCE)  # it must notice by itself
            self.start_cluster()
        self.start_client()

    def finish(self) -> None:
        if self.client.wait(timeout=PATIENCE) != 0:
            raise RuntimeError((self.folder / "client.err").read_text())

    def close(self) -> None:
        for process in (self.client, self.cluster):
            process.kill()
            process.wait()

    def _start(self, role: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.chaos.roles", role, str(self.folder), *arguments]
        with (self.folder / f"{role}.err").open("wb") as errors:
            return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    outcomes = []
    print("| run | blocks | killed | begun and lost | run twice | identical |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="rsembed-chaos-") as folder:
        undisturbed = {name: reference(Path(folder, f"{name}.zarr"), name) for name in CHUNKS}
        for number in range(1, asked.runs + 1):
            one = disturb(Path(folder, str(number)), chance, undisturbed)
            outcomes.append(one)
            row = (
                number,
                one.blocks,
                ", ".join(one.kills),
                one.lost,
                one.twice,
                "yes" if one.identical else "NO",
            )
            print("|", " | ".join(map(str, row)), "|", flush=True)
    print(summary(outcomes))
    return 0 if all(one.identical for one in outcomes) else 1


def reference(path: Path, blocks: str) -> dict[str, bytes]:
    """The files of a store that nobody disturbed."""
    to_zarr(embedding(chunks=CHUNKS[blocks]), path, progress=False)
    return files(path)


def disturb(folder: Path, chance: random.Random, undisturbed: dict[str, dict[str, bytes]]) -> Outcome:
    """Write a store, kill once or twice on the way, and go on until it is finished."""
    outcome = Outcome(chance.choice(list(CHUNKS)))
    moments = sorted(chance.sample(range(1, BLOCKS - 4), chance.choice([1, 2])))
    stage = Stage(folder, outcome.blocks)
    try:
        for moment in moments:
            wait_until(lambda blocks=moment: len(set(runs(stage.log))) >= blocks)
            time.sleep(chance.uniform(0, SECONDS))
            outcome.kills.append(chance.choice(VICTIMS))
            stage.kill(outcome.kills[-1], chance)
        stage.finish()
    finally:
        stage.close()
    outcome.lost = len(starts(stage.log)) - len(runs(stage.log))
    outcome.twice = len(runs(stage.log)) - len(set(runs(stage.log)))
    outcome.identical = files(folder / "emb.zarr") == undisturbed[outcome.blocks]
    return outcome


def summary(outcomes: list[Outcome]) -> str:
    kills = sum(len(one.kills) for one in outcomes)
    lost, twice = sum(one.lost for one in outcomes), sum(one.twice for one in outcomes)
    same = sum(one.identical for one in outcomes)
    return (
        f"\n{len(outcomes)} runs of {BLOCKS} blocks, {kills} kills: {lost} blocks begun and lost, {twice} blocks of "
        f"{len(outcomes) * BLOCKS} run twice, {same} of {len(outcomes)} stores identical to an undisturbed run."
    )


def wait_until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError("nothing happened for two minutes")
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())
