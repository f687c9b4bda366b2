"""Kill -9 whoever writes a store, at random moments, and see whether the store comes out as if nothing had happened.

    python -m tests.chaos.run_chaos --runs 20 --seed 0 --place local

Places: ``local``, ``s3`` (an address, by s3fs) and ``obstore`` (a store object) on a server on loopback, ``icechunk``.

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
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.fake import embedding, files, runs, starts
from tests.chaos.roles import CHUNKS, SECONDS
from xr_rsembed.store.zarr import to_zarr

ROOT = Path(__file__).resolve().parents[2]
VICTIMS = ("worker", "client", "scheduler")
BLOCKS = 36
TIMEOUT_S = 120.0


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

    def __init__(self, folder: Path, blocks: str, place: str) -> None:
        self.folder, self.blocks, self.place, self.log = folder, blocks, place, folder / "log"
        folder.mkdir()
        self.start_cluster()
        self.start_client()

    def start_cluster(self) -> None:
        (self.folder / "cluster.json").unlink(missing_ok=True)
        self.cluster = self._start("cluster")
        wait_until((self.folder / "cluster.json").exists)

    def start_client(self) -> None:
        self.client = self._start("client", self.blocks, self.place)

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
            self.client.wait(timeout=TIMEOUT_S)  # it must notice by itself
            self.start_cluster()
        self.start_client()

    def finish(self) -> None:
        if self.client.wait(timeout=TIMEOUT_S) != 0:
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
    parser.add_argument("--place", choices=("local", "s3", "obstore", "icechunk"), default="local")
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    outcomes = []
    print(f"place: {asked.place}")
    if asked.place == "icechunk":
        return icechunk_runs(asked.runs, chance)
    with server() if asked.place in ("s3", "obstore") else nullcontext():
        return store_runs(asked.runs, chance, asked.place, outcomes)


def store_runs(count: int, chance: random.Random, place: str, outcomes: list[Outcome]) -> int:
    print("| run | blocks | killed | begun and lost | run twice | identical |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="rsembed-chaos-") as folder:
        undisturbed = {name: reference(Path(folder, f"{name}.zarr"), name) for name in CHUNKS}
        for number in range(1, count + 1):
            one = disturb(Path(folder, str(number)), chance, place, undisturbed)
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


def disturb(
    folder: Path, chance: random.Random, place: str, undisturbed: dict[str, dict[str, bytes]]
) -> Outcome:
    """Write a store, kill once or twice on the way, and go on until it is finished."""
    outcome = Outcome(chance.choice(list(CHUNKS)))
    moments = sorted(chance.sample(range(1, BLOCKS - 4), chance.choice([1, 2])))
    stage = Stage(folder, outcome.blocks, place)
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
    found = files(folder / "emb.zarr") if place == "local" else objects(f"{folder.name}/emb.zarr/")
    outcome.identical = found == undisturbed[outcome.blocks]
    return outcome


@contextmanager
def server() -> Iterator[None]:
    """An S3 server on loopback with the bucket ``chaos``; it lives as long as the runs."""
    import boto3

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ["CHAOS_S3"] = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(port))
        boto3.client("s3", endpoint_url=os.environ["CHAOS_S3"]).create_bucket(Bucket="chaos")
        yield
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def objects(prefix: str) -> dict[str, bytes]:
    """Every object below a prefix of the bucket."""
    import boto3

    client = boto3.client("s3", endpoint_url=os.environ["CHAOS_S3"])
    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="chaos", Prefix=prefix):
        for entry in page.get("Contents", []):
            body = client.get_object(Bucket="chaos", Key=entry["Key"])["Body"].read()
            found[entry["Key"].removeprefix(prefix)] = body
    return found


def icechunk_runs(count: int, chance: random.Random) -> int:
    """Kill the run before its commit: the last commit stays; undisturbed, the run replaces it."""
    import icechunk

    from xr_rsembed.store.read import open_zarr

    right = 0
    with tempfile.TemporaryDirectory(prefix="rsembed-chaos-") as name:
        for number in range(count):
            folder = Path(name, str(number))
            folder.mkdir()
            storage = icechunk.local_filesystem_storage(str(folder / "ice"))
            repository = icechunk.Repository.create(storage)
            session = repository.writable_session("main")
            to_zarr(embedding(chunks=CHUNKS["regular"]), session.store, progress=False)
            before = session.commit("first")
            command = [sys.executable, "-m", "tests.chaos.roles", "icechunk", str(folder)]
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            moment = chance.randrange(1, BLOCKS - 4)
            wait_until(lambda log=folder / "log", moment=moment: len(set(runs(log))) >= moment)
            process.kill()
            process.wait()
            again = icechunk.Repository.open(storage)
            kept = again.lookup_branch("main") == before and same(again, open_zarr, 0)
            subprocess.run(
                command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            replaced = same(icechunk.Repository.open(storage), open_zarr, 1)
            print(
                f"| {number + 1} | killed after {moment} blocks | kept {kept} | replaced {replaced} |",
                flush=True,
            )
            right += kept and replaced
    print(f"\n{right} of {count} runs left the last commit and were replaced by an undisturbed one.")
    return 0 if right == count else 1


def same(repository: Any, open_zarr: Callable[..., Any], seed: int) -> bool:
    found = open_zarr(repository.readonly_session("main").store)
    return bool(found.identical(embedding(chunks=CHUNKS["regular"], seed=seed).compute().rename(found.name)))


def summary(outcomes: list[Outcome]) -> str:
    kills = sum(len(one.kills) for one in outcomes)
    lost, twice = sum(one.lost for one in outcomes), sum(one.twice for one in outcomes)
    same = sum(one.identical for one in outcomes)
    return (
        f"\n{len(outcomes)} runs of {BLOCKS} blocks, {kills} kills: {lost} blocks begun and lost, {twice} blocks of "
        f"{len(outcomes) * BLOCKS} run twice, {same} of {len(outcomes)} stores identical to an undisturbed run."
    )


def wait_until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError("nothing happened for two minutes")
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())
