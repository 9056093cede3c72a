"""The docs: every command that they show is run, every option, link, path and knob that they name exists.

In README.md, CONTRIBUTING.md and docs/*.md

- a block of ```console holds commands, each after `$ `; a line that ends in a backslash goes on in the next one;
- a block of ```diff whose first line is `--- FILE` is an edit: in that file the lines with a blank or a minus stand
  somewhere, once, one after another, and become those with a blank or a plus; `@@` begins another place of it.

Pages are run in the order of docs/README.md, each from top to bottom, in one copy of the project, with its results and
without its models. The line before a block may say otherwise:

    <!-- not run: why -->                       its commands are only checked to exist
    <!-- run by tests/test_x.py::test_y -->     a test that runs them, on any experiment: its file has
                                                each subcommand and option
    <!-- ends with 2 -->                        the last command's status; what the block shows is what it prints
    <!-- exact -->                              what the block shows is what it prints; … is any text, ... any lines
    <!-- about -->                              the same, but numbers may be 2 % off, as on another processor

`python tests/test_docs.py` lists what is not run.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from conftest import REPOSITORY
from layout import YAML as YAML_FILES
from reprise.cli import app
from reprise.core.config import yaml
from reprise.core.config.judged_seeds import FIRST_JUDGED_SEED
from reprise.core.config.paper import Paper
from reprise.core.config.yaml import Document
from reprise.core.verdicts.claims import judge
from reprise.core.verdicts.results import read_runs

CONTENTS = REPOSITORY / "docs" / "README.md"
LINK = re.compile(r"\]\(([^)\s]+)\)")
KNOB = r"([+~]?)\b((?:params|papers)/\w+\.yaml):([+~]?)([a-z][\w.]*\w)"
"""FILE:KNOB, with DVC's sign for one that is to be added or removed, which stands after the colon."""
SHELLS = {"bash", "sh", "shell", "zsh", "fish", "shell-session"}
CLICK_EXCEPTION: Any = next(one for one in typer.BadParameter.__mro__ if one.__name__ == "ClickException")
"""Typer's own: it carries a click of its own, whose exceptions are not those of the package."""
UNCHANGED = ("/dev/null", "$EDITOR")
"""What marks a command that waits for a person."""


@dataclass
class Block:
    """What stands between two lines of three backticks, and what the comment above says of it."""

    page: Path
    line: int
    language: str
    text: list[str] = field(default_factory=list)
    comment: str = ""

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        joined = "\n".join(self.text).replace("\\\n", " ").split("\n")
        return [line[2:].strip() for line in joined if line.startswith("$ ")]

    @property
    def output(self) -> list[str]:
        """What it shows besides commands; `...` stands for what is left out."""
        joined = "\n".join(self.text).replace("\\\n", " ").split("\n")
        return [line.strip() for line in joined if line.strip() not in ("", "...") and not line.startswith("$ ")]

    @property
    def status(self) -> int:
        """How its last command is to end."""
        return int(self.said(r"ends with (\d+)") or 0)

    def said(self, pattern: str) -> str | None:
        """What the comment above says after `pattern`."""
        found = re.fullmatch(rf"<!-- {pattern} -->", self.comment)
        return found and found[1]


def blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    inside, before = False, ""
    for number, line in enumerate(page.read_text().split("\n"), 1):
        fence = re.match(r" *```+ *(\S*)", line)
        if fence and not inside:
            found.append(Block(page, number, fence[1], comment=before))
        elif not fence and inside:
            found[-1].text.append(line)
        inside = inside != bool(fence)
        before = line.strip() or before
    return found


def prose(page: Path) -> str:
    """The page without its blocks and comments."""
    without = re.sub(r"(?ms)^ *```.*?^ *```", "", page.read_text())
    return re.sub(r"<!--.*?-->", "", without, flags=re.S)


def ordered() -> list[Path]:
    """README.md, the pages in the order of the contents, CONTRIBUTING.md."""
    linked = [CONTENTS.parent / link.partition("#")[0] for link in LINK.findall(CONTENTS.read_text())]
    pages = [path for path in linked if path.suffix == ".md" and path.parent == CONTENTS.parent and path.exists()]
    return list(dict.fromkeys([REPOSITORY / "README.md", CONTENTS, *pages, REPOSITORY / "CONTRIBUTING.md"]))


PAGES = ordered()
BLOCKS = [block for page in PAGES for block in blocks(page)]
CONSOLE = [block for block in BLOCKS if block.language == "console"]


def plain(command: str) -> str:
    """`command` without its comment."""
    return " ".join(shlex.split(command, comments=True))


TOLD = Counter(plain(command) for block in CONSOLE for command in block.commands)
"""How often each command stands in the docs."""


def not_run() -> Iterator[str]:
    """Each block that is not run, with its reason."""
    for block in CONSOLE:
        reason = block.said("not run: (.+)")
        if reason is not None:
            yield f"{block.place}: {reason}\n    " + "\n    ".join(block.commands)


# What is run


@dataclass
class Copy:
    """A clone of the project as it stands here, in which pages are run one after another."""

    root: Path
    ran: set[tuple[str, str]] = field(default_factory=set)
    """Commands, and the state of the files before each."""

    @property
    def environment(self) -> dict[str, str]:
        home = self.root.parent / "home"
        return os.environ | {
            "PYTHONPATH": str(self.root / "src"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "WANDB_MODE": "disabled",
            "WANDB_DIR": str(self.root),
            "BROWSER": "true",
            "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
            "PYTEST_ADDOPTS": "-p no:cacheprovider",
        }

    def __call__(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, shell=True, executable="/bin/bash", cwd=self.root, env=self.environment | environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip

    def done(self, command: str, **environment: str) -> str:
        """What `command` prints; AssertionError unless it ends well."""
        found = self(command, **environment)
        assert found.returncode == 0, f"$ {command}\nended with {found.returncode}:\n{found.stdout}"
        return found.stdout.strip()

    def state(self) -> str:
        """A hash of every file that git does not ignore."""
        index = {"GIT_INDEX_FILE": str(self.root.parent / "index")}
        return self.done("git add --all && git write-tree", **index)

    def begin(self) -> None:
        """Undo what the page before did to files."""
        self.done("git checkout --quiet --force -B main begin && git clean --quiet --force -d")

    def edit(self, block: Block) -> str:
        """Make the changes that a block of ```diff shows; what is wrong with them, or nothing."""
        name = block.text[0].removeprefix("--- ")
        file = self.root / name
        if not file.exists():
            return f"{block.place}: there is no {name}"
        text = file.read_text()
        for hunk in re.split(r"(?m)^@@.*\n", "\n".join(block.text[1:]) + "\n"):
            lines = hunk.split("\n")[:-1]
            if not lines:
                continue
            before = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+"))
            after = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("-"))
            if not before:
                return f"{block.place}: nothing says where the new lines go"
            if text.count(before) != 1:
                return f"{block.place}: {name} holds this {text.count(before)} times:\n{before}"
            text = text.replace(before, after)
        file.write_text(text)
        return ""

    def run(self, block: Block) -> str:
        """Run each command that was not yet run in this state; what went otherwise than the page says, or nothing.

        That is a status, and where the block says so what its last command prints.
        """
        status, exact = block.status, block.comment in ("<!-- exact -->", "<!-- about -->")
        for place, command in enumerate(block.commands, 1):
            if any(sign in command for sign in UNCHANGED):
                continue
            again = TOLD[plain(command)] > 1 and not status and not exact
            begun = (plain(command), self.state() if again else "")
            if again and begun in self.ran:
                continue
            found, wanted = self(command), status if place == len(block.commands) else 0
            said = f"{block.place}: $ {command}\nended with {found.returncode}:\n{found.stdout}"
            if found.returncode != wanted:
                return "\n\n".join([said, "Not run are:", *not_run()])
            self.ran.add(begun)
            if (status or exact) and place == len(block.commands):
                within = 0.02 if block.comment == "<!-- about -->" else 0.0
                printed = found.stdout.splitlines()
                missing = [line for line in block.output if not any(is_shown(line, one, within) for one in printed)]
                if missing:
                    return f"{said}\n\nWhat the page shows is not there: {missing}"
        return ""


def is_shown(shown: str, printed: str, within: float) -> bool:
    """Whether a line of a page is what was printed, numbers but for the share `within` of them; … is any text."""
    number = r"\d+(?:\.\d+)?" if within else r"(?!)"
    words = [".*".join(map(re.escape, part.split("…"))) for part in re.split(number, shown)]
    found = re.fullmatch(" *" + f"({number})".join(words) + " *", printed)
    pairs = zip(re.findall(number, shown), found.groups() if found else (), strict=False)
    return found is not None and all(abs(float(a) - float(b)) <= within * float(a) for a, b in pairs)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    root = tmp_path_factory.mktemp("docs") / "reprise"
    (root.parent / "home").mkdir()
    (root.parent / "home" / ".gitconfig").write_text("[user]\n\tname = A Reader\n\temail = reader@example.org\n")
    git = ["git", "-C", str(REPOSITORY)]
    subprocess.run([*git, "clone", "--quiet", "--shared", ".", str(root)], check=True)
    listed = subprocess.run(
        [*git, "ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        source, target = REPOSITORY / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target) if source.is_file() else target.unlink(missing_ok=True)
    raw = REPOSITORY / "data" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    (root / "data").mkdir(exist_ok=True)
    (root / "data" / "raw").symlink_to(raw)
    copy = Copy(root)
    copy.done("git remote remove origin && git add --all && git commit --quiet --allow-empty -m 'As it stands'")
    copy.done("git tag begin")
    return copy


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_what_a_page_says_can_be_done(copy: Copy, page: Path) -> None:
    copy.begin()
    for block in blocks(page):
        wrong = ""
        if block.language == "diff" and block.text[0].startswith("--- "):
            wrong = copy.edit(block)
        elif block.language == "console" and not re.match("<!-- (not run|run by)", block.comment):
            wrong = copy.run(block)
        assert not wrong, wrong


def test_what_a_page_says_wrongly_is_found(tmp_path: Path) -> None:
    """The test above can fail: at a status, at what is shown, at a file or a place in it that is not there."""
    copy = Copy(tmp_path / "project")
    copy.root.mkdir()
    (copy.root / "a.txt").write_text("one\ntwo\ntwo\n")
    page = REPOSITORY / "docs" / "made-up.md"

    def ran(*text: str, comment: str = "") -> str:
        return copy.run(Block(page, 7, "console", [*text], comment))

    def edited(*text: str) -> str:
        return copy.edit(Block(page, 7, "diff", [*text]))

    assert ran("$ cat a.txt", "one", "...", comment="<!-- exact -->") == ""
    assert "docs/made-up.md:7: $ false\nended with 1" in ran("$ true", "$ false")
    assert ran("$ exit 2", comment="<!-- ends with 2 -->") == ""
    assert "ended with 0" in ran("$ true", comment="<!-- ends with 2 -->")
    assert "is not there: ['three']" in ran("$ cat a.txt", "three", comment="<!-- exact -->")
    assert ran("$ cat a.txt", "o…e", comment="<!-- exact -->") == ""
    assert ran("$ echo '99 [9.9, 100] %, q 3'", "100 [10, 100] %, q …", comment="<!-- about -->") == ""
    assert "is not there" in ran("$ echo '97 [9.9, 100] %'", "100 [10, 100] %", comment="<!-- about -->")
    assert "is not there" in ran("$ echo '99 [9.9, 100] points'", "100 [10, 100] %", comment="<!-- about -->")
    assert "is not there" in ran("$ echo 99", "100", comment="<!-- exact -->")
    assert edited("--- b.txt", " one") == "docs/made-up.md:7: there is no b.txt"
    assert edited("--- a.txt", "+three") == "docs/made-up.md:7: nothing says where the new lines go"
    assert "a.txt holds this 2 times:\ntwo\n" in edited("--- a.txt", "-two")
    assert edited("--- a.txt", " one", "-two", "+2") == ""
    assert (copy.root / "a.txt").read_text() == "one\n2\ntwo\n"


# What is named


def test_commands_stand_in_console_blocks() -> None:
    shells = [block.place for block in BLOCKS if block.language in SHELLS]
    assert shells == [], "use ```console, with `$ ` before each command"
    assert [block.place for block in CONSOLE if not block.commands] == []


def test_what_is_not_run_says_why() -> None:
    print("Not run are:", *not_run(), sep="\n")
    for block in CONSOLE:
        if block.comment.startswith("<!-- not run"):
            assert len((block.said("not run: (.+)") or "").split()) >= 3, block.place


@pytest.mark.parametrize(
    "block", [block for block in CONSOLE if block.comment.startswith("<!-- run by")], ids=lambda b: b.place
)
def test_what_another_test_runs_is_there(block: Block) -> None:
    named = re.fullmatch(r"<!-- run by (tests/test_\w+\.py)::(test_\w+) -->", block.comment)
    assert named, f"{block.place}: {block.comment}"
    source = (REPOSITORY / named[1]).read_text()
    assert f"def {named[2]}(" in source
    if re.search(rf"docs.{{0,20}}{block.page.name}", source):  # it runs the page's own blocks
        return
    told = [words for command in block.commands for words in calls(command, "reprise", "dvc", "wandb")]
    assert told, f"{block.place}: none of these is a command that can be looked for"
    words = {word for first, *rest in told for word in (first, *(one for one in rest if one.startswith("-")))}
    assert [word for word in sorted(words) if word not in source] == [], block.place


def calls(command: str, *programs: str) -> Iterator[list[str]]:
    """The arguments of each call of one of `programs` in `command`."""
    words = shlex.split(command, comments=True)
    for place, word in enumerate(words):
        if word in programs and (place == 0 or words[place - 1] in ("&&", "||", ";", "|", "--module") or "=" in word):
            rest = words[place + 1 :]
            ends = [index for index, one in enumerate(rest) if one in ("&&", "||", ";", "|", ">", "&")]
            yield rest[: ends[0]] if ends else rest


@pytest.mark.parametrize("block", CONSOLE, ids=lambda block: block.place)
def test_commands_and_options_exist(block: Block) -> None:
    wrong = [mistake(words) for command in block.commands for words in calls(command, "reprise")]
    if "<!-- not run" in block.comment:
        wrong += [mistake_elsewhere(command) for command in block.commands]
    assert [one for one in wrong if one] == []


def mistake(words: list[str]) -> str:
    """What `reprise` lacks of a command, its options and as many arguments; empty if it has all."""
    group: Any = typer.main.get_command(app)
    top = click.Context(group, info_name="reprise")
    if not words:
        return ""
    if words[0].startswith("-"):
        options = {name for option in group.get_params(top) for name in (*option.opts, *option.secondary_opts)}
        return "" if words[0] in options else f"reprise has no {words[0]}"
    if words[0] not in group.commands:
        return f"reprise has no {words[0]}"
    if "--help" not in words:
        try:
            group.commands[words[0]].make_context(words[0], words[1:], parent=top)
        except CLICK_EXCEPTION as error:
            return f"reprise {' '.join(words)}: {error.format_message()}"
    return ""


def mistake_elsewhere(command: str) -> str:
    """The same of DVC's commands and make's targets, where nothing else runs them."""
    from dvc.cli import DvcParserError
    from dvc.cli.parser import get_main_parser

    for words in calls(command, "dvc"):
        try:
            get_main_parser().parse_args(words)
        except (DvcParserError, SystemExit) as error:
            return f"{command}: {error}"
    targets = re.findall(r"(?m)^([\w-]+):", (REPOSITORY / "Makefile").read_text())
    unknown = [word for words in calls(command, "make") for word in words if "=" not in word and word not in targets]
    return f"{command}: make has no {', '.join(unknown)}" if unknown else ""


def test_commands_and_options_that_do_not_exist_are_found() -> None:
    """The test above can fail."""
    assert mistake(["show", "gan", "--arm", "minimax"]) == mistake(["--version"]) == mistake([]) == ""
    assert mistake(["shows"]) == "reprise has no shows"
    assert mistake(["--verison"]) == "reprise has no --verison"
    assert "--arn" in mistake(["show", "gan", "--arn", "minimax"])
    assert "Missing argument" in mistake(["show"])
    assert mistake_elsewhere("dvc repro evaluate@gan && make test") == ""
    assert mistake_elsewhere("dvc repor evaluate@gan") != ""
    assert mistake_elsewhere("make tset") == "make tset: make has no tset"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub turns them into addresses."""
    headings = re.findall(r"(?m)^#+ +(.+)$", re.sub(r"(?ms)^```.*?^```", "", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_contents() -> None:
    assert {*(REPOSITORY / "docs").glob("*.md")} <= {*PAGES}
    assert "docs/README.md" in LINK.findall((REPOSITORY / "README.md").read_text())


def created(page: Path) -> set[str]:
    """Experiments that a page begins by `reprise new`."""
    told = [words for block in blocks(page) for one in block.commands for words in calls(one, "reprise")]
    return {words[1] for words in told if words[:1] == ["new"]}


def spans(page: Path) -> list[str]:
    """What stands between two backticks."""
    return re.findall(r"`([^`\n]+)`", prose(page))


@pytest.fixture(scope="module")
def knobs() -> set[tuple[Any, ...]]:
    """Every key of every file of YAML, after the file's name."""
    names = [name for name in YAML_FILES if name.endswith(".yaml")]
    names += [str(path.relative_to(REPOSITORY)) for name in YAML_FILES for path in (REPOSITORY / name).glob("*.yaml")]
    documents = [Document(name) for name in names]
    for document in documents:
        yaml.parse((REPOSITORY / document.file).read_text(), document)
    return {(document.file, *path) for document in documents for path in document.keys}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_knobs_that_a_page_names_exist(page: Path, knobs: set[tuple[Any, ...]]) -> None:
    for text in (*spans(page), *(one for block in blocks(page) for one in block.commands if not block.status)):
        assert not re.search(r"(?<![+~.\w])experiments\.\w", text), f"{text}: a key of an earlier layout"
        for misplaced, file, sign, knob in re.findall(KNOB, text):
            assert not misplaced, f"{text}: DVC has the {misplaced} after the colon"
            path = (file, *knob.split("."))
            assert (path in knobs) == (sign != "+") or Path(file).stem in created(page), text


@pytest.fixture(scope="module")
def files() -> list[str]:
    """Every file that git does not ignore."""
    listed = ["git", "-C", str(REPOSITORY), "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split("\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_paths_that_a_page_names_exist(page: Path, files: list[str]) -> None:
    """The end of a path is enough; what git ignores, a page writes or a run at the paper's scale is not there yet."""
    ignored = [line.strip("/") for line in (REPOSITORY / ".gitignore").read_text().split()]
    written = [*ignored, "sweeps", ".dvc", "results/paper"]
    for span in spans(page):
        is_path = re.fullmatch(
            r"[\w./-]+\.(py|md|yaml|toml)|(src|tests|docs|results|bench|slurm|schemas)/[\w./-]+", span
        )
        if is_path and not span.startswith((*written, "/")) and not any(key in span for key in created(page)):
            assert any(f"/{span}" in f"/{file}" for file in files), span


def test_every_command_has_its_paragraph() -> None:
    text = (REPOSITORY / "docs" / "command-line.md").read_text()
    commands = [name for name, command in typer.main.get_command(app).commands.items() if not command.hidden]  # type: ignore[attr-defined]
    assert [name for name in commands if not re.search(rf"`reprise {name}\b", text)] == []
    shown = {words[0] for block in CONSOLE for one in block.commands for words in calls(one, "reprise") if words}
    assert [name for name in commands if name not in shown] == []


# What is worked out


def test_the_worked_example_is_of_results() -> None:
    """The page's own figures, from results/laptop/initialisation, judged by the rule."""
    text = (REPOSITORY / "docs" / "read-a-verdict.md").read_text()
    runs = read_runs(REPOSITORY / "results" / "laptop" / "initialisation")
    described = yaml.load(REPOSITORY / "papers" / "initialisation.yaml").data
    described["metrics"]["test_error"] |= {"scale": "linear"}  # the plainest case: points, not odds
    claim = {"says": "It is so.", "where": "Here", "metric": "test_error"}
    for higher, lower, seeds, said in (
        (
            "relu_30_glorot",
            "relu_30_he",
            8,
            ("72.6 points", "[46.8, 82.8] points", "p = 0.0039", "So the claim is *reproduced*"),
        ),
        (
            "relu_30_he",
            "relu_22_he",
            6,
            ("0.415 points", "from −0.8 to 1.59", "p = 0.34", "So the claim is *inconclusive*"),
        ),
    ):
        paper = Paper.model_validate(described | {"claims": {"it": claim | {"higher": higher, "lower": lower}}})
        verdict = judge("it", paper, runs, "laptop")
        assert verdict.interval
        shown = (f"{verdict.estimate:.3g}", *(f"{end:.3g}" for end in verdict.interval), f"{verdict.p:.2g}")
        for number in shown:
            assert any(number.replace("-", "−") in words for words in said), (number, said)
        assert said[-1] == f"So the claim is *{verdict.verdict}*"
        for words in said:
            assert words in text
        for seed in range(FIRST_JUDGED_SEED, FIRST_JUDGED_SEED + seeds):
            pair = [runs[arm, seed]["test_error"] for arm in (higher, lower)]
            row = f"| {seed} | {pair[0]:.2f} | {pair[1]:.2f} | {pair[0] - pair[1]:.2f} |".replace("-", "−")
            assert row in text


if __name__ == "__main__":
    print(*not_run(), sep="\n")
