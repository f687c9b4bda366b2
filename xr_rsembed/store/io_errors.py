"""Failures of disks, networks and clusters, in our words."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xr_rsembed.errors import RsEmbedError, StoreError
from xr_rsembed.store.conventions import scrubbed

_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EACCES: "no right to write",
    errno.EPERM: "no right to write",
    errno.EROFS: "a read-only disk",
    errno.ENOTDIR: "a file where a folder is needed",
    errno.EISDIR: "a folder where a file is needed",
    errno.ENAMETOOLONG: "a name that is too long for the disk",
    errno.EIO: "an error of the disk",
    errno.ESTALE: "a network disk that is gone",
}
_OTHERS = {
    "adlfs", "aiobotocore", "aiohttp", "azure", "boto3", "botocore", "fsspec", "gcsfs", "google", "icechunk",
    "obstore", "requests", "s3fs", "urllib3", "zarr",
}  # fmt: skip


RESUME = "make room, or mend the access or the address, then go on with resume=True; finished blocks are safe"


@contextmanager
def explained(
    place: object, remedy: str = RESUME, *, doing: str = "written", local: bool = True
) -> Iterator[None]:
    """Errors of places as StoreErrors that say what is safe and what to do.

    ``local`` says whether they can be shown as causes: those of networks carry addresses with signatures.
    """
    try:
        yield
    except RsEmbedError:
        raise
    except Exception as error:
        found = _found(error)
        if found is None:
            raise
        raise StoreError(
            f"{place} cannot be {doing}.",
            found=scrubbed(found.split("\n")[0][:400]),
            expected="a place that answers, has room, and gives the right to do so",
            remedy=remedy,
        ) from (error if local else None)


def _found(error: BaseException) -> str | None:
    """What a failure of a place was; None for any other."""
    chain: Any = error
    while chain is not None:
        if isinstance(chain, OSError) and chain.errno in _DISK:
            return f"{_DISK[chain.errno]} ({chain})"
        chain = chain.__cause__
    module = type(error).__module__.split(".")[0]
    if isinstance(error, OSError) or module in _OTHERS or module.startswith("_"):
        return f"{type(error).__name__}: {error}"
    return f"the cluster failed, {type(error).__name__}: {error}" if module == "distributed" else None
