"""Columns of tables that both the library and runs write; without torch, which who only reads tables does not need."""

from __future__ import annotations

import pyarrow as pa

# How relevant every head is to each pattern, beside its references.
RELEVANCE = pa.schema(
    [
        ("pattern", pa.string()),
        ("layer", pa.int32()),
        ("head", pa.int32()),
        ("queries", pa.string()),  # "all" as in the paper, "applicable": those for which the pattern allows a key
        ("relevance", pa.float64()),
        ("standard_error", pa.float64()),  # over documents; null for one document
        ("documents", pa.int64()),
        ("uniform", pa.float64()),  # of a head that attends evenly
        ("heads_bar", pa.float64()),  # mean + 3 standard deviations of this model's heads
        ("random_bar", pa.float64()),  # of the heads of random models; null without
        ("significant", pa.bool_()),  # null without random models
    ]
)
