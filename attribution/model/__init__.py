"""The model seen as attention heads: inputs, adapter, attention function, families."""
