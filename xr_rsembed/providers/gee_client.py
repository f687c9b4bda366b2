"""Talking to Earth Engine: one login per process, bounded requests that are tried again, errors that say what to do.

Nothing here knows what a scene is. The client (``ee``) keeps its login in the process, so what travels to dask's
workers is a :class:`Connection`, which names the project and holds no secret; each worker signs in by itself.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np

from xr_rsembed.errors import CatalogError, ProviderAuthError, ProviderError
from xr_rsembed.extras import require
from xr_rsembed.providers.retry import http_status, is_transient, retry

#: The service's limits on one request for pixels; each pixel of a band counts one byte more, for its mask.
REQUEST_BYTES = 48 * 2**20
LONGEST_SIDE = 32768

ATTEMPTS = 8  # a throttled project is let in again within a minute or so
DEADLINE_S = 300  # the service gives up on a request after five minutes itself

_LOGIN = "earthengine authenticate"
_PROJECT = 'fetch("gee", ..., project="my-project"), or once: earthengine set_project my-project'

_lock = threading.Lock()
_signed_in_by: int | None = None  # the process that the client's sockets belong to

T = TypeVar("T")


@dataclass(frozen=True)
class Connection:
    """How a process finds Earth Engine, without any secret: safe in a dask graph."""

    project: str | None = None  # that the requests count for; None takes the one stored with the login
    url: str | None = None  # another server, such as the high-volume one; only Google's are sent the login
    workers: int = 8  # requests that one process has under way at a time
    account: str | None = (
        None  # the session's service account, by its e-mail: a worker signs in as no one else
    )

    @classmethod
    def choose(cls, options: Mapping[str, Any]) -> Connection:
        """From a request's options, else the client that this process has already, else the environment."""
        state = _session()
        return cls(
            options.get("project")
            or (state.cloud_api_user_project if state else os.environ.get("EARTHENGINE_PROJECT"))
            or os.environ.get("GOOGLE_CLOUD_PROJECT"),
            options.get("url") or (state.cloud_api_base_url if state else os.environ.get("EARTHENGINE_URL")),
            options["workers"],
            _service_account(state.credentials) if state else None,
        )


def compute_value(connection: Connection, value: Any, what: str) -> Any:
    """What a server-side object, such as a collection's metadata, comes to."""
    connect(connection)

    def request() -> Any:
        try:
            return value.getInfo()
        except (TypeError, KeyError) as error:  # the client looks for the result in a text that is no JSON
            raise _BrokenAnswerError(f"an answer without a result ({error})") from None

    return _with_retries(request, connection, what)


def compute_pixels(
    connection: Connection, expression: str, grid: Mapping[str, Any], bands: tuple[str, ...], what: str
) -> np.ndarray:
    """The pixels (band, y, x) of an image, as ``ee.Image.serialize`` writes it, on a grid as the service names it."""
    connect(connection)
    ee = _client()
    params = {
        "expression": ee.deserializer.fromJSON(expression),
        "fileFormat": "NUMPY_NDARRAY",
        "bandIds": list(bands),
        "grid": grid,
    }
    shape = grid["dimensions"]["height"], grid["dimensions"]["width"]

    def request() -> np.ndarray:
        table = ee.data.computePixels(params)
        names = getattr(getattr(table, "dtype", None), "names", None) or ()
        if getattr(table, "shape", None) != shape or not set(bands) <= set(names):
            found = f"{getattr(table, 'shape', type(table).__name__)} with bands {names}"
            raise _BrokenAnswerError(f"{found} instead of {shape} with bands {bands}")
        return np.stack([table[band] for band in bands])

    with _slots(connection.workers, os.getpid()):
        return _with_retries(request, connection, what)


@cache
def _slots(workers: int, process: int) -> threading.BoundedSemaphore:
    """The semaphore for the requests of a process."""
    return threading.BoundedSemaphore(workers)


def connect(connection: Connection) -> None:
    """Sign this process in, once; a client that the user has set up already is used as it is."""
    global _signed_in_by
    ee = _client()
    with _lock:
        credentials = None
        if _signed_in_by not in (None, os.getpid()):
            # Forked: parent and child must not read each other's answers from the sockets they share.
            state = _session()
            credentials = state.credentials if state else None
            ee.Reset()
        _signed_in_by = os.getpid()
        if state := _session():
            _check_same(connection, state)
        else:
            _sign_in(ee, connection, credentials or _credentials_for(connection))


def _sign_in(ee: Any, connection: Connection, credentials: Any) -> None:
    def initialize() -> None:
        ee.Reset()  # what a failed attempt leaves behind looks like a login
        ee.data.setMaxRetries(0)  # the client's own retries below ours would multiply the waiting
        ee.Initialize(credentials=credentials, project=connection.project, url=connection.url)
        ee.data.setDeadline(1000 * DEADLINE_S)

    try:
        _with_retries(initialize, connection, "the login")
    except Exception:
        ee.Reset()
        raise


def _client() -> Any:
    return require("ee", "Earth Engine")


def _session() -> Any:
    """The state of the client that this process is signed in with, or None; the client has no public word for it."""
    ee = _client()
    return ee.data._get_state() if ee.data.is_initialized() else None


def _service_account(credentials: Any) -> str | None:
    """The e-mail of a service account; None for a personal login, or where the machine itself is the account."""
    email = getattr(credentials, "service_account_email", None)
    return None if email == "default" else email


def _credentials_for(connection: Connection) -> Any:
    """What a process that is not signed in yet signs in with: its own login, or the session's service account."""
    import google.auth
    from google.auth.credentials import AnonymousCredentials

    host = urlsplit(connection.url or "").hostname or "earthengine.googleapis.com"
    if not host.endswith(".googleapis.com"):
        return AnonymousCredentials()
    if connection.account is None:
        return "persistent"
    try:
        found, _ = google.auth.default(scopes=_client().oauth.SCOPES)
    except google.auth.exceptions.DefaultCredentialsError:
        found = None
    if _service_account(found) != connection.account:
        raise ProviderAuthError(
            "This worker cannot sign in to Earth Engine with the service account of the session.",
            found=_service_account(found) or ("another login" if found else "no application credentials"),
            expected=connection.account,
            remedy="export GOOGLE_APPLICATION_CREDENTIALS=key.json, with its key, in the environment of every worker",
        )
    return found


def _check_same(connection: Connection, state: Any) -> None:
    for name, wanted, has in (
        ("project", connection.project, state.cloud_api_user_project),
        ("server", connection.url, state.cloud_api_base_url),
        ("service account", connection.account, _service_account(state.credentials)),
    ):
        if wanted is not None and wanted != has:
            raise ProviderAuthError(
                f"This process is signed in to Earth Engine with another {name}.",
                found=has,
                expected=wanted,
                remedy="ee.Reset() before the fetch"
                + {"project": ", or leave out project=", "server": ", or leave out url="}.get(name, ""),
            )


# --- retries -----------------------------------------------------------------------------------------------


class _BrokenAnswerError(ConnectionError):
    """The service answered, but not with what was asked for."""


def _with_retries(work: Callable[[], T], connection: Connection, what: str) -> T:
    """Call ``work``, again after transient failures; the last is raised as an error of ours."""
    from google.auth.exceptions import GoogleAuthError

    def attempt(_: int) -> T:
        try:
            return work()
        except GoogleAuthError:  # some are ValueErrors too
            raise
        except (ValueError, EOFError) as error:  # neither JSON nor an array, whatever its status said
            raise _BrokenAnswerError(f"an answer that cannot be read ({error})") from None

    try:
        return retry(attempt, attempts=ATTEMPTS)
    except Exception as error:
        # "from None": the client's own errors can carry addresses with an API key in them.
        raise _explained(error, connection, what) from None


def _explained(error: Exception, connection: Connection, what: str) -> Exception:
    """Our error for what the client raised; an error that is none of the service's is left as it is."""
    import ee
    from google.auth.exceptions import GoogleAuthError

    status = http_status(error)
    message = re.sub(r"([?&]key=)[^&\s'\")]+", r"\1***", str(error)).strip() or type(error).__name__
    found = f"{status}: {message}" if status else message
    if is_transient(error):
        fewer = f"set_options(terramind__fetch_workers={max(1, connection.workers // 2)})"
        return ProviderError(
            f"Earth Engine did not give {what}.",
            found=f"{found} (after {ATTEMPTS} attempts)",
            remedy=f"fewer requests at a time: {fewer}"
            if status == 429
            else "compute again; what is stored already is kept",
        )
    if status == 401 or isinstance(error, GoogleAuthError) or _LOGIN in message:
        return ProviderAuthError("Earth Engine does not accept the login.", found=found, remedy=_LOGIN)
    if not isinstance(error, ee.EEException) and status is None:
        return error
    if "not found" in message and "asset" in message:
        return CatalogError(f"Earth Engine has no such asset, asked for {what}.", found=found)
    if "did not match any bands" in message:
        return CatalogError(f"Earth Engine has no such band, asked for {what}.", found=found)
    if status == 403 or "no project found" in message:
        return ProviderAuthError(
            f"Earth Engine does not serve this project ({connection.project}).", found=found, remedy=_PROJECT
        )
    too_much = re.search("memory limit|timed out|over 5000 elements|request size", message)
    return ProviderError(
        f"Earth Engine cannot compute {what}.",
        found=found,
        remedy="smaller blocks, chunks=448, or a shorter time" if too_much else None,
    )
