"""Weights & Biases, one W&B run per run. The only module that imports wandb.

A thread of its own does everything with wandb, importing it included, and training only puts rows into a
queue: a slow, broken or absent W&B costs training nothing. What goes wrong there ends in one
warning line and no more tracking. Offline runs are written under `<root>/wandb`; `wandb sync`
uploads them.

A run is opened once by training and again, under the same id, by whatever goes on with it: training after a stop,
evaluation, which adds the metrics that claims are judged by. Offline, each of these leaves a folder of its own, and
what its summary does not say is lost when it is uploaded.
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
"""How long W&B's server may take to answer before a run goes offline instead."""
START_SECONDS = 15.0
"""How long wandb may take to start, counted from `open_tracker`, before `finish` gives it up."""
FINISH_SECONDS = 15.0
"""How long `finish` waits for what is still to be written or sent."""
AWAY_SECONDS = 600.0
"""How long other runs go offline at once after W&B's server did not answer one."""
QUEUE_ROWS = 10_000
"""Rows that may wait for wandb before it is given up."""

_ENVIRONMENT = {
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",  # or each run says which file its settings come from
    "WANDB_SERVICE": "",  # where its service listens; wandb itself writes that down
}
"""There before wandb's thread is. One that a thread adds makes glibc (before 2.41) move them all and free where they
were, and C code that looks one up meanwhile, as torch's does, ends the process, as was seen once."""
_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")
_AWAY = "server-away"
_MODES = ("online", "offline", "disabled", "dryrun", "run", "shared")
"""What W&B takes in WANDB_MODE."""
_ENVIRON = Mark("environment")
_FILMS = {".gif", ".mp4", ".webm"}
_DECISIVE = ("src", "params.yaml", "params", "pipeline.yaml", "papers", "datasets")
"""What a run follows from, as far as git has it: results of earlier runs make no commit dirty."""
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
    """The code and YAML that a run follows from, as git knows them."""

    commit: str
    """The last commit's hash."""
    dirty: bool
    """Whether sources or YAML differ from it."""
    remote: str | None
    """The address of `origin`, without a password."""


@dataclass(frozen=True)
class About:
    """What the page of a run says beside its configuration and numbers."""

    paper: Paper
    revision: Revision | None
    """None without git."""


class Tracker(Protocol):
    """Where a run's numbers and pictures go besides its own files. No method raises or waits, but for `finish`."""

    @property
    def works(self) -> bool:
        """Whether what it is given still goes anywhere."""
        ...

    def log(self, row: dict[str, float], step: int) -> None:
        """Add `row` to the history at `step`; rows at steps a resumed run already has are dropped."""
        ...

    def picture(self, name: str, picture: Path | np.ndarray, step: int) -> None:
        """Add a picture or film (a file, or uint8 [height, width] or [height, width, 3]) at `step`."""
        ...

    def summary(self, values: dict[str, Any]) -> None:
        """Set values of the run as a whole."""
        ...

    def finish(self, ok: bool) -> None:
        """End the run, as crashed unless `ok`; waits at most START_SECONDS + FINISH_SECONDS."""
        ...


def open_tracker(
    run: Run, settings: TrackingSettings, root: Path, run_id: str, source: str | None, about: About | None = None
) -> Tracker:
    """A tracker for `run`, writing under `root`; `run_id` is the same each time the run is resumed.

    `source` is the hash of the experiment's source. With tracking off, wandb is not imported.
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
        "name": f"{run.experiment}/{run.arm}/s{run.seed}"[:128],  # as many characters as W&B takes
        "tags": [run.scale, run.stage, run.arm],
        "config": {**run.config, **identity},
    }
    return _open(run.name, mode, settings, root, arguments, about, run.arm)


def open_summary(
    name: str, group: str, arm: str, settings: TrackingSettings, root: Path, config: dict[str, Any], about: About
) -> Tracker:
    """A tracker for what is no run: a trial of a sweep, whose id W&B's agent has put into the environment."""
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
    """The paper, and the claims that runs of `arm` are evidence for, each with its metric."""
    claims = [f"{key} ({claim.metric})" for key, claim in paper.claims.items() if arm in claim.arms_named]
    lines = [f"{paper.title}, {paper.year}", paper.link, *(["Evidence for: " + ", ".join(claims)] if claims else [])]
    return "\n".join(lines)


def about(paper: Paper, settings: TrackingSettings, root: Path) -> About:
    """What the pages of a paper's runs are to say; git is not asked if tracking is off."""
    return About(paper, None if settings.wandb == "off" else revision(root))


def revision(root: Path) -> Revision | None:
    """The state of the project at `root`; None if it is in no repository of git's, or git is not there."""
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    if not commit:
        return None
    changed = _git(root, "status", "--porcelain", "--", *_DECISIVE)
    return Revision(commit, bool(changed), _without_password(_git(root, "config", "--get", "remote.origin.url")))


def _git(root: Path, *words: str) -> str:
    """What git prints; nothing where it fails."""
    with contextlib.suppress(OSError):
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False).stdout.strip()
    return ""


def _without_password(address: str) -> str | None:
    parts = urlsplit(address)
    if parts.scheme in ("http", "https"):
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return address or None


def modules(settings: TrackingSettings) -> list[str]:
    """What every run will import for its tracking: once, before it is forked, saves 0.7 s of processor time a run.

    requests hides a warning of its own while it is imported, which fails now and then if training, in another thread,
    hides warnings at the same moment.
    """
    return [] if settings.wandb == "off" else ["wandb", "wandb.sdk.launch.inputs.internal", "requests"]


def wandb_mode(settings: TrackingSettings) -> Mode:
    """Where runs go. `off` in YAML is final; else WANDB_MODE; else YAML, and `auto` looks for a key.

    `online` without a key is offline, with a warning: wandb would stop and ask for one. What `check_environment`
    refuses is offline here, where a run is going already.
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
        _warn_once("wandb: no API key found (WANDB_API_KEY or netrc): runs are kept offline")
    return "offline"


def project_name(settings: TrackingSettings) -> str:
    """The W&B project that runs go to: WANDB_PROJECT, as a W&B sweep sets it too, else that of params.yaml."""
    return os.environ.get("WANDB_PROJECT") or settings.project


def entity_name(settings: TrackingSettings) -> str | None:
    """The W&B team or user: that of params.yaml, else WANDB_ENTITY; None: the one whose key it is."""
    return settings.entity or os.environ.get("WANDB_ENTITY") or None


def _folder(root: Path) -> Path:
    """Where the folder `wandb` of runs is kept: WANDB_DIR, else the project's root."""
    return Path(os.environ.get("WANDB_DIR") or root).absolute()


def check_environment(settings: TrackingSettings) -> None:
    """ConfigError where W&B's variables say what cannot be, and runs would not be tracked for it.

    Asked before a grid starts: a run that is going is never stopped for its tracking.
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
    """The address that `wandb login --host` noted, if it is of a server of one's own."""
    settings = configparser.ConfigParser(interpolation=None)
    folder = os.environ.get("WANDB_CONFIG_DIR", "~/.config/wandb")
    with contextlib.suppress(OSError, ValueError, configparser.Error):
        settings.read(_expanded(folder) / "settings")
    return settings.get("default", "base_url", fallback="")


def _expanded(path: str) -> Path:
    """`path` with the home folder for `~`; as it is where nobody knows that folder: no HOME, and no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


class NoTracker:
    """Tracking that is off."""

    works = False

    def log(self, row: dict[str, float], step: int) -> None: ...
    def picture(self, name: str, picture: Path | np.ndarray, step: int) -> None: ...
    def summary(self, values: dict[str, Any]) -> None: ...
    def finish(self, ok: bool) -> None: ...


class WandbTracker:
    """Hands what it is given to a thread that holds the wandb run; see `Tracker`."""

    def __init__(self, name: str, start: Callable[[], Any]) -> None:
        """`start` opens the wandb run called `name` in warnings; it is called in the thread."""
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
            self._turn_off("it does not answer")
            _kill_service()

    def _put(self, job: Callable[[Any], None] | None) -> None:
        if self._off:
            return
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self._turn_off("it does not keep up")

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
    """A wandb run; offline where the server does not answer, or lately did not."""
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
        finish_timeout=FINISH_SECONDS - 1,
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
            (folder / _AWAY).touch()
            wandb.teardown()
            _log.warning("wandb: runs are kept offline for now: %s", _first_line(error))
    if run is None:
        run = wandb.init(mode="offline", settings=settings, **arguments)
    run.define_metric("step", hidden=True)
    run.define_metric("*", step_metric="step")
    return run


def _kill_service() -> None:
    """End the wandb-core of this process, which wandb would otherwise wait for at exit."""
    setup: Any = sys.modules.get("wandb.sdk.wandb_setup")
    with contextlib.suppress(AttributeError, OSError):
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
