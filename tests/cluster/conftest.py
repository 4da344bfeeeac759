import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "app"))


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes minutes; runs with SPECTRACE_LONG_TESTS=1 only")


def pytest_collection_modifyitems(items):
    if os.environ.get("SPECTRACE_LONG_TESTS") == "1":
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; SPECTRACE_LONG_TESTS=1 runs it"))


@pytest.fixture(scope="session")
def short(tmp_path_factory):
    from sweeps import Reference

    return Reference(tmp_path_factory.mktemp("short"), seconds=1)


@pytest.fixture(scope="session")
def longer(tmp_path_factory):
    """Long enough to be met in the middle."""
    from sweeps import Reference

    return Reference(tmp_path_factory.mktemp("longer"), seconds=12)
