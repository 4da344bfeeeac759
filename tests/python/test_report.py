"""The report as text: each study's items, what is missing said, bad folders; the page itself in test_report_browser.py."""

import json
import re
import shutil
import subprocess
import sys
import warnings
import zipfile

import h5py
import matplotlib.pyplot as plt
import numpy as np
import pytest
import spectrace
from fake_results import ANALYSES, BETAS, FakeModel, gains, spectral_norms, traces, two_levels, write_folder, write_model, zoo
from spectrace import report, studies
from spectrace.inference import mann_whitney, number
from spectrace.report.page import format_number
from spectrace.studies import base, llama31_anomaly
from spectrace.studies.base import Picture, Shown, Words
from spectrace.studies.drawing import COLORS


@pytest.fixture(scope="module")
def zoo_studies(tmp_path_factory):
    folder = write_folder(tmp_path_factory.mktemp("zoo"), zoo())
    with spectrace.open_results(folder) as results:
        yield {study.name: study for study in studies.all_studies(studies.context_of(results))}


def study_of(folder, name):
    make = studies.STUDIES | {"residual": studies.sweep.residual, "steps": studies.sweep.steps}
    with spectrace.open_results(folder) as results:
        return make[name](studies.context_of(results))


def titles(study, kind=Picture):
    return [block.title for block in study.blocks if isinstance(block, kind)]


def columns(study):
    return {column for block in study.blocks if isinstance(block, Shown) for column in block.columns}


def outcomes(study):
    return [outcome for block in study.blocks if isinstance(block, base.Tested) for outcome in block.outcomes]


def words(study, kind=None):
    return " ".join(block.text for block in study.blocks if isinstance(block, Words) and kind in (None, block.kind))


def page_of(folder, *options):
    assert report.main([str(folder), *options]) == 0
    return (folder / "report" / "report.html").read_text(encoding="utf-8")


# What each study must show -------------------------------------------------------------------------------------------

def test_opt_anomaly_has_every_item(zoo_studies):
    study = zoo_studies["opt_anomaly"]
    assert {"tied_embeddings", "frobenius_norm_mean", "spectral_norm_mean", "entry_mean_mean", "entry_std_mean", "rank_mean", "condition_number_mean",
            "entropy_mean", "sparsity_mean", "reference_over_model", "frobenius_norm", "spectral_norm", "entry_mean", "entry_std", "rank",
            "condition_number", "entropy", "sparsity"} <= columns(study)
    assert {"Frobenius norm of W_V by layer", "Spectral norm of W_V by layer", "Mean of W_V's entries by layer", "Standard deviation of W_V's entries by layer",
            "Numerical rank of W_V by layer", "Condition number of W_V by layer", "Mean spectral norm of W_V",
            "Row entropy of the mean attention by layer", "Sparsity of the mean attention by layer"} <= set(titles(study))
    ratios = {outcome.effect_name: outcome for outcome in outcomes(study)}
    expected = spectral_norms(zoo()[3])[:, 2].mean() / spectral_norms(zoo()[4])[:, 2].mean()
    assert ratios["gpt2 / opt-125m"].effect == pytest.approx(expected, rel=1e-13) and expected > 3
    assert ratios["gpt2 / opt-125m"].verdict == "yes" and ratios["gpt2 / opt-350m"].verdict == "no"
    assert "Confirmed: gpt2" in words(study, "answer")


def test_llama31_anomaly_has_every_item(zoo_studies):
    study = zoo_studies["llama31_anomaly"]
    assert {"vocab_size", "hidden_size", "frobenius_norm", "spectral_norm", "row_norm_mean", "row_norm_std", "spectral_per_sqrt_vocab", "last_gain_mean",
            "effective_amplification", "rope_theta", "rope_scaling", "max_positions", "context_length", "training_tokens", "sigma_ratio",
            "amplification_ratio", "theta_ratio"} <= columns(study)
    assert titles(study) == ["Spectral norm of W_U", "Gain of the last block, measured", "Effective amplification"]
    amplification, theta = outcomes(study)
    assert 0.7 < amplification.effect < 1.3 and amplification.verdict == "yes" and amplification.low < amplification.effect < amplification.high
    assert theta.effect == 50 and theta.verdict == "yes" and np.isnan(theta.low) and "no interval" in theta.note


@pytest.mark.parametrize("scale, word", [(3.0, "About the same"), (9.0, "Larger"), (0.9, "Smaller")])
def test_llama31_verdicts_are_the_notebooks_band(tmp_path, scale, word):
    models = [FakeModel("llama3.1", scale=scale), FakeModel("mistral", scale=3.0)]
    assert word in words(study_of(write_folder(tmp_path / "s", models), "llama31_anomaly"), "answer")


@pytest.mark.parametrize("sigma", [0.5, 0.9998, 1.0, 1.0002, 1.5, 3.0])
@pytest.mark.parametrize("gain", [0.3, 0.7, 0.999, 1.0, 1.001, 1.4, 3.0])
@pytest.mark.parametrize("half", [np.nan, 0.001, 0.5])
def test_llama31_words_say_no_compensation_where_there_is_none(sigma, gain, half):
    """Every claim of the sentence, from the numbers anew."""
    effect = sigma * gain
    verdict, words = llama31_anomaly.amplification_words("a", "b", sigma, gain, effect * (1 - half), effect * (1 + half))
    low, high = (effect * (1 - half), effect * (1 + half)) if half == half else (effect, effect)
    assert verdict == ("yes" if 0.7 < low and high < 1.3 else "no" if low >= 1.3 or high <= 0.7 else "open")
    assert words.startswith({"yes": ("About the same",), "no": ("Larger",) if effect > 1 else ("Smaller",), "open": ("Undecided",)}[verdict])
    smaller_gain, larger_sigma = gain < 0.95, sigma > 1.05
    assert ("which makes up for" in words) == (smaller_gain and larger_sigma)
    assert ("nothing to make up for" in words) == (not smaller_gain)
    assert ("gain is the larger one" in words) == (gain > 1.05) and ("gains are as good as equal" in words) == (abs(gain - 1) <= 0.05)
    assert ("makes up for nothing" in words) == (smaller_gain and not larger_sigma)
    if smaller_gain and larger_sigma:
        assert ("more than" in words) == (effect > 1.05) and ("a part of" in words) == (effect < 0.95)
    if half == half:
        assert f"({number(low)} to {number(high)})" in words


def test_restriction_maps_have_every_item(zoo_studies):
    study = zoo_studies["restriction_maps"]
    for title in ("Spectral norm", "Effective rank", "Condition number"):
        assert {f"{title} of {matrix}" for matrix in ("W_Q", "W_K", "W_V", "W_O")} <= set(titles(study))
    assert {"Mean spectral norm of W_V by lab", "Mean spectral norm of W_O by lab"} <= set(titles(study))
    assert {"W_V_mean", "W_V_std", "W_O_mean", "W_O_std"} <= columns(study)
    for outcome, matrix in zip(outcomes(study)[:2], (2, 3)):
        first, second = ([spectral_norms(model)[:, matrix].mean() for model in zoo() if (model.lab == "EleutherAI") == is_first] for is_first in (True, False))
        expected = mann_whitney("", first, second, ("a", "b"), "less")
        assert (outcome.p, outcome.effect, outcome.low, outcome.high) == (expected.p, expected.effect, expected.low, expected.high)
        assert outcome.n == "EleutherAI: 3 models; other labs: 5 models"
    assert len(outcomes(study)) == 2 + 2 * 4  # and every lab against the others


def test_restriction_maps_without_eleuther_group_by_expectation(tmp_path):
    models = [FakeModel(f"m{i}", lab="x", expected="DAMPEN" if i < 3 else "EXPAND", scale=1 + i) for i in range(7)]
    first = outcomes(study_of(write_folder(tmp_path / "s", models), "restriction_maps"))[0]
    assert first.n == "models expected to dampen: 3 models; the others: 4 models" and first.verdict == "yes"
    assert first.p == pytest.approx(1 / 35)  # the smallest there is


def test_lstar_has_every_item(zoo_studies):
    study = zoo_studies["lstar"]
    assert {"G", "l_star_v1", "entropy_mean", "entropy_std", "entropy_first", "entropy_last", "entropy_gradient", "condition_first", "condition_last",
            "condition_ratio", "frobenius_first", "frobenius_last", "frobenius_ratio", "l_star_entropy", "alpha", "beta", "gamma", "mae", "is_capped",
            "error_v1", "error_v2", "error_v1_percent", "error_v2_percent", "error_v2_uncapped_percent", "r", "p"} <= columns(study)
    assert {"Flat entropy of the mean attention by layer", "L* predicted", "Error by model", "L* over number of layers", "L* over mean entropy",
            "L* over κ of the first W_V (capped)", "L* over entropy gradient"} <= set(titles(study))
    assert len([outcome for outcome in outcomes(study) if outcome.method.startswith("least squares")]) == 4
    assert "κ capped at 1000" in words(study) and "κ as it is" in words(study) and "a small error says little" in words(study, "warning")


def test_h4_has_every_item(zoo_studies):
    study = zoo_studies["h4_v2_extended"]
    assert {"mean_trace", "mean_trace_mean_attention", "l_star_trace", "l_star_ratio", "layers_times_heads", "over_gpt2", "over_pythia-160m", "over_pythia-410m",
            "over_opt-125m", "trace_multihead", "trace_mean_attention", "lambda_max", "spectral_gap", "nullity", "spectral_entropy"} <= columns(study)
    assert {"Multi-head trace by depth", "Trace of the mean attention by depth", "Mean trace by model", "Mean trace by lab", "Transition point over depth",
            "Trace over size", "Largest eigenvalue by depth", "Nullity by depth", "Spectral entropy by depth", "Free energy over all nD eigenvalues",
            "Change of ln Z over all nD eigenvalues", "ln Z over the non-zero eigenvalues", "Internal energy U", "Heat capacity C", "Entropy S",
            "Token graph: heat capacity C", "λ₂ of the token graph (Fiedler value) by depth"} <= set(titles(study))
    assert "Heat capacity C" not in words(study, "missing") and "heat capacity" in words(study, "answer").lower()
    assert [outcome.method.split(",")[0] for outcome in outcomes(study)] == ["Mann-Whitney U", "least squares", "t test of the mean against 0.5"]


def test_h4_says_where_the_heat_capacity_is_largest(tmp_path):
    """Two levels 1 + l apart: over β = 10^-3 … 10^3 the mean over layers is largest at the grid's β of the largest sum."""
    capacity = two_levels(FakeModel("one"), 0.5)["heat_capacity"].mean(axis=(0, 1))
    study = study_of(write_folder(tmp_path / "s", [FakeModel("one")]), "h4_v2_extended")
    assert f"one {capacity.max():.3g} at β = {BETAS[capacity.argmax()]:.3g}." in words(study, "answer")
    folder = write_folder(tmp_path / "rising", [FakeModel("two")])
    with h5py.File(folder / "two.h5", "a") as file:
        statistics = file["prompts/test/statistics/heat_capacity"]
        statistics[2] = np.broadcast_to(np.arange(len(BETAS)), statistics.shape[1:])
    assert "Still rising at the largest β, 1000: the heat capacity of two." in words(study_of(folder, "h4_v2_extended"), "answer")


@pytest.mark.parametrize("zeros, sentence", [
    (("one", "two"), "Every mean trace is 0."),
    (("one",), "Mean traces run from 0 (one) to "),
])
def test_traces_that_are_0_have_no_factor_and_no_warning(tmp_path, zeros, sentence):
    folder = write_folder(tmp_path / "sweep", [FakeModel("one"), FakeModel("two", num_layers=6)])
    for name in zeros:
        with h5py.File(folder / f"{name}.h5", "r+") as file:
            statistics = file["prompts/test/statistics"]
            for group, rows in ((file["prompts/test"], slice(None)), (statistics, slice(2, None))):  # not how many prompts there are
                for dataset in ("trace", "trace_multihead", "trace_mean_attention", "lambda_max", "spectral_gap", "spectral_entropy"):
                    group[dataset][rows] = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        page = page_of(folder)
        answer = words(study_of(folder, "h4_v2_extended"), "answer")
    assert sentence in answer and sentence in page and "a factor of" not in answer


def test_h4_says_what_files_of_an_earlier_version_lack(tmp_path):
    folder = write_folder(tmp_path / "s", [FakeModel("one")])
    with h5py.File(folder / "one.h5", "a") as file:
        for name in ("heat_capacity", "graph_lambda_2"):
            del file[f"prompts/test/statistics/{name}"]
    study = study_of(folder, "h4_v2_extended")
    assert "Heat capacity C" in words(study, "missing") and "Fiedler" in words(study, "missing") and "Entropy S" not in words(study, "missing")
    assert "Entropy S" in titles(study) and "Heat capacity C" not in titles(study)


def test_line_is_the_mean_and_band_one_standard_deviation(tmp_path):
    model = FakeModel("one", num_layers=5, sets={"test": list("abcdef")})
    study = study_of(write_folder(tmp_path / "s", [model]), "h4_v2_extended")
    figure = next(block.figure for block in study.blocks if isinstance(block, Picture) and block.title == "Multi-head trace by depth")
    values = traces(model, 6).sum(axis=2)
    band, line, star = figure.data
    np.testing.assert_allclose(line.y, values.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(np.asarray(band.y)[:5], values.mean(axis=0) + values.std(axis=0, ddof=1), rtol=1e-13)
    assert star.x[0] == np.argmax(np.abs(np.gradient(values.mean(axis=0)))) / 5
    assert {trace.meta for trace in figure.data} == {"one"}  # the page hides all of a model at once


def test_failed_prompts_are_left_out_of_the_line(tmp_path):
    model = FakeModel("mole", failed_prompts=("b",))
    study = study_of(write_folder(tmp_path / "s", [model]), "residual")
    line = study.blocks[0].figure.data[1]
    np.testing.assert_allclose(line.y, gains(model, 3)[[0, 2]].mean(axis=0), rtol=1e-13)


def test_steps_are_an_axis(tmp_path):
    models = [FakeModel(f"run-step{step}", step=step, scale=1 + step / 1000) for step in (2000, 0, 1000)] + [FakeModel("alone", step=5)]
    study = study_of(write_folder(tmp_path / "s", models), "steps")
    figure = next(block.figure for block in study.blocks if isinstance(block, Picture) and block.title == "Mean σ₁ of W_V over training")
    assert list(figure.data[0].x) == [0, 1000, 2000] and figure.data[0].name == "run"
    np.testing.assert_allclose(figure.data[0].y, [spectral_norms(model)[:, 2].mean() for model in (models[1], models[2], models[0])], rtol=1e-14)
    assert study_of(write_folder(tmp_path / "t", [FakeModel("one", step=1), FakeModel("two")]), "steps") is None


def test_what_no_study_draws_is_drawn_too(zoo_studies):
    assert {"trace", "row entropy", "sparsity", "flat entropy"} <= set(titles(zoo_studies["others"]))


# What a reader must be told ------------------------------------------------------------------------------------------

def test_failures_nonfinite_values_small_sets_and_equal_weights_are_said(tmp_path):
    models = [FakeModel("good", nonfinite_gain=True), FakeModel("copy", weights_of="good"), FakeModel("mole", failed_prompts=("b",)),
              FakeModel("bad", error="config.json is missing"), FakeModel("cut", slicing="as-published")]
    folder = write_folder(tmp_path / "s", models, in_job=["later"])
    write_model(folder, FakeModel("newer", conventions="spectrace-9"))
    (folder / "half.h5").write_bytes(b"\x89HDF\r\n\x1a\nand no more")
    page = page_of(folder)
    for text in ("3 ok, 1 partial, 1 failed of 8 models", "later", "newer format", "half.h5 cannot be read", "made to fail", "config.json is missing",
                 "good and copy are the same weights", "Values that are not finite", "Few prompts: means over “test” are of 2 to 3 prompts",
                 "not as the models use their heads: cut"):
        assert text in page, text


@pytest.mark.parametrize("analysis, study, sentence", [
    ("weights", "opt_anomaly", "Norms, rank and conditioning of W_V"), ("attention", "opt_anomaly", "Entropy and sparsity"), ("sheaf", "h4_v2_extended", "Traces and L*"),
    ("unembedding", "llama31_anomaly", "Norms of the unembedding"), ("residual", "llama31_anomaly", "Measured gains"), ("weights", "restriction_maps", "Spectra of Q"),
    ("attention", "lstar", "Flat entropy"), ("weights", "lstar", "Condition number and Frobenius"),
])
def test_analysis_that_was_not_run_is_named_with_what_it_would_bring(tmp_path, analysis, study, sentence):
    rest = tuple(name for name in ANALYSES if name != analysis)
    folder = write_folder(tmp_path / "s", [FakeModel("one", analyses=rest), FakeModel("two", analyses=rest)])
    missing = words(study_of(folder, study), "missing")
    assert f"{sentence}" in missing and f"analysis “{analysis}” was not run" in missing and "any file" in missing


def test_analysis_that_one_model_lacks_names_the_model(tmp_path):
    folder = write_folder(tmp_path / "s", [FakeModel("one"), FakeModel("two", analyses=("weights",))])
    assert "the files of two" in words(study_of(folder, "h4_v2_extended"), "missing")


@pytest.mark.parametrize("is_alone", [True, False], ids=["alone", "missing"])
@pytest.mark.parametrize("analysis", ANALYSES)
def test_sweep_with_one_analysis_alone_or_missing_has_a_report(tmp_path, analysis, is_alone):
    analyses = tuple(name for name in ANALYSES if (name == analysis) == is_alone)
    assert page_of(write_folder(tmp_path / "s", [FakeModel("one", analyses=analyses), FakeModel("two", analyses=analyses)]))


def test_one_model_has_a_report_that_says_what_cannot_be_tested(tmp_path):
    folder = write_folder(tmp_path / "s", [FakeModel("only")])
    found = {name: study_of(folder, name) for name in studies.STUDIES}
    assert "only is the only model" in words(found["opt_anomaly"], "answer") and "only is the only model" in words(found["llama31_anomaly"], "answer")
    assert "three parameters need more than three models, there are 1" in words(found["lstar"], "answer")
    assert "no model is of EleutherAI, and the job expects none to dampen" in words(found["restriction_maps"], "answer")
    assert all(outcome.verdict == "open" for outcome in outcomes(found["restriction_maps"]) + outcomes(found["h4_v2_extended"]))


def test_sweep_without_prompts_has_a_report(tmp_path):
    folder = write_folder(tmp_path / "s", [FakeModel("one", sets={})])
    assert "Spectral norm of W_V" in page_of(folder)
    assert "No prompts were run" in words(study_of(folder, "lstar"))


def test_sweep_where_every_model_failed_has_a_report_and_no_empty_picture(tmp_path, capsys):
    folder = write_folder(tmp_path / "s", [FakeModel("one", error="cut short")])
    assert "cut short" in page_of(folder)
    assert "overview.png" not in capsys.readouterr().out and not (folder / "report" / "overview.png").exists()


def test_quantities_of_statistics_only_files_have_no_interval_but_a_verdict(tmp_path):
    folder = write_folder(tmp_path / "s", [FakeModel("llama3.1"), FakeModel("mistral")])
    for name in ("llama3.1", "mistral"):
        with h5py.File(folder / f"{name}.h5", "a") as file:
            del file["prompts/test/gain"]
    outcome = outcomes(study_of(folder, "llama31_anomaly"))[0]
    assert outcome.verdict == "yes" and np.isnan(outcome.low) and "keep no values of single prompts" in outcome.note


# The command ---------------------------------------------------------------------------------------------------------

def test_report_writes_page_and_picture(folder, tmp_path, capsys):
    assert report.main([str(folder), "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "out" / name) for name in ("report.html", "overview.png")]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    with spectrace.open_results(folder) as results:
        row = results.summary.set_index(["model", "prompt_set"]).loc[("ant", "test")]
    assert format_number(row["mean_trace"]) in page
    assert "β from 0.001 to 1e+03, 7 points" in page
    picture = plt.imread(tmp_path / "out" / "overview.png")
    assert picture.shape[1] > 1500 and np.ptp(picture[..., :3]) > 0.5


def test_default_place_is_beside_the_results(folder):
    assert report.main([str(folder)]) == 0
    assert (folder / "report" / "report.html").is_file()


def test_one_prompt_set_may_be_asked_for(folder, capsys):
    page = page_of(folder, "--prompt-set", "facts")
    assert 'data-set="facts"' in page and 'data-set="test"' not in page
    assert report.main([str(folder), "--prompt-set", "nope"]) == 3
    assert "no prompt set 'nope' (there are test, facts)" in capsys.readouterr().err


def test_text_from_results_cannot_break_the_page(tmp_path):
    bad = '</script><script>alert(1)</script> & "more"'
    models = [FakeModel("good", lab=bad, meta={"note": bad}, sets={"test": ["a", "b"]}), FakeModel("bad", error=bad)]
    page = page_of(write_folder(tmp_path / "s", models))
    assert "<script>alert(1)" not in page and "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;more&quot;" in page
    figures = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)[1]
    assert json.loads(figures)  # whole, for no text in it ended the element


def test_nothing_to_report_on_is_exit_code_3(tmp_path, capsys):
    assert report.main([str(tmp_path / "absent")]) == 3
    assert "no such file or folder" in capsys.readouterr().err


def test_output_that_cannot_be_written_is_exit_code_3(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert report.main([str(folder), "-o", str(tmp_path / "file" / "under")]) == 3
    assert "spectrace-report:" in capsys.readouterr().err


def test_command_has_help():
    assert "overview.png" in subprocess.run([sys.executable, "-m", "spectrace.report", "--help"], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("value, text", [(None, "–"), (float("nan"), "–"), (3.0, "3"), (1234567, "1\u2009234\u2009567"), (-0.5, "−0.5"), (True, "yes"),
                                         (0.123456, "0.1235"), (float("inf"), "∞"), ("EXPAND", "EXPAND")])
def test_numbers_are_short(value, text):
    assert format_number(value) == text


def contrast(color):
    """Against white, by WCAG 2."""
    parts = [int(color[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05)


def test_every_colour_of_a_model_stands_out_from_white():
    assert min(contrast(color) for color in COLORS) >= 3


def test_many_models_look_different_and_have_short_names(tmp_path):
    models = [FakeModel(f"some-organisation-with-a-name--and-a-model-of-{i}-billion-parameters-v{i % 3}", lab=f"lab{i % 4}") for i in range(24)]
    with spectrace.open_results(write_folder(tmp_path / "s", models)) as results:
        styles = studies.context_of(results).styles
    assert len({(style.color, style.dash) for style in styles.of.values()}) == 24
    assert len(set(styles.short.values())) == 24 and max(map(len, styles.short.values())) < 25
    assert len({styles.of[f"{model.name}"].color for model in models if model.lab == "lab1"}) == 1


def test_legend_of_the_overview_holds_24_long_names(tmp_path):
    from spectrace.overview import overview

    models = [FakeModel(f"an-organisation-with-a-name--a-model-of-{i}-billion-parameters-v0.{i}", lab=f"lab{i % 4}") for i in range(24)]
    with spectrace.open_results(write_folder(tmp_path / "s", models)) as results:
        figure = overview(studies.context_of(results))
    figure.canvas.draw()
    legend, = figure.legends
    box = legend.get_window_extent()
    assert [text.get_text() for text in legend.get_texts()] == [model.name for model in models]
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1
    assert box.y1 <= min(axes.get_tightbbox().y0 for axes in figure.axes)  # below the panels
    plt.close(figure)


def test_built_package_holds_style_script_and_data(root, tmp_path):
    shutil.copytree(root / "tools" / "python", tmp_path / "python", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__", "build"))
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, tmp_path / "python"], check=True)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    sources = {str(path.relative_to(root / "tools" / "python")) for suffix in ("py", "css", "js", "csv", "json") for path in (root / "tools" / "python" / "spectrace").rglob(f"*.{suffix}")}
    assert sources <= set(names) and {"spectrace/report/script.js", "spectrace/quantities.json"} <= set(names)
