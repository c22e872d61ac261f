"""One kill a command; all moments are in `benchmarks/faults.py`."""

import shutil
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import faults


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    if shutil.which("strace") is None:
        pytest.skip("no strace: install the package strace")
    with faults.bench_in(tmp_path_factory.mktemp("faults")) as bench:
        yield bench


@pytest.mark.parametrize("name", faults.COMMANDS)
def test_killed_where_it_renames_it_goes_on(bench, name):
    """SIGKILL at its second rename: nothing is lost, and the same command ends as an undisturbed one."""
    found = faults.kill_once(bench, name, when=2)
    assert (found.moments.total(), found.lost, found.differ) == (1, [], set())
