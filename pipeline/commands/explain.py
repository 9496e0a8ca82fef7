"""`headlight explain`: one text, coloured in the terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from attribution import Explainer, Explanation
    from pipeline.config import ModelConfig

EXAMPLES = """examples:
  headlight explain "a gripping film"
  headlight explain "a gripping film" --model my-model --method gradcam --level word
  headlight explain "It rains." --pair "The ground is dry." --model OWNER/NAME --target contradiction
  headlight explain --question "Who won?" --context "Ann beat Bob." --model my-qa-model --html ann.html
  headlight explain "not bad at all" --method mask_lrp --heads last --head-mask syntactic
  headlight explain "not bad at all" --method decoded_layer --lm-head train --lm-head-texts texts.tsv
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    summary = "explain one text in the terminal"
    parser = commands.add_parser(
        "explain",
        help=summary,
        description=summary.capitalize() + ".",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_text(parser)
    _add_method(parser)
    parser.add_argument("--level", choices=("word", "token"), default="token", help="of the scores; default: token")
    _add_long_texts(parser)
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page too")
    parser.add_argument("--root", type=Path, default="outputs", metavar="FOLDER", help="paths.root; default: outputs")
    parser.set_defaults(command=explain)


def _add_long_texts(parser: argparse.ArgumentParser) -> None:
    """What becomes of a text that is longer than the model takes."""
    meaning = "of texts that are too long: cut off, or explained in windows; default: truncate"
    parser.add_argument("--long-texts", choices=("truncate", "windows"), default="truncate", help=meaning)
    parser.add_argument("--stride", type=int, metavar="TOKENS", help="that windows share; default: a quarter")


def _add_text(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", nargs="?", metavar="TEXT", help="the text")
    parser.add_argument("--pair", metavar="TEXT", help="the second text of a pair")
    parser.add_argument("--question", metavar="TEXT", help="for a question-answering model, together with --context")
    parser.add_argument("--context", metavar="TEXT", help="the text that holds the answer")


def _add_method(parser: argparse.ArgumentParser) -> None:
    for flag, metavar, default, meaning in (
        ("--model", "MODEL", "minilm_reviews", "a folder or a Hub id; default: minilm_reviews"),
        ("--revision", "COMMIT", None, "of the model, on the Hub"),
        ("--method", "ID", "mask_lrp", "`headlight methods` lists them; default: mask_lrp"),
        ("--target", "TARGET", None, "a class, runner_up, start, end or span; default: what is predicted"),
        ("--heads", "HEADS", None, "a run, a heads.parquet, or `all`; default: found on built-in sentences"),
        ("--head-mask", "MASK", "both", "which of these heads; default: both"),
        ("--lm-head", "MODEL", None, "decoded_layer: the pre-trained checkpoint, a folder or a Hub id, or `train`"),
        ("--lm-head-texts", "FILE", None, "--lm-head train: texts that a head is trained on, once"),
    ):
        parser.add_argument(flag, metavar=metavar, default=default, help=meaning)


def explain(arguments: argparse.Namespace) -> int:
    """Explain and print."""
    from attribution.methods.registry import method_of
    from pipeline.terminal import unguarded

    text, method = _text(arguments), method_of(arguments.method)
    explainer = load_explainer(arguments)
    parameters: dict[str, Any] = {"head_mask": head_mask_for(arguments, explainer)} if method.needs_heads else {}
    target = _target(arguments.target, explainer)
    length = {"long_texts": arguments.long_texts, "stride": arguments.stride}
    (explanation,) = explainer.explain(
        [text], method=method.id, target=target, level=arguments.level, **length, **parameters
    )
    print(_summary(explanation, explainer))
    for line in _notes(explanation):
        print(line)
    print(_line(explanation), file=unguarded(sys.stdout))
    if arguments.html:
        arguments.html.write_text(explanation.to_html(), encoding="utf-8")
        print(f"written to {arguments.html}")
    return 0 if explanation.problem is None else 1


def _text(arguments: argparse.Namespace) -> str | tuple[str, str]:
    from attribution.errors import InputError

    question = (arguments.question, arguments.context)
    if any(question):
        if not all(question) or arguments.text or arguments.pair:
            raise InputError("error: --question and --context go together, and with no other text.")
        return arguments.question, arguments.context
    if not (arguments.text or "").strip():
        raise InputError('error: there is no text. Write headlight explain "a gripping film".')
    return (arguments.text, arguments.pair) if arguments.pair else str(arguments.text)


def load_explainer(arguments: argparse.Namespace) -> Explainer:
    """The model asked for; the built-in one is fine-tuned once and kept."""
    import transformers

    from attribution import Explainer
    from pipeline.models import resolve_model

    transformers.utils.logging.disable_progress_bar()
    config = _model_config(arguments.model, arguments.revision)
    config.lm_head, config.lm_head_texts = arguments.lm_head, arguments.lm_head_texts
    resolved = resolve_model(config, arguments.root / "models")
    head = None
    if resolved.lm_head is not None:
        head = resolved.lm_head.folder
        print(f"decoded with: {resolved.lm_head.about}", file=sys.stderr)
    return Explainer.from_pretrained(resolved.folder, lm_head=head)


def _model_config(model: str, revision: str | None) -> ModelConfig:
    from pipeline.config import ModelConfig

    if model == "minilm_reviews":
        return ModelConfig(source=model)
    if Path(model).is_dir():
        return ModelConfig(source="local", path=model)
    return ModelConfig(source="hub", id=model, revision=revision)


def head_mask_for(arguments: argparse.Namespace, explainer: Explainer) -> Tensor | None:
    """The mask [L, H] of --head-mask over the heads of --heads; None: all heads."""
    from attribution.heads import HeadScores
    from attribution.heads.masks import head_mask

    if arguments.heads == "all":
        return None
    if arguments.heads is None:
        return head_mask(arguments.head_mask, _default_heads(arguments, explainer))
    path = Path(arguments.heads)
    if path.suffix != ".parquet":
        from pipeline.runs import resolve_run

        path = resolve_run(arguments.heads, arguments.root / "runs") / "heads.parquet"
    return head_mask(arguments.head_mask, HeadScores.load(path))


def _default_heads(arguments: argparse.Namespace, explainer: Explainer) -> Any:
    """Heads found on the trees of the built-in grammar, kept for the next call."""
    from pipeline.head_search import default_heads

    print("heads: found on sentences of the built-in grammar (--heads takes others)", file=sys.stderr)
    return default_heads(explainer, arguments.root)


def _target(target: str | None, explainer: Explainer) -> str | int | None:
    """A class by name or index; other words are for the engine to judge."""
    if target is None or target == "predicted":
        return None
    labels = {name.casefold(): index for name, index in explainer.model.config.label2id.items()}
    if target.casefold() in labels:
        return int(labels[target.casefold()])
    return int(target) if target.isdecimal() else target


def _summary(explanation: Explanation, explainer: Explainer) -> str:
    """What is explained and what is predicted."""
    labels, predicted = explainer.model.config.id2label, explanation.prediction
    if isinstance(predicted, tuple):
        start, end = explanation.probabilities
        answer = _answer(explanation, predicted, explainer)
        return f"{explanation.method}; predicted: {answer} (start {start:.3f}, end {end:.3f})"
    probability = explanation.probabilities[predicted]
    return f"{explanation.method} for {labels[explanation.target]}; predicted: {labels[predicted]} ({probability:.3f})"


def _notes(explanation: Explanation) -> Iterator[str]:
    """What of a text was not explained, or not at once, and what is wrong with its scores."""
    if explanation.truncated:
        share = f"{explanation.truncated} tokens ({explanation.truncated_share:.0%}) cut off"
        yield f"the text is longer than the model takes: {share}; --long-texts windows explains all of it"
    if explanation.windows > 1:
        yield f"explained in {explanation.windows} windows"
    if explanation.problem is not None:
        yield explanation.problem


def _answer(explanation: Explanation, span: tuple[int, int], explainer: Explainer) -> str:
    """The predicted span as the context spells it."""
    tokenizer, (first, last) = explainer.tokenizer, span
    if tokenizer is None or explanation.text_b is None:
        return f"tokens {first} to {last}"
    cut = "only_second" if explanation.windows == 1 else False
    encoded = tokenizer(explanation.text, explanation.text_b, truncation=cut, verbose=False)
    start, end = encoded.token_to_chars(first), encoded.token_to_chars(last)
    inside = encoded.sequence_ids()[first] == encoded.sequence_ids()[last] == 1
    return repr(explanation.text_b[start.start : end.end]) if inside and first <= last else "no answer"


def _line(explanation: Explanation) -> str:
    from attribution.rendering import render_ansi

    return render_ansi(explanation.tokens, explanation.scores, color=sys.stdout.isatty())
