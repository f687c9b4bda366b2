"""A loopback Earth Engine: the real client connects to it, and its pixels are those of ``truth``.

It answers discovery and algorithms with the documents that the client's own package ships, evaluates expressions
with ``earthengine_functions``, holds the real service's limits, counts requests, and fails on demand::

    with EarthEngineServer(world()) as server:
        ee.Initialize(credentials=AnonymousCredentials(), project="xr-test", url=server.url)
        server.fail("computePixels", "503", times=2)
"""

from __future__ import annotations

import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from pyproj import CRS, Transformer
from shapely import box, transform

from .earthengine_functions import Collection, ExpressionError, Grid, Image, Pixels, as_json, evaluate
from .truth import RESOLUTION, S1_ACQUISITIONS, S2_ACQUISITIONS, S2_BANDS, Acquisition, backscatter, dn

REQUEST_BYTES = 48 * 2**20
LONGEST_SIDE = 32768

Values = Callable[[str, datetime, np.ndarray, np.ndarray, int], np.ndarray]


# --- the world as assets -----------------------------------------------------------------------------------

Tile = tuple[str, int, tuple[float, float, float, float]]

#: Name, UTM zone and bounds of two tiles on either side of 12 E, which overlap there.
TILES: tuple[Tile, ...] = (
    ("T32TQQ", 32632, (730_020.0, 4_980_000.0, 737_220.0, 4_995_000.0)),
    ("T33TTK", 32633, (262_980.0, 4_980_000.0, 270_180.0, 4_995_000.0)),
)


def scene(
    index: str,
    when: datetime,
    epsg: int,
    bounds: tuple[float, float, float, float],
    resolution: dict[str, float],
    values: Values,
    **properties: Any,
) -> Image:
    """One image of a collection: bands of several resolutions on one UTM grid, masked outside its bounds."""

    def read(grid: Grid) -> Pixels:
        pixels = {}
        for band, size in resolution.items():
            lon, lat, outside = _native_pixels(grid, epsg, bounds, size)
            pixels[band] = np.ma.masked_array(values(band, when, lon, lat, 4326), mask=outside)
        return pixels

    to_lonlat = Transformer.from_crs(epsg, 4326, always_xy=True).transform
    milliseconds = round(when.replace(tzinfo=UTC).timestamp() * 1000)
    info = {
        "id": index,
        "bands": [
            {"id": band, "data_type": {"type": "PixelType", "precision": "float"}, "crs": f"EPSG:{epsg}"}
            for band in resolution
        ],
    }
    return Image(
        tuple(resolution),
        read,
        {"system:index": index, "system:time_start": milliseconds, **properties},
        transform(box(*bounds), to_lonlat, interleaved=False),
        info,
    )


@lru_cache(maxsize=64)
def _native_pixels(
    grid: Grid, epsg: int, bounds: tuple[float, float, float, float], size: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Longitude and latitude of the nearest native pixel, as Earth Engine samples by default; what lies outside."""
    left, bottom, right, top = bounds
    x, y = grid.centres_in(epsg)
    native_x = left + (np.floor((x - left) / size) + 0.5) * size
    native_y = top - (np.floor((top - y) / size) + 0.5) * size
    lon, lat = Transformer.from_crs(epsg, 4326, always_xy=True).transform(native_x, native_y)
    return lon, lat, (x < left) | (x >= right) | (y <= bottom) | (y > top)


def sentinel2(acquisition: Acquisition, tile: Tile, **changes: Any) -> Image:
    name, epsg, bounds = tile
    stamp = f"{acquisition.when:%Y%m%dT%H%M%S}"
    given = {"resolution": RESOLUTION, "values": dn, "CLOUDY_PIXEL_PERCENTAGE": acquisition.cloud_cover}
    return scene(f"{stamp}_{stamp}_{name}", acquisition.when, epsg, bounds, **(given | changes))


def decibel(band: str, when: datetime, x: np.ndarray, y: np.ndarray, epsg: int) -> np.ndarray:
    return (10 * np.log10(backscatter(band, when, x, y, epsg))).astype("float32")


def sentinel1(acquisition: Acquisition, tile: Tile, values: Values, mode: str = "IW") -> Image:
    name, epsg, bounds = tile
    index = f"S1A_{mode}_GRDH_1SDV_{acquisition.when:%Y%m%dT%H%M%S}_{name}"
    return scene(
        index,
        acquisition.when,
        epsg,
        bounds,
        {"VV": 10.0, "VH": 10.0},
        values,
        instrumentMode=mode,
        transmitterReceiverPolarisation=["VV", "VH"],
    )


def world(s1_mode: str = "IW", tiles: Sequence[Tile] = TILES) -> dict[str, list[Image]]:
    """The collections that the provider knows, over all acquisitions."""
    level1 = {"resolution": {**{b: RESOLUTION[b] for b in S2_BANDS}, "B10": 60}, "values": _with_cirrus}
    return {
        "COPERNICUS/S2_SR_HARMONIZED": [sentinel2(a, t) for a in S2_ACQUISITIONS for t in tiles],
        "COPERNICUS/S2_HARMONIZED": [sentinel2(a, t, **level1) for a in S2_ACQUISITIONS for t in tiles],
        "COPERNICUS/S1_GRD": [sentinel1(a, t, decibel, s1_mode) for a in S1_ACQUISITIONS for t in tiles],
        "COPERNICUS/S1_GRD_FLOAT": [
            sentinel1(a, t, backscatter, s1_mode) for a in S1_ACQUISITIONS for t in tiles
        ],
    }


def _with_cirrus(band: str, *where: Any) -> np.ndarray:
    return np.full_like(dn("B1", *where), 12) if band == "B10" else dn(band, *where)


# --- the server --------------------------------------------------------------------------------------------


class EarthEngineServer:
    """Serves collections (name -> images) on a free port of 127.0.0.1, as a context manager."""

    def __init__(self, collections: dict[str, Iterable[Image]]) -> None:
        self.assets: dict[str, Any] = {}
        for name, images in collections.items():
            self.assets[name] = Collection(images)
            self.assets |= {
                f"{name}/{image.properties['system:index']}": image for image in self.assets[name]
            }
        self.requests: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []  # of computePixels
        self.met: list[str] = []  # faults that came to pass
        self.most_at_once = 0
        self._at_once = 0
        self._faults: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # clients hang up on slow answers; that is no news
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> EarthEngineServer:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def fail(self, method: str, fault: str, times: int = 1) -> None:
        """Let the next requests of a method go wrong: a word of ``FAULTS``, a status, or ``"status: message"``."""
        self._faults += [(method, fault)] * times

    def reset(self) -> None:
        """No faults, nothing counted."""
        self._faults.clear()
        self.requests.clear()
        self.bodies.clear()
        self.met.clear()
        self.most_at_once = 0

    def answer(self, method: str, body: dict[str, Any]) -> tuple[int, str, bytes, str | None]:
        """Status, content type, body and the fault to act out, if any."""
        with self._lock:
            self.requests[method] += 1
            fault = next((f for m, f in self._faults if m == method), None)
            if fault is not None:
                self._faults.remove((method, fault))
                self.met.append(fault)
            if method == "computePixels":
                self.bodies.append(body)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if fault is not None and fault not in FAULTS:
                status, _, message = fault.partition(": ")
                return *_refusal(int(status), message or ERRORS[int(status)]), None
            return *self._work(method, body), fault
        finally:
            with self._lock:
                self._at_once -= 1

    def _work(self, method: str, body: dict[str, Any]) -> tuple[int, str, bytes]:
        try:
            if method == "computePixels":
                return 200, "application/octet-stream", self._pixels(body)
            if method == "discovery":
                document = json.loads(_shipped("cloud_api_discovery_document.json"))
                document["rootUrl"] = document["baseUrl"] = self.url + "/"
                return 200, "application/json", json.dumps(document).encode()
            if method == "algorithms":
                return 200, "application/json", _shipped("algorithms.json")
            value = as_json(evaluate(body["expression"], self.assets))
            return 200, "application/json", json.dumps({"result": value}).encode()
        except ExpressionError as error:
            return _refusal(400, str(error))
        except Exception as error:  # a gap in the interpreter must not look like trouble that passes
            return _refusal(400, f"The loopback server failed: {error!r}")

    def _pixels(self, body: dict[str, Any]) -> bytes:
        wanted = body["grid"]
        a = wanted["affineTransform"]
        grid = Grid(
            CRS.from_user_input(wanted.get("crsCode") or wanted["crsWkt"]),
            Affine(
                a["scaleX"],
                a.get("shearX", 0),
                a["translateX"],
                a.get("shearY", 0),
                a["scaleY"],
                a["translateY"],
            ),
            wanted["dimensions"]["width"],
            wanted["dimensions"]["height"],
        )
        if max(grid.width, grid.height) > LONGEST_SIDE:
            raise ExpressionError(
                f"Pixel grid dimensions ({grid.width}x{grid.height}) must be less than or equal to {LONGEST_SIDE}."
            )
        image = evaluate(body["expression"], self.assets)
        with np.errstate(invalid="ignore"):
            bands = image.read(grid)
        bands = {name: bands[name] for name in body.get("bandIds", bands)}
        size = grid.width * grid.height * sum(pixels.dtype.itemsize + 1 for pixels in bands.values())
        if size > REQUEST_BYTES:
            raise ExpressionError(
                f"Total request size ({size} bytes) must be less than or equal to {REQUEST_BYTES} bytes."
            )
        # Masked pixels travel as zeros: a client that wants to tell them apart must unmask them itself.
        table = np.zeros((grid.height, grid.width), [(name, pixels.dtype) for name, pixels in bands.items()])
        for name, pixels in bands.items():
            table[name] = pixels.filled(0)
        return _npy(table)


def _npy(table: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, table)
    return out.getvalue()


ERRORS = {
    401: "Request had invalid authentication credentials. Expected OAuth 2 access token.",
    403: "Permission 'earthengine.computations.create' denied on project.",
    429: "Too Many Requests: quota exceeded.",
    500: "An internal error has occurred.",
    503: "The service is currently unavailable.",
}
#: Faults besides plain statuses: the pixels are right, but their way to the client is not.
FAULTS = ("slow", "stuck", "cut", "truncated", "html", "empty", "shape", "pickle")
SLOW_S, STUCK_S = 0.05, 1.0  # an answer that is late, and one that comes after the client has given up


def _refusal(status: int, message: str) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps({"error": {"code": status, "message": message}}).encode()


@cache
def _shipped(name: str) -> bytes:
    import ee

    return (Path(ee.__file__).parent / "tests" / name).read_bytes()


def _handler_of(server: EarthEngineServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve("discovery" if "$discovery" in self.path else "algorithms", {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._serve(self.path.partition("?")[0].rpartition(":")[2], body)

        def _serve(self, method: str, body: dict[str, Any]) -> None:
            status, kind, content, fault = server.answer(method, body)
            if fault in ("slow", "stuck"):
                time.sleep(SLOW_S if fault == "slow" else STUCK_S)
            elif fault == "cut":  # promised in full, closed half way
                self._send(status, kind, content[: len(content) // 2], promised=len(content))
                self.close_connection = True
                return
            elif fault == "truncated":  # half, and honest about its length: nothing below the client notices
                content = content[: len(content) // 2]
            elif fault == "html":
                kind, content = "text/html", b"<html><body>A proxy says hello.</body></html>"
            elif fault == "empty":
                content = b""
            elif fault == "shape":  # a sound array, of other pixels than were asked for
                content = _npy(np.load(io.BytesIO(content))[1:])
            elif fault == "pickle":
                content = _npy(np.array([print], dtype=object))
            self._send(status, kind, content)

        def _send(self, status: int, kind: str, content: bytes, promised: int | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content) if promised is None else promised))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
