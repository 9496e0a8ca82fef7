"""A few of the moments of `make chaos`; HEADLIGHT_CHAOS_MOMENTS says how many."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from network_cluster import missing_requirement

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize(("script", "says"), [("chaos", "--moments"), ("bench", "choices: attribution")])
def test_scripts_find_the_packages_and_not_the_folders_of_their_tests(script, says):
    done = subprocess.run([sys.executable, str(TESTS / script), "--help"], capture_output=True, text=True)
    assert says in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.cluster
def test_a_disturbed_run_has_the_bytes_of_one_in_peace():
    if reason := missing_requirement():
        pytest.skip(reason)
    moments = os.environ.get("HEADLIGHT_CHAOS_MOMENTS", "4")
    command = [sys.executable, str(Path(__file__).parent), "--moments", moments, "--any-gap"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600 * int(moments))
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all tables equal those of the run in peace, byte for byte" in done.stdout
