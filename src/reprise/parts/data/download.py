"""Download of a single file, and the error for an unavailable source."""

from __future__ import annotations

import http.client
import urllib.request
from pathlib import Path

_CHUNK = 1 << 20
_SECONDS = 60


class SourceUnavailableError(Exception):
    """A source is not available on this machine; the next one is tried."""


def download(url: str, path: Path) -> Path:
    """Download `url` (https, http or file) to `path`, and return `path`.

    Raises:
        SourceUnavailableError: the URL cannot be reached, or the download breaks off.
    """
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as response, path.open("wb") as sink:
            while chunk := response.read(_CHUNK):
                sink.write(chunk)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SourceUnavailableError(str(error) or type(error).__name__) from error
    return path
