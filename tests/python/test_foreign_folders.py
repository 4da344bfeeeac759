"""Folders that are not what they should be, for export, published and compare: what is wrong is named, what is good is used."""

import shutil

import h5py
import numpy as np
import pytest
from fake_results import FakeModel, write_folder

from spectrace import compare, export, published

COMMANDS = {"export": lambda folder: export.main([str(folder), "--table", "weights"]), "published": lambda folder: published.main([str(folder)]),
            "compare": lambda folder: compare.main([str(folder), str(folder)])}


@pytest.fixture(params=COMMANDS)
def command(request):
    return COMMANDS[request.param]


@pytest.fixture
def good(tmp_path):
    return write_folder(tmp_path / "sweep", [FakeModel("ant")])


def newer(path):
    with h5py.File(path, "a") as file:
        file.attrs["Conventions"] = "spectrace-3"


def truncated(path):
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 2])


def of_another_program(path):
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3)


def damaged_within(path):
    """The header of a dataset: the file opens, its groups are listed, the group can't be read."""
    with h5py.File(path, "r") as file:
        start = h5py.h5o.get_info(file["weights/spectral_norm"].id).addr
    data = bytearray(path.read_bytes())
    data[start:start + 64] = b"\xff" * 64
    path.write_bytes(data)


def damaged_in(dataset):
    """The values of a dataset: its group is read as if nothing were wrong, until they are."""
    def damage(path):
        with h5py.File(path, "r+") as file:
            dims, attributes, scales = file[dataset].shape, dict(file[dataset].attrs), [list(dim.values()) for dim in file[dataset].dims]
            values = file[dataset][()]
            del file[dataset]
            packed = file.create_dataset(dataset, data=values, chunks=dims, compression="gzip", fletcher32=True)
            for name in ("units", "long_name"):
                if name in attributes:
                    packed.attrs[name] = attributes[name]
            for axis, of_axis in enumerate(scales):
                for scale in of_axis:
                    packed.dims[axis].attach_scale(scale)
            chunk = packed.id.get_chunk_info(0)
        data = bytearray(path.read_bytes())
        data[chunk.byte_offset:chunk.byte_offset + chunk.size] = bytes(chunk.size)
        path.write_bytes(data)
    return damage


DAMAGES = {newer: "is of a newer format (spectrace-3; this package reads spectrace-2). Update spectrace",
           truncated: "cannot be read", damaged_within: "is damaged", of_another_program: "is not of spectrace"}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_only_such_a_file_is_an_error_that_names_it(good, command, capsys, damage):
    damage(good / "ant.h5")
    assert command(good) == 3
    message = capsys.readouterr().err
    assert "no results" in message and "ant.h5" in message and DAMAGES[damage] in message


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_such_a_file_beside_a_good_one_is_named_and_the_good_one_used(good, command, capsys, damage):
    shutil.copy(good / "ant.h5", good / "bee.h5")
    with h5py.File(good / "bee.h5", "a") as file:
        file.attrs["model"] = "bee"
    damage(good / "bee.h5")
    assert command(good) == 0
    said = capsys.readouterr()
    assert "bee.h5" in said.err + said.out and DAMAGES[damage] in said.err + said.out
    assert said.out


def test_empty_folder_and_half_written_sweep_say_so(tmp_path, command, capsys):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "ant.h5.part1234").write_bytes(b"")
    assert command(tmp_path / "sweep") == 3
    message = capsys.readouterr().err
    assert "no results" in message and "Being written: ant" in message and "Has `spectrace run` finished a model there?" in message


def test_one_model_that_failed_is_no_crash(tmp_path, command):
    folder = write_folder(tmp_path / "sweep", [FakeModel("bat", error="config.json is missing")])
    assert command(folder) == 0


def test_one_file_is_taken_for_a_folder_of_one(good, command):
    assert command(good / "ant.h5") == 0


def test_damaged_heads_are_named_and_what_is_good_is_used(good, command, capsys):
    shutil.copy(good / "ant.h5", good / "bee.h5")
    with h5py.File(good / "bee.h5", "a") as file:
        file.attrs["model"] = "bee"
    damaged_in("heads/spectral_norm")(good / "bee.h5")
    assert command(good) == 0
    said = capsys.readouterr()
    assert "bee.h5" in said.err + said.out and "is damaged" in said.err + said.out


def test_compare_names_a_prompts_value_that_is_damaged(good, tmp_path, capsys):
    """Read only where the two have not the same prompts."""
    other = write_folder(tmp_path / "other", [FakeModel("ant", failed_prompts=("b",))])
    damaged_in("prompts/test/trace")(good / "ant.h5")
    assert compare.main([str(good), str(other)]) == 3
    message = capsys.readouterr().err
    assert f"{good / 'ant.h5'}: prompts/test is damaged" in message and "compute the model again" in message
