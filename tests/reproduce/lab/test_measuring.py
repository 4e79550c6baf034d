"""`lab/measuring.py`: memory, and the threads that a measurement may have."""

import argparse
import os
import pathlib

import numpy as np
import pytest

from lab import arguments, measuring


@pytest.mark.skipif(not pathlib.Path("/proc/self/clear_refs").exists(), reason="Linux alone tells")
def test_peak_memory_is_what_a_call_holds_at_once():
    def call():
        for _ in range(3):
            np.ones(8_000_000)

    assert measuring.peak_memory(call) == pytest.approx(64e6, rel=0.2)


@pytest.mark.parametrize("cores, threads", [({3}, 1), ({0, 1, 5}, 2)])
def test_the_default_of_threads_is_one_that_the_process_may_have(cores, threads, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: cores, raising=False)
    parser = argparse.ArgumentParser()
    arguments.add_threads(parser)
    assert parser.parse_args([]).threads == threads
