"""What SECURITY.md promises: no code, no path, no markup, no control character and no secret gets through."""

from __future__ import annotations

import html
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from tiny_models import save_tiny

from attribution import Explainer
from attribution.errors import InputError
from attribution.rendering import printable, render_html
from pipeline import cli
from pipeline.compose import compose_config, config_yaml
from pipeline.config import TrackingConfig
from pipeline.execution.progress import TerminalProgress, make_progress
from pipeline.folder import RunFolder, claim_folder
from pipeline.redact import is_secret, redacted, redacted_tree, without_credentials
from pipeline.regression.verdict import Verdict
from pipeline.report.html import data_script, tag
from pipeline.run import run
from pipeline.sweep.record import write_record
from pipeline.terminal import Guarded, guarded, unguarded
from pipeline.tracking.destination import destination
from pipeline.validate import load_config

ROOT = Path(__file__).parents[2]
SECRET = "correct-horse-battery"
HOSTILE = '<img src=x onerror=alert(1)>\x1b]0;owned\x07\x1b[2J\u202e"&'
ESCAPES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    return SECRET


# --- no code --------------------------------------------------------------------------------------------------------

RUNS_CODE = re.compile(
    r"trust_remote_code=True|(?<!\.)\b(eval|exec)\(|yaml\.(unsafe_|full_)?load\(|shell=True|allow_pickle=True|os\.system"
    r"|hydra\.utils|\binstantiate\(|pickle\.load|torch\.load\((?!.*weights_only=True)|verify=False|mktemp\("
)
TRUSTED = {
    "attribution/patterns/schema.py": 1,  # a safe loader of ours, which refuses keys that come twice
    "pipeline/execution/ray_pool.py": 1,  # what our own workers send; who is in the cluster runs code anyway
    "pipeline/groups.py": 1,  # what the same process has made a moment before, as a quick copy
}


def test_nothing_in_the_source_runs_what_it_reads() -> None:
    found: dict[str, int] = {}
    for package in ("attribution", "evaluation", "pipeline", "docker"):
        for path in (ROOT / package).rglob("*.py"):
            for _ in RUNS_CODE.finditer(path.read_text()):
                name = path.relative_to(ROOT).as_posix()
                found[name] = found.get(name, 0) + 1
    assert found == TRUSTED


@pytest.mark.parametrize(
    "override",
    [
        "hydra.run.dir=/tmp/x",
        "hydra/launcher=basic",
        "+hydra.job.chdir=true",
        "hydra.searchpath=[file:///tmp]",
        "model._target_=os.mkdir",
        "+model._target_=os.mkdir",
        "attribution.x._target_=os.mkdir",
        "+_target_=os.mkdir",
    ],
)
def test_hydra_settings_and_targets_are_refused(override: str) -> None:
    with pytest.raises(InputError, match=r"hydra|_target_"):
        load_config(["attribution.x.method=gradcam", override])


@pytest.mark.parametrize("group", ["model", "dataset", "attribution.x"])
def test_a_target_in_somebody_elses_configuration_makes_nothing(group: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    (tmp_path / "conf/experiment").mkdir(parents=True)
    node: dict[str, Any] = {"_target_": "os.mkdir", "path": str(made), "_args_": [str(made)]}
    for part in reversed(group.split(".")):
        node = {part: node}
    (tmp_path / "conf/experiment/theirs.yaml").write_text("# @package _global_\n" + json.dumps(node))
    with pytest.raises(InputError):
        load_config(["experiment=theirs"], tmp_path / "conf")
    assert not made.exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_attention_code_that_a_model_asks_for_is_not_fetched(key: str, tmp_path: Path) -> None:
    folder = save_tiny("bert", tmp_path / "m")
    declared = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(declared | {key: "somebody/kernel"}))
    explainer = Explainer.from_pretrained(folder)
    assert "/" not in explainer.model.config._attn_implementation


def test_code_that_a_tokenizer_asks_for_is_not_run(tmp_path: Path) -> None:
    folder = save_tiny("bert", tmp_path / "m")
    declared = json.loads((folder / "tokenizer_config.json").read_text())
    declared |= {"auto_map": {"AutoTokenizer": ["mine.Mine", "mine.Mine"]}, "tokenizer_class": "Mine"}
    (folder / "tokenizer_config.json").write_text(json.dumps(declared))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    Explainer.from_pretrained(folder)
    assert not (tmp_path / "ran").exists()


# --- no path --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", "..", ".hidden", "a\nb", "a\\b", ""])
def test_a_run_cannot_be_named_out_of_its_folder(name: str) -> None:
    config = compose_config(["attribution=mask_lrp"])
    config.name = name
    from pipeline.validate import validate

    assert any(line.startswith("conf error: name=") for line in validate(config))


@pytest.mark.parametrize("label", ["../x", "a/b", "<b>", "a b", "\x1b[2J"])
def test_a_label_has_no_path_and_no_markup(label: str) -> None:
    config = compose_config(["attribution=mask_lrp"])
    config.attribution = {label: {"method": "gradcam"}}
    from pipeline.validate import validate

    assert any("a label has letters" in line for line in validate(config))


# --- no markup ------------------------------------------------------------------------------------------------------


def test_every_page_escapes_what_it_is_given() -> None:
    pages = [
        tag("p", HOSTILE, title=HOSTILE),
        data_script({HOSTILE: HOSTILE}),
        render_html([HOSTILE], [1.0], title=HOSTILE, subtitle=HOSTILE),
    ]
    for page in pages:
        assert "<img" not in page


def test_pages_allow_no_script_but_their_own_and_load_nothing() -> None:
    page = render_html(["a"], [1.0], title="t")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    assert "default-src 'none'" in policy[1]
    assert "script-src" not in policy[1]
    script = (ROOT / "pipeline/report/assets/page.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", script)


# --- no control characters ------------------------------------------------------------------------------------------


def test_printable_keeps_words_and_nothing_that_drives_a_terminal() -> None:
    assert printable("naïve 漢字 \u2009thin") == "naïve 漢字 \u2009thin"
    assert printable("a\x1b[2Jb\tc\nd\u202ee") == "a\\x1b[2Jb c d\\x202ee"
    assert printable("a\tb\nc", keep="\n\t") == "a\tb\nc"


def test_guarded_streams_show_no_control_character_and_no_secret(
    capsys: pytest.CaptureFixture[str], secret: str
) -> None:
    with guarded():
        print(HOSTILE, secret)
        print(HOSTILE, secret, file=sys.stderr)
        sys.stderr.writelines([HOSTILE, "\n"])
        print("\x1b[1mours\x1b[0m", file=unguarded(sys.stdout))
    shown = capsys.readouterr()
    assert "\x1b[1mours\x1b[0m" in shown.out
    for text in (shown.out.replace("\x1b[1mours\x1b[0m", ""), shown.err):
        assert not ESCAPES.search(text)
        assert secret not in text
        assert "\\x1b]0;owned" in text


def test_guarding_twice_guards_once() -> None:
    stream = io.StringIO()
    assert unguarded(Guarded(stream)) is stream
    assert Guarded(stream).write("\x1b") == 1
    assert stream.getvalue() == "\\x1b"
    Guarded(stream).write("\r10 %\r20 %")
    assert stream.getvalue().endswith("\r10 % 20 %")


@pytest.mark.parametrize("terminal", [True, False])
def test_messages_of_a_run_show_neither(terminal: bool, secret: str) -> None:
    stream = io.StringIO()
    if terminal:
        console = Console(file=stream, force_terminal=True, width=1000, color_system=None)
        TerminalProgress(console).message(HOSTILE + secret)
    else:
        make_progress(stream=stream).message(HOSTILE + secret)
    assert not ESCAPES.search(stream.getvalue())
    assert secret not in stream.getvalue()


def test_a_failing_command_shows_neither(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], secret: str
) -> None:
    def fail(_: Any) -> int:
        raise RuntimeError(f"no answer from https://ann:pw@host/?{secret} {HOSTILE}")

    monkeypatch.setattr(cli, "parse", lambda argv: SimpleNamespace(command=fail))
    assert cli.main([]) == 1
    error = capsys.readouterr().err
    assert "https://***@host" in error
    assert not ESCAPES.search(error)
    assert secret not in error
    assert "ann:pw" not in error


# --- no secrets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MLFLOW_TRACKING_TOKEN", True),
        ("MLFLOW_TRACKING_PASSWORD", True),
        ("PGPASSWORD", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("AWS_ACCESS_KEY_ID", True),
        ("AWS_SESSION_TOKEN", True),
        ("RAY_AUTH_TOKEN", True),
        ("HF_TOKEN", True),
        ("OPENAI_API_KEY", True),
        ("HEADLIGHT_WEBHOOK", True),
        ("RAY_AUTH_TOKEN_PATH", False),
        ("TOKENIZERS_PARALLELISM", False),
        ("HEADLIGHT_DATA", False),
        ("KEYBOARD", False),
    ],
)
def test_variables_are_secret_by_name(name: str, expected: bool) -> None:
    assert is_secret(name) is expected


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://ann:pw@host:1/x", "https://host:1/x"),
        ("postgresql://ann:p@w@host/db", "postgresql://host/db"),
        ("postgresql+psycopg2://ann:p/w?#@host/db", "postgresql+psycopg2://host/db"),
        ("mysql://host/db?user=ann&password=p%40w&ssl=1", "mysql://host/db?user=ann&password=***&ssl=1"),
        ("https://host/hook?X-Amz-Signature=abc#x", "https://host/hook?X-Amz-Signature=***#x"),
        ("https://token@host", "https://host"),
        ("https://host/a@b", "https://host/a@b"),
        ("https://host?mail=a@b", "https://host?mail=a@b"),
        ("mail ann@host", "mail ann@host"),
    ],
)
def test_addresses_lose_their_credentials(address: str, shown: str) -> None:
    assert without_credentials(address) == shown
    target = destination(TrackingConfig(store="server", uri=address), Path()) if "://" in address else None
    assert target is None or target.shown == shown


def test_redaction_reaches_into_trees_and_leaves_the_rest(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_TOKEN", "true")  # too short to be one
    tree = {"a": [f"x {secret}", 1, None, True], "b": {"c": "true", secret: "key"}}
    assert redacted_tree(tree) == {"a": ["x ***", 1, None, True], "b": {"c": "true", secret: "key"}}
    assert redacted("nothing to hide") == "nothing to hide"


def test_configuration_and_manifest_are_written_without_secrets(tmp_path: Path, secret: str) -> None:
    config = compose_config(["tracking=server", "tracking.uri=https://ann:pw-of-ann@host/mlflow", f"name={secret}"])
    folder = RunFolder(tmp_path)
    folder.write({}, config_yaml(config))
    folder.write_manifest({"overrides": ["tracking.uri=https://ann:pw-of-ann@host"], "failures": [{"error": secret}]})
    for name in ("config.yaml", "manifest.json"):
        text = (tmp_path / name).read_text()
        assert "pw-of-ann" not in text
        assert secret not in text
    assert json.loads((tmp_path / "manifest.json").read_text())["overrides"] == ["tracking.uri=https://***@host"]


def test_the_records_of_a_sweep_and_of_a_night_are_written_without_secrets(tmp_path: Path, secret: str) -> None:
    write_record(tmp_path, {"overrides": [f"tracking.uri=postgresql://u:{secret}@h/d"]}, [])
    verdict = Verdict("nightly", "night", "2026-11-20")
    verdict.stop("failed", "OperationalError: postgresql://u:pw/of-ann@h/d does not answer")
    for text in ((tmp_path / "sweep.json").read_text(), verdict.to_json()):
        assert "postgresql://***@h/d" in text
        assert secret not in text
        assert "of-ann" not in text


@pytest.mark.parametrize(
    "override",
    [
        "name=${oc.env:MLFLOW_TRACKING_TOKEN}",
        "dataset.name='x${oc.env:MLFLOW_TRACKING_TOKEN}'",
        "dataset.name='${oc.env:${tracking.experiment}}'",
        "evaluation.metrics=['${oc.env:MLFLOW_TRACKING_TOKEN}']",
    ],
)
def test_a_configuration_cannot_read_secrets(override: str, secret: str) -> None:
    with pytest.raises(InputError, match="MLFLOW_TRACKING_TOKEN, which looks like a secret") as caught:
        compose_config(["tracking.experiment=MLFLOW_TRACKING_TOKEN", override])
    assert secret not in str(caught.value)


def test_the_address_of_the_record_may_hold_one(secret: str) -> None:
    config = compose_config(["tracking=server", "tracking.uri='postgresql://u:${oc.env:MLFLOW_TRACKING_TOKEN}@h/d'"])
    assert config.tracking.uri == f"postgresql://u:{secret}@h/d"
    assert secret not in config_yaml(config)


# --- nothing leaves unasked -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["methods", "runs", "doctor"])
def test_telemetry_is_off_for_every_command(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in cli.NO_TELEMETRY:
        monkeypatch.delenv(name, raising=False)
    seen: dict[str, str | None] = {}
    monkeypatch.setattr(
        cli, "_run", lambda arguments: seen.update({n: os.environ.get(n) for n in cli.NO_TELEMETRY}) or 0
    )
    assert cli.main([command]) == 0
    assert seen == cli.NO_TELEMETRY


def test_whoever_turned_telemetry_on_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    monkeypatch.setattr(cli, "_run", lambda arguments: 0)
    cli.main(["methods"])
    assert os.environ["DO_NOT_TRACK"] == "0"


# --- no stranger in the cluster -------------------------------------------------------------------------------------

PRIVATE_CLUSTER = """
import sys, ray
from pipeline.config import ClusterConfig
from pipeline.execution.ray_cluster import connect
with connect(ClusterConfig(executor="ray", workers=1)):
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
"""
STRANGER = (
    "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False); print('inside', ray.nodes()[0]['NodeID'])"
)


@pytest.mark.cluster
@pytest.mark.slow
def test_a_private_cluster_lets_nobody_in_without_its_token(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    clean |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PRIVATE_CLUSTER]
    with subprocess.Popen(command, env=clean, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        address = owner.stdout.readline().strip()
        assert ":" in address
        for settings in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 64}):
            stranger = [sys.executable, "-c", STRANGER, address]
            done = subprocess.run(stranger, env=clean | settings, capture_output=True, text=True, timeout=120)
            assert done.returncode != 0
            assert "inside" not in done.stdout
            assert "auth" in (done.stdout + done.stderr).lower()
        owner.communicate("", timeout=60)
    assert not (tmp_path / ".ray").exists()  # no token stays behind


# --- the page itself ------------------------------------------------------------------------------------------------


def test_every_test_that_the_threat_model_names_exists() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    files = {path.name: path for path in (ROOT / "tests").rglob("*.py")}
    assert set(re.findall(r"`(?:tests/\w+/)?(test_\w+\.py)`", text)) <= set(files)
    source = "".join(path.read_text() for path in files.values())
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 15
    assert {name for name in named if f"def {name}(" not in source} == set()


# --- all of it at once ----------------------------------------------------------------------------------------------


def test_a_run_on_hostile_names_and_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], secret: str
) -> None:
    """Labels, column names and texts that attack; a secret where a server would be; then every file is searched."""
    monkeypatch.chdir(tmp_path)
    folder = save_tiny("bert", tmp_path / "m")
    declared = json.loads((folder / "config.json").read_text())
    names = {str(index): f"{HOSTILE}{index}" for index in range(len(declared["id2label"]))}
    declared |= {"id2label": names, "label2id": {name: int(index) for index, name in names.items()}}
    (folder / "config.json").write_text(json.dumps(declared))
    rows = [{"text": f"the film was good . {HOSTILE}", "label": int(index)} for index in names]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    overrides = ["model=local", f"model.path={folder}", "dataset=local", "dataset.path=data.jsonl", "attribution=none"]
    overrides += ["attribution.m.method=gradcam", "evaluation.controls=[]", "heads.sentences=50", "tracking=none"]
    overrides += ["tracking.uri=https://ann:pw-of-ann@host", "evaluation.bootstrap_samples=20"]
    capsys.readouterr()
    with guarded():
        result = run(load_config(overrides), overrides, make_progress())
    shown = "".join(capsys.readouterr())
    assert result.exit_code == 0
    assert not ESCAPES.search(shown)
    assert "<img" not in (result.folder / "report.html").read_text()
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.parent != folder:
            assert b"pw-of-ann" not in path.read_bytes(), path
            assert secret.encode() not in path.read_bytes(), path


def test_explain_shows_hostile_labels_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_tiny("bert", tmp_path / "m")
    declared = json.loads((folder / "config.json").read_text())
    names = {index: HOSTILE + index for index in declared["id2label"]}
    declared |= {"id2label": names, "label2id": {name: int(index) for index, name in names.items()}}
    (folder / "config.json").write_text(json.dumps(declared))
    page = tmp_path / "page.html"
    arguments = ["explain", f"good film {HOSTILE}", "--model", str(folder), "--method", "gradcam"]
    assert cli.main([*arguments, "--html", str(page)]) == 0
    shown = capsys.readouterr()
    assert not ESCAPES.search(shown.out + shown.err)
    assert "\\x1b]0;owned" in shown.out
    assert "<img" not in page.read_text()
    assert html.escape("<img") in page.read_text() or "<img" not in html.unescape(page.read_text())


def test_a_folder_of_somebody_elses_run_is_not_taken_over(tmp_path: Path) -> None:
    first = claim_folder(tmp_path, "run", "key a")
    assert claim_folder(tmp_path, "run", "key b").path == tmp_path / "run-2"
    assert claim_folder(tmp_path, "run", "key a").path == first.path
