import re
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import spectrace
from fake_results import FakeModel, gains, traces, write_folder
from spectrace import figures, report


def read_png(path):
    """Height, width, channels; values 0 to 1."""
    return plt.imread(path)


def test_report_writes_page_and_picture(folder, tmp_path, capsys):
    assert report.main([str(folder), "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "out" / name) for name in ("report.html", "overview.png")]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for text in ("zebra", "ant", "mole", "What failed", "made to fail", "config.json is missing", "Prompt set “facts”"):
        assert text in page
    with spectrace.open_results(folder) as results:
        row = results.summary.set_index(["model", "prompt_set"]).loc[("ant", "test")]
    assert report.format_number(row["trace_multihead_mean"]) in page
    # overview, two prompt sets, weights, three models' spectra; each is a picture inside the page
    assert len(re.findall(r'src="data:image/png;base64,', page)) == 1 + 2 + 1 + 3
    picture = read_png(tmp_path / "out" / "overview.png")
    assert picture.shape[1] > 1500 and np.ptp(picture[..., :3]) > 0.5


def test_default_place_is_beside_the_results(folder):
    assert report.main([str(folder)]) == 0
    assert (folder / "report" / "report.html").is_file()


def test_text_from_results_cannot_break_the_page(tmp_path):
    bad = "<script>alert(1)</script> & more"
    folder = write_folder(tmp_path / "sweep", [FakeModel("good"), FakeModel("bad", error=bad)])
    assert report.main([str(folder)]) == 0
    page = (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in page and "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page


def test_a_sweep_without_prompts_has_a_report(tmp_path):
    folder = write_folder(tmp_path / "sweep", [FakeModel("one", sets={})])
    assert report.main([str(folder)]) == 0
    page = (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert "Singular values of one" in page and "Prompt set" not in page


def test_a_sweep_where_every_model_failed_has_a_report(tmp_path):
    folder = write_folder(tmp_path / "sweep", [FakeModel("one", error="cut short")])
    assert report.main([str(folder)]) == 0
    assert "cut short" in (folder / "report" / "report.html").read_text(encoding="utf-8")


def test_published_slicing_is_marked(tmp_path):
    folder = write_folder(tmp_path / "sweep", [FakeModel("one"), FakeModel("two", slicing="as-published")])
    assert report.main([str(folder)]) == 0
    assert "as the published notebooks do, not as the models use their heads: two." in (
        folder / "report" / "report.html").read_text(encoding="utf-8")


def test_nothing_to_report_on_is_exit_code_3(tmp_path, capsys):
    assert report.main([str(tmp_path / "absent")]) == 3
    assert "no such file or folder" in capsys.readouterr().err


def test_command_is_installed(folder):
    command = [sys.executable.replace("python", "spectrace-report"), "--help"]
    if not sys.executable.endswith("python"):
        command = [sys.executable, "-m", "spectrace.report", "--help"]
    assert "overview.png" in subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_line_is_the_mean_and_band_one_standard_deviation(folder):
    model = FakeModel("zebra", num_layers=5, scale=2.0)
    values = traces(model, 3).sum(axis=2)
    with spectrace.open_results(folder) as results:
        figure, axes = plt.subplots()
        figures.draw_trace(axes, results, figures.ModelStyle(results), "test")
    line = axes.lines[0]
    np.testing.assert_array_equal(line.get_xdata(), np.arange(5))
    np.testing.assert_allclose(line.get_ydata(), values.mean(axis=0), rtol=1e-14)
    band = axes.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(band[:, 1].max(), (values.mean(axis=0) + values.std(axis=0, ddof=1)).max(), rtol=1e-14)
    plt.close(figure)


def test_failed_prompts_are_left_out_of_the_line(folder):
    model = FakeModel("mole", num_layers=6)
    with spectrace.open_results(folder) as results:
        figure, axes = plt.subplots()
        figures.draw_gain(axes, results, figures.ModelStyle(results), "test")
    expected = gains(model, 3)[[0, 2]].mean(axis=0)
    assert any(len(line.get_ydata()) == 6 and np.allclose(line.get_ydata(), expected, rtol=1e-14) for line in axes.lines)
    plt.close(figure)


@pytest.mark.parametrize("value, text", [(None, "–"), (float("nan"), "–"), (3.0, "3"), (1234567, "1 234 567"),
                                         (0.123456, "0.1235"), (float("inf"), "inf"), ("EXPAND", "EXPAND")])
def test_numbers_are_short(value, text):
    assert report.format_number(value) == text


def test_columns_without_values_are_left_out():
    table = pd.DataFrame({"a": [1.0, 2.0], "b": [float("nan")] * 2})
    page = report.html_table(table, (("a", "first", ""), ("b", "second", ""), ("c", "third", "")))
    assert "first" in page and "second" not in page and "third" not in page
