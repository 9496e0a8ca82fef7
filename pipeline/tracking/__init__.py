"""The record of runs in MLflow."""

from pipeline.tracking.destination import destination, ui_address
from pipeline.tracking.sweep import SweepTracker
from pipeline.tracking.sync import sync
from pipeline.tracking.tracker import Tracker

__all__ = ["SweepTracker", "Tracker", "destination", "sync", "ui_address"]
