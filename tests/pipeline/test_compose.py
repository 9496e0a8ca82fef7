"""Every option composes; every bad override is named, all at once, with what was meant."""

from __future__ import annotations

import math
from functools import cache
from itertools import zip_longest
from pathlib import Path

import pytest

from attribution.errors import InputError
from attribution.heads import IMPORTANCES
from attribution.methods import METHODS
from attribution.methods.mixing import MIXING
from pipeline.compose import compose_all, compose_config, config_dict, config_yaml
from pipeline.config import Config
from pipeline.groups import packaged_groups
from pipeline.validate import validate

with packaged_groups() as groups:
    OPTIONS = {group: groups.options(group) for group in groups.names}
EXPERIMENTS = OPTIONS["experiment"]
# the i-th option of every group together, so that each stands in one of few compositions
ROUNDS = list(zip_longest(*([f"{g}={option}" for option in OPTIONS[g]] for g in sorted({*OPTIONS} - {"experiment"}))))
NINE = {
    "mask_lrp",
    "transformer_attribution",
    "partial_lrp",
    "full_lrp",
    "raw_attention",
    "attention_rollout",
    "attention_gradcam",
    "gradcam",
    "attcat",
}
PAPER = {  # checkpoint, thresholds: sections 1.3 and 3 of the protocol
    "sst2": ("textattack/bert-base-uncased-SST-2", [0.46, 0.43, 0.76, 0.72]),
    "imdb": ("textattack/bert-base-uncased-imdb", [0.44, 0.44, 0.80, 0.58]),
    "yelp": ("fabriceyhc/bert-base-uncased-yelp_polarity", [0.46, 0.45, 0.82, 0.46]),
    "mnli": ("textattack/bert-base-uncased-MNLI", [0.49, 0.44, 0.84, 0.56]),
    "qqp": ("ModelTC/bert-base-uncased-qqp", [0.57, 0.41, 0.84, 0.46]),
    "squad1": ("csarron/bert-base-uncased-squad-v1", [0.45, 0.42, 0.75, 0.71]),
    "squad2": ("ericRosello/bert-base-uncased-finetuned-squad-frozen-v2", [0.45, 0.42, 0.75, 0.71]),
}


@pytest.fixture(autouse=True)
def _folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADLIGHT_DATA", "/data")
    monkeypatch.setenv("HEADLIGHT_MODELS", "/models")


def problems(*overrides: str) -> list[str]:
    return [problem.text for problem in compose_all(overrides).problems]


@cache
def experiment(name: str) -> Config:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADLIGHT_DATA", "/data")
        patch.setenv("HEADLIGHT_MODELS", "/models")
        return compose_config([f"experiment={name}"])


def test_options_are_the_documented_ones() -> None:
    ours = {"demo", "sst2", "squad", "mask_lrp_ablation", "nightly", "methods_sst2", "methods_squad", "cue_alignment"}
    ours |= {
        "heads_sst2",
        "mask_choice_sst2",
        "which_method",
        "rationales_sst",
        "rationales_movies",
        "grammar",
        "shortcut",
    }
    paper = {
        *(f"mask_lrp_{n}" for n in PAPER),
        "conservative_lrp",
        "conservative_lrp_imdb",
        "value_zeroing",
        "decoded_layer",
        "patterns",
        "patterns_cnn_dm",
    }
    assert set(EXPERIMENTS) == ours | {f"paper/{name}" for name in paper}
    searched = {"grammar", "treebank", "ud_ewt", "run", "all", "roles", "importance", "every"}
    assert set(OPTIONS["heads"]) == searched | set(IMPORTANCES)


@pytest.mark.parametrize("choices", ROUNDS)
def test_every_option_composes(choices: tuple[str | None, ...]) -> None:
    text = config_yaml(compose_config([choice for choice in choices if choice]))
    assert "???" not in text
    assert "${" not in text


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_lack_nothing_but_files_of_the_machine(name: str) -> None:
    assert [found for found in validate(experiment(name)) if "=/data" not in found and "=/models" not in found] == []


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_are_named_and_carry_their_controls(name: str) -> None:
    config = experiment(name)
    assert config.name == name.rsplit("/", 1)[-1]
    assert set(config.evaluation.controls) <= set(config.attribution)
    masks = {label for label in config.attribution if label.startswith("mask_lrp_random_")}
    assert masks or "mask_lrp" not in config.attribution or name == "nightly"  # a night affords one control
    assert {"random", *masks} <= set(config.evaluation.controls)


@pytest.mark.parametrize("name", ["demo", "sst2", "squad", *(f"paper/mask_lrp_{data}" for data in PAPER)])
def test_experiments_compare_the_nine_methods(name: str) -> None:
    assert {entry["method"] for entry in experiment(name).attribution.values()} == NINE | {"random"}


def test_which_method_asks_every_method_for_at_most_sixty_forwards() -> None:
    config = experiment("which_method")
    assert {entry["method"] for entry in config.attribution.values()} == set(METHODS)
    for entry in config.attribution.values():
        method = METHODS[entry["method"]]
        known = {**method.parameters, **entry, "N": 59, "max": max, "len": len, "ceil": math.ceil}
        known["baselines"] = known.get("baselines") or (1, 2)
        assert eval(method.cost[0], known) <= 60, entry
    assert (config.evaluation.operator, config.evaluation.levels, config.dataset.limit) == ("mask", "tenths", None)


@pytest.mark.parametrize(("data", "protocol"), PAPER.items())
def test_paper_protocol(data: str, protocol: tuple[str, list[float]]) -> None:
    config = experiment(f"paper/mask_lrp_{data}")
    assert config.model.id == protocol[0]
    assert [config.heads.thresholds[relation] for relation in config.heads.relations] == protocol[1]
    assert (config.heads.positional_threshold, config.heads.positional_denominator) == (0.8, "reference")
    assert not config.explain.segment_ids
    if data.startswith("squad"):
        assert (config.explain.target, config.evaluation.metrics, config.evaluation.recall_at) == (
            "span",
            ["answer_recall"],
            20,
        )
        assert (config.model.max_length, config.dataset.truncate, config.dataset.skip_unanswerable) == (
            384,
            "only_second",
            True,
        )
    else:
        assert (config.explain.target, config.explain.hide_separators, config.dataset.min_tokens) == ("gold", True, 20)
        assert (config.evaluation.operator, config.evaluation.levels) == ("pad", "paper")
        assert config.evaluation.metrics == ["aopc", "log_odds"]


def test_value_zeroing_is_compared_with_every_map_of_tokens_to_tokens() -> None:
    for name, source in (("cue_alignment", "minilm_masked"), ("paper/value_zeroing", "hub")):
        config = experiment(name)
        assert set(MIXING) <= {entry["method"] for entry in config.attribution.values()}
        assert config.mixing.layers
        assert config.mixing.probes == ["strict", "reference"]
        assert [config.attribution[label]["operator"] for label in config.mixing.blank_out] == ["mask", "unk"]
        assert (config.dataset.form, config.dataset.split, config.explain.target) == ("agreement", "test", "gold")
        assert config.model.source == source


def test_paper_filters() -> None:
    floors = {data: experiment(f"paper/mask_lrp_{data}").dataset for data in PAPER}
    assert {data: d.min_gold_probability for data, d in floors.items() if d.min_gold_probability} == {
        "mnli": 0.34,
        "qqp": 0.3,
    }
    assert {data: d.keep_labels for data, d in floors.items() if d.keep_labels} == {"qqp": ["1"]}


def test_ablation_covers_kinds_relations_rates_and_controls() -> None:
    masks = {entry.get("head_mask") for entry in experiment("mask_lrp_ablation").attribution.values()}
    assert {"syntactic", "positional", "both", "all", "none"} < masks
    assert {f"relation({relation})" for relation in ("nsubj", "obj", "amod", "advmod")} < masks
    assert sum(str(mask).startswith("corrupted") for mask in masks) == 5


@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_new_methods_need_no_plus(prefix: str) -> None:
    config = compose_config([f"{prefix}attribution.mine.method=gradcam"])
    assert config.attribution["mine"] == {"method": "gradcam"}
    assert config.attribution["gradcam"] == {"method": "gradcam"}


@pytest.mark.parametrize(
    ("overrides", "label", "expected"),
    [
        (["attribution.mine=attcat"], "mine", {"method": "attcat"}),
        (["attribution.mine=random", "attribution.mine.seed=3"], "mine", {"method": "random", "seed": 3}),
        (["attribution.random.seed=3"], "random", {"method": "random", "seed": 3}),
        (["attribution.attcat.x=1", "attribution.attcat=gradcam"], "attcat", {"method": "gradcam"}),
        (["attribution.saliency.x=1"], "saliency", {"method": "saliency", "x": 1}),
        (["attribution.mine={method: random, seed: 2}"], "mine", {"method": "random", "seed": 2}),
        (["attribution.mask_lrp.head_mask=random(3)"], "mask_lrp", {"method": "mask_lrp", "head_mask": "random(3)"}),
        (
            ["attribution.mask_lrp.head_mask=corrupted(0.2, 1, syntactic)"],
            "mask_lrp",
            {"method": "mask_lrp", "head_mask": "corrupted(0.2, 1, syntactic)"},
        ),
    ],
)
def test_method_table(overrides: list[str], label: str, expected: dict[str, object]) -> None:
    assert compose_config(overrides).attribution[label] == expected


@pytest.mark.parametrize("override", ["~attribution.gradcam", "attribution.gradcam=null"])
def test_methods_can_be_taken_away(override: str) -> None:
    assert "gradcam" not in compose_config([override]).attribution


def test_each_way_of_choosing_heads_has_random_masks_of_its_own() -> None:
    config = experiment("mask_choice_sst2")
    ways = [label for label in config.attribution if f"{label}_random_0" in config.attribution]
    assert len(ways) == 13
    assert {"all_heads", "no_heads"}.isdisjoint(ways)
    masks = {label: entry.get("head_mask") for label, entry in config.attribution.items()}
    for way in ways:
        assert [masks[f"{way}_random_{i}"] for i in range(5)] == [f"random({i}, {masks[way]})" for i in range(5)]
        assert config.attribution[f"{way}_random_4"]["method"] == "mask_lrp"
    assert set(config.evaluation.controls) == {"random", *(f"{way}_random_{i}" for way in ways for i in range(5))}


def test_random_masks_that_are_there_stay_as_they_are() -> None:
    own = "+attribution.both_random_1={method: mask_lrp, head_mask: 'random(9, both)'}"
    config = compose_config(["attribution=mask_choice", "evaluation.own_controls=2", own])
    found = {i: config.attribution[f"both_random_{i}"]["head_mask"] for i in (0, 1)}
    assert found == {0: "random(0, both)", 1: "random(9, both)"}


def test_controls_follow_the_labels() -> None:
    config = compose_config(["~attribution.mask_lrp_random_3", "attribution=mask_lrp"])
    assert config.evaluation.controls == ["random", *(f"mask_lrp_random_{i}" for i in (0, 1, 2, 4))]


def test_open_mappings_take_new_keys() -> None:
    config = compose_config(["model.label_map.good=1", "heads.thresholds.nsubj=0.5", "model.label_map.bad=neg"])
    assert config.model.label_map == {"good": 1, "bad": "neg"}
    assert config.heads.thresholds == {"nsubj": 0.5}


def test_config_is_plain_and_complete() -> None:
    config = compose_config(["paths.root=elsewhere"])
    assert config_dict(config)["paths"]["store"] == "elsewhere/store"


BAD = {
    "datset.limit=3": "datset.limit is not a configuration key. Did you mean dataset.limit?",
    "+model.pth=x": "model.pth is not a configuration key. Did you mean model.path?",
    "dataset.limit=abc": "dataset.limit=abc is not a whole number.",
    "seed=1.5": "seed=1.5 is not a whole number.",
    "evaluation.confidence=high": "evaluation.confidence=high is not a number.",
    "heads.thresholds.nsubj=x": "heads.thresholds.nsubj=x is not a number.",
    "explain.segment_ids=maybe": "explain.segment_ids=maybe is not true or false.",
    "evaluation.metrics=aopc": "evaluation.metrics=aopc is not a list, which is written [a,b].",
    "dataset.columns=text": "dataset.columns=text is not a group of keys, which are set one by one.",
    "dataset.columns={txt: a}": "dataset.columns={'txt': 'a'}: Key 'txt' not in 'ColumnsConfig'.",
    "model=lokal": "model=lokal is not an option. Did you mean local?",
    "tracking=nope": "tracking=nope is not an option. Did you mean none?",
    "experiment=paper/mask_lrp_sst": "experiment=paper/mask_lrp_sst is not an option.",
    "experiment=paper/_mask_lrp": "experiment=paper/_mask_lrp is not an option.",
    "~model": "model cannot be removed.",
    "~dataset.limit": "dataset.limit cannot be removed;",
    "~attribution.nope": "attribution.nope is not a configuration key.",
    "dataset.limit=1,2": "dataset.limit=1,2 has several values: -m runs each of them, without it a list is written",
    "seed=range(1,3)": "seed=range(1,3) has several values",
    "sst2": "sst2 is not an override:",
    "hydra.run.dir=x": "hydra.run.dir is not a configuration key.",
}


@pytest.fixture(scope="module")
def answers() -> list[str]:
    return problems(*BAD)


@pytest.mark.parametrize("override", BAD)
def test_bad_override(override: str, answers: list[str]) -> None:
    assert sum(answer.startswith(BAD[override]) for answer in answers) == 1


def test_nothing_else_is_complained_about(answers: list[str]) -> None:
    assert len(answers) == len(BAD)


def test_all_bad_overrides_are_named_in_one_error() -> None:
    with pytest.raises(InputError) as error:
        compose_config(["model=lokal", "seed=x", "dataset.limit=3", "datset.path=y", "foo"])
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    assert all(line.startswith("conf error: ") for line in lines)


def test_unset_folders_are_named_once_with_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADLIGHT_DATA")
    monkeypatch.delenv("HEADLIGHT_MODELS")
    with pytest.raises(InputError) as error:
        compose_config(["experiment=sst2"])
    models, data = str(error.value).splitlines()
    assert models.startswith("conf error: model.path: the environment variable HEADLIGHT_MODELS (")
    assert data.startswith(
        "conf error: dataset.path, heads.select, heads.report: the environment variable HEADLIGHT_DATA"
    )
    assert problems("experiment=sst2", "model.path=m", "dataset.path=d", "heads=grammar") == []
    assert problems("experiment=sst2", "model=hub", "dataset=reviews", "heads=all") == []


def test_folder_of_the_user_joins_the_search_path(tmp_path: Path) -> None:
    folder = tmp_path / "it's a (test)"
    (folder / "experiment" / "mine").mkdir(parents=True)
    (folder / "experiment" / "mine" / "a.yaml").write_text(
        "# @package _global_\ndefaults:\n  - /experiment/demo\n  - override /attribution: mask_lrp\nname: mine\n"
    )
    config = compose_config(["experiment=mine/a"], folder)
    assert (config.name, "gradcam" in config.attribution) == ("mine", False)


@pytest.mark.parametrize("text", ["# @package _global_\nmodel: {pth: x}\n", "# @package _global_\nseed: [\n"])
def test_broken_file_of_the_user_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    lines = [problem.line() for problem in compose_all(["experiment=mine", "seed=x"], tmp_path).problems]
    assert len(lines) == 2
    assert lines[0].startswith("conf error: experiment=mine cannot be composed: ")
    assert "\n" not in lines[0]


def test_file_that_would_never_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "local.yaml").write_text("source: local\n")
    with pytest.raises(InputError, match=r"model/local.yaml has the name of a built-in option"):
        compose_config([], tmp_path)


def test_missing_config_dir() -> None:
    with pytest.raises(InputError, match="--config-dir /no/such/folder is not a folder"):
        compose_config([], "/no/such/folder")
