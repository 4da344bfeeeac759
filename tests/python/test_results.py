import shutil
import warnings

import h5py
import numpy as np
import pytest
import spectrace
import xarray as xr
from fake_results import FakeModel, gains, spectral_norms, traces, write_folder, write_model


def test_models_come_in_the_order_of_the_job(folder):
    with spectrace.open_results(folder) as results:
        assert list(results) == ["zebra", "ant", "mole", "bat"]
        assert results.prompt_sets() == ["test", "facts"]
        assert results.prompt_sets("bat") == []


def test_values_read_back_with_their_coordinates(folder):
    model = FakeModel("ant")
    with spectrace.open_results(folder) as results:
        trace = results["ant"]["prompts/test"]["trace"]
        assert trace.dims == ("prompt", "layer", "head")
        np.testing.assert_array_equal(trace.values, traces(model, 3))
        weights = results["ant"]["weights"]
        np.testing.assert_array_equal(weights["spectral_norm"].sel(matrix="W_V").values, spectral_norms(model)[:, 2])
        assert weights["singular_values"].sel(matrix="W_V", layer=1).isel(index=6).isnull()


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_both_engines_open_without_a_warning(folder, engine):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with xr.open_datatree(folder / "ant.h5", engine=engine) as tree:
            assert tree["prompts/facts/statistics"]["trace"].dims == ("statistic", "layer", "head")


def test_summary_has_a_row_a_model_and_prompt_set(folder):
    with spectrace.open_results(folder) as results:
        summary = results.summary.set_index(["model", "prompt_set"])
    assert list(summary.index) == [("zebra", "test"), ("zebra", "facts"), ("ant", "test"), ("ant", "facts"),
                                   ("mole", "test"), ("mole", "facts"), ("bat", "")]
    ant = FakeModel("ant")
    row = summary.loc[("ant", "facts")]
    assert row["num_prompts"] == 2
    assert row["mean_trace"] == pytest.approx(traces(ant, 2).sum(axis=2).mean(), rel=1e-14)
    assert row["last_gain_mean"] == pytest.approx(gains(ant, 2)[:, -1].mean(), rel=1e-14)
    assert row["w_o_spectral_norm_mean"] == pytest.approx(spectral_norms(ant)[:, 3].mean(), rel=1e-14)
    assert summary.loc[("bat", ""), "status"] == "failed"
    assert np.isnan(summary.loc[("bat", ""), "mean_trace"])


def test_errors_name_models_and_prompts(folder):
    with spectrace.open_results(folder) as results:
        errors = results.errors
        assert results.summary.set_index(["model", "prompt_set"]).loc[("mole", "test"), "num_failed_prompts"] == 1
    assert list(errors[["model", "prompt_set", "prompt"]].itertuples(index=False, name=None)) == [
        ("mole", "test", "b"), ("bat", "", "")]
    assert "config.json is missing" in errors.iloc[1]["error"]


def test_one_file_opens_alone(folder):
    with spectrace.open_results(folder / "zebra.h5") as results:
        assert list(results) == ["zebra"]


@pytest.mark.parametrize("attributes", [{}, {"Conventions": "spectrace-2", "source": "spectrace"}])
def test_other_files_in_the_folder_are_left_out(folder, attributes):
    """The sweep's summary.h5 follows the same conventions, but is of no model."""
    xr.Dataset({"value": ("row", [1.0, 2.0])}, attrs=attributes).to_netcdf(folder / "summary.h5", engine="h5netcdf")
    with spectrace.open_results(folder) as results:
        assert "summary" not in results and len(results) == 4


def test_a_model_in_two_files_is_an_error(folder):
    shutil.copy(folder / "ant.h5", folder / "ant-copy.h5")
    with pytest.raises(spectrace.ResultsError, match="model 'ant'"):
        spectrace.open_results(folder)


def test_nothing_to_read_is_an_error_that_says_what(tmp_path):
    with pytest.raises(spectrace.ResultsError, match="no such file or folder"):
        spectrace.open_results(tmp_path / "absent")
    with pytest.raises(spectrace.ResultsError, match="no results"):
        spectrace.open_results(tmp_path)
    (tmp_path / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\nand no more")
    with pytest.raises(spectrace.ResultsError, match="broken.h5"):
        spectrace.open_results(tmp_path)


def test_a_job_without_prompts_has_a_row_a_model(tmp_path):
    with spectrace.open_results(write_folder(tmp_path / "weights", [FakeModel("one", sets={})])) as results:
        summary = results.summary
    assert list(summary["prompt_set"]) == [""]
    assert summary.loc[0, "w_v_spectral_norm_mean"] == pytest.approx(spectral_norms(FakeModel("one"))[:, 2].mean(), rel=1e-14)


# Folders that are not as they should be ------------------------------------------------------------------------------

def test_unfinished_sweep_names_the_models_without_results(tmp_path):
    folder = write_folder(tmp_path / "sweep", [FakeModel("one")], in_job=["two", "three"])
    (folder / "two.h5.part123").write_bytes(b"half of it")
    with spectrace.open_results(folder) as results:
        assert list(results) == ["one"] and results.missing == ["two", "three"]


def test_folder_with_only_a_half_written_file_says_so(tmp_path):
    (tmp_path / "two.h5.part123").write_bytes(b"half of it")
    with pytest.raises(spectrace.ResultsError, match="Being written: two"):
        spectrace.open_results(tmp_path)


def test_truncated_file_is_a_problem_and_the_others_open(folder):
    whole = (folder / "ant.h5").read_bytes()
    (folder / "ant.h5").write_bytes(whole[: len(whole) // 2])
    with spectrace.open_results(folder) as results:
        assert list(results) == ["zebra", "mole", "bat"]
        assert list(results.problems["file"]) == ["ant.h5"] and "whole" in results.problems.iloc[0]["problem"]
        assert "ant" not in results.missing  # it is there, though it can't be read


@pytest.mark.parametrize("conventions, words", [("spectrace-3", "newer format"), ("spectrace-1", "older format"), ("CF-1.8", "not of spectrace")])
def test_file_of_another_format_is_named_with_the_reason(folder, conventions, words):
    write_model(folder, FakeModel("other", conventions=conventions))
    with spectrace.open_results(folder) as results:
        assert "other" not in results
        assert list(results.problems["file"]) == ["other.h5"] and words in results.problems.iloc[0]["problem"]


def test_folder_of_a_newer_format_alone_asks_to_update(tmp_path):
    write_model(tmp_path, FakeModel("new", conventions="spectrace-3"))
    with pytest.raises(spectrace.ResultsError, match="newer format.*Update spectrace"):
        spectrace.open_results(tmp_path)


def test_folder_in_place_of_a_file_is_a_problem(folder):
    (folder / "dir.h5").mkdir()
    with spectrace.open_results(folder) as results:
        assert "dir.h5" in list(results.problems["file"])


def test_opening_reads_no_numbers(folder, monkeypatch):
    """Lazy: no dataset is read and no tree is built before it is asked for."""
    monkeypatch.setattr(xr, "open_datatree", lambda *_args, **_kw: pytest.fail("a tree was opened"))
    monkeypatch.setattr(xr, "open_dataset", lambda *_args, **_kw: pytest.fail("a group was opened"))
    with spectrace.open_results(folder) as results:
        assert len(results) == 4 and results.attributes("ant")["num_layers"] == 4
        assert results.prompt_sets() == ["test", "facts"] and "weights" in results.groups("ant")


def test_group_and_tree_hold_the_same(folder):
    with spectrace.open_results(folder) as results:
        np.testing.assert_array_equal(results.group("ant", "weights")["spectral_norm"], results["ant"]["weights"]["spectral_norm"])
        assert results.group("ant", "nothing") is None and results.group("bat", "weights") is None
        assert results.statistics("ant", "facts")["gain"].dims == ("statistic", "layer")


def test_meta_that_is_no_object_is_empty(folder):
    with h5py.File(folder / "ant.h5", "a") as file:
        file.attrs["meta"] = "[1"
    with spectrace.open_results(folder) as results:
        assert results.meta("ant") == {} and results.meta("zebra") == {}


def test_damage_within_a_file_costs_its_model_only(folder):
    """Bytes of a dataset's header: the file opens, its groups are listed, the group can't be read."""
    with h5py.File(folder / "ant.h5", "r") as file:
        start = h5py.h5o.get_info(file["weights/spectral_norm"].id).addr
    data = bytearray((folder / "ant.h5").read_bytes())
    data[start:start + 64] = b"\xff" * 64
    (folder / "ant.h5").write_bytes(data)
    with spectrace.open_results(folder) as results:
        assert "ant" in results
        results.set_aside_damaged()
        assert list(results) == ["zebra", "mole", "bat"]
        assert list(results.problems["file"]) == ["ant.h5"] and "is damaged" in results.problems.iloc[0]["problem"]
