"""The columns of every table a run writes, in one place. Version 1: later minor versions only add nullable columns.

1.1.0 added what methods know of an example (FACTS and `facts`) to the attributions; 1.2.0 `squared_errors` and the
decisions to the curves, `text_id` and `window` to the examples, `problem` to the attributions; 1.3.0 masked words to
the examples; 1.4.0 the table of removed sets; 1.5.0 those of errors; 1.6.0 roles of attention and importances to the
heads, and the tables that judge them; 1.7.0 `entropy_drops` and `divergences` to the curves.
"""

from __future__ import annotations

import pyarrow as pa

from attribution.columns import RELEVANCE

SCHEMA_VERSION = "1.7.0"

_floats = pa.list_(pa.float32())
_ints = pa.list_(pa.int32())
_span = pa.struct([("start", pa.int32()), ("end", pa.int32())])
_fact = pa.struct([("name", pa.string()), ("value", pa.float64())])

EXAMPLES = pa.schema(
    [
        ("item_id", pa.string()),  # hash of the example's content; the key of every other table
        ("row_index", pa.int64()),  # position in the data set as read
        ("text", pa.string()),  # the text, the first text of a pair, or the question
        ("text_b", pa.string()),  # the second text, or the context; null for single texts
        ("label", pa.int32()),  # class index of the model; null where the data has none
        ("label_name", pa.string()),  # the label as the data set spells it
        ("input_ids", _ints),  # unpadded; the mask is implied by the length
        ("token_type_ids", _ints),  # null where the model has none
        ("special_tokens", pa.list_(pa.bool_())),
        ("tokens", pa.list_(pa.string())),
        ("offsets", pa.list_(_span)),  # characters in the field the token belongs to
        ("word_ids", _ints),  # word of the field, -1 for special tokens
        ("field_ids", _ints),  # 0 text, 1 text_b, -1 special tokens
        ("truncated", pa.int32()),  # how many tokens were cut off
        ("answer_start", pa.int32()),  # gold answer, first token; null outside question answering
        ("answer_end", pa.int32()),  # gold answer, last token (inclusive)
        ("rationale", pa.list_(pa.bool_())),  # tokens a person marked, or cues; null where the data has none
        # Where a word is masked; null elsewhere.
        ("masked", pa.int32()),  # its position
        ("choices", _ints),  # the token of each class that may stand there
        ("group", pa.string()),  # the paradigm the example is of
        ("text_id", pa.string()),  # item id of the text that this is a window of; null: it is a text by itself
        ("window", pa.int32()),  # which window of it
    ]
)

PREDICTIONS = pa.schema(
    [
        ("item_id", pa.string()),
        ("logits", _floats),  # [C]; for question answering (start, end) at the predicted positions
        ("probabilities", _floats),
        ("predicted", pa.int32()),  # class, or start position
        ("predicted_end", pa.int32()),  # end position; null outside question answering
    ]
)

ATTRIBUTIONS = pa.schema(
    [
        ("item_id", pa.string()),
        ("target", pa.int32()),  # class, or start position
        ("target_end", pa.int32()),
        ("scores", _floats),  # one per token, in the order of `examples.input_ids`
        ("status", pa.string()),  # ok, nan, failed
        # What the method knows of the example; null where it does not. Parts of a span add up.
        ("value", pa.float64()),  # what is explained, of the text as it is
        ("baseline_value", pa.float64()),  # the same of the baseline
        ("completeness_error", pa.float64()),  # sum of the scores less the difference of these two
        ("forwards", pa.int32()),  # passes of its own, beyond the forward all methods share
        ("backwards", pa.int32()),
        ("facts", pa.list_(_fact)),  # anything else
        ("problem", pa.string()),  # what is wrong where the status is not ok
    ]
)
FACTS = ("value", "baseline_value", "completeness_error", "forwards", "backwards")

CURVES = pa.schema(
    [
        ("item_id", pa.string()),
        ("curve", pa.string()),  # id of the curve family: "aopc", "comprehensiveness", "sufficiency"
        ("operator", pa.string()),
        ("target", pa.int32()),
        ("target_end", pa.int32()),
        ("intact_probability", _floats),  # [1], or [2] for (start, end)
        ("intact_logit", _floats),
        ("counts", _ints),  # [K] tokens perturbed or kept
        ("levels", _floats),  # [K] the same as a fraction of the perturbable tokens
        ("probabilities", _floats),  # [K], or [K * 2] for (start, end)
        ("logits", _floats),
        ("squared_errors", _floats),  # [K] of the logits against the intact ones, summed over all classes
        ("entropy_drops", _floats),  # [K] H(p(x)) - H(p(x')); NaN of answers
        ("divergences", _floats),  # [K] KL(p(x') || p(x)); NaN of answers
        ("predicted", _ints),  # [K] class, or [K * 2] first and last token of the answer
        ("intact_predicted", _ints),  # [1], or [2]
    ]
)
OF_LEVELS = ("squared_errors", "entropy_drops", "divergences")  # of all classes together; of older runs not all

# What predictions are without sets of units that no explanation chooses: one row serves all methods.
REMOVALS = pa.schema(
    [
        ("item_id", pa.string()),
        ("sets", pa.string()),  # leave_one_out, random_subsets, subsets_by_size
        ("operator", pa.string()),
        ("units", _ints),  # of each token, numbered from 0; -1 is never removed
        ("removed", pa.list_(pa.bool_())),  # [S * U] set after set
        ("groups", _ints),  # [S] number of the size that a set was drawn for
        ("intact_probability", _floats),  # [1], or [2] for (start, end)
        ("intact_logit", _floats),
        ("probabilities", _floats),  # [S], or [S * 2]
        ("logits", _floats),
    ]
)

# A metric of a method that was explained again.
CHECKS = pa.schema([("item_id", pa.string()), ("value", pa.float64())])

# What was counted of the heads in some sentences: one quantity after the other, added up over all sentences by a run.
HEAD_COUNTS = pa.schema(
    [
        ("quantity", pa.string()),  # positional: hits, neighbours, rows; syntactic: hits, arcs, offsets, relations,
        ("name", pa.string()),  # skipped, sentences. The relation, or why something was skipped
        ("direction", pa.string()),  # of an arc: dep->head, head->dep
        ("layer", pa.int32()),  # these are null where a quantity has none
        ("head", pa.int32()),
        ("offset", pa.int32()),  # key - query in tokens (positional), governor - dependent in words (syntactic)
        ("count", pa.int64()),
    ]
)

# What heads give in some texts, added up: values of roles and their squares, or distances between heads.
HEAD_SUMS = pa.schema(
    [
        ("quantity", pa.string()),  # roles: total, squares, even, texts; distances: distance, texts
        ("role", pa.string()),
        ("layer", pa.int32()),  # these are null where a quantity has none
        ("head", pa.int32()),
        ("other", pa.int32()),  # the other head of a distance, counted over all layers
        ("value", pa.float64()),
    ]
)

# The importance of every head for each text, before anything is summed.
HEAD_VALUES = pa.schema(
    [
        ("item_id", pa.string()),
        ("tokens", pa.int32()),
        ("unit", pa.int64()),  # which items of this result are summed first, where a method has such units
        ("reads_first", pa.bool_()),  # what is explained reads the first token of the last layer alone
        ("values", pa.list_(pa.float64())),  # [L * H]
    ]
)

# What becomes of each example as heads are removed in some order.
PRUNED = pa.schema(
    [
        ("item_id", pa.string()),
        ("removed", _ints),  # [K] number of heads
        ("loss", pa.list_(pa.float64())),  # [K]
        ("decided", pa.list_(pa.bool_())),  # [K] whether the label, or what was predicted, still is
    ]
)

HEADS = pa.schema(
    [
        ("role", pa.string()),  # positional:-1, syntactic:nsubj:dep->head, next, sink:cls, importance:gate_grad
        ("layer", pa.int32()),
        ("head", pa.int32()),
        ("score", pa.float32()),  # accuracy or frequency on the selection split
        ("report_score", pa.float32()),  # the same on the report split; null where there is none
        ("baseline", pa.float32()),  # the most frequent offset, or even attention
        ("low", pa.float32()),  # 95 % interval of `score`: Wilson's, over texts, or by bootstrap
        ("high", pa.float32()),
        ("count", pa.int64()),
        ("selected", pa.bool_()),
    ]
)

# What the search finds, and what it finds where there is nothing to be found.
HEAD_CONTROLS = pa.schema(
    [
        ("role", pa.string()),
        ("control", pa.string()),  # model: no control; shuffled_trees, random_model
        ("seed", pa.int32()),  # of the random model
        ("selected", pa.int32()),  # how many heads
        ("best", pa.float64()),  # score of the best head
        ("mean", pa.float64()),
        ("count", pa.int64()),
    ]
)

# Which heads attend alike: the plane that shows their distances best, and clusters.
HEAD_CLUSTERS = pa.schema(
    [
        ("layer", pa.int32()),
        ("head", pa.int32()),
        ("cluster", pa.int32()),
        ("x", pa.float64()),
        ("y", pa.float64()),
    ]
)

# Accuracy and loss as heads are removed, least or most important first, or in a random order.
PRUNING = pa.schema(
    [
        ("ranking", pa.string()),  # label in `heads.importance`; "random"
        ("order", pa.string()),  # least_first, most_first; the seed of a random order
        ("removed", pa.int32()),
        ("loss", pa.float64()),  # means over examples
        ("decided", pa.float64()),
        ("n", pa.int64()),
    ]
)

# What a ranking of heads is worth.
RANKINGS = pa.schema(
    [
        ("ranking", pa.string()),
        ("measure", pa.string()),  # decided, loss: area against random orders; spearman, ...: of halves of the texts
        ("order", pa.string()),  # least_first, most_first; null for agreement of halves
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n", pa.int64()),
        ("beaten", pa.int32()),  # random orders with a worse area; null for agreement of halves
    ]
)

VALUES = pa.schema(
    [
        ("item_id", pa.string()),
        ("method", pa.string()),  # label in `attribution`
        ("metric", pa.string()),
        ("value", pa.float64()),  # NaN where undefined
        ("weight", pa.float64()),  # 1, or the answer's length for micro averages
    ]
)

METRICS = pa.schema(
    [
        ("method", pa.string()),
        ("metric", pa.string()),
        ("against", pa.string()),  # null: the value itself; else the label of the paired difference's subtrahend
        ("value", pa.float64()),
        ("low", pa.float64()),  # 95 % bootstrap interval over examples
        ("high", pa.float64()),
        ("n", pa.int64()),
        ("n_undefined", pa.int64()),
    ]
)

# Of each token of a text: its word, the word that governs it, and its relation; -1 and null where there is none.
TREES = pa.schema(
    [
        ("word_ids", pa.list_(pa.int32())),
        ("governors", pa.list_(pa.int32())),
        ("relations", pa.list_(pa.string())),
    ]
)

# Of each text, the attention of every head to keys for which a pattern holds, in the mean over the text's tokens.
PATTERN_MASS = pa.schema(
    [
        ("item_id", pa.string()),
        ("mass", pa.list_(pa.float64())),  # [L * H]
        ("uniform", pa.float64()),  # of a head that attends evenly to all it sees
        ("share", pa.float64()),  # of the tokens, those for which the pattern allows a key
    ]
)

# Of each text, what an explanation of a model with patterns is worth.
INJECTED_VALUES = pa.schema([("item_id", pa.string()), ("values", pa.list_(pa.float64()))])  # by the metrics asked for

# What models with patterns reach beside the controls.
ARMS = pa.schema(
    [
        # in_place: patterns put into heads without training; students, classifiers: trained with them, to choose
        # sentences or to classify; projected: base students trained on, with them in projected attention
        ("study", pa.string()),
        ("arm", pa.string()),  # base, patterns, random_patterns, random_heads, without_patterns, teacher, ...
        ("metric", pa.string()),
        ("against", pa.string()),  # null: the value itself; else the arm it is a paired difference from
        ("value", pa.float64()),  # mean over seeds and examples
        ("low", pa.float64()),  # 95 % interval over examples; null for the value itself
        ("high", pa.float64()),
        ("spread", pa.float64()),  # standard deviation over seeds; null for differences, and for one seed
        ("seeds", pa.int32()),
        ("n", pa.int64()),  # examples
    ]
)

DOCUMENTS = pa.schema(
    [
        ("id", pa.string()),
        ("sentences", pa.list_(pa.string())),
        ("references", pa.list_(pa.string())),
        ("oracle", _ints),  # numbers of the sentences that are the best extract
    ]
)

# What one student reached.
STUDENT = pa.schema(
    [
        # rouge1, ...: of the best sentences of a document; accuracy, comprehensiveness, ...: of a text; loss: the mean
        # of an epoch; logit: of each sentence of a document that students of this one learn from
        ("metric", pa.string()),
        ("number", pa.int32()),  # of the document, text or epoch, from 0
        ("value", pa.float64()),
    ]
)

# What a text costs each of several models.
COSTS = pa.schema(
    [
        ("arm", pa.string()),
        ("number", pa.int32()),  # of the text, from 0
        ("flops", pa.int64()),  # of the matrix products of a forward pass, two for each multiply-add
        ("seconds", pa.float64()),  # of a forward pass, as measured beside whatever else the machine did
        ("sparsity", pa.float64()),  # share of the pairs of tokens, over all heads, that is not attended to
    ]
)

# The state of a training behind an epoch.
CHECKPOINT = pa.schema([("data", pa.large_binary())])

# A model that is kept.
MODEL_FILES = pa.schema([("name", pa.string()), ("data", pa.large_binary())])

# Of the students of a run.
LOSSES = pa.schema(
    [
        ("study", pa.string()),  # students: that choose sentences; projected: from these on; classifiers: of texts
        ("arm", pa.string()),
        ("seed", pa.int32()),
        ("epoch", pa.int32()),
        ("loss", pa.float64()),
    ]
)

# What memory the methods of a run take together.
MEMORY = pa.schema(
    [
        ("length", pa.int32()),  # of the rows it was measured on
        ("rows", pa.int32()),
        ("bytes_per_token", pa.float64()),  # null where it could not be measured
        ("free_bytes", pa.int64()),  # for the worker that measured
        ("tokens", pa.int64()),  # that it could therefore take in one pass
        ("problem", pa.string()),  # why it could not be measured
    ]
)

# The windows of texts that are cut up, in a run that has such; curves are those of windows.
WINDOWS = pa.schema(
    [
        ("item_id", pa.string()),  # of the window
        ("text_id", pa.string()),
        ("window", pa.int32()),
        ("columns", _ints),  # of the text's tokens that it holds
        ("weight", pa.float64()),  # in what is joined; 1 for the window that answers a question
    ]
)

# What became of the relevance of conservative methods; a run without one has no such table.
CONSERVATION = pa.schema(
    [
        ("method", pa.string()),
        ("n", pa.int64()),
        ("slope", pa.float64()),  # of the sum of relevance against what is explained, over examples
        ("correlation", pa.float64()),
        ("relative_error", pa.float64()),  # mean of |sum of relevance - explained| / |explained|
        # Shares of what is explained; they add up to 1.
        ("relevance", pa.float64()),
        ("absorbed_by_biases", pa.float64()),
        ("absorbed_by_positions", pa.float64()),
        ("lost", pa.float64()),
    ]
)

# What a masked token takes from each token, in every layer alone and rolled out up to it.
MIXED = pa.schema(
    [
        ("item_id", pa.string()),
        ("layers", pa.int32()),  # L
        ("rows", _floats),  # [L * N], layer after layer
        ("rollouts", _floats),  # [L * N]
    ]
)

# Hidden states of the masked token in one layer.
STATES = pa.schema([("item_id", pa.string()), ("state", _floats)])

PROBES = pa.schema(
    [
        ("layer", pa.int32()),  # 0: the embeddings
        ("form", pa.string()),  # strict, reference
        ("n", pa.int64()),
        ("length", pa.float64()),  # of the online code
        ("compression", pa.float64()),
    ]
)

# How well token-to-token methods agree with the cues, of each example.
ALIGNMENTS = pa.schema(
    [
        ("method", pa.string()),
        ("item_id", pa.string()),
        ("group", pa.string()),
        ("view", pa.string()),  # layer: in one layer alone; rollout: through the layers up to it
        ("layer", pa.int32()),  # from 1
        ("dot_product", pa.float64()),
        ("average_precision", pa.float64()),
    ]
)

ALIGNMENT_MEANS = pa.schema(
    [
        ("group", pa.string()),  # paradigm; "all" of them together
        ("method", pa.string()),  # "chance": what equal or random scores reach
        ("view", pa.string()),
        ("layer", pa.int32()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),  # 95 % bootstrap interval over examples
        ("high", pa.float64()),
        ("n", pa.int64()),
        ("n_undefined", pa.int64()),
    ]
)

# How the profile of a method over the layers goes with that of the probes.
PROFILES = pa.schema(
    [
        ("method", pa.string()),
        ("view", pa.string()),
        ("metric", pa.string()),
        ("form", pa.string()),
        ("spearman", pa.float64()),
        ("layers", pa.int64()),
    ]
)

# What the language-model head recovers of texts, layer by layer, and how comprehensive the maps of a layer are.
LAYERS = pa.schema(
    [
        ("body", pa.string()),  # explained; pretrained: the one that the head was trained with
        ("layer", pa.int32()),  # 0: the embeddings
        ("metric", pa.string()),  # recovery@10, in_text@10, ..., comprehensiveness
        ("value", pa.float64()),  # a mean
        ("n", pa.int64()),  # of so many positions; of so many texts for comprehensiveness
    ]
)

# Comprehensiveness of the map of each layer, of each text.
LAYER_MAPS = pa.schema([("item_id", pa.string()), ("layer", pa.int32()), ("value", pa.float64())])

# Of misclassified texts: scores for the predicted class against the gold one, and for each of the two alone.
EXPLAINED_ERRORS = pa.schema(
    [
        ("item_id", pa.string()),
        ("gold", pa.int32()),
        ("predicted", pa.int32()),
        ("contrast_scores", _floats),  # one per token
        ("gold_scores", _floats),
        ("predicted_scores", _floats),
    ]
)

# What class a text is without sets of its words.
WITHOUT_WORDS = pa.schema(
    [
        ("item_id", pa.string()),
        ("operator", pa.string()),
        ("classes", _ints),  # [S] without each set; -1: it has no words
        ("random_classes", _ints),  # [S * D] without random words, as many as each set has
    ]
)

# The errors of a run that were explained, one row for each.
ERRORS = pa.schema(
    [
        *EXPLAINED_ERRORS,
        ("sets", pa.list_(_ints)),  # [S] words, numbered from 0 over the text, that were taken away together
        *list(WITHOUT_WORDS)[1:],
    ]
)

# The words that caused a pair of classes to be confused, strongest first.
ERROR_WORDS = pa.schema(
    [
        ("gold", pa.int32()),
        ("predicted", pa.int32()),
        ("word", pa.string()),  # in lower case
        ("value", pa.float64()),  # mean share of the attribution of a text, over the errors of the pair
        ("low", pa.float64()),  # 95 % bootstrap interval over errors; NaN where these are too few
        ("high", pa.float64()),
        ("shuffled", pa.float64()),  # the value that scores dealt out at random among a text's words would give
        ("strength", pa.float64()),  # standard deviations, over such deals, that `value` is above `shuffled`
        ("n", pa.int64()),  # errors that have the word
        ("above_chance", pa.bool_()),
        ("chance", pa.float64()),  # strength of the strongest word under shuffled scores (95 % quantile)
        ("errors", pa.int64()),  # of the pair that were counted
        ("n_undefined", pa.int64()),
    ]
)

# What each task of a run took. Times differ from run to run, so it is no part of the results and of their hashes.
SHARDS = pa.schema(
    [
        ("stage", pa.string()),
        ("task", pa.string()),
        ("ok", pa.bool_()),
        ("seconds", pa.float64()),
        ("attempts", pa.int32()),
        ("worker", pa.string()),
        ("peak_bytes", pa.int64()),
        ("parts", pa.int32()),  # in which it was computed; more than one where memory was short
    ]
)

# In a run folder the tables that are written per method carry a leading `method` column.
RUN_TABLES: dict[str, pa.Schema] = {
    "examples": EXAMPLES,
    "predictions": PREDICTIONS,
    "attributions": pa.schema([("method", pa.string()), *ATTRIBUTIONS]),
    "curves": pa.schema([("method", pa.string()), *CURVES]),
    "heads": HEADS,
    "values": VALUES,
    "metrics": METRICS,
}

# What only some runs have.
OPTIONAL_TABLES: dict[str, pa.Schema] = {
    "patterns": RELEVANCE,
    "arms": ARMS,
    "losses": LOSSES,
    "head_controls": HEAD_CONTROLS,
    "head_clusters": HEAD_CLUSTERS,
    "pruning": PRUNING,
    "rankings": RANKINGS,
    "alignments": ALIGNMENTS,
    "alignment_means": ALIGNMENT_MEANS,
    "probes": PROBES,
    "profiles": PROFILES,
    "removals": REMOVALS,
    "layers": LAYERS,
    "errors": ERRORS,
    "error_words": ERROR_WORDS,
}
