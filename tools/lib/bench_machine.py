"""Which machine a bench ran on."""

import importlib.metadata
import os
import platform
import re
from pathlib import Path


def machine(packages):
    """What a bench ran on, and versions of these packages. Processors of one name may differ in all that counts: hence family, model and vectors."""
    said = Path("/proc/cpuinfo").read_text()
    of = {key: found[1] for key in ("model name", "cpu family", "model", "flags") if (found := re.search(rf"^{key}\s*:\s*(.*)$", said, re.M))}
    cpu = f"{of['model name']} (family {of['cpu family']}, model {of['model']})" if len(of) == 4 else platform.machine()
    vectors = next((name for name, flag in (("AVX-512", "avx512f"), ("AVX2", "avx2")) if flag in of.get("flags", "").split()), "")
    versions = {"Python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}
    return {"cpu": cpu, "vectors": vectors, "cores": os.cpu_count(),
            "memory_gb": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, "versions": versions}  # fmt: skip
