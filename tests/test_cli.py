"""The command line: what it says first, what it lists, what it completes, and how it fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from conftest import REPOSITORY, CommandLine, make_toy_project
from layout import copy_yaml, repository
from reprise import cli
from reprise.cli import look, stages
from reprise.commands import status_line
from reprise.commands.knobs import beside
from reprise.commands.listing import table
from reprise.commands.status_line import Waiting
from reprise.core.contract import SCALES, Run
from reprise.core.run import run_store
from reprise.core.verdicts.rulings import EARLIER

NAMES = [command.name or getattr(command.callback, "__name__", "") for command in cli.app.registered_commands]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


def said(*arguments: str, status: int = 0, columns: int | None = None) -> str:
    """What the command prints, run in this process, in a window of so many `columns` or in none."""
    done = CliRunner(env={"COLUMNS": None if columns is None else str(columns)}).invoke(cli.app, list(arguments))
    assert done.exit_code == status, done.output
    return done.stdout


# What it says first


@pytest.mark.usefixtures("here")
def test_alone_it_says_where_to_begin_in_commands_that_exist() -> None:
    printed = said()
    assert f"{len(list(REPOSITORY.glob('papers/*.yaml')))} experiments" in printed
    named = re.findall(r"^  reprise (\w+)", printed, re.MULTILINE)
    assert len(named) >= 7
    assert {*named} <= {*NAMES}
    place = re.search(r"params/\w+\.yaml", printed)
    assert place
    assert (REPOSITORY / place[0]).exists()
    assert "dvc repro evaluate@gan" in printed


def test_alone_outside_a_project_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "No project here" in said()


def small_project(root: Path) -> Path:
    """The YAML of the repository and gan's results, as a project."""
    copy_yaml(root)
    ignored = shutil.ignore_patterns("pictures", "plots")
    shutil.copytree(REPOSITORY / "results/laptop/gan", root / "results/laptop/gan", ignore=ignored)
    return root


@pytest.mark.parametrize("name", ["pipeline.yaml", "params.yaml"])
def test_alone_it_says_which_file_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(small_project(tmp_path))
    with (tmp_path / name).open("a") as file:
        file.write("oops: [\n")
    lines = (tmp_path / name).read_text().count("\n") + 1
    printed = said()
    assert f"{name}:{lines}:1: not YAML" in printed
    assert re.findall(r"^  (reprise \w+)", printed, re.MULTILINE) == ["reprise validate"]


def test_help_has_every_command_under_a_heading() -> None:
    printed = said("--help")
    assert "Others:" not in printed
    for name in NAMES:
        line = re.search(rf"^  {name} +(.+)$", printed, re.MULTILINE)
        assert line, name
        assert not line[1].endswith("..."), f"{name}: its first line is cut"


def imported(*words: str, cwd: Path = REPOSITORY) -> set[str]:
    """Every module that `reprise` has loaded by the end of a command."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "reprise", *words], cwd=cwd, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


HEAVY = {"torch", "numpy", "scipy", "pytorch_lightning", "wandb", "matplotlib", "PIL", "rich", "jinja2", "omegaconf"}


def test_help_loads_the_command_line_alone() -> None:
    found = imported("--help")
    assert found & (HEAVY | {"pydantic", "yaml", "importlib.metadata"}) == set()
    assert {name for name in found if name.startswith("reprise.core")} <= {"reprise.core"}


OURS = {
    "reprise", "reprise.__main__", "reprise.cli", "reprise.cli.look", "reprise.cli.stages", "reprise.cli.use",
    "reprise.cli.work", "reprise.cli.write", "reprise.commands", "reprise.commands.completion",
    "reprise.commands.options", "reprise.commands.project",
}  # fmt: skip
"""What is loaded before a command begins."""
CATALOGUE = {"reprise.core", "reprise.core.config", "reprise.core.config.catalogue"}


@pytest.mark.parametrize(
    ("words", "more", "third"),
    [
        (
            ["list"],
            CATALOGUE | {"reprise.commands.listing", "reprise.core.verdicts", "reprise.core.verdicts.rulings"},
            {},
        ),
        (["validate"], CATALOGUE | {"reprise.commands.unwritten", "reprise.core.config.yaml"}, {"yaml"}),
        (["show", "--help"], set(), {}),
    ],
)
def test_what_is_known_is_said_without_pydantic(
    tmp_path: Path, words: list[str], more: set[str], third: set[str]
) -> None:
    """The budget of the start, in modules; half of what is left is Python's and Typer's."""
    copy_yaml(tmp_path)
    imported(*words, cwd=tmp_path)  # what it finds out now it need not find out again
    found = imported(*words, cwd=tmp_path)
    assert {name for name in found if name.partition(".")[0] == "reprise"} <= OURS | more
    outside = {name.partition(".")[0] for name in found} - set(sys.stdlib_module_names) - {"reprise", "typer"}
    assert outside & {*HEAVY, "pydantic", "pydantic_core", "yaml"} == set(third)


def test_a_first_look_at_yaml_loads_what_reads_it_and_no_more(tmp_path: Path) -> None:
    copy_yaml(tmp_path)
    found = imported("list", cwd=tmp_path)
    assert found & (HEAVY - {"omegaconf"}) == set()
    assert "reprise.core.config.yaml" in found
    assert {
        name for name in found if name.startswith(("reprise.experiments.", "reprise.stages", "reprise.inference"))
    } == set()


def test_help_names_the_scales_that_there_are() -> None:
    assert " | ".join(SCALES) in said("show", "--help")


# What it lists


def counted_as(claim: dict[str, Any]) -> str:
    """Five coins of five are p = 1/32: what the first edition called reproduced, and the current rule does not."""
    return EARLIER if claim["verdict"] == "reproduced" and claim["p"] > 0.025 else claim["verdict"]


@pytest.mark.usefixtures("here")
def test_list_has_a_line_for_each_with_its_verdicts() -> None:
    lines, wide = (said("list", columns=columns).splitlines() for columns in (80, 200))
    rows = json.loads(said("list", "--json"))
    if any(EARLIER in row["verdicts"].values() for row in rows):
        assert lines.pop() == wide.pop() == f"earlier: {EARLIER}, on too few seeds for the current rule"
    assert [line.split()[0] for line in lines] == [row["experiment"] for row in rows]
    assert [row["year"] for row in rows] == sorted(row["year"] for row in rows)
    verdicts = json.loads(said("verdicts", "--json"))
    for line, long, row in zip(lines, wide, rows, strict=True):
        assert len(line) <= 80
        if row["experiment"] not in verdicts:
            assert "  not run  " in line
            continue
        of_now = (one for name, one in verdicts[row["experiment"]].items() if name in row["verdicts"])
        ruled = [counted_as(claim) for claim in of_now if claim["counted"]]
        judged = [ruling for ruling in ruled if ruling != "not run"]
        earlier = f", {ruled.count(EARLIER)} earlier" if EARLIER in ruled else ""
        assert f" {ruled.count('reproduced')} of {len(judged)} reproduced{earlier} " in line
        for ruling in ("reproduced", EARLIER, "refuted", "inconclusive"):
            assert (re.search(rf"\b{ruled.count(ruling)} {ruling}(,|  )", long) is not None) == (ruling in ruled)
        title = row["title"]
        shown = line[line.index("reproduced") + len(f"reproduced{earlier}") :].strip()
        shown = re.sub(r"^paper's scale: \d+ of \d+ *", "", shown)
        assert shown == title or (shown.endswith("…") and title.startswith(shown[:-1]))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("filters", "keys"),
    [
        (["gan"], {"gan"}),
        (["gan", "dqn"], {"gan", "dqn"}),
        (["gan", "dqn", "goodfellow"], {"gan"}),
        (["kingma"], {"optimizers", "vae"}),
        (["adam:"], {"optimizers"}),
        (["2018", "language"], {"bert", "gpt"}),
        (
            ["--family", "language"],
            {"bert", "memn2n", "transformer", "rlhf", "attention_nmt", "word2vec", "seq2seq", "gpt"},
        ),
        (["--data", "games"], {"dqn"}),
        (["--data", "mnist", "--family", "generative"], {"gan", "vae", "wgan", "wgan_gp", "dcgan"}),
    ],
)
def test_list_filters(filters: list[str], keys: set[str]) -> None:
    assert {row["experiment"] for row in json.loads(said("list", "--json", *filters))} == keys


@pytest.mark.usefixtures("here")
def test_list_of_a_verdict_shows_the_claims_that_have_it() -> None:
    rows = json.loads(said("list", "--json", "--verdict", "refuted"))
    assert {verdict for row in rows for verdict in row["verdicts"].values()} == {"refuted"}
    name, verdicts = next((row["experiment"], row["verdicts"]) for row in rows)
    shown = [line for line in said("list", name, "--verdict", "refuted").splitlines() if line.endswith(": refuted")]
    here = [line for line in shown if ", at the paper's scale: " not in line]
    assert here == [f"  {claim}: refuted" for claim in verdicts]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("columns", [None, 80], ids=["no terminal", "a terminal of 80"])
@pytest.mark.parametrize(
    "words",
    ["", "--help", *(f"{name} --help" for name in NAMES), "list", "list gan", "list --claims", "list --verdict refuted",
     "show gan --arm minimax", "show dqn", "verdicts", "verdicts perceptron", "verdicts bert", "validate",
     "compare HEAD", "doctor", "try normalisation", "try neocognitron", "try optimizers", "try gmdh"],
)  # fmt: skip
def test_lines_fit_eighty_columns(words: str, columns: int | None) -> None:
    lines = said(*words.split(), columns=columns).splitlines()
    assert len(lines) > 1 or words == "validate"
    assert [line for line in lines if len(line) > 80] == []


@pytest.mark.usefixtures("here")
def test_a_key_mistyped_is_a_mistake_and_a_word_that_nobody_has_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["gaan"], ["gaan", "--json"], ["dqn", "gann"]):
        status, err = failed(["list", *words], monkeypatch, capsys)
        assert status == 2
        assert err == f"no experiment is called {words['gann' in words]!r}; did you mean gan?\n"
    assert "no experiment matches all of these" in said("list", "zebra")
    assert said("list", "dropout").startswith("regularisation ")
    assert "did you mean the experiment gan?" in CliRunner().invoke(cli.app, ["list", "gam"]).stderr
    assert CliRunner().invoke(cli.app, ["list", "game"]).stderr == ""


@pytest.mark.usefixtures("here")
def test_verdicts_are_in_the_order_of_list_and_those_not_run_are_counted_below() -> None:
    printed = said("verdicts", columns=200)
    waiting = {
        key: [name for name, claim in claims.items() if claim["verdict"] == "not run"]
        for key, claims in json.loads(said("verdicts", "--json")).items()
    }
    count = sum(map(len, waiting.values()))
    assert count > 40
    assert " not run " not in printed.partition(f"\n{count} not run, ")[0]
    shown = re.findall(r"^(\w+)$", printed, re.MULTILINE)
    assert shown == [row["experiment"] for row in json.loads(said("list", "--json")) if row["experiment"] in waiting]
    assert f" {count} not run, judged at scale paper, not laptop: " in f" {printed}".replace("\n", " ")
    one = " ".join(said("verdicts", "gan").split())
    named = ", ".join(name.replace("_", " ") for name in waiting["gan"])
    assert f"{len(waiting['gan'])} not run, judged at scale paper, not laptop: {named}" in one


def test_a_long_value_goes_on_below_and_its_comment_stays_beside_it() -> None:
    rates = f"rates: {[0.001 * n for n in range(1, 20, 2)]}"
    lines = list(beside([("seeds: [0]", "params.yaml:4:8"), (rates, "params.yaml:9:8 paper"), ("lr: 1", "")], 60))
    assert all(len(line) <= 60 for line in lines)
    assert lines[0].index("#") == lines[1].index("#")
    assert lines[1].endswith("# params.yaml:9:8 paper")
    assert " ".join(line.partition("#")[0].strip() for line in lines[1:-1]) == rates
    assert lines[-1] == "lr: 1"


def test_a_line_is_cut_at_the_width_of_the_terminal() -> None:
    row: dict[str, Any] = {
        "experiment": "gan", "year": 2014, "title": "A long title " * 20, "family": "vision", "data": ["mnist"],
        "arms": ["a"], "verdicts": {"wins": "reproduced"}, "at_paper_scale": {},
    }  # fmt: skip
    for columns in (60, 80, 120, 160):
        [line] = table([row], claims=False, width=columns)
        plain = re.sub(r"\x1b\[\d+m", "", line)
        assert columns - 1 <= len(plain) <= columns, "a blank before … is left out"
        assert plain.endswith("…")


@pytest.mark.usefixtures("here")
def test_show_has_the_place_of_every_value_and_of_every_default() -> None:
    lines = said("show", "gan", "--arm", "minimax", columns=200).splitlines()
    places = {line.partition(":")[0]: line.partition("# ")[2] for line in lines}
    assert all(places.values())
    assert places["model.loss"].endswith(" arms.minimax")
    file, line, _ = places["model.loss"].split()[0].split(":")
    assert "minimax: {model: {loss: minimax}}" in (REPOSITORY / file).read_text().splitlines()[int(line) - 1]
    file, line = places["optimizer.eps"].removesuffix(" default").split(":")
    assert "eps: Rate = 1e-8" in (REPOSITORY / "src" / "reprise" / file).read_text().splitlines()[int(line) - 1]
    assert "optimizer.eps" not in said("show", "gan", "--arm", "minimax", "--json")


@pytest.mark.usefixtures("here")
def test_show_names_what_the_number_of_seeds_comes_from() -> None:
    """The claim that asks for the most, where params.yaml leaves the number to the claims; else what says them."""
    first = said("show", "gmdh", columns=200).splitlines()[0]
    asked = re.search(r"# papers/gmdh\.yaml:(\d+):\d+ auto$", first)
    assert asked
    line = (REPOSITORY / "papers" / "gmdh.yaml").read_text().splitlines()[int(asked[1]) - 1]
    assert line.strip().startswith("seeds:")
    assert first.partition("#")[0].count(",") + 1 == int(line.partition(":")[2])
    assert said("show", "gan", columns=200).splitlines()[0].endswith("# params.yaml:4:8 auto: six")
    assert (
        said("show", "gan", "seeds=[100,101,102,103,104,105]", columns=200).splitlines()[0].endswith("# command line")
    )


@pytest.mark.usefixtures("here")
def test_validate_for_scripts() -> None:
    assert json.loads(said("validate", "--json"))["problems"] == []
    [problem] = json.loads(said("validate", "--json", "params/gan.yaml:paper.early=soon", status=2))["problems"]
    assert problem["file"] == "command line"
    assert problem["path"] == "paper.early"
    assert problem["message"].startswith("expected a number with a unit")


def test_verdicts_say_of_which_papers_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(small_project(tmp_path))
    done = CliRunner().invoke(cli.app, ["verdicts", "dqn", "gan", "bert", "--json"])
    assert done.exit_code == 0
    assert [*json.loads(done.stdout)] == ["gan"]
    assert done.stderr == "not evaluated: dqn, bert; run `dvc repro evaluate@dqn evaluate@bert`\n"
    assert CliRunner().invoke(cli.app, ["verdicts"]).stderr == ""
    assert failed(["verdicts", "dqn"], monkeypatch, capsys) == (
        1,
        "not evaluated: dqn; run `dvc repro evaluate@dqn`\n",
    )
    shutil.rmtree(tmp_path / "results")
    status, err = failed(["verdicts", "--json"], monkeypatch, capsys)
    assert (status, err.partition(";")[0]) == (1, "no experiment has been evaluated")


# What it completes


PROGRAM = "import sys; sys.argv = ['reprise']; from reprise.cli import main; main()"


def completed(words: str, shell: str = "bash", root: Path = REPOSITORY, without: Collection[str] = ()) -> list[str]:
    """What the shell is offered for the last of `words`, found without loading the modules `without`."""
    split = words.split(" ")
    shells = {
        "bash": {"COMP_WORDS": words, "COMP_CWORD": str(len(split) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": words},
        "fish": {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", PROGRAM],
        cwd=root, env=os.environ | shells[shell] | {"_REPRISE_COMPLETE": f"complete_{shell}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert not imported & {"torch", "pytorch_lightning", "wandb", "omegaconf", "rich", *without}
    assert "reprise.commands.completion" in imported
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("reprise comp", ["compare"]),
        ("reprise show g", ["gan", "gmdh", "gpt"]),
        ("reprise finetune ", ["bert", "layerwise_pretraining", "gpt"]),
        ("reprise show gan --arm ", ["non_saturating", "minimax", "vae", "mixture"]),
        ("reprise show gan optimizer.b", ["optimizer.betas=[0.5,0.999]"]),
    ],
)
def test_completion(words: str, offered: list[str]) -> None:
    assert completed(words) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_names_are_completed_without_pydantic(tmp_path: Path, shell: str) -> None:
    copy_yaml(tmp_path)
    spared = {"pydantic", "yaml", "reprise.core.contract", "reprise.core.config.documents"}
    for words in ("reprise show g", "reprise show gan --arm ", "reprise prepare "):
        first = completed(words, shell, tmp_path)
        assert len(first) > 1
        assert completed(words, shell, tmp_path, without=spared) == first


def test_zsh_and_fish_say_what_the_words_are() -> None:
    assert '"gan":"2014 Generative Adversarial Nets"' in "\n".join(completed("reprise show ga", "zsh"))
    assert completed("reprise show ga", "fish") == ["gan\t2014 Generative Adversarial Nets"]


def test_a_broken_file_completes_nothing(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("scale: [")
    (tmp_path / "pipeline.yaml").write_text("datasets: {")
    assert "".join(completed("reprise show ", root=tmp_path)) == ""


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_takes_the_script(tmp_path: Path) -> None:
    """The completion that a user installs, in a bash that calls it as it would at a TAB."""
    program = tmp_path / "reprise"
    program.write_text(f"#!{sys.executable}\nfrom reprise.cli import main\nmain()\n")
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    script = """
    eval "$(reprise --show-completion bash)"
    COMP_WORDS=(reprise show ga); COMP_CWORD=2
    _reprise_completion reprise
    echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "gan", done.stderr


# How it fails


def failed(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[Any, str]:
    """Status and standard error of `reprise` called with `arguments`."""
    monkeypatch.setattr(sys, "argv", ["reprise", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code, capsys.readouterr().err


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("asked", [False, True])
def test_a_traceback_only_if_asked(
    asked: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(cli.TRACEBACK, "")
    words = ["--traceback"] if asked else []
    status, err = failed([*words, "show", "gna"], monkeypatch, capsys)
    assert status == 2
    assert "did you mean gan?" in err
    assert ("Traceback" in err) == asked


def test_a_defect_is_one_line_and_its_traceback_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(cli.TRACEBACK, raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "pipeline.yaml"):
        (tmp_path / name).write_text("")

    def broken(*_: object, **__: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr(look, "open_catalogue", broken)
    status, err = failed(["list"], monkeypatch, capsys)
    assert status == 1
    assert err == "KeyError: 'lost' (traceback in .reprise/errors/command.log)\n"
    assert "in broken" in (tmp_path / ".reprise" / "errors" / "command.log").read_text()


@pytest.mark.parametrize("words", [[], ["list"], ["verdicts"], ["verdicts", "gan", "--json"]])
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text + "}\n", r":\d+:1: not JSON: Extra data; `dvc repro evaluate@gan` writes it again"),
        (lambda text: text.replace("\n", "\n<<<<<<< HEAD\n", 1), ":2:1: unresolved merge conflict; `dvc repro .*"),
        (lambda text: "[1]", r": not what evaluation writes \(AttributeError: .*"),
        (lambda text: "\udcff", r": not UTF-8 text; .*"),
        (lambda text: '{"a": {}}', r": not what evaluation writes \(KeyError: '\w+'\); .*"),
    ],
)
def test_damaged_results_are_named_with_the_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: Any,
    edit: Any,
    message: str,
) -> None:
    monkeypatch.chdir(small_project(tmp_path))
    claims = tmp_path / "results" / "laptop" / "gan" / "claims.json"
    claims.write_bytes(edit(claims.read_text()).encode("utf-8", "surrogateescape"))
    if words[:1] == ["verdicts"] and "unresolved" not in message:  # it checks the bytes before it reads them
        message = r": not what evaluation writes \(its checksum .*"
    status, err = failed(words, monkeypatch, capsys)
    assert status == 2
    assert re.fullmatch(f"results/laptop/gan/claims.json{message}\n", err), err


@pytest.mark.parametrize("words", [[], ["list"], ["doctor"], ["validate", "--json"]])
def test_a_folder_that_is_gone_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    status, err = failed(words, monkeypatch, capsys)
    assert (status, err) == (2, "the working directory has been deleted: cd to a project\n")


def test_a_defect_where_the_folder_is_gone_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        (tmp_path / "gone").rmdir()
        raise KeyError("lost")

    monkeypatch.delenv(cli.TRACEBACK, raising=False)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    monkeypatch.setattr(look, "open_catalogue", broken)
    assert failed(["list"], monkeypatch, capsys) == (1, "KeyError: 'lost' (REPRISE_TRACEBACK=1 shows where)\n")


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252"])
def test_a_terminal_without_an_arrow_gets_another_sign(encoding: str) -> None:
    """Of rich's tables and of plain lines, of what is printed and of errors; for ASCII typer prints UTF-8 itself."""
    for words in (["verdicts", "gan"], ["verdicts", "gan", "--markdown"], ["show", "gan", "→=1"]):
        done = subprocess.run(
            [sys.executable, "-m", "reprise", *words], cwd=REPOSITORY, capture_output=True, check=False,
            env=os.environ | {"PYTHONIOENCODING": encoding},
        )  # fmt: skip
        assert b"Error" not in done.stdout + done.stderr
        assert done.returncode == (2 if words[0] == "show" else 0)


def test_a_minus_is_a_minus_on_any_terminal() -> None:
    """Not a question mark, which makes 189 of −189."""
    signs = "−189 → ≥ 3 × 2 – ✓ ✗ … “ñ”"
    expected = {
        "ascii": "-189 -> >= 3 x 2 - + x ... ???", "latin-1": "-189 -> >= 3 × 2 - + x ... ?ñ?",
        "cp1252": "-189 -> >= 3 × 2 – + x … “ñ”",
    }  # fmt: skip
    for encoding, seen in expected.items():
        assert signs.encode(encoding, "reprise").decode(encoding) == seen


# The code that runs


@pytest.fixture
def clone(tmp_path: Path) -> CommandLine:
    """A project with code of its own: the toy paper's, which the imported package lacks."""
    return make_toy_project(tmp_path)


START = "import sys; sys.path.insert(0, {!r}); sys.argv = ['reprise', *{!r}]; from reprise.cli import main; main()"


@pytest.mark.parametrize("words", [["validate"], ["show", "toy", "--arm", "fast", "optimizer.lr=0.5"]])
def test_a_clone_runs_its_own_code(clone: CommandLine, words: list[str]) -> None:
    """Though the environment, shared with another clone, holds that one's."""
    environment = {key: value for key, value in clone.environment.items() if key != "PYTHONPATH"}
    below = clone.root / "src"
    done = subprocess.run(
        [sys.executable, "-c", START.format(str(REPOSITORY / "src"), words)],
        cwd=below, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 experiments, 1 claims: all valid" in done.stdout or "lr: 0.5" in done.stdout


def test_code_that_pythonpath_names_runs_with_a_warning(clone: CommandLine) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reprise", "--version"], cwd=clone.root, capture_output=True, text=True, check=False,
        env=clone.environment | {"PYTHONPATH": str(REPOSITORY / "src")},
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr == (
        f"warning: running the code of {REPOSITORY / 'src'}, which PYTHONPATH names, not that of {clone.sources}\n"
    )
    assert "warning" not in clone.reprise("--version")


# Folders elsewhere


def test_a_stage_ends_with_the_one_that_follows(clone: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert clone.reprise("prepare", "points").endswith("next: reprise pretrain toy\n")
    scaled = clone.reprise("prepare", "points", "scale=smoke")
    assert scaled.endswith("next: reprise pretrain toy scale=smoke\n")
    monkeypatch.setenv("DVC_STAGE", "prepare@points")
    assert clone.reprise("prepare", "points").endswith("next stage: dvc repro pretrain@toy\n")
    assert clone.reprise("report").endswith("edit a knob (docs/change-a-knob.md)\n")


def test_prepare_names_no_paper_where_dvc_does_not_tell_which(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("reprise.stages.prepare.prepare", lambda *_: None)
    monkeypatch.chdir(REPOSITORY)
    stages.prepare("mnist")
    assert capsys.readouterr().out.endswith("next: reprise pretrain gan\n")
    monkeypatch.setenv("DVC_STAGE", "prepare@mnist")
    stages.prepare("mnist")
    users = [key for key, stage in repository().pipeline.pretrain.items() if stage.data == "mnist"]
    said = f"next stage: dvc repro pretrain@..., of {len(users)} papers (reprise list --data mnist)\n"
    assert capsys.readouterr().out.endswith(said)


def test_a_link_that_dvc_would_refuse_is_told_before_the_work(
    clone: CommandLine, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand the same works: nobody but DVC minds."""
    disk = tmp_path_factory.mktemp("disk")
    (clone.root / "data").symlink_to(disk)
    assert "next: reprise pretrain toy" in clone.reprise("prepare", "points")
    monkeypatch.setenv("DVC_STAGE", "prepare@points")
    said = clone.reprise("prepare", "points", status=1)
    assert said == (
        f"data is a link to {disk}, and DVC rejects outputs behind a link: put DVC's cache on the other disk "
        "(`dvc cache dir`), or mount the disk at data\n"
    )
    for name, words in (("models", ("pretrain", "toy")), ("results", ("evaluate", "toy"))):
        (clone.root / name).symlink_to(disk)
        assert clone.reprise(*words, status=1).startswith(f"{name} is a link to {disk}, and DVC rejects outputs")


@pytest.mark.parametrize("said", ["", None])
def test_runs_are_kept_in_the_project_unless_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """An empty REPRISE_WORK says nothing, as an empty variable of a shell script does."""
    monkeypatch.setenv("REPRISE_WORK", said or "")  # so that what the test sets is taken back
    if said is None:
        monkeypatch.delenv("REPRISE_WORK")
    run = Run("toy", "pretrain", "fast", 0, "smoke", {}, tmp_path, tmp_path, None, "f1")
    assert run_store.work_folder(tmp_path, run) == tmp_path / ".reprise" / "runs" / "f1"
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "a"
    run_store.share_runs(copy)
    assert run_store.work_folder(copy, run) == tmp_path / ".reprise" / "runs" / "f1"


# What it says while it takes long


def test_a_long_wait_says_how_long_it_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status_line, "PATIENCE", 0.05)
    monkeypatch.setattr(status_line, "LINE_SECONDS", 0.05)
    for _ in range(2):
        with Waiting("prepare toy", tmp_path) as wait:
            wait.echo("toy/part")
            wait._over.wait(0.2)
    printed = capsys.readouterr()
    assert printed.out == "toy/part\ntoy/part\n"
    first, *_, last = printed.err.splitlines()
    assert re.fullmatch(r"prepare toy: \ds", first)
    assert re.fullmatch(r"prepare toy: \ds(, about \ds left)?", last)
    assert json.loads((tmp_path / ".reprise" / "durations.json").read_text())["prepare toy"] == pytest.approx(
        0.2, abs=0.2
    )


def test_what_is_left_is_told_by_the_parts_that_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(status_line.time, "monotonic", lambda: now[0])
    wait = Waiting("prepare toy", tmp_path, parts=4)
    wait.begun, now[0] = 2, 110.0
    assert wait.status() == "prepare toy: 10s, part 2 of 4, about 30s left"
    wait.last = 25.0
    assert wait.status() == "prepare toy: 10s, part 2 of 4, about 15s left"
