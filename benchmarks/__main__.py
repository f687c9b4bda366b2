"""``python -m benchmarks [NAME ...]``: run the short ones or some, then write docs/performance.md from all results."""

from __future__ import annotations

import argparse
import importlib
import warnings

from benchmarks import page

NAMES = (
    "speed",
    "engine",
    "terrafm",
    "roofline",
    "seams",
    "graph",
    "schedulers",
    "granule",
    "store",
    "zonal",
    "start",
    "explorer",
    "gpu",
)
LONG = ("region",)  # more than five minutes: by name only


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=[*NAMES, *LONG, []], metavar="NAME", help=", ".join(NAMES + LONG)
    )
    warnings.simplefilter("ignore")
    for name in parser.parse_args().names or NAMES:
        print(f"== {name}", flush=True)
        importlib.import_module(f"benchmarks.{name}").run()
    page.write()


if __name__ == "__main__":
    main()
