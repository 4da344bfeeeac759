"""Takes out of the installed torch wheel what the CPU part of libtorch never loads, and puts it back.

usage: python trim_libtorch.py trim
       python trim_libtorch.py restore [WHEEL]     without WHEEL, pip fetches the version that is installed

Only whole files are removed and put back; those that stay keep their times, so that nothing is built anew.
"""

import fnmatch
import importlib.metadata
import pathlib
import subprocess
import sys
import tempfile
import zipfile

# What needs CUDA's libraries or Python's torch, neither of which is there without --cuda or --oracle. libtorch_cpu.so and libc10.so
# need none of them (readelf -d), and load none by name.
REMOVED = ("torch/lib/libtorch_cuda*.so", "torch/lib/libc10_cuda.so", "torch/lib/libtorch_nvshmem.so", "torch/lib/libcaffe2_nvrtc.so",
           "torch/lib/libtorch_python.so", "torch/lib/libtorch.so", "torch/lib/libshm.so", "torch/lib/libgfortran.so*", "torch/bin/*")


def removable(distribution):
    """Of the wheel's own list of files: (name in the wheel, place)."""
    for file in distribution.files:
        name = file.as_posix()
        if any(fnmatch.fnmatch(name, pattern) for pattern in REMOVED):
            yield name, pathlib.Path(distribution.locate_file(file))


def trim(distribution):
    freed = 0
    for _, path in removable(distribution):
        if path.exists():
            freed += path.stat().st_size
            path.unlink()
    print(f"{freed / 1e6:.0f} MB freed")


def restore(distribution, wheel):
    missing = [(name, path) for name, path in removable(distribution) if not path.exists()]
    with zipfile.ZipFile(wheel) as archive:
        for name, path in missing:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(path.name + ".part")
            with archive.open(name) as source, open(part, "wb") as target:
                while block := source.read(1 << 24):
                    target.write(block)
            part.chmod(archive.getinfo(name).external_attr >> 16 & 0o777 or 0o644)
            part.replace(path)
    print(f"{len(missing)} files are back")


def fetch(version, folder):
    subprocess.run([sys.executable, "-m", "pip", "download", "--progress-bar", "off", "--no-deps", "--only-binary", ":all:",
                    "--dest", folder, f"torch=={version}"], check=True)
    return next(pathlib.Path(folder).glob("torch-*.whl"))


def main():
    distribution = importlib.metadata.distribution("torch")
    if sys.argv[1:] == ["trim"]:
        trim(distribution)
    elif len(sys.argv) in (2, 3) and sys.argv[1] == "restore":
        if all(path.exists() for _, path in removable(distribution)):
            return
        with tempfile.TemporaryDirectory() as folder:
            restore(distribution, sys.argv[2] if len(sys.argv) == 3 else fetch(distribution.version, folder))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
