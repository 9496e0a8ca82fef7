"""The committed page of metrics is what the registry says now."""

from __future__ import annotations

import metrics_page


def test_the_page_of_metrics_is_current():
    assert metrics_page.PAGE.read_text(encoding="utf-8") == metrics_page.page(), "run: python tests/metrics_page.py"
