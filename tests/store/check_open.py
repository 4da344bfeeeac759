#!/usr/bin/env python3
"""Checks that results files open everywhere: check_open.py FILE.h5...

Every group with datasets is opened by xarray with the engines h5netcdf and netcdf4, warnings being errors; both must give
the same, with all dimensions as coordinates that can be selected by, and units and long_name on every variable.
content_sha256 is computed anew from what h5py reads. Needs xarray, h5netcdf, netCDF4, h5py and numpy.
"""

import hashlib
import struct
import subprocess
import sys
import shutil
import warnings

import h5py
import numpy as np
import xarray as xr

HDF5_ATTRIBUTES = {"CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "DIMENSION_LABELS"}
NEXUS_ATTRIBUTES = {"NX_class", "signal", "axes", "default"}


def leaf_groups(file):
    """Paths of the groups that hold datasets."""
    found = []

    def visit(name, item):
        if isinstance(item, h5py.Group) and any(isinstance(child, h5py.Dataset) for child in item.values()):
            found.append("/" + name)

    if any(isinstance(child, h5py.Dataset) for child in file.values()):
        found.append("/")
    file.visititems(visit)
    return found


def is_text(dataset):
    return h5py.check_string_dtype(dataset.dtype) is not None


def check_types(path, dataset):
    text = h5py.check_string_dtype(dataset.dtype)
    if text is not None:
        assert text.encoding == "utf-8" and text.length is None, f"{path}: text is not variable-length UTF-8"
    else:
        assert dataset.dtype in (np.dtype("<f8"), np.dtype("<i8")), f"{path}: type {dataset.dtype}"
    for name in ("units", "long_name"):
        assert isinstance(dataset.attrs[name], str), f"{path} has no {name}"
    for axis, dimension in enumerate(dataset.dims if not dataset.is_scale else []):
        assert len(dimension) == 1, f"{path}: axis {axis} has {len(dimension)} scales"
        assert dimension[0].parent == dataset.parent, f"{path}: the scale of axis {axis} lies in another group"


def check_group(filename, file, path):
    for name, item in file[path].items():
        if isinstance(item, h5py.Dataset):
            check_types(f"{path}/{name}", item)
    opened = {}
    for engine in ("h5netcdf", "netcdf4"):
        with xr.open_dataset(filename, group=path, engine=engine) as dataset:
            opened[engine] = dataset.load()
    a, b = opened["h5netcdf"], opened["netcdf4"]
    xr.testing.assert_identical(a.drop_attrs(), b.drop_attrs())
    assert list(a.variables) and set(a.variables) == {n for n, i in file[path].items() if isinstance(i, h5py.Dataset)}
    for dataset in opened.values():
        for dimension in dataset.sizes:
            assert dimension in dataset.coords, f"{path}: {dimension} has no coordinates"
            values = dataset[dimension].values
            if len(values):
                # Selecting by a coordinate's last value is selecting by its last place.
                by_value = dataset.sel({dimension: values[-1]})
                xr.testing.assert_identical(by_value.drop_attrs(), dataset.isel({dimension: -1}).drop_attrs())
    for name, variable in a.variables.items():
        assert variable.attrs["units"] == b[name].attrs["units"] == file[path][name].attrs["units"]
    return len(a.variables)


class Hasher:
    def __init__(self):
        self.sha = hashlib.sha256()

    def add_count(self, count):
        self.sha.update(struct.pack("<Q", count))

    def add_text(self, text):
        data = text.encode()
        self.add_count(len(data))
        self.sha.update(data)

    def add_list(self, values):
        if isinstance(values, list):
            self.sha.update(b"t")
            self.add_count(len(values))
            for value in values:
                self.add_text(value)
        else:
            self.sha.update({"f": b"f", "i": b"i"}[values.dtype.kind])
            self.add_count(values.size)
            self.sha.update(values.tobytes())

    def add_values(self, dataset):
        if is_text(dataset):
            values = dataset.asstr()[()]
            self.add_list([values] if dataset.shape == () else [str(value) for value in values.ravel()])
        else:
            self.add_list(np.asarray(dataset[()]))

    def add_attributes(self, item):
        for name in sorted(set(item.attrs) - HDF5_ATTRIBUTES - NEXUS_ATTRIBUTES - {"content_sha256"}, key=str.encode):
            value = item.attrs[name]
            self.add_text("attribute")
            self.add_text(name)
            self.add_list([value] if isinstance(value, str) else np.asarray(value))


def digest(file):
    """What the top of src/store/digest.cpp describes."""
    hasher = Hasher()

    def visit(path, group):
        datasets = {n: i for n, i in group.items() if isinstance(i, h5py.Dataset)}
        children = {n: i for n, i in group.items() if isinstance(i, h5py.Group)}
        own = [n for n in group.attrs if n not in NEXUS_ATTRIBUTES] if path != "/" else []
        if datasets or own or (not children and path != "/"):
            groups[path] = (group, datasets)
        for name, child in children.items():
            visit(path.rstrip("/") + "/" + name, child)

    groups = {}
    hasher.add_attributes(file)
    visit("/", file)
    for path in sorted(groups, key=str.encode):
        group, datasets = groups[path]
        hasher.add_text("group")
        hasher.add_text(path)
        if path != "/":
            hasher.add_attributes(group)
        for kind in ("dimension", "dataset"):
            for name in sorted(datasets, key=str.encode):
                dataset = datasets[name]
                if dataset.is_scale != (kind == "dimension"):
                    continue
                for text in (kind, name, dataset.attrs["units"], dataset.attrs["long_name"]):
                    hasher.add_text(text)
                if kind == "dataset":
                    hasher.add_list([dimension[0].name.rsplit("/", 1)[-1] for dimension in dataset.dims])
                    values = Hasher()
                    values.add_values(dataset)
                    hasher.add_text(values.sha.hexdigest())
                else:
                    hasher.add_values(dataset)
    return hasher.sha.hexdigest()


def check_file(filename):
    num_variables = 0
    with h5py.File(filename, "r") as file:
        assert file.attrs["content_sha256"] == digest(file), "content_sha256 does not match"
        paths = leaf_groups(file)
        for path in paths:
            num_variables += check_group(filename, file, path)
    xr.open_datatree(filename, engine="h5netcdf").close()
    xr.open_datatree(filename, engine="netcdf4").close()
    if shutil.which("h5dump"):
        subprocess.run(["h5dump", "-H", filename], check=True, stdout=subprocess.DEVNULL)
    print(f"{filename}: {len(paths)} groups with {num_variables} variables open with both engines")


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    warnings.simplefilter("error")
    for filename in sys.argv[1:]:
        check_file(filename)


if __name__ == "__main__":
    main()
