"""Tracking with Weights & Biases, one W&B run per run. This is the only module that imports wandb.

A separate thread makes all calls of wandb, including its import; training only puts rows in a queue. So W&B, whether
slow, broken or absent, does not slow training down. If it fails, one warning is printed and tracking stops. Offline
runs are written to `<root>/wandb` and uploaded by `wandb sync`.

A W&B run is opened by training and reopened under the same id by whatever continues it: training after a stop, and
evaluation, which adds the metrics that claims are judged by. Offline, each of these leaves its own folder, and
uploading keeps only what is in the last summary.
"""

from __future__ import annotations

import configparser
import contextlib
import logging
import netrc
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import urlsplit, urlunsplit

from reprise.core.config.error_messages import PATTERNS, shown
from reprise.core.config.names import NAME_OF_WANDB
from reprise.core.config.yaml import ConfigError, Mark, Problem, did_you_mean

if TYPE_CHECKING:
    import numpy as np

    from reprise.core.config.paper import Paper
    from reprise.core.contract import Run

INIT_SECONDS = 10.0
"""Seconds that the W&B server may take to answer before a run goes offline instead."""
START_SECONDS = 15.0
"""Seconds that wandb may take to start, counted from `open_tracker`, before `finish` gives up on it."""
FINISH_SECONDS = 15.0
"""Seconds that `finish` waits for data still to be written or sent."""
AWAY_SECONDS = 600.0
"""Seconds for which other runs go offline at once after the W&B server failed to answer one."""
QUEUE_ROWS = 10_000
"""Rows that may be queued for wandb before tracking gives up."""

_ENVIRONMENT = {
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",  # else each run prints where its settings come from
    "WANDB_SERVICE": "",  # address of its service; wandb fills this in itself
}
"""Set before wandb's thread starts. If a thread adds a variable, glibc before 2.41 may move and free the whole
environment, and C code reading it at that moment, as torch's does, crashes the process. This has been seen once.
"""
_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")
_AWAY = "server-away"
_MODES = ("online", "offline", "disabled", "dryrun", "run", "shared")
"""Values that W&B accepts in WANDB_MODE."""
_ENVIRON = Mark("environment")
_FILMS = {".gif", ".mp4", ".webm"}
_DECISIVE = ("src", "params.yaml", "params", "pipeline.yaml", "papers", "datasets")
"""Paths in git that a run depends on. Results of earlier runs do not make a commit dirty."""
_log = logging.getLogger(__name__)

Mode = Literal["online", "offline", "off"]


class TrackingSettings(Protocol):
    """The `tracking` block of params.yaml."""

    @property
    def wandb(self) -> Literal["auto", "online", "offline", "off"]: ...
    @property
    def project(self) -> str: ...
    @property
    def entity(self) -> str | None: ...


@dataclass(frozen=True)
class Revision:
    """Git's state of the code and YAML that a run depends on."""

    commit: str
    """Hash of the last commit."""
    dirty: bool
    """Whether sources or YAML differ from that commit."""
    remote: str | None
    """URL of `origin`, without a password."""


@dataclass(frozen=True)
class About:
    """Description of a run on its W&B page, besides configuration and numbers."""

    paper: Paper
    revision: Revision | None
    """None without git."""


class Tracker(Protocol):
    """Receives a run's numbers and pictures, besides the run's own files. No method raises, and only `finish` waits."""

    @property
    def works(self) -> bool:
        """Whether anything is still being recorded."""
        ...

    def log(self, row: dict[str, float], step: int) -> None:
        """Add `row` to the history at `step`. Rows at steps that a resumed run already has are dropped."""
        ...

    def picture(self, name: str, picture: Path | np.ndarray, step: int) -> None:
        """Add a picture or film at `step`, as a file or as uint8 [height, width] or [height, width, 3]."""
        ...

    def summary(self, values: dict[str, Any]) -> None:
        """Set values of the run as a whole."""
        ...

    def finish(self, ok: bool) -> None:
        """End the run, as crashed unless `ok`. Waits at most START_SECONDS + FINISH_SECONDS."""
        ...


def open_tracker(
    run: Run, settings: TrackingSettings, root: Path, run_id: str, source: str | None, about: About | None = None
) -> Tracker:
    """Open a tracker for `run`, writing under `root`. With tracking off, wandb is not imported.

    Args:
        run: the run to track.
        settings: the `tracking` block.
        root: the project's root.
        run_id: W&B id, the same each time the run is resumed.
        source: hash of the experiment's source code.
        about: what the page of the run shows besides.
    """
    if (mode := wandb_mode(settings)) == "off":
        return NoTracker()
    identity = {
        "experiment": run.experiment, "stage": run.stage, "arm": run.arm, "seed": run.seed,
        "scale": run.scale, "fingerprint": run.fingerprint, "source": source,
    }  # fmt: skip
    arguments = {
        "id": run_id,
        "resume": "allow",
        "group": run.experiment,
        "job_type": run.stage,
        "name": f"{run.experiment}/{run.arm}/s{run.seed}"[:128],  # W&B's limit
        "tags": [run.scale, run.stage, run.arm],
        "config": {**run.config, **identity},
    }
    return _open(run.name, mode, settings, root, arguments, about, run.arm)


def open_summary(
    name: str, group: str, arm: str, settings: TrackingSettings, root: Path, config: dict[str, Any], about: About
) -> Tracker:
    """Open a tracker for a trial of a sweep. It is not a run; W&B's agent passes its id in the environment."""
    if (mode := wandb_mode(settings)) == "off":
        return NoTracker()
    arguments = {"group": group, "job_type": "trial", "name": name, "tags": ["trial", arm], "config": config}
    return _open(name, mode, settings, root, arguments, about, arm)


def _open(
    name: str,
    mode: Mode,
    settings: TrackingSettings,
    root: Path,
    arguments: dict[str, Any],
    about: About | None,
    arm: str,
) -> Tracker:
    arguments |= {"dir": str(_folder(root)), "project": project_name(settings), "entity": entity_name(settings)}
    revision = about.revision if about else None
    if about is not None:
        arguments |= {"notes": notes(about.paper, arm), "tags": [*arguments["tags"], about.paper.family]}
    if revision is not None:
        git = {"commit": revision.commit, "dirty": revision.dirty}
        arguments |= {"config": {**arguments["config"], "git": git}}
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    return WandbTracker(name, lambda: _start(mode, arguments, revision))


def notes(paper: Paper, arm: str) -> str:
    """Describe the paper, and the claims for which runs of `arm` are evidence, each with its metric."""
    claims = [f"{key} ({claim.metric})" for key, claim in paper.claims.items() if arm in claim.arms_named]
    lines = [f"{paper.title}, {paper.year}", paper.link, *(["Evidence for: " + ", ".join(claims)] if claims else [])]
    return "\n".join(lines)


def about(paper: Paper, settings: TrackingSettings, root: Path) -> About:
    """Return what the pages of a paper's runs show. With tracking off, git is not called."""
    return About(paper, None if settings.wandb == "off" else revision(root))


def revision(root: Path) -> Revision | None:
    """Return git's state of the project at `root`, or None without a repository or without git."""
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    if not commit:
        return None
    changed = _git(root, "status", "--porcelain", "--", *_DECISIVE)
    return Revision(commit, bool(changed), _without_password(_git(root, "config", "--get", "remote.origin.url")))


def _git(root: Path, *words: str) -> str:
    """Return the output of git, or the empty string if it fails."""
    with contextlib.suppress(OSError):
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False).stdout.strip()
    return ""


def _without_password(address: str) -> str | None:
    parts = urlsplit(address)
    if parts.scheme in ("http", "https"):
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return address or None


def modules(settings: TrackingSettings) -> list[str]:
    """Return modules that runs import for tracking. Preloading them before the fork saves 0.7 s of CPU time per run.

    requests suppresses one of its own warnings while it is imported. This occasionally fails if the training thread
    suppresses warnings at the same moment. pandas, where it is installed, is imported by wandb for the first row.
    """
    if wandb_mode(settings) == "off":
        return []
    named = ["wandb", "wandb.sdk.launch.inputs.internal", "requests"]
    return [*named, *(["pandas"] if find_spec("pandas") else [])]


def wandb_mode(settings: TrackingSettings) -> Mode:
    """Return where runs are tracked. `off` in YAML is final; else WANDB_MODE, then YAML. `auto` looks for a key.

    `online` without a key falls back to offline with a warning, since wandb would stop and ask for one. Values that
    `check_environment` rejects mean offline here, where a run is already in progress.
    """
    if settings.wandb == "off":
        return "off"
    wanted = os.environ.get("WANDB_MODE", "").lower() or settings.wandb
    if wanted in ("disabled", "off"):
        return "off"
    if wanted not in ("online", "run", "shared", "auto"):
        return "offline"
    if _has_key():
        return "online"
    if wanted != "auto":
        _warn_once("wandb: no API key found (WANDB_API_KEY or netrc): keeping runs offline")
    return "offline"


def project_name(settings: TrackingSettings) -> str:
    """Return the W&B project: WANDB_PROJECT, which W&B sweeps set too, else that of params.yaml."""
    return os.environ.get("WANDB_PROJECT") or settings.project


def entity_name(settings: TrackingSettings) -> str | None:
    """Return the W&B team or user: that of params.yaml, else WANDB_ENTITY, else None for the owner of the key."""
    return settings.entity or os.environ.get("WANDB_ENTITY") or None


def _folder(root: Path) -> Path:
    """Return the folder in which W&B's own folder `wandb` is created: WANDB_DIR, else the project's root."""
    return Path(os.environ.get("WANDB_DIR") or root).absolute()


def check_environment(settings: TrackingSettings) -> None:
    """Check W&B's environment variables before a grid starts, since a run in progress is never stopped for tracking.

    Raises:
        ConfigError: a variable has an invalid value, with which runs would not be tracked.
    """
    if settings.wandb == "off":
        return
    mode, problems = os.environ.get("WANDB_MODE", ""), []
    if mode and mode.lower() not in _MODES:
        said = f"expected one of {', '.join(_MODES)}, found {shown(mode)}{did_you_mean(mode.lower(), _MODES)}"
        problems.append(Problem(_ENVIRON, "WANDB_MODE", said))
    for name in ("WANDB_PROJECT", "WANDB_ENTITY"):
        value = os.environ.get(name)
        if value and not re.fullmatch(NAME_OF_WANDB, value):
            said = f"expected {PATTERNS[NAME_OF_WANDB]}, found {shown(value)}"
            problems.append(Problem(_ENVIRON, name, said))
    if problems:
        raise ConfigError(problems)


@cache
def _warn_once(text: str) -> None:
    _log.warning(text)


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    # Keys are stored by host; a private server has its own.
    own = urlsplit(os.environ.get("WANDB_BASE_URL") or _server_logged_in_to()).netloc
    names = [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]
    for file in map(_expanded, names):
        try:
            keys = netrc.netrc(file)
        except (OSError, ValueError, netrc.NetrcParseError):
            continue
        if any(keys.authenticators(host) for host in ((own,) if own else _HOSTS)):
            return True
    return False


def _server_logged_in_to() -> str:
    """Return the URL saved by `wandb login --host`, if it is of a private server."""
    settings = configparser.ConfigParser(interpolation=None)
    folder = os.environ.get("WANDB_CONFIG_DIR", "~/.config/wandb")
    with contextlib.suppress(OSError, ValueError, configparser.Error):
        settings.read(_expanded(folder) / "settings")
    return settings.get("default", "base_url", fallback="")


def _expanded(path: str) -> Path:
    """Expand `~` in `path`, unless there is no home folder: HOME is unset and the user unknown."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


class LastingTracker:
    """Keeps a run's tracker open after its training has ended well, so that scores can be added until `close`."""

    def __init__(self, tracker: Tracker) -> None:
        """Pass everything on to `tracker`."""
        self._tracker = tracker
        self.log, self.picture, self.summary = tracker.log, tracker.picture, tracker.summary
        self.is_open = True

    @property
    def works(self) -> bool:
        return self._tracker.works

    def finish(self, ok: bool) -> None:
        if not ok:
            self.close(ok)

    def close(self, ok: bool = True) -> None:
        """End the run, unless it has ended."""
        if self.is_open:
            self.is_open = False
            self._tracker.finish(ok)


class NoTracker:
    """Tracker that does nothing."""

    works = False

    def log(self, row: dict[str, float], step: int) -> None: ...
    def picture(self, name: str, picture: Path | np.ndarray, step: int) -> None: ...
    def summary(self, values: dict[str, Any]) -> None: ...
    def finish(self, ok: bool) -> None: ...


class WandbTracker:
    """Passes everything to a thread that owns the wandb run; see `Tracker`."""

    def __init__(self, name: str, start: Callable[[], Any]) -> None:
        """Start the thread, which calls `start` to open the wandb run. Warnings call the run `name`."""
        self._name = name
        self._start = start
        self._jobs: queue.Queue[Callable[[Any], None] | None] = queue.Queue(QUEUE_ROWS)
        self._off = False
        self._lock = threading.Lock()
        self._started = threading.Event()
        self._start_deadline = time.monotonic() + START_SECONDS
        self._thread = threading.Thread(target=self._work, name=f"wandb {name}", daemon=True)
        self._thread.start()

    @property
    def works(self) -> bool:
        return not self._off

    def log(self, row: dict[str, float], step: int) -> None:
        values = {**row, "step": step}
        self._put(lambda run: run.log(values, step=step))

    def picture(self, name: str, picture: Path | np.ndarray, step: int) -> None:
        self._put(lambda run: run.log({name: _media(picture), "step": step}, step=step))

    def summary(self, values: dict[str, Any]) -> None:
        values = dict(values)
        self._put(lambda run: run.summary.update(values))

    def finish(self, ok: bool) -> None:
        self._put(lambda run: run.finish(exit_code=0 if ok else 1))
        self._put(None)
        if self._started.wait(max(0.0, self._start_deadline - time.monotonic())):
            self._thread.join(FINISH_SECONDS)
        if self._thread.is_alive():
            self._turn_off("it is not responding")
            _kill_service()

    def _put(self, job: Callable[[Any], None] | None) -> None:
        if self._off:
            return
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self._turn_off("it cannot keep up")

    def _work(self) -> None:
        try:
            run = self._start()
            self._started.set()
            while (job := self._jobs.get()) is not None:
                job(run)
        except Exception as error:
            self._turn_off(_first_line(error))
        finally:
            self._started.set()

    def _turn_off(self, reason: str) -> None:
        with self._lock:
            first, self._off = not self._off, True
        if first:
            _log.warning("wandb is off for %s: %s", self._name, reason)


def _start(mode: Mode, arguments: dict[str, Any], revision: Revision | None) -> Any:
    """Open a wandb run, offline if the server does not answer or recently did not."""
    import wandb

    settings = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        save_code=False,
        git_commit=revision.commit if revision else None,
        git_remote_url=revision.remote if revision else None,
        init_timeout=INIT_SECONDS,
        finish_timeout=FINISH_SECONDS - 1,  # wandb gives up before `finish`, which waits for it, does
        reinit="create_new",
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )
    wandb.setup(settings)
    folder = Path(arguments["dir"]) / "wandb"
    folder.mkdir(parents=True, exist_ok=True)
    run = None
    if mode == "online" and not _is_away(folder):
        try:
            run = wandb.init(mode="online", settings=settings, **arguments)
        except Exception as error:
            # Other runs see this file, and do not each wait for the timeout.
            (folder / _AWAY).touch()
            wandb.teardown()
            _log.warning("wandb: keeping runs offline for now: %s", _first_line(error))
    if run is None:
        run = wandb.init(mode="offline", settings=settings, **arguments)
    run.define_metric("step", hidden=True)
    run.define_metric("*", step_metric="step")
    return run


def _kill_service() -> None:
    """Kill the wandb-core of this process, for which wandb would otherwise wait at exit."""
    setup: Any = sys.modules.get("wandb.sdk.wandb_setup")
    with contextlib.suppress(AttributeError, OSError):
        # wandb has no public way to end a service that does not answer.
        connection = setup._singleton._connection
        connection._proc._process.kill()
        connection._cleanup()


def _is_away(folder: Path) -> bool:
    try:
        return time.time() - (folder / _AWAY).stat().st_mtime < AWAY_SECONDS
    except OSError:
        return False


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _media(picture: Path | np.ndarray) -> Any:
    import wandb

    if not isinstance(picture, Path):
        return wandb.Image(picture)
    return wandb.Video(str(picture)) if picture.suffix in _FILMS else wandb.Image(str(picture))
