"""A W&B server for tests: as much of the protocol as wandb 0.31 needs to send runs, resume them and run a sweep.

    with serving() as server:
        environment = server.environment     # WANDB_BASE_URL and WANDB_API_KEY
        ...                                  # whatever uses wandb, in this process or another
        server.runs["<id>"].history          # what has arrived

It speaks GraphQL (POST /graphql), the stream of rows (POST /files/<entity>/<project>/<run>/file_stream), and takes
files under addresses of its own (PUT /storage/...). It knows neither artifacts nor the W&B app's pages.
`python tests/wandb_server.py` serves until it is stopped and prints what arrives.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import yaml

KEY = "0123456789" * 4
ENTITY = "nobody"
PROJECT = "reprise"


@dataclass
class ReceivedRun:
    """What the server was told of one run."""

    facts: dict[str, Any] = field(default_factory=dict)
    """By their names in UpsertBucket: displayName, groupName, jobType, notes, tags, commit, repo, sweep, ..."""
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    """By their paths in the run's page."""
    exits: list[int] = field(default_factory=list)
    """The status of each process that ended it."""

    @property
    def config(self) -> dict[str, Any]:
        """Values alone, without what wandb says of itself."""
        return {key: entry["value"] for key, entry in self.raw_config.items() if key != "_wandb"}

    @property
    def raw_config(self) -> dict[str, Any]:
        return json.loads(self.facts.get("config") or "{}")


@dataclass
class Sweep:
    """A sweep, whose trials are given out one by one."""

    config: dict[str, Any]
    trials: list[dict[str, Any]]
    """Values of the knobs of each trial, from `server.draw`."""
    given: list[str] = field(default_factory=list)
    """Ids of the runs that agents were told to start."""


class WandbServer(ThreadingHTTPServer):
    """Holds what arrives; `unknown` lists the GraphQL operations that it could not answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, ReceivedRun] = {}
        self.sweeps: dict[str, Sweep] = {}
        self.operations: list[str] = []
        self.unknown: list[str] = []
        self.draw: Callable[[dict[str, Any]], list[dict[str, Any]]] = lambda config: []
        """What a sweep's server does: the trials of a sweep, from its `parameters`."""
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What wandb is to be told."""
        return {"WANDB_BASE_URL": self.address, "WANDB_API_KEY": KEY, "WANDB_MODE": "online"}

    def handle_error(self, *_: object) -> None:
        """wandb leaves without closing its connections: nothing to tell of."""

    # --- GraphQL ------------------------------------------------------------------------------------------------------

    def answer(self, query: str, said: dict[str, Any]) -> dict[str, Any] | None:
        """The `data` of an operation such as UpsertBucket, by `_upsert_bucket`; None for one that is not known."""
        match = re.search(r"\b(?:query|mutation)\s+(\w+)", query)
        operation = match[1] if match else query
        method = getattr(self, "_" + re.sub(r"(?<=.)([A-Z])", r"_\1", operation).lower(), None)
        with self.lock:
            self.operations.append(operation)
            if method is None:
                self.unknown.append(operation)
                return None
            return method(said)

    def _viewer(self, said: dict[str, Any]) -> dict[str, Any]:
        teams = {"edges": [{"node": {"name": ENTITY}}]}
        return {"viewer": {"id": "1", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}", "teams": teams}}

    def _server_features_query(self, said: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _run_resume_status(self, said: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(said["name"])
        bucket = None
        if run is not None:
            bucket = {
                "id": said["name"],
                "name": said["name"],
                "summaryMetrics": json.dumps(run.summary),
                "displayName": run.facts.get("displayName"),
                "logLineCount": 0,
                "historyLineCount": len(run.history),
                "eventsLineCount": 0,
                "historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]),
                "eventsTail": "[]",
                "config": run.facts.get("config") or "{}",
                "tags": run.facts.get("tags") or [],
                "notes": run.facts.get("notes"),
                "wandbConfig": json.dumps({"t": run.raw_config.get("_wandb", {}).get("value", {}).get("t")}),
            }
        return {"model": {"id": "p", "name": PROJECT, "entity": {"id": "e", "name": ENTITY}, "bucket": bucket}}

    def _upsert_bucket(self, said: dict[str, Any]) -> dict[str, Any]:
        name = said.get("name") or said["id"]
        inserted = name not in self.runs
        run = self.runs.setdefault(name, ReceivedRun())
        run.facts |= {key: value for key, value in said.items() if value is not None}
        bucket = {
            "id": name,
            "name": name,
            "displayName": run.facts.get("displayName"),
            "description": None,
            "config": run.facts.get("config"),
            "sweepName": run.facts.get("sweep"),
            "project": _project(said.get("project")),
            "historyLineCount": len(run.history),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _create_run_files(self, said: dict[str, Any]) -> dict[str, Any]:
        files = [
            {"name": name, "uploadUrl": f"{self.address}/storage/{said['run']}/{quote(name)}"} for name in said["files"]
        ]
        return {"createRunFiles": {"runID": said["run"], "uploadHeaders": [], "files": files}}

    def _upsert_sweep(self, said: dict[str, Any]) -> dict[str, Any]:
        config = yaml.safe_load(said["config"])
        name = said.get("id") or f"sweep{len(self.sweeps)}"
        self.sweeps[name] = Sweep(config, self.draw(config["parameters"]))
        sweep = {"name": name, "project": _project(said.get("projectName"))}
        return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}

    def _sweep_with_runs(self, said: dict[str, Any]) -> dict[str, Any]:
        found = self.sweeps.get(said["sweep"])
        sweep = {
            "id": said["sweep"], "name": said["sweep"], "state": "RUNNING", "runs": {"edges": []},
            "method": found.config["method"], "config": yaml.safe_dump(found.config),
        } if found else None  # fmt: skip
        return {"project": {"sweep": sweep}}

    def _create_agent(self, said: dict[str, Any]) -> dict[str, Any]:
        return {"createAgent": {"agent": {"id": said["sweep"]}}}

    def _heartbeat(self, said: dict[str, Any]) -> dict[str, Any]:
        sweep = self.sweeps[said["id"]]
        commands: list[dict[str, Any]] = []
        if not json.loads(said["runState"]):  # the agent runs nothing at present
            commands = [{"type": "exit"}]
            if len(sweep.given) < len(sweep.trials):
                sweep.given.append(f"{said['id']}trial{len(sweep.given)}")
                drawn = {knob: {"value": value} for knob, value in sweep.trials[len(sweep.given) - 1].items()}
                program = sweep.config["program"]
                commands = [{"type": "run", "run_id": sweep.given[-1], "program": program, "args": drawn}]
        return {"agentHeartbeat": {"agent": {"id": said["id"]}, "commands": json.dumps(commands)}}

    # --- rows and files -----------------------------------------------------------------------------------------------

    def stream(self, name: str, said: dict[str, Any]) -> None:
        """Rows, a new summary, the end of a run."""
        with self.lock:
            run = self.runs[name]
            for file, chunk in (said.get("files") or {}).items():
                rows = [json.loads(line) for line in chunk["content"]] if file.endswith((".json", ".jsonl")) else []
                if file == "wandb-history.jsonl":
                    run.history[chunk["offset"] :] = rows
                elif file == "wandb-summary.json":
                    run.summary = rows[-1]
            if said.get("complete"):
                run.exits.append(said["exitcode"])

    def store(self, name: str, path: str, content: bytes) -> None:
        with self.lock:
            self.runs[name].files[path] = content


def _project(name: str | None) -> dict[str, Any]:
    return {"id": "p", "name": name or PROJECT, "entity": {"id": "e", "name": ENTITY}}


class _Handler(BaseHTTPRequestHandler):
    """One connection of wandb's."""

    protocol_version = "HTTP/1.1"
    server: WandbServer

    def do_POST(self) -> None:
        content = json.loads(self._body() or b"{}")
        path = urlsplit(self.path).path
        if self.headers.get("Authorization") != "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode():
            self._reply({"errors": [{"message": "no key"}]}, 401)
        elif path == "/graphql":
            data = self.server.answer(content["query"], content.get("variables") or {})
            self._reply({"data": data} if data else {"errors": [{"message": "not known here"}]}, 200 if data else 400)
        elif match := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path):
            self.server.stream(match[1], content)
            self._reply({})
        else:
            self._reply({}, 404)

    def do_PUT(self) -> None:
        _, _, name, path = urlsplit(self.path).path.split("/", 3)
        self.server.store(name, unquote(path), self._body())
        self._reply({})

    def do_GET(self) -> None:
        self._reply({}, 404)

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, content: dict[str, Any], status: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Quietly."""


@contextmanager
def serving() -> Iterator[WandbServer]:
    """A server in a thread of its own, until the block ends."""
    with WandbServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
