"""Kill -9 region runs at random moments; each must end byte for byte as an undisturbed one.

python -m tests.chaos.run_regions --runs 20
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import warnings
from pathlib import Path

from tests import fakes
from tests.servers.region import make_region
from tests.test_regions import begin, kill_and_finish


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    fakes.register()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "made").mkdir()
        made = make_region(folder / "made")
        begin(folder / "whole.zarr", made).run()
        for seed in range(arguments.runs):
            kill_and_finish(made, folder / "whole.zarr", folder / "killed.zarr", seed)
            shutil.rmtree(folder / "killed.zarr")
            print(f"run {seed}: the same bytes", flush=True)


if __name__ == "__main__":
    main()
