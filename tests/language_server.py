"""A scripted editor: enough of the Language Server Protocol to ask yaml-language-server what it would show."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

VERSION = "2.0.0"
SETTINGS = {
    "yaml": {"validate": True, "hover": True, "completion": True, "schemaStore": {"enable": False}},
}
SECONDS = 200


def install(folder: Path) -> Path:
    """The server's program, installed under `folder` by npm; skips the test where npm is not, or reaches nothing."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("npm or node is not installed: yaml-language-server cannot be had")
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", "--loglevel=error"]
    command = ["npm", "install", *options, "--prefix", str(folder), f"yaml-language-server@{VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot fetch yaml-language-server: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return folder / "node_modules" / ".bin" / "yaml-language-server"


class Editor:
    """One session: files are opened, changed and pointed at."""

    def __init__(self, program: Path, root: Path) -> None:
        self.process = subprocess.Popen(
            [str(program), "--stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=root,
        )
        self.number = 0
        self.version = 0
        self.answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self.diagnosed: queue.Queue[dict[str, Any]] = queue.Queue()
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()
        markdown = {"contentFormat": ["markdown"]}
        capabilities = {
            "textDocument": {
                "hover": markdown,
                "completion": {"completionItem": {"documentationFormat": ["markdown"]}},
            },
            "workspace": {"configuration": True, "didChangeConfiguration": {"dynamicRegistration": True}},
        }
        self.ask("initialize", {"processId": None, "rootUri": root.as_uri(), "capabilities": capabilities})
        self.tell("initialized", {})
        self.tell("workspace/didChangeConfiguration", {"settings": SETTINGS})

    def open(self, file: Path, text: str) -> list[dict[str, Any]]:
        """Open `file` as if it held `text`; returns what is underlined in it."""
        document = {"uri": file.as_uri(), "languageId": "yaml", "version": self.version, "text": text}
        self.tell("textDocument/didOpen", {"textDocument": document})
        return self._diagnoses()

    def change(self, file: Path, text: str) -> list[dict[str, Any]]:
        """The same after an edit."""
        self.version += 1
        document = {"uri": file.as_uri(), "version": self.version}
        self.tell("textDocument/didChange", {"textDocument": document, "contentChanges": [{"text": text}]})
        return self._diagnoses()

    def hover(self, file: Path, line: int, column: int) -> str:
        """What is shown beside the pointer; line and column from 0."""
        found = self.ask("textDocument/hover", _position(file, line, column))
        contents = found["contents"] if found else ""
        return contents["value"] if isinstance(contents, dict) else str(contents)

    def complete(self, file: Path, line: int, column: int) -> dict[str, str]:
        """The words offered at a place, each with what is said of it."""
        found = self.ask("textDocument/completion", _position(file, line, column))
        items = found["items"] if isinstance(found, dict) else found or []
        return {item["label"]: _text(item.get("documentation", "")) for item in items}

    def close(self) -> None:
        """End the server."""
        self.process.kill()
        self.listener.join()
        self.process.communicate()

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        """The result of a request."""
        self.number += 1
        self._send({"id": self.number, "method": method, "params": params})
        answer = self.answers.get(timeout=SECONDS)
        assert answer["id"] == self.number
        assert "error" not in answer, answer
        return answer["result"]

    def tell(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification."""
        self._send({"method": method, "params": params})

    def _diagnoses(self) -> list[dict[str, Any]]:
        return self.diagnosed.get(timeout=SECONDS)["diagnostics"]

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.process.stdin.flush()

    def _listen(self) -> None:
        out = self.process.stdout
        assert out is not None
        while header := out.readline():
            length = int(header.split(b":")[1])
            while out.readline().strip():
                pass
            message = json.loads(out.read(length))
            if "method" not in message:
                self.answers.put(message)
            elif message["method"] == "textDocument/publishDiagnostics":
                self.diagnosed.put(message["params"])
            elif "id" in message:
                asked = message.get("params") or {}
                result = None
                if message["method"] == "workspace/configuration":
                    result = [SETTINGS.get(item.get("section"), {}) for item in asked["items"]]
                self._send({"id": message["id"], "result": result})


def _position(file: Path, line: int, column: int) -> dict[str, Any]:
    return {"textDocument": {"uri": file.as_uri()}, "position": {"line": line, "character": column}}


def _text(documentation: Any) -> str:
    return documentation["value"] if isinstance(documentation, dict) else documentation
