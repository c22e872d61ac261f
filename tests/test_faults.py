"""One moment of each fault; many more are in `benchmarks/faults.py` and `benchmarks/troubles.py`."""

import os
import shutil
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import cases
import faults
import troubles


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    if shutil.which("strace") is None:
        pytest.skip("no strace: install the package strace")
    with cases.bench_in(tmp_path_factory.mktemp("faults")) as bench:
        yield bench


@pytest.fixture(scope="module")
def ground(bench):
    return troubles.Ground(bench, tries=2)


@pytest.mark.parametrize("name", cases.COMMANDS)
def test_killed_where_it_renames_it_goes_on(bench, name):
    """SIGKILL at its second rename: nothing is lost, and the same command ends as an undisturbed one."""
    found = faults.once(bench, name, "kill", when=2)
    assert (found.moments.total(), found.lost, found.differ) == (1, [], set())


@pytest.mark.parametrize("by", ["interrupt", "full", "broken"])
def test_disturbed_where_it_renames_it_says_so_and_goes_on(bench, by):
    """Ctrl-C, a full and a broken disk: one line, nothing is lost, and the end is that of an undisturbed run."""
    found = faults.once(bench, "curate", by, when=2)
    assert (found.moments.total(), found.lost, found.differ) == (1, [], set())


@pytest.mark.parametrize(
    ("trouble", "name"),
    [
        ("full-disk", "collect --from"),
        ("file-limit", "split"),
        ("read-only", "curate"),
        ("vanishing", "collect --from"),
        ("changing", "split"),
        ("clock-back", "split"),
        ("two-at-once", "curate"),
        ("little-memory", "split"),
    ],
)
def test_in_trouble_it_says_so_and_loses_nothing(ground, trouble, name):
    """It does its work all the same or says why not; nothing is lost, and the same command goes on."""
    if trouble in ("full-disk", "read-only") and os.geteuid():
        pytest.skip("a small disk is mounted: run as root")
    if trouble == "clock-back" and troubles.faketime() is None:
        pytest.skip("no other clock: install the package faketime")
    came = troubles.TROUBLES[trouble](ground, name)
    assert came.tried and (came.lost, came.differ, came.crashed) == ([], set(), 0)
