"""The explorer: a page on which a person looks at the heads of a run's model, and describes what they do."""
