"""The committed page of methods is what the registry and the conformance kit say now."""

from __future__ import annotations

import methods_page


def test_the_page_of_methods_is_current():
    assert methods_page.PAGE.read_text(encoding="utf-8") == methods_page.page(), "run: python tests/methods_page.py"


def test_what_headlight_methods_says_of_families_is_current():
    assert methods_page.FAMILIES.read_text(encoding="utf-8") == methods_page.families()
    assert "deberta-v2" in methods_page.families()
