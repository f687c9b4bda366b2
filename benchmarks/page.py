"""docs/performance.md, written from benchmarks/results/*.json: no figure in it was typed by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS, ROOT
from xr_rsembed.tiling import plan_axis

PAGE = ROOT / "docs" / "performance.md"
HEAD = """\
# Performance

<!-- Written by `python -m benchmarks`; changes here are lost. -->

Every table is from one run on one machine. Contenders run in turn, round after round, each in a process of its own;
a ratio is the median of the rounds' own ratios. `make bench` takes all figures on your machine and writes this page.
"""


def write() -> None:
    parts = [HEAD]
    for name, (title, section) in SECTIONS.items():
        runs = [json.loads(path.read_text()) for path in _results(name)]
        if runs:
            parts.append(f"## {title}\n")
        said: set[str] = set()
        for found in runs:
            first, *others = section(found).strip().split("\n\n")
            kind = [f"### {found['machine']['cpu']}"] if len(runs) > 1 else []
            new = [paragraph for paragraph in (first, *kind, *others) if paragraph not in said]
            parts += [f"{paragraph}\n" for paragraph in (*new, _taken(found).strip())]
            said.update((first, *others))
    PAGE.write_text("\n".join(parts))


def _results(name: str) -> list[Path]:
    """The files of one benchmark: one, or one for each kind of CPU, the one with the most instructions first."""
    return sorted(RESULTS.glob(f"{name}*.json"), key=lambda path: (len(path.stem), path.stem), reverse=True)


def _taken(found: dict[str, Any]) -> str:
    where = found["machine"]
    threads = f", torch threads: {found['threads']}" if found.get("threads") else ""
    return (
        f"*{where['date']}, {where['cpu']}, {where['cores']} cores{threads}; "
        f"load average {where['load']} at the end of the run.*\n"
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = list(head)
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def speed(found: dict[str, Any]) -> str:
    busy = bool(found.get("threads"))
    key, unit = ("cpu_speed", "cpu_ms") if busy else ("speed", "ms")
    what = (
        "The machine was shared, so these are CPU times of one torch thread, which other work disturbs least."
        if busy
        else "Wall times, with all cores."
    )
    models = found["rows"]
    names = [name for name in next(iter(models.values())) if not name.startswith("fidelity")]
    table = _table(
        ["Speed (ms a tile)", *models],
        [
            [name, *(f"{rows[name][key]:.2f} ({rows[name][unit]:.0f})" for rows in models.values())]
            for name in names
        ],
    )
    fidelity = _table(
        ["bfloat16 beside float32", "least cosine", "mean cosine", "10 nearest neighbours kept"],
        [
            [
                model,
                f"{rows['fidelity of bfloat16']['cosine_min']:.5f}",
                f"{rows['fidelity of bfloat16']['cosine_mean']:.6f}",
                f"{rows['fidelity of bfloat16']['neighbours_kept']:.1%}",
            ]
            for model, rows in models.items()
        ],
    )
    tax = ", ".join(
        f"{rows['embed, float32'][unit] / rows['encoder alone, float32'][unit] - 1:+.1%} ({model})"
        for model, rows in models.items()
    )
    return f"""
Speed over terratorch's own float32 forward on tensors that lie ready (1.0, higher is faster). The loop by hand and
`embed` start from a scene in memory and end with a labelled array. On a CPU without AVX-512 torch's own products are
at its peak already, and little is left to gain; and without AVX512-BF16 or AMX, bfloat16 is computed in software.

{what}

{table}

What `embed` takes beyond its own encoder on tensors that lie ready, for reading, cutting, normalizing, placing, in a
scene of one block, where nothing can be made ready ahead: {tax}.

Random weights; the neighbours are among the cells of one scene.

{fidelity}
"""


def engine(found: dict[str, Any]) -> str:
    cases = {name: row for name, row in found["rows"].items() if name != "granule"}
    rows = [
        [name, f"{row['before']['ms']:.1f}", f"{row['now']['ms']:.1f}", f"{row['now']['speed']:.2f}"]
        for name, row in cases.items()
    ]
    memory = ""
    if granule := found["rows"].get("granule"):
        before, now = (granule[name]["peak_mib"] - granule[name]["torch_mib"] for name in ("before", "now"))
        memory = (
            f"A whole granule to a store takes {now:.0f} MiB above torch's own; before, {before:.0f} MiB."
        )
    return f"""
The engine beside itself at commit {found["against"]}, which built its graph by hand and ran border tiles twice in a
mean: {found["model"]} over {found["side"]} x {found["side"]} tiles, in turn.

{_table(["Case", "ms a tile, before", "ms a tile, now", "Speed over before"], rows)}

{memory}
"""


def terrafm(found: dict[str, Any]) -> str:
    key = "cpu_speed" if found.get("threads") else "speed"
    rows = [[name, f"{row[key]:.2f}"] for name, row in found["rows"].items()]
    return f"""
The published way to a tile's vector and its feature map is two passes. `embed` gets both from one.

{_table(["Contender", "Speed"], rows)}
"""


def roofline(found: dict[str, Any]) -> str:
    rows = [
        [
            model,
            f"{row['gflop_per_tile']:.1f}",
            f"{row['products_alone_gflops']:.0f}",
            f"{row['encoder_gflops']:.0f}",
            f"{row['roofline']:.0%}",
        ]
        for model, row in found["rows"].items()
    ]
    head = ["Model", "Gflop a tile", "products alone, Gflop/s", "encoder, Gflop/s", "share"]
    return f"""
The matrix products of the linear layers alone, and the rate at which the whole encoder gets through them, float32.

{_table(head, rows)}
"""


def seams(found: dict[str, Any]) -> str:
    rows = [
        [
            f"{row['overlap']}, {row['blend']}",
            _tiles(row["overlap"]),
            f"{row['seam']:.2f}",
            f"{row['cost']:.2f}",
        ]
        for row in found["rows"]
    ]
    return f"""
The mean step between neighbouring cells across the borders of tiles over that inside them (1.0 is no seam), and the
time over that without overlap. {found["model"]}, {found["weights"]} weights. On a quiet machine an overlap costs
what its tiles cost; the times are wall times, which other work disturbs.

{_table(["Overlap, blend", "Tiles run", "Seam", "Time"], rows)}
"""


def _tiles(overlap: int) -> int:
    """Tiles of the scene of the seams' benchmark: exact, from the geometry."""
    return len(plan_axis(4 * 224, overlap).starts) ** 2


def graph(found: dict[str, Any]) -> str:
    rows = [
        [
            f"{row['side']:,} x {row['side']:,}, {tuple(row['chunks'])}, overlap {row['overlap']}",
            row["blocks"],
            f"{row['cpu_seconds']:.2f}",
            f"{row['tasks_per_block']:.1f}",
            f"{row['megabytes']:.1f}",
        ]
        for row in found["rows"]
    ]
    head = [
        "Scene in 12 bands, source chunks",
        "Blocks",
        "CPU seconds to build and optimize",
        "Tasks a block",
        "MB pickled",
    ]
    return f"""
Tasks as a scheduler gets them, without those that read the scene.

{_table(head, rows)}
"""


def schedulers(found: dict[str, Any]) -> str:
    rows = [[name, f"{row['over_threads']:.2f}"] for name, row in found["rows"].items()]
    return f"""
Speed over dask's threads, {found["model"]}, blocks of 2 x 2 tiles.

{_table(["Scheduler", "Speed"], rows)}
"""


def granule(found: dict[str, Any]) -> str:
    rows = [
        [
            f"{row['side']:,} x {row['side']:,}",
            row["tiles"],
            f"{row['seconds']:.0f}",
            f"{1e3 * row['cpu_seconds'] / row['tiles']:.1f}",
            f"{row['encoder_mib']:.0f}",
            f"{row['peak_mib']:.0f}",
            f"{row['peak_mib'] - row['torch_mib']:.0f}",
        ]
        for row in found["rows"]
    ]
    head = [
        "Pixels", "Tiles", "Seconds", "CPU ms a tile", "MiB before", "MiB at the peak", "MiB above torch's own",
    ]  # fmt: skip
    return f"""
From a store in chunks of {found["chunks"]} (band, y, x) to a store, {found["model"]}, on dask's threads. "Before" is
with the encoder loaded, which takes most of it: importing terratorch alone is some 850 MiB.

{_table(head, rows)}
"""


def store(found: dict[str, Any]) -> str:
    rows = [
        [
            f"{name}, {row['shards']:,} shards",
            f"{row['megabytes']:.0f}",
            f"{row['seconds']['xarray']:.2f}",
            f"{row['seconds']['ours']:.2f}",
            f"{row['ratio']:.2f}",
            f"{sum(row['requests']['xarray'].values()):.1f}",
            f"{sum(row['requests']['ours'].values()):.1f}",
        ]
        for name, row in found["rows"].items()
    ]
    head = [
        "Embedding", "MB", "xarray, seconds", "rsembed, seconds", "rsembed over xarray", "xarray, requests a shard",
        "rsembed, requests a shard",
    ]  # fmt: skip
    return f"""
The same lazy embedding (D = {found["dimensions"]}, of an encoder that costs next to nothing) to a store on a local
disk, by `emb.to_dataset().to_zarr` and by `emb.rsembed.to_zarr`, with the same shards, chunks and compressor,
{found["rounds"]} rounds in turn. The latter has every shard on the disk before it counts it (`fsync`), asks for its
token before every shard, and keeps a digest of the pixels. Requests are all calls of a store in memory, metadata
included.

{_table(head, rows)}
"""


def zonal(found: dict[str, Any]) -> str:
    rows = [
        [
            f"{row['side']} x {row['side']}",
            row["polygons"],
            *(f"{row[way]:.2f}" if way in row else "" for way in ("in memory", "chunked", "xvec")),
            f"{row['difference']:.1g}" if "difference" in row else "",
        ]
        for row in found["rows"]
    ]
    head = [
        "Cells",
        "Polygons",
        "Seconds in memory",
        "Seconds in chunks",
        "Seconds through xvec",
        "Difference",
    ]
    return f"""
Means of polygons (`zonal`), D = {found["depth"]}: coverage once by exactextract, then one pass over the blocks.

{_table(head, rows)}
"""


def region(found: dict[str, Any]) -> str:
    rows = [
        [
            f"{row['km']:.0f} x {row['km']:.0f}",
            row["units"],
            f"{row['tiles']:,}",
            f"{row['seconds'] / 60:.1f}",
            f"{row['loaded_mib']:.0f}",
            f"{row['more_mib']:.0f}",
        ]
        for row in found["rows"].values()
    ]
    unit = next(iter(found["rows"].values()))["unit"]
    head = ["Kilometres", "Units", "Tiles", "Minutes", "MiB with the model loaded", "MiB more at the peak"]
    return f"""
`region` over made pixels, the median of {found["dates"]} dates a unit, {found["model"]}, units of {unit} pixels,
{found["workers"]} at a time: the memory does not grow with the region.

{_table(head, rows)}
"""


def start(found: dict[str, Any]) -> str:
    rows = [
        [way, f"{row['seconds']:.1f}", f"{row['ratio']:.2f}", f"{row['mib']:.0f}", f"{row['more_mib']:+.0f}"]
        for way, row in found["rows"].items()
    ]
    return f"""
A fresh process to the first embedding of one tile, {found["model"]}, random weights, {found["rounds"]} rounds in turn.
At {found["before"]} the encoder was TerraTorch's. A worker's time and memory are its own, without the client's.

{_table(["", "Seconds", "Times torch and xarray", "MiB", "MiB beyond them"], rows)}
"""


def explorer(found: dict[str, Any]) -> str:
    rows = [
        [where, f"{row['seconds']:.1f}", f"{row['cpu']:.1f}", f"{row['memory']:.2f}"]
        for where, row in found["rows"].items()
    ]
    size = found["side"] ** 2 * found["depth"] * 4 / 1e6
    return f"""
From the call of `serve` to a page with its picture, {found["side"]} x {found["side"]} cells, D = {found["depth"]}
({size:.0f} MB), libraries loaded; and the memory at the peak beyond them, over that of the embedding.

{_table(["The embedding is", "Seconds", "CPU seconds", "Memory over the embedding's"], rows)}
"""


SECTIONS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "speed": ("TerraMind: embed beside the raw model", speed),
    "engine": ("The engine beside an earlier one", engine),
    "terrafm": ("TerraFM-B: one pass beside two", terrafm),
    "roofline": ("Roofline", roofline),
    "seams": ("Seams", seams),
    "granule": ("A whole granule to Zarr", granule),
    "store": ("Writing a store", store),
    "zonal": ("Vectors of polygons", zonal),
    "start": ("The first result", start),
    "explorer": ("The explorer", explorer),
    "region": ("A whole region", region),
    "graph": ("Graph", graph),
    "schedulers": ("Schedulers", schedulers),
}
