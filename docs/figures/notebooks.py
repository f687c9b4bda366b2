"""Make stored notebooks small and quiet: ``python docs/figures/notebooks.py notebooks/*.ipynb``.

After ``pytest --nbmake --overwrite``: pictures in 256 colours, and no times of execution.
"""

from __future__ import annotations

import base64
import sys
from io import BytesIO

import nbformat
from PIL import Image


def tidy(path: str) -> None:
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = small(output.data["image/png"])
    nbformat.write(notebook, path)


def small(png: str) -> str:
    picture, file = Image.open(BytesIO(base64.b64decode(png))), BytesIO()
    picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


if __name__ == "__main__":
    for path in sys.argv[1:]:
        tidy(path)
