"""How it runs: configuration, data, stages, executors, tracking and report."""
