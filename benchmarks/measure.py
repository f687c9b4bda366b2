"""What every benchmark does alike: contenders in turn, each in a process of its own; the machine; the results."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


class Contender:
    """A process that does the same piece of work whenever it is told to.

    A process of its own keeps a contender's imports, thread pools and allocator out of the others'. What it runs is
    the module's file, with JSON, which calls :func:`serve`.
    """

    def __init__(self, module: str, given: Mapping[str, Any], threads: int | None = None) -> None:
        root = Path(given.get("root", ROOT))  # a checkout of another commit
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / f"{module.replace('.', '/')}.py"), json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1", "RS_EMBED_PROGRESS": "0"}
            | ({"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)} if threads else {}),
        )
        self.ready = self._answer()

    def round(self) -> dict[str, float]:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"a contender ended with {self.process.wait()}: {self.process.args}")


def serve(prepare: Any) -> None:
    """The contender's side: ``prepare(**given)`` gives the work, which is then done once for each line of stdin."""
    import resource
    import time
    import warnings

    warnings.simplefilter("ignore")
    started = time.perf_counter()
    work = prepare(**json.loads(sys.argv[1]))
    built = time.perf_counter()
    facts = work() or {}
    warm = time.perf_counter()
    print(json.dumps({"prepare": built - started, "first": warm - built, **facts}), flush=True)
    for _ in sys.stdin:
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        work()
        taken, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(
            json.dumps({"seconds": taken, "cpu": cpu, "faults": after.ru_minflt - before.ru_minflt}),
            flush=True,
        )


@contextlib.contextmanager
def contenders(
    module: str, named: Mapping[str, Mapping[str, Any]], threads: int | None = None
) -> Iterator[dict[str, Contender]]:
    """Start all, one after the other, and end them."""
    running: dict[str, Contender] = {}
    try:
        for name, given in named.items():
            running[name] = Contender(module, given, threads)
        yield running
    finally:
        for one in running.values():
            one.close()


def duel(
    module: str, named: Mapping[str, Mapping[str, Any]], rounds: int, tiles: int, threads: int | None = None
) -> dict[str, Any]:
    """Every contender in turn, round after round.

    Parameters
    ----------
    threads : int, optional
        Threads of torch. On a machine that others use too, 1: the CPU time of one thread hangs little on what they do,
        that of several waiting for each other a great deal.

    Returns
    -------
    dict
        By name: ``ms`` a tile and ``cpu_ms`` a tile (medians), ``best_ms``, ``faults`` a tile, and ``speed`` and
        ``cpu_speed``: the first contender's time over this one's, the median of the rounds' own ratios.
    """
    with contenders(module, named, threads) as running:
        taken = {name: [] for name in named}
        for _ in range(rounds):
            for name, one in running.items():
                taken[name].append(one.round())
        ready = {name: one.ready for name, one in running.items()}
    first = taken[next(iter(named))]
    return {name: _summary(found, first, tiles) | ready[name] for name, found in taken.items()}


def _summary(found: list[dict[str, float]], first: list[dict[str, float]], tiles: int) -> dict[str, float]:
    def median(key: str) -> float:
        return statistics.median(one[key] for one in found)

    def ratio(key: str) -> float:
        return statistics.median(one[key] / other[key] for one, other in zip(first, found, strict=True))

    return {
        "ms": 1e3 * median("seconds") / tiles,
        "best_ms": 1e3 * min(one["seconds"] for one in found) / tiles,
        "cpu_ms": 1e3 * median("cpu") / tiles,
        "best_cpu_ms": 1e3 * min(one["cpu"] for one in found) / tiles,
        "faults": median("faults") / tiles,
        "speed": ratio("seconds"),
        "cpu_speed": ratio("cpu"),
    }


def _cpuinfo(key: str) -> str:
    """The first line of /proc/cpuinfo with this key; empty where there is none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(key):
                return line.split(":", 1)[1].strip()
    return ""


def instructions() -> list[str]:
    """The sets of vector and matrix instructions of this CPU that matter here, the widest one last."""
    flags = _cpuinfo("flags").split()
    return [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]


def machine() -> dict[str, Any]:
    """What the figures were taken on, and how busy it was."""
    name = _cpuinfo("model name")
    model = f"{name} ({', '.join(instructions())})" if name else platform.processor() or platform.machine()
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": model,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }


def save(name: str, rows: Any, each_cpu: bool = False, **facts: Any) -> None:
    """Write results/NAME.json, with the machine; ``each_cpu`` keeps one result for each set of instructions."""
    RESULTS.mkdir(exist_ok=True)
    document = {"machine": machine(), **facts, "rows": rows}
    kind = f"-{(instructions() or [platform.machine()])[-1]}" if each_cpu else ""
    (RESULTS / f"{name}{kind}.json").write_text(json.dumps(document, indent=2) + "\n")
