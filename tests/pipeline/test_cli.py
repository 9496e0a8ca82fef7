"""The command line: what it prints, what it calls, and the exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import save_tiny

from attribution import METHODS, Explainer
from attribution.errors import InputError
from attribution.heads import HeadScores
from pipeline.cli import main, parse
from pipeline.commands import explain as explain_command

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "run", "submit", "plan", "methods", "explain", "explore", "doctor", "report", "runs", "diff", "table", "regress",
    "promote", "fetch", "convert", "export", "verify", "sync", "gc",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("bert", tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def qa_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("bert_qa", tmp_path_factory.mktemp("models") / "tiny-qa")


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a function in place of a module's, without importing the module."""

    def put(module: str, **functions: Any) -> None:
        replacement = ModuleType(module)
        for name, function in functions.items():
            setattr(replacement, name, function)
        monkeypatch.setitem(sys.modules, module, replacement)

    return put


# --- arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"headlight {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["regres"], "invalid choice: 'regres'"),
        (["run", "--confg-dir", "x"], "unknown argument --confg-dir"),
        (["doctor", "extra"], "unknown argument extra"),
        (["diff", "a"], "the following arguments are required: RUN"),
    ],
)
def test_wrong_arguments_exit_with_4(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 4
    assert message in capsys.readouterr().err


def test_overrides_stand_anywhere() -> None:
    arguments = parse(["run", "a=1", "--config-dir", "d", "b=2", "~attribution.c"])
    assert (arguments.overrides, arguments.config_dir) == (["a=1", "b=2", "~attribution.c"], "d")


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, pipeline.cli as cli; cli.build_parser(); print({'torch', 'ray', 'mlflow'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"


# --- exit codes -----------------------------------------------------------------------------------------------------


def test_bad_configuration_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "datset.limit=3", "dataset.limit=0", "attribution.mine.method=mask_lpr"]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(" ")[:2] for line in err.splitlines()] == [["conf", "error:"]] * 3
    assert list(tmp_path.iterdir()) == []


def test_sweeps_are_handed_on(stub: Callable[..., None]) -> None:
    calls = []

    def run_sweep(overrides: list[str], config_dir: Any, max_parallel: int | None) -> SimpleNamespace:
        calls.append((overrides, config_dir, max_parallel))
        return SimpleNamespace(exit_code=1)

    stub("pipeline.sweep.run", run_sweep=run_sweep)
    assert main(["run", "-m", "seed=1,2", "--max-parallel", "3", "name=x"]) == 1
    assert calls == [(["seed=1,2", "name=x"], None, 3)]


def test_a_sweep_of_no_runs_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-m", "--max-parallel", "0", "seed=1,2"]) == 4
    assert capsys.readouterr().err == "error: --max-parallel 0 must be at least 1.\n"


@pytest.mark.parametrize("code", [0, 1, 5])
def test_run_passes_on_its_exit_code(code: int, stub: Callable[..., None]) -> None:
    calls = []

    def run(config: Any, overrides: list[str]) -> SimpleNamespace:
        calls.append((config.dataset.limit, overrides))
        return SimpleNamespace(exit_code=code)

    stub("pipeline.run", run=run)
    assert main(["run", "dataset.limit=3"]) == code
    assert calls == [(3, ["dataset.limit=3"])]


def test_plan_is_printed(stub: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    stub("pipeline.plan", describe_plan=lambda config, probe: f"a plan for {config.name}, {probe}")
    assert main(["plan", "name=mine", "--no-probe"]) == 0
    assert capsys.readouterr().out == "a plan for mine, False\n"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("conf error: dataset.path=x is empty"), 4, "conf error: dataset.path=x is empty\n"),
        (InputError("head_mask has shape [2]"), 4, "error: head_mask has shape [2]\n"),
        (KeyboardInterrupt(), 5, "stopped; the same command goes on from here\n"),
    ],
)
def test_errors_are_one_line(
    error: BaseException, code: int, message: str, stub: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def run(config: Any, overrides: list[str]) -> None:
        raise error

    stub("pipeline.run", run=run)
    assert main(["run"]) == code
    assert capsys.readouterr().err == message


def test_defects_show_their_traceback(stub: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    def run(config: Any, overrides: list[str]) -> None:
        raise ZeroDivisionError("a defect")

    stub("pipeline.run", run=run)
    assert main(["run"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_reader_that_has_seen_enough() -> None:
    command = f"{sys.executable} -m pipeline.cli methods | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


# --- methods, explain -----------------------------------------------------------------------------------------------


def test_methods_lists_all_in_lines_that_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : len(METHODS) + 1]] == list(METHODS)
    assert max(map(len, lines)) <= 120


def test_methods_tells_all_of_those_that_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "mask_lrp", "Saliency"]) == 0
    mask_lrp, saliency = capsys.readouterr().out.split("\n\n")
    assert mask_lrp.startswith("mask_lrp\n")
    assert "head_mask=null, variant=corrected" in mask_lrp
    assert "attention gradient, masked relevance" in mask_lrp
    assert "all but deberta-v2 of " in mask_lrp
    assert "llama" in mask_lrp
    assert METHODS["mask_lrp"].source in mask_lrp
    assert saliency.startswith("saliency\n")


def test_methods_knows_no_other_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "mask_lpr"]) == 4
    assert "mask_lpr is not a method. Did you mean mask_lrp?" in capsys.readouterr().err


def test_explain_prints_a_line_and_writes_a_page(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [
        "explain",
        "a <b>film</b> was great .",
        "--model",
        str(model_folder),
        "--method",
        "gradcam",
        "--html",
        "x.html",
    ]
    assert main([*argv, "--level", "word", "--target", "Negative"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("gradcam for negative; predicted: ")
    assert "film" in out[1]
    assert "<b>" not in (tmp_path / "x.html").read_text()


def test_explain_pairs_and_questions(model_folder: Path, qa_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "a film", "--pair", "the film", "--model", str(model_folder), "--method", "attcat"]) == 0
    assert capsys.readouterr().out.count("film") == 2
    argv = ["explain", "--question", "was the film", "--context", "the film was great", "--model", str(qa_folder)]
    assert main([*argv, "--method", "raw_attention"]) == 0
    assert capsys.readouterr().out.startswith("raw_attention; predicted: ")


def test_explain_says_what_of_a_long_text_is_explained(
    model_folder: Path, qa_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "the film was great . " * 20
    argv = ["explain", long, "--model", str(model_folder), "--method", "attcat"]
    assert main(argv) == 0
    assert capsys.readouterr().out.splitlines()[1] == (
        "the text is longer than the model takes: 38 tokens (37%) cut off; --long-texts windows explains all of it"
    )
    assert main([*argv, "--long-texts", "windows", "--stride", "2"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert (out[1], out[2].count("film")) == ("explained in 2 windows", 20)
    argv = ["explain", "--question", "was the film", "--context", long, "--model", str(qa_folder), "--method", "attcat"]
    assert main([*argv, "--long-texts", "windows"]) == 0
    assert "explained in 2 windows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("span", "answer"),
    [((5, 7), "'the FILM was'"), ((7, 5), "no answer"), ((1, 6), "no answer"), ((0, 0), "no answer")],
)
def test_answers_are_spelled_as_in_the_context(qa_folder: Path, span: tuple[int, int], answer: str) -> None:
    explainer = Explainer.from_pretrained(qa_folder)
    explanation = SimpleNamespace(
        method="attcat", prediction=span, probabilities=[0.5, 0.25], text="was the film",
        text_b="the FILM was great", windows=1,
    )  # fmt: skip
    summary = f"attcat; predicted: {answer} (start 0.500, end 0.250)"
    assert explain_command._summary(explanation, explainer) == summary  # type: ignore[arg-type]


def test_explain_through_heads(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks: dict[str, Any] = {}

    def explain(self: Any, texts: list[str], **options: Any) -> Any:
        masks["mask"] = options["head_mask"]
        raise InputError("enough")

    monkeypatch.setattr("attribution.Explainer.explain", explain)
    role, chosen = "syntactic:obj:dep->head", torch.zeros(3, 4, dtype=torch.bool)
    chosen[1, 2] = True
    HeadScores({role: chosen.float()}, {role: 0.5}, {role: 9}, {role: chosen}, {role: None}).save(
        tmp_path / "h.parquet"
    )
    argv = ["explain", "a film", "--model", str(model_folder)]
    main([*argv, "--heads", "h.parquet", "--head-mask", "syntactic"])
    assert masks.pop("mask").tolist() == chosen.tolist()
    main([*argv, "--heads", "all"])
    assert masks.pop("mask") is None


def test_explain_finds_heads_by_default_and_says_so(
    model_folder: Path, stub: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    role, everywhere = "positional:-1", torch.ones(3, 4, dtype=torch.bool)
    heads = HeadScores({role: everywhere.float()}, {role: float("nan")}, {role: 9}, {role: everywhere}, {role: None})
    roots = []
    stub("pipeline.head_search", default_heads=lambda explainer, root: roots.append(root) or heads)
    assert (
        main(["explain", "a film", "--model", str(model_folder), "--head-mask", "positional", "--root", "there"]) == 0
    )
    assert "found on sentences of the built-in grammar" in capsys.readouterr().err
    assert roots == [Path("there")]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "error: there is no text."),
        (["  "], "error: there is no text."),
        (["--question", "who"], "error: --question and --context go together"),
        (["text", "--question", "who", "--context", "me"], "error: --question and --context go together"),
        (["text", "--method", "gradcamm"], "error: method=gradcamm is not a method. Did you mean gradcam?"),
        (["text", "--heads", "nothing", "--model", "MODEL"], "run error: nothing is not a run"),
        (["text", "--heads", "no.parquet", "--model", "MODEL"], "conf error: heads=no.parquet does not exist"),
        (["text", "--target", "blue", "--method", "gradcam", "--model", "MODEL"], "error: target=blue"),
    ],
)
def test_explain_says_what_is_wrong(
    argv: list[str], message: str, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *(str(model_folder) if word == "MODEL" else word for word in argv)]) == 4
    assert capsys.readouterr().err.startswith(message)


# --- runs, report, diff ---------------------------------------------------------------------------------------------


def test_earlier_runs(make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run("a")
    assert main(["report", str(folder), "--texts", "none"]) == 0
    report = Path(capsys.readouterr().out.strip())
    assert report.is_file()
    assert main(["diff", str(folder), str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["identical"]


def test_runs_are_listed(make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--root", "empty"]) == 0
    assert capsys.readouterr().out.startswith("no runs in empty/runs;")
    runs = make_run("a").parent
    Path("here").mkdir()
    (Path("here") / "runs").symlink_to(runs)
    assert main(["runs", "--root", "here"]) == 0
    header, row = capsys.readouterr().out.splitlines()[:2]
    assert header.split()[:3] == ["NAME", "STATUS", "CREATED"]
    assert row.startswith("a ")
    assert main(["runs", "--root", "here", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "a"
