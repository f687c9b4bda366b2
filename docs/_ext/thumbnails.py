"""Small pictures for the cards of the guide and of the notebooks, from the figures and the notebooks' own outputs."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps

SIZE = (480, 270)
#: The picture of a page: a figure, or that of the notebook with this number.
PICTURES: dict[str, str | int] = {
    "scenes": 1,
    "providers": 2,
    "tiling": "seams.png",
    "settings": "outputs.png",
    "validity": "validity.png",
    "maps": "ten_labels.png",
    "explorer": "explorer.png",
    "own-model": 6,
    "regions": 7,
}


def make(docs: Path) -> None:
    """Write ``docs/thumbnails``: one picture for each page above, and one for each notebook by its name."""
    notebooks = {int(path.name[0]): path for path in sorted((docs / "notebooks").glob("*.ipynb"))}
    target = docs / "thumbnails"
    target.mkdir(exist_ok=True)
    for path in notebooks.values():
        _small(_last_picture(path)).save(target / f"{path.stem}.png", optimize=True)
    for page, source in PICTURES.items():
        picture = (
            _last_picture(notebooks[source])
            if isinstance(source, int)
            else Image.open(docs / "figures" / source)
        )
        _small(picture).save(target / f"{page}.png", optimize=True)


def _last_picture(notebook: Path) -> Image.Image:
    outputs = [one for cell in json.loads(notebook.read_text())["cells"] for one in cell.get("outputs", [])]
    pictures = [one["data"]["image/png"] for one in outputs if "image/png" in one.get("data", {})]
    return Image.open(BytesIO(base64.b64decode(pictures[-1])))


def _small(picture: Image.Image) -> Image.Image:
    """The upper part of a picture, which holds its first panel, in the cards' shape and in 128 colours."""
    fitted = ImageOps.fit(picture.convert("RGB"), SIZE, Image.Resampling.LANCZOS, centering=(0.0, 0.3))
    return fitted.quantize(128, dither=Image.Dither.NONE)
