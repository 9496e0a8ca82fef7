"""The schema of every Hydra group. Defaults here are the documented ones; YAML files in `conf` override them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class ModelConfig:
    """What is explained. One of `path` (local), `id` (hub) or a source that is embedded."""

    source: str = MISSING  # local, hub, minilm_reviews, minilm_shortcut, minilm_masked
    name: str | None = None  # shown in reports; default: last part of the path or id
    path: str | None = None
    id: str | None = None
    revision: str | None = None
    dtype: str = "float32"  # float32, float64, bfloat16, float16
    max_length: int | None = None  # tokens; default: what the model takes
    label_map: dict[str, Any] = field(default_factory=dict)  # label of the data set -> class name or index of the model
    texts: list[str] = field(default_factory=list)  # minilm_masked: files whose texts its head is trained on
    tune_on: str | None = None  # BLiMP file on whose split train a masked language model is fine-tuned first
    checkpoints: dict[str, str] = field(default_factory=dict)  # dataset.name -> path (local) or id (hub), for sweeps
    lm_head: str | None = None  # what decodes hidden states: the pre-trained checkpoint (folder or hub id), or `train`
    shuffled: str | None = None  # the same model trained on shuffled labels (folder or hub id), for label_randomisation
    lm_head_texts: str | None = None  # train: file of texts that a head is trained on, once


@dataclass
class ColumnsConfig:
    """Columns of the data set; guessed from their names, and printed, where not given."""

    text: str | None = None
    text_b: str | None = None
    question: str | None = None
    context: str | None = None
    label: str | None = None
    answers: str | None = None
    rationale: str | None = None


@dataclass
class DatasetConfig:
    """Where the texts come from and which of them are used."""

    source: str = MISSING  # local, hub, reviews, grammar, shortcut
    form: str = "texts"  # texts; marked_words: with rationales that count words; sentiment_trees: those of SST;
    # agreement: minimal pairs of BLiMP, of which the word that differs is masked
    name: str | None = None
    path: str | None = None  # tsv, csv, jsonl, parquet
    id: str | None = None
    subset: str | None = None
    revision: str | None = None
    split: str | None = None
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    label_names: list[str] | None = None  # names of integer labels, in order
    language: str | None = None  # code of the texts' language (en, pt-BR), for what is said of heads found elsewhere
    limit: int | None = None  # how many examples are used
    sample_seed: int | None = None  # None: the first `limit`; else a seeded sample
    skip: int = 0  # how many are passed over before `limit` are taken, in the same order
    min_tokens: int = 0  # shorter examples are left out (specials counted) before `skip` and `limit` count
    keep_labels: list[str] | None = None  # only examples with these gold labels
    min_gold_probability: float = 0.0  # only examples whose gold class the model gives at least this
    skip_unanswerable: bool = True  # question answering: leave out examples without an answer
    truncate: str = "longest_first"  # longest_first, only_second
    long_texts: str = "truncate"  # truncate, windows: explain texts that are too long in windows, and join these
    stride: int | None = None  # windows: tokens that neighbours share; None: a quarter of a window


@dataclass
class HeadsConfig:
    """Which heads matter: roles found on a treebank, importance found on texts; and what these are worth."""

    source: str = "grammar"  # grammar, treebank, run, all
    roles: list[str] = field(default_factory=lambda: ["positional", "syntactic"])  # and attention, induction, distance
    select: str | None = None  # treebank on which heads are selected (.conllu, .jsonl, .json)
    report: str | None = None  # treebank on which their accuracy is reported
    language: str | None = None  # code of the trees' language; None: as the file's name says (en_ewt-ud-dev.conllu)
    run: str | None = None  # heads of an earlier run, or a heads.parquet file
    sentences: int = 1000  # grammar: sentences per split
    seed: int = 0
    limit: int | None = None  # at most this many sentences per treebank
    relations: list[str] = field(default_factory=lambda: ["nsubj", "obj", "amod", "advmod"])  # [all]: with min_cases
    min_cases: int = 100  # arcs without which a relation has no syntactic heads, thresholds apart
    margin: float = 0.10  # a syntactic head beats the most frequent offset by this
    thresholds: dict[str, float] = field(default_factory=dict)  # relation -> absolute threshold, instead of the margin
    positional_threshold: float = 0.8
    positional_denominator: str = "applicable"  # applicable, reference
    frequencies: str | None = None  # roles attention: file of texts that tell which words are rare
    clusters: int = 8  # roles distance: of heads that attend alike
    controls: list[str] = field(default_factory=list)  # shuffled_trees, random_model: what the search finds by chance
    random_seeds: list[int] = field(default_factory=lambda: [0, 1, 2])  # of the random models
    importance: dict[str, Any] = field(default_factory=dict)  # label -> id of an importance, or {method: id, **params}
    texts: str | None = None  # file of texts for it; None: those of the data set that the run does not explain
    n_texts: int = 200  # at most so many of them
    curves: bool = False  # prune by each importance, and by random orders, on the examples of the run
    curve_steps: int = 10  # into which the heads are divided
    random_orders: int = 5


@dataclass
class EvaluationConfig:
    """How explanations are scored."""

    metrics: list[str] = field(default_factory=lambda: ["aopc", "log_odds", "comprehensiveness", "sufficiency"])
    where_marked: list[str] = field(default_factory=list)  # plausibility, where the data has rationales
    operator: str | None = None  # mask, pad, unk, delete, ..., mlm_resample (by model.lm_head); None: the family's own
    other_operators: list[str] = field(default_factory=list)  # does the order of the methods survive them?
    first_examples: int | None = 100  # so many are perturbed with these, and explained again (mprt, ...); None: all
    budget: str | None = None  # 90s, 15m, 2h: add examples until the verdict is decided or so much time has passed
    unit: str = "token"  # token, word, sentence: what is taken away together
    levels: str = "paper"  # paper: 9 steps of 1/9 of all tokens (Mask-LRP); tenths: 10 %..100 % of perturbable tokens
    recall_at: int = 20
    recall_special: bool = False  # rank special tokens too, as the Mask-LRP paper does
    controls: list[str] = field(default_factory=lambda: ["random"])  # labels every method is compared with
    own_controls: int = 0  # `x_random_0`, ...: so many controls of each `x` with heads by name, and of it alone
    bootstrap_samples: int = 2000
    confidence: float = 0.95
    seed: int = 0


@dataclass
class MixingConfig:
    """What is asked of token-to-token methods beside their explanations; for data with masked words."""

    layers: bool = False  # how well each method of `attribution` that has a map in every layer agrees with the cues
    blank_out: list[str] = field(default_factory=list)  # labels in `attribution` that `blank_out` is measured against
    probes: list[str] = field(default_factory=list)  # strict, reference: how easily each layer tells the class
    probe_seed: int = 0


@dataclass
class DecodingConfig:
    """How the layer is chosen where `decoded_layer` has `layer: auto`: once, on texts that are not explained."""

    choose: str = "faithful"  # faithful; coherent: the latest coherent layer; most_coherent
    texts: str | None = None  # file of unlabelled texts; None: those of the data set that the run does not explain
    n_texts: int = 200  # at most so many of them


@dataclass
class ErrorsConfig:
    """Why a classifier errs, where the data has labels: which words are looked at and taken away."""

    method: str | None = "auto"  # label in `attribution`; auto: the first that tells classes apart; null: none
    limit: int = 200  # errors that are explained; of more, as many are drawn
    words: int = 8  # of a pair of classes that are taken away together
    draws: int = 10  # random sets of words beside each set that is taken away


@dataclass
class ExplainConfig:
    """What is explained, the same for all methods."""

    target: str = "predicted"  # predicted, gold, runner_up, span
    hide_separators: bool = False  # attention mask 0 at separators while explaining, as the Mask-LRP reference does
    segment_ids: bool = True  # give the model its token type ids
    output: str = "logit"  # logit, probability


@dataclass
class ClusterConfig:
    """Where it runs."""

    executor: str = MISSING  # local, ray
    address: str | None = None  # host:port of a Ray cluster; None: RAY_ADDRESS, else a private one on this machine
    wait: str | None = None  # how long to wait for nodes until the workers fit: 90s, 10m, 2h
    workers: int | None = None  # ray: default one per GPU, else cpus // cpus_per_worker
    cpus_per_worker: float = 1
    gpus_per_worker: float = 0
    device: str = "auto"  # auto, cpu, cuda
    threads: int | None = None  # torch threads per worker; default: the cpus it has
    batch_tokens: int = 2048  # tokens of a microbatch, padding counted
    max_batch: int = 32
    pass_tokens: int | None = None  # of a microbatch in one pass; null: measured, as many as a worker has memory for
    attempts: int = 3  # how often a shard is tried before it counts as poison
    shard_deadline_s: float | None = None


@dataclass
class TrackingConfig:
    """Where the record is kept."""

    store: str = MISSING  # sqlite, server, offline, none
    uri: str | None = None
    experiment: str | None = None
    wait_s: float = 30  # how long the end of a run waits for a server that went away; then `headlight sync` sends it


@dataclass
class ReportConfig:
    """What the report shows."""

    texts: str = "full"  # full, sample, none
    examples: int = 30  # how many heatmaps `sample` and the page's case list show
    attention: int = 0  # short texts of which the page has the attention of every head


@dataclass
class RegressionConfig:
    """What counts as a regression of a night against the champion; read by `headlight regress` alone."""

    series: str | None = None  # whose champion and history; default: the run's name
    vary: list[str] = field(default_factory=lambda: ["code", "versions"])  # what may differ: model, versions, code
    tolerance: dict[str, float] = field(default_factory=dict)  # metric -> the loss that has to be found
    alarm_line: float = 2 / 3  # share of the tolerance beyond which a significant loss is a regression
    confidence: float = 0.95  # of all comparisons of a night together (Holm)
    samples: int = 10000  # bootstrap resamples; more where so many comparisons need it
    seed: int = 0  # of the resamples
    fresh_seeds: list[int] = field(default_factory=lambda: [1000])  # added to all seeds; one confirmation each
    golden: float = 0.0  # largest difference of a value where code, versions, model and machine are the same
    runtime_factor: float = 1.5  # times the champion's seconds; beyond it a warning
    memory_factor: float = 1.5
    every: str = "24h"  # how often a night is due
    late: str = "6h"  # how much later it may be
    webhook: str | None = None  # where verdict.json is posted; default: $HEADLIGHT_WEBHOOK, which stays out of records


@dataclass
class SweepConfig:
    """What `headlight run -m` goes through besides what its overrides say."""

    params: dict[str, str] = field(default_factory=dict)  # key or group -> values, as an override writes them: a,b
    exclude: list[Any] = field(default_factory=list)  # cells left out: {model: bert, dataset: imdb*}


@dataclass
class BudgetConfig:
    """What a run or sweep may use; it then stops, and the same command goes on from there."""

    gpu_hours: float | None = None
    worker_hours: float | None = None  # hours of all workers together, whatever they compute on
    gpu_hour_price: float | None = None  # only to tell the price in plans


@dataclass
class PatternsConfig:
    """Attention patterns that a person described: how relevant every head is to them, and what they do in its place."""

    path: str | None = None  # patterns.yaml
    described: dict[str, Any] = field(default_factory=dict)  # the same in place of a file; neither: nothing is measured
    trees: str | None = None  # treebank on whose sentences they are measured (.conllu, .jsonl, .json), not the examples
    trees_limit: int | None = None  # at most this many of its sentences
    queries: str = "all"  # all, applicable: the tokens whose attention counts where heads are chosen by relevance
    random_seeds: list[int] = field(default_factory=lambda: [0, 1, 2])  # of random models, a reference of relevance
    in_place: bool = False  # put patterns into heads, without training, and compare predictions with those of controls
    most: int = 2  # heads for each pattern, by relevance; where the file's inject is for in_place, the heads it says
    control_seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    explained: str | None = None  # label in `attribution` by which these models are explained, each its own prediction


@dataclass
class StudentsConfig:
    """Models trained with patterns and with controls: such as choose sentences of documents, and classifiers of texts.

    Small ones for the file's `target: student`; the model of the run, with a new head for sentences, for `target: pal`.
    """

    train: str | None = None  # file of documents with summaries; None: none is trained to choose sentences
    test: str | None = None
    train_limit: int | None = None  # at most so many documents
    test_limit: int | None = None
    texts: str | None = None  # file of labelled texts like those of the run, which classifiers are tested by
    texts_limit: int | None = None  # at most so many of them
    layers: int = 2
    heads: int = 4
    width: int = 128
    epochs: int = 3
    batch_size: int = 16
    max_length: int = 256  # tokens of a document
    learning_rate: float = 1e-3
    distilled: float = 0.0  # weight of a teacher's logits of sentences in arms of their own; 0: no such arms
    teacher_learning_rate: float = 5e-5  # the teacher is the model of the run with a new head
    texts_distilled: float = 0.0  # the same for classifiers, whose teacher is the model of the run as it is
    temperature: float = 2.0  # of what classifiers learn from their teacher
    projected: int = 0  # width of projected attention beside trained base students, in a study of its own; 0: none
    sentences: int = 1  # of a summary
    explained: int = 0  # explain what is chosen of so many of the test documents, by the method of patterns.explained
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    keep: bool = False  # write the trained models into the folder of the run, each as `from_pretrained` reads it


@dataclass
class PathsConfig:
    """Where files go; all of it may be deleted, none of it is ever needed but to save work."""

    root: str = "outputs"
    store: str = "${.root}/store"
    runs: str = "${.root}/runs"
    models: str = "${.root}/models"


@dataclass
class Config:
    """A whole run."""

    name: str = "run"  # name of the run; the folder gets a number if it exists with another config
    seed: int = 0
    model: ModelConfig = MISSING
    dataset: DatasetConfig = MISSING
    heads: HeadsConfig = MISSING
    attribution: dict[str, Any] = field(default_factory=dict)  # label -> method id, or {method: id, **parameters}
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    explain: ExplainConfig = field(default_factory=ExplainConfig)
    mixing: MixingConfig = field(default_factory=MixingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    errors: ErrorsConfig = field(default_factory=ErrorsConfig)
    cluster: ClusterConfig = MISSING
    tracking: TrackingConfig = MISSING
    patterns: PatternsConfig = field(default_factory=PatternsConfig)
    students: StudentsConfig = field(default_factory=StudentsConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    regression: RegressionConfig = field(default_factory=RegressionConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)


GROUPS: dict[str, type] = {
    "model": ModelConfig,
    "dataset": DatasetConfig,
    "heads": HeadsConfig,
    "evaluation": EvaluationConfig,
    "cluster": ClusterConfig,
    "tracking": TrackingConfig,
    "regression": RegressionConfig,
}


# Key -> the value of another key under which it is read. Experiments may leave others behind, which then mean nothing.
ONLY_WITH: dict[str, tuple[str, str | bool]] = {
    "model.path": ("model.source", "local"),
    "model.id": ("model.source", "hub"),
    "model.revision": ("model.source", "hub"),
    "model.lm_head_texts": ("model.lm_head", "train"),
    "dataset.path": ("dataset.source", "local"),
    "dataset.id": ("dataset.source", "hub"),
    "dataset.subset": ("dataset.source", "hub"),
    "dataset.revision": ("dataset.source", "hub"),
    "model.tune_on": ("dataset.form", "agreement"),
    "model.texts": ("model.source", "minilm_masked"),
    "dataset.stride": ("dataset.long_texts", "windows"),
    "heads.select": ("heads.source", "treebank"),
    "heads.report": ("heads.source", "treebank"),
    "heads.run": ("heads.source", "run"),
    "heads.curve_steps": ("heads.curves", True),
    "heads.random_orders": ("heads.curves", True),
    "cluster.address": ("cluster.executor", "ray"),
    "cluster.wait": ("cluster.executor", "ray"),
    "cluster.workers": ("cluster.executor", "ray"),
}


def register() -> None:
    """Put the schemas into Hydra's store; a YAML file takes one by `defaults: [base_<group>]` or `/schema`."""
    store = ConfigStore.instance()
    store.store(name="base_config", node=Config)
    for group, node in GROUPS.items():
        store.store(group=group, name=f"base_{group}", node=node)
