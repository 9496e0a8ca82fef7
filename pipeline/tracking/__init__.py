"""The record of runs in MLflow."""

from pipeline.tracking.destination import destination, ui_address, ui_command
from pipeline.tracking.tracker import Tracker

__all__ = ["Tracker", "destination", "ui_address", "ui_command"]
