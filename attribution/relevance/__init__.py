"""Relevance as a rule table: what a backward pass carries, and how."""
