"""spectrace-published: files made to hold the published values, and what becomes of them when one is changed."""

import json
import shutil

import h5py
import numpy as np
import pytest
from made_results import attributes_of, prompt_groups, write_job, write_results

import spectrace
from spectrace import model_names, published
from spectrace.published.rules import RULES, SIZES, rule_of

CONFIG = {"n_layers": "num_layers", "Layers": "num_layers", "L": "num_layers", "n_heads": "num_heads", "H": "num_heads", "d_model": "hidden_size",
          "hidden_dim": "hidden_size", "d_head": "head_dim", "vocab_size": "vocab_size", "rope_theta": "rope_theta", "max_position": "max_positions",
          "rope_scaling.factor": "rope_factor", "rope_scaling.low_freq_factor": "rope_low_freq_factor",
          "rope_scaling.high_freq_factor": "rope_high_freq_factor",
          "rope_scaling.original_max_position_embeddings": "rope_original_max_position_embeddings"}
ARCHITECTURES = {"pythia": "GPTNeoXForCausalLM", "opt": "OPTForCausalLM", "gpt2": "GPT2LMHeadModel", "bloom": "BloomForCausalLM"}
TYPED = {"known_gain", "last_gain"}


def published_of(model):
    return {(number.source, number.quantity): number.values for number in published.numbers() if number.model == model}


def finite(values, instead=0.5):
    return np.where(np.isfinite(values), values, instead)


def attributes_that_hold(model, values, slicing):
    short = model_names.canonical(model)
    attributes = attributes_of(4, 4, 4, 3, 12, architecture=ARCHITECTURES.get(short.split("-")[0], "LlamaForCausalLM"), slicing=slicing)
    for (_source, quantity), value in values.items():
        if quantity in CONFIG:
            attributes[CONFIG[quantity]] = float(value[0]) if quantity.startswith("rope") else int(value[0])
    for key in [key for key in values if key[1] == "shape"]:
        attributes |= {"vocab_size": int(values[key][0]), "hidden_size": int(values[key][1])}
    if not any(quantity == "d_head" for _source, quantity in values):
        attributes["hidden_size"] = max(attributes["hidden_size"], attributes["num_heads"])
        attributes["head_dim"] = attributes["hidden_size"] // attributes["num_heads"]
    attributes["num_kv_heads"] = attributes["num_heads"]
    attributes["rope_dimensions"] = attributes["head_dim"] // 4  # Pythia's
    return attributes


def weights_that_hold(values, num_layers):
    def of(default, *keys):
        return next((float(values[key][0]) for key in keys if key in values), default)

    norms = np.full((num_layers, 4), 1.0)
    norms[:, 2] = of(1.0, ("opt_anomaly", "mean_spectral"), ("restriction_map_summary", "W_V Mean"))
    if ("restriction_maps_results", "W_V_op_norms") in values:
        norms[:, 2] = values["restriction_maps_results", "W_V_op_norms"]
    norms[:, 3] = of(1.0, ("restriction_map_summary", "W_O Mean"))
    return {"spectral_norm": (("layer", "matrix"), norms),
            "frobenius_norm": (("layer", "matrix"), np.full((num_layers, 4), of(5.0, ("opt_anomaly", "mean_frobenius")))),
            "condition_number": (("layer", "matrix"), np.full((num_layers, 4), of(10.0, ("opt_anomaly", "mean_condition"))))}


def gains_that_hold(values, source, num_layers, num_prompts):
    """The true last gain is 1.5; the published "last gain" is that of the block before it."""
    gains = np.tile(values[source, "all_layer_gains"], (num_prompts, 1))
    after_norm = gains[:, -1].copy()
    gains[:, -1] = 1.5
    spread = np.sqrt(num_prompts / 2) * np.array([1.0, -1.0] + [0.0] * (num_prompts - 2))  # its std over n is 1
    name = "residual_gain" if source == "pythia_family" else "gain_no_ln"
    if (source, "residual_gain_all") in values:
        gains[:, -2] = values[source, "residual_gain_all"]
    else:
        gains[:, -2] += values[source, f"{name}_std"] * spread
    return {"gain": (("layer",), gains), "last_gain_after_norm": ((), after_norm + values[source, "gain_with_ln_std"] * spread)}


def groups_that_hold(model, values, num_layers):
    groups = {"weights": weights_that_hold(values, num_layers)}
    if ("llama31_anomaly", "spectral_norm") in values:
        names = {"spectral_norm": "spectral_norm", "frobenius_norm": "frobenius_norm", "row_norm_mean": "mean_row_norm", "row_norm_std": "std_row_norm",
                 "spectral_per_sqrt_vocab": "spectral_per_sqrt_vocab"}
        groups["unembedding"] = {ours: ((), float(values["llama31_anomaly", theirs][0])) for ours, theirs in names.items()}
    layers = {"h4": {}, "opt": {}}
    for ours, theirs in (("trace_multihead", "traces_multihead"), ("trace_mean_attention", "traces_full")):
        if ("h4_v2_validation", theirs) in values:
            layers["h4"][ours] = (("layer",), np.tile(values["h4_v2_validation", theirs], (4, 1)))
        elif ("h4_v2_extended", "traces_full") in values:
            layers["h4"][ours] = (("layer",), np.full((4, num_layers), 3.0))  # what an unpacked model has
    for ours, theirs in (("row_entropy_mean_attention", "entropy_by_layer"), ("sparsity_mean_attention", "sparsity_by_layer")):
        if ("opt_anomaly", theirs) in values:
            layers["opt"][ours] = (("layer",), np.tile(finite(values["opt_anomaly", theirs]), (2, 1)))
    for name, quantities in layers.items():
        if quantities:
            groups |= prompt_groups(name, quantities, {"l_star_trace": 0, "last_gain_mean": 1.5})
    for source, name, count in (("clean_residual", "clean-residual", 3), ("pythia_family", "pythia-family", 25)):
        if (source, "all_layer_gains") in values:
            groups |= prompt_groups(name, gains_that_hold(values, source, num_layers, count), {"last_gain_mean": 1.5})
    if ("l_star_sign_change", "L") in values:
        zeros = {"trace_multihead": (("layer",), np.zeros((5, num_layers)))}
        groups |= prompt_groups("l-star-sign-change", zeros, {"l_star_sign_change": 6, "last_gain_mean": 1.5})
    if "unembedding" in groups:
        groups |= prompt_groups("any", {"gain": (("layer",), np.full((2, num_layers), 1.5))}, {"last_gain_mean": 1.5})
    return groups


def hold(folder, *models, slicing="as-published", change=lambda groups, attributes: None):
    """A sweep of these models whose files hold what was published of them."""
    for model in models:
        values = published_of(model)
        attributes = attributes_that_hold(model, values, slicing)
        groups = groups_that_hold(model, values, attributes["num_layers"])
        change(groups, attributes)
        write_results(folder / f"{model.rpartition('/')[2]}.h5", attributes, groups)
    return folder


def findings(*folders):
    table = published.check([spectrace.open_results(folder) for folder in folders])
    return table.set_index(["source", "model", "quantity"])


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    return findings(hold(tmp_path_factory.mktemp("everything"), *published.models()))


# The table of published numbers ---------------------------------------------------------------------------------------


def test_every_number_has_a_rule_and_every_rule_a_number():
    quantities = {(number.source, number.quantity) for number in published.numbers()}
    for source, quantity in quantities:
        rule = rule_of(source, quantity)
        assert (rule.measure is None) == bool(rule.absent), (source, quantity)
    assert {(source, quantity) for source, rules in RULES.items() for quantity in rules} <= quantities
    assert set(SIZES) <= {quantity for _source, quantity in quantities}
    assert {number.source for number in published.numbers()} == set(published.SOURCES)


def test_every_published_model_is_in_the_jobs(root):
    jobs = [json.loads(path.read_text()) for path in sorted((root / "jobs/published").glob("*.json"))]
    named = {model_names.hub_id(model["path"]) for job in jobs for model in job["models"]}
    assert {model_names.hub_id(model) for model in published.models()} <= named
    sets = {entry["name"]: tuple(entry["prompts"]) for job in jobs for entry in job["prompt_sets"]}
    for source in published.SOURCES.values():
        if source.prompts:
            assert sets[source.prompt_set] == source.prompts and len(source.prompts) == source.num_prompts


def test_error_numbers_are_those_of_the_docs(root):
    page = (root / "docs/quantities.md").read_text()
    for error in published.ERRORS:
        assert f"\n{error}. " in page


# Verdicts -------------------------------------------------------------------------------------------------------------


def verdicts(table, source, model, *quantities):
    return {published.verdict_of(table.loc[(source, model, quantity)]) for quantity in quantities}


@pytest.mark.parametrize("source, model, quantities", [
    ("opt_anomaly", "facebook/opt-125m", ["mean_frobenius", "mean_spectral", "mean_condition", "entropy_by_layer", "sparsity_by_layer", "mean_entropy", "mean_sparsity"]),
    ("opt_anomaly", "EleutherAI/pythia-160m", ["mean_frobenius", "mean_spectral", "mean_condition"]),
    ("h4_v2_validation", "gpt2", ["traces_full", "traces_multihead", "mean_trace_full", "mean_trace_multihead", "n_layers", "n_heads"]),
    ("h4_v2_validation", "EleutherAI/pythia-410m", ["traces_full", "traces_multihead"]),
    ("restriction_map_summary", "bigscience/bloom-560m", ["W_V Mean", "W_O Mean", "Layers"]),
    ("llama31_anomaly", "meta-llama/Llama-3.1-8B", ["shape", "frobenius_norm", "spectral_norm", "mean_row_norm", "std_row_norm", "spectral_per_sqrt_vocab",
                                                    "rope_theta", "rope_scaling.factor", "max_position"]),
    ("clean_residual", "EleutherAI/gpt-j-6B", ["gain_with_ln_mean", "gain_with_ln_std", "all_layer_gains", "is_dampening_with_ln", "n_hidden_states", "rho"]),
    ("pythia_family", "EleutherAI/pythia-70m", ["gain_with_ln_mean", "gain_with_ln_std", "all_layer_gains", "d_head", "rho", "rotary_pct"]),
    ("l_star_sign_change", "gpt2", ["L_star_predicted", "L", "H"]),
    ("restriction_maps_results", "EleutherAI/pythia-1.4b", ["n_layers"]),
])
def test_what_is_held_is_reproduced(everything, source, model, quantities):
    assert verdicts(everything, source, model, *quantities) == {"reproduced"}


def test_std_is_that_of_the_notebooks_over_n(everything, tmp_path):
    row = everything.loc[("clean_residual", "EleutherAI/pythia-6.9b", "gain_with_ln_std")]
    assert row["measured"] == pytest.approx(row["published"], rel=1e-12)
    folder = hold(tmp_path / "s", "EleutherAI/pythia-6.9b")
    with h5py.File(folder / "pythia-6.9b.h5") as file:
        stored = file["prompts/clean-residual/statistics/last_gain_after_norm"][3]
    assert stored == pytest.approx(row["published"] * np.sqrt(3 / 2), rel=1e-12)  # the file has n-1


def shifted(quantity, matrix, factor):
    def change(groups, _attributes):
        dims, values = groups["weights"][quantity]
        values = values.copy()
        values[:, matrix] *= factor
        groups["weights"][quantity] = (dims, values)
    return change


def test_rounding_of_float16_explains_the_fifth_digit_and_not_the_third(tmp_path):
    key = ("opt_anomaly", "facebook/opt-125m", "mean_spectral")
    row = findings(hold(tmp_path / "near", "facebook/opt-125m", change=shifted("spectral_norm", 2, 1 + 5e-5))).loc[key]
    assert published.verdict_of(row) == "within rounding" and row["reason"] == "the notebook computed in float16"
    row = findings(hold(tmp_path / "far", "facebook/opt-125m", change=shifted("spectral_norm", 2, 1.005))).loc[key]
    assert published.verdict_of(row) == "differs, unexplained" and row["reason"] == "none of the known errors explains it"


def test_condition_number_is_as_uncertain_as_its_smallest_singular_value(tmp_path):
    # σ₁/κ is far below what float16 does to W: any larger κ can be explained, a much smaller one can't
    key = ("opt_anomaly", "facebook/opt-125m", "mean_condition")
    assert published.verdict_of(findings(hold(tmp_path / "a", "facebook/opt-125m", change=shifted("condition_number", 2, 0.7))).loc[key]) == "within rounding"
    row = findings(hold(tmp_path / "b", "facebook/opt-125m", change=shifted("condition_number", 2, 1e-3))).loc[key]
    assert published.verdict_of(row) == "differs, unexplained" and row["high"] < row["published"]


def test_infinite_condition_number_leaves_a_lower_bound_only(tmp_path):
    row = findings(hold(tmp_path / "a", "facebook/opt-125m", change=shifted("condition_number", 2, np.inf))).loc[("opt_anomaly", "facebook/opt-125m", "mean_condition")]
    assert published.verdict_of(row) == "within rounding" and row["high"] == np.inf


def test_fused_rows_cut_in_thirds_are_error_1_unless_the_sweep_cuts_so(tmp_path):
    change = shifted("spectral_norm", 2, 0.5)
    correct = hold(tmp_path / "correct", "EleutherAI/pythia-160m", "facebook/opt-125m", slicing="correct", change=change)
    key = ("restriction_map_summary", "EleutherAI/pythia-160m", "W_V Mean")
    row = findings(correct).loc[key]
    assert published.verdict_of(row) == "differs because of error 1" and "as-published" in row["reason"]
    assert published.verdict_of(findings(correct).loc[("restriction_map_summary", "facebook/opt-125m", "W_V Mean")]) == "differs, unexplained"
    wrong = hold(tmp_path / "wrong", "EleutherAI/pythia-160m", change=change)
    assert published.verdict_of(findings(wrong).loc[key]) == "differs, unexplained"
    right = hold(tmp_path / "right", "EleutherAI/pythia-160m")
    for folders in ((correct, right), (right, correct)):
        row = findings(*folders).loc[key]
        assert published.verdict_of(row) == "reproduced" and row["slicing"] == "as-published"


def test_quantized_weights_are_error_4_with_grouped_heads_2_and_fused_rows_1(tmp_path):
    def group_queries(_groups, attributes):
        attributes["num_kv_heads"] = 8
    mistral = hold(tmp_path / "m", "mistralai/Mistral-7B-v0.1", slicing="correct", change=group_queries)
    assert verdicts(findings(mistral), "h4_v2_extended", "mistralai/Mistral-7B-v0.1", "traces_mh") == {"differs because of errors 4, 2"}
    pythia = hold(tmp_path / "p", "EleutherAI/pythia-1b", slicing="correct")
    assert verdicts(findings(pythia), "h4_v2_extended", "EleutherAI/pythia-1b", "traces_mh", "mean_trace_mh") == {"differs because of errors 4, 1"}


def test_nan_is_error_5(everything):
    row = everything.loc[("h4_v2_extended", "EleutherAI/pythia-6.9b", "mean_trace_mh")]
    assert published.verdict_of(row) == "differs because of errors 4, 5" and np.isnan(row["published"])
    row = everything.loc[("opt_anomaly", "EleutherAI/pythia-160m", "entropy_by_layer")]
    assert published.verdict_of(row) == "differs because of error 5"
    assert (row["num_reproduced"], row["num_differs"]) == (8, 4) and row["place"] == 8


def test_gain_of_the_block_before_last_is_error_6_and_confirmed(everything):
    for source, model, quantities in (("clean_residual", "EleutherAI/gpt-j-6B", ["gain_no_ln_mean", "gain_no_ln_std"]),
                                      ("pythia_family", "EleutherAI/pythia-12b", ["residual_gain_mean", "residual_gain_std", "residual_gain_all", "is_dampening"])):
        assert verdicts(everything, source, model, *quantities) == {"differs because of error 6"}
        assert all("confirmed" in everything.loc[(source, model, quantity), "reason"] for quantity in quantities)


def test_error_6_is_not_confirmed_where_the_block_before_last_has_another_gain(tmp_path):
    def change(groups, _attributes):
        dims, values = groups["prompts/clean-residual/statistics"]["gain"]
        values[2, -2] *= 1.1
    row = findings(hold(tmp_path / "s", "EleutherAI/gpt-j-6B", change=change)).loc[("clean_residual", "EleutherAI/gpt-j-6B", "gain_no_ln_mean")]
    assert published.verdict_of(row) == "differs because of error 6" and "confirmed" not in row["reason"]


def test_typed_gain_is_error_7(everything):
    assert verdicts(everything, "llama31_anomaly", "mistralai/Mistral-7B-v0.1", "last_gain", "effective_amplification") == {"differs because of error 7"}
    assert verdicts(everything, "h4_v2_validation", "gpt2", "known_gain", "L_star_apriori", "L_star_ratio_apriori") == {"differs because of error 7"}


def test_sign_change_is_error_8(everything):
    assert verdicts(everything, "l_star_sign_change", "facebook/opt-350m", "L_star_empirical", "error_pct") == {"differs because of error 8"}
    row = everything.loc[("l_star_sign_change", "facebook/opt-350m", "individual_L_stars")]
    assert row["verdict"] == "not run" and "error 8" in row["reason"]


def test_l_star_that_its_own_traces_do_not_have_says_so(everything):
    row = everything.loc[("h4_v2_validation", "gpt2", "L_star_trace")]
    assert published.verdict_of(row) == "differs, unexplained" and "its own traces_multihead change most at layer 0" in row["reason"]


# Not run --------------------------------------------------------------------------------------------------------------


def not_run(table, source, model, quantity):
    row = table.loc[(source, model, quantity)]
    assert row["verdict"] == "not run"
    return row["reason"]


def test_model_that_is_not_in_the_sweep_names_the_folders_that_were_looked_at(tmp_path, monkeypatch):
    folder = hold(tmp_path / "s", "gpt2")
    write_job(folder, {"gpt2": "gpt2"}, models_root=str(tmp_path / "root"))
    for variable in ("HF_HUB_CACHE", "HF_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "$HOME/xdg")
    reason = not_run(findings(folder), "opt_anomaly", "facebook/opt-125m", "mean_spectral")
    assert reason.startswith("not in the sweep; no weights of facebook/opt-125m")
    for place in ("root/facebook/opt-125m", "root/models--facebook--opt-125m", "HF_HUB_CACHE/models--facebook--opt-125m",
                  "HF_HOME/hub/models--facebook--opt-125m", "home/.cache/huggingface/hub/models--facebook--opt-125m",
                  "home/xdg/huggingface/hub/models--facebook--opt-125m"):
        assert str(tmp_path / place) in reason
    (tmp_path / "HF_HOME/hub/models--facebook--opt-125m").mkdir(parents=True)
    assert "its weights are there" in not_run(findings(folder), "opt_anomaly", "facebook/opt-125m", "mean_spectral")


def test_model_that_failed_gives_its_reason(tmp_path):
    write_results(tmp_path / "s" / "opt-125m.h5", {"status": "failed", "error": "not on this machine (looked at '/a', '/b')"}, {})
    assert "looked at '/a', '/b'" in not_run(findings(tmp_path / "s"), "opt_anomaly", "facebook/opt-125m", "mean_spectral")


def test_missing_analysis_prompts_and_sets_are_named(tmp_path):
    def strip(groups, _attributes):
        del groups["weights"]
        groups["prompts/h4"].pop("trace_multihead"), groups["prompts/h4/statistics"].pop("trace_multihead")
        for group in ("prompts/opt", "prompts/opt/statistics"):
            groups[group.replace("opt", "other")] = groups.pop(group)
    table = findings(hold(tmp_path / "s", "gpt2", change=strip))
    assert "analysis weights" in not_run(table, "opt_anomaly", "gpt2", "mean_spectral")
    assert "no trace_multihead for prompt set 'h4'" in not_run(table, "h4_v2_validation", "gpt2", "traces_multihead")
    assert "no prompt set with its 2 prompts (jobs/published calls it 'opt')" in not_run(table, "opt_anomaly", "gpt2", "mean_entropy")


def test_prompts_are_known_by_their_texts_and_their_number(tmp_path):
    def rename(groups, _attributes):
        for group in ("prompts/opt", "prompts/opt/statistics"):
            groups[group.replace("opt", "mine")] = groups.pop(group)
    folder = hold(tmp_path / "s", "gpt2", change=rename)
    texts = list(published.SOURCES["opt_anomaly"].prompts)
    write_job(folder, {"gpt2": "gpt2"}, prompt_sets=[{"name": "mine", "prompts": [texts[0], {"id": "x", "text": texts[1]}]}])
    assert verdicts(findings(folder), "opt_anomaly", "gpt2", "entropy_by_layer") == {"reproduced"}

    def fewer(groups, _attributes):
        groups |= prompt_groups("opt", {"row_entropy_mean_attention": (("layer",), np.ones((3, 12)))})
    reason = not_run(findings(hold(tmp_path / "t", "gpt2", change=fewer)), "opt_anomaly", "gpt2", "entropy_by_layer")
    assert reason == "prompt set 'opt' has 3 prompts, 2 were published"


def test_other_prompts_of_the_same_name_and_failed_ones_are_not_compared(tmp_path):
    folder = hold(tmp_path / "s", "gpt2")
    write_job(folder, {"gpt2": "gpt2"}, prompt_sets=[{"name": "opt", "prompts": ["Something else.", "Once upon a time in a land far away"]}])
    assert not_run(findings(folder), "opt_anomaly", "gpt2", "mean_entropy") == "prompt set 'opt' has other prompts than were published"

    def fail(groups, _attributes):
        groups["prompts/opt"]["prompt_error"] = (("prompt",), np.array(["", "overflow in layer 3"], dtype=object))
    assert not_run(findings(hold(tmp_path / "t", "gpt2", change=fail)), "opt_anomaly", "gpt2", "mean_entropy") == "1 of the 2 prompts of 'opt' failed"


def test_the_finished_model_is_compared_and_not_a_step_of_its_training(tmp_path):
    folder = hold(tmp_path / "s", "gpt2")
    (folder / "gpt2.h5").rename(folder / "last.h5")
    with h5py.File(folder / "last.h5", "a") as file:
        file.attrs["model"] = "last"

    def first_step(groups, attributes):
        shifted("spectral_norm", 2, 0.1)(groups, attributes)
        attributes["step"] = 1000
    hold(folder, "gpt2", change=first_step)
    write_job(folder, {"gpt2": "gpt2@step1000", "last": "gpt2"})
    assert verdicts(findings(folder), "opt_anomaly", "gpt2", "mean_spectral") == {"reproduced"}


def test_unpublished_prompts_and_definitions_are_said(tmp_path, everything):
    def strip(groups, _attributes):
        for group in [group for group in groups if "pythia-family" in group]:
            del groups[group]
    reason = not_run(findings(hold(tmp_path / "s", "EleutherAI/pythia-70m", change=strip)), "pythia_family", "EleutherAI/pythia-70m", "all_layer_gains")
    assert "its 25 prompts were not published" in reason
    assert "not published" in not_run(everything, "h4_v2_validation", "gpt2", "lambda_2")


def test_other_checkpoint_of_the_same_name_is_not_compared_by_layer(tmp_path):
    def shrink(groups, attributes):
        attributes["num_layers"] = 3
        groups |= prompt_groups("opt", {"row_entropy_mean_attention": (("layer",), np.ones((2, 3))), "sparsity_mean_attention": (("layer",), np.ones((2, 3)))})
    assert "there are 3 values, 12 were published" in not_run(findings(hold(tmp_path / "s", "gpt2", change=shrink)), "opt_anomaly", "gpt2", "entropy_by_layer")


def test_values_that_are_no_numbers_here_are_not_compared(tmp_path):
    reason = not_run(findings(hold(tmp_path / "s", "gpt2", change=shifted("spectral_norm", 2, np.nan))), "opt_anomaly", "gpt2", "mean_spectral")
    assert "no numbers here" in reason


# The command ----------------------------------------------------------------------------------------------------------


def test_command_prints_verdicts_errors_and_totals(tmp_path, capsys):
    folder = hold(tmp_path / "s", *published.models())
    assert published.main([str(folder), "--json", str(tmp_path / "p.json")]) == 0
    text = capsys.readouterr().out
    for source in published.SOURCES.values():
        assert source.file in text
    assert "mean_spectral              reproduced: published 1.607602, measured 1.607602; as-published slicing" in text
    assert "differs because of error 6" in text and "\nerror 6: " in text and "\nerror 3: " not in text
    document = json.loads((tmp_path / "p.json").read_text())
    assert len(document["numbers"]) == len(published.numbers())
    assert {row["verdict"] for row in document["numbers"]} == {"reproduced", "differs", "not run"} | ({"within rounding"} & {
        row["verdict"] for row in document["numbers"]})


def test_command_of_a_foreign_sweep_says_what_is_missing(folder, capsys):
    assert published.main([str(folder)]) == 0
    text = capsys.readouterr().out
    assert "not in the sweep (jobs/published has them all):" in text and "looked at" in text
    assert "0 reproduced, 0 within rounding, 0 differ (0 unexplained)" in text


def test_command_without_results_is_an_error(tmp_path, capsys):
    assert published.main([str(tmp_path / "nope")]) == 3
    assert "no such file or folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert published.main([str(tmp_path / "empty")]) == 3
    assert "no results" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "empty")


def restriction_maps(contraction=None, smallest=2048 * 17.0):
    """The prompt of restriction_maps_results with the published contraction ratios, or others."""
    values = published_of("EleutherAI/pythia-1.4b")
    ratios = finite(values["restriction_maps_results", "contraction_ratios"]) if contraction is None else contraction
    layers = len(ratios)
    quantities = {"contraction_ratio": (("layer",), ratios[None, :]), "nullity": (("layer", "head"), np.full((1, layers, 16), smallest)),
                  "lambda_max": (("layer", "head"), np.full((1, layers, 16), 40.0))}
    return lambda groups, _: groups.update(prompt_groups("restriction-maps-results", quantities, tokens=[list(range(17))]))


def of_maps(findings, quantity):
    return findings.loc[("restriction_maps_results", "EleutherAI/pythia-1.4b", quantity)]


def test_contraction_ratios_and_operator_norms_are_those_of_the_mean_attention(tmp_path):
    found = findings(hold(tmp_path, "EleutherAI/pythia-1.4b", change=restriction_maps()))
    # The last three layers were published as NaN
    for quantity in ("contraction_ratios", "mean_op_norms"):
        row = of_maps(found, quantity)
        assert (row["num_reproduced"], row["num_differs"], row["errors"]) == (21, 3, "5") and "inferred" in row["reason"], quantity


def test_other_contraction_ratios_differ(tmp_path):
    ratios = finite(published_of("EleutherAI/pythia-1.4b")["restriction_maps_results", "contraction_ratios"])
    ratios[4] *= 1.2
    found = findings(hold(tmp_path, "EleutherAI/pythia-1.4b", change=restriction_maps(ratios)))
    for quantity in ("contraction_ratios", "mean_op_norms"):
        assert of_maps(found, quantity)["num_differs"] == 4, quantity


def test_the_two_smallest_eigenvalues_are_zeros(tmp_path):
    found = findings(hold(tmp_path / "a", "EleutherAI/pythia-1.4b", change=restriction_maps()))
    assert (of_maps(found, "lambda_2")["num_within_rounding"] + of_maps(found, "lambda_2")["num_reproduced"], of_maps(found, "lambda_2")["num_differs"]) == (21, 3)
    assert of_maps(found, "spectral_gaps")["num_within_rounding"] == 21 and "zeros" in of_maps(found, "spectral_gaps")["reason"]
    # Layers past the 21st were published as 0, without what was added
    assert of_maps(found, "lambda_1")["num_differs"] == 3
    without = findings(hold(tmp_path / "b", "EleutherAI/pythia-1.4b", change=restriction_maps(smallest=1.0)))
    assert of_maps(without, "lambda_2")["verdict"] == "not run" and "no 2 eigenvalues that are zero" in of_maps(without, "lambda_2")["reason"]


def test_rounded_weights_are_held_to_less_rounding_and_not_to_notebooks_that_did_not_round(tmp_path):
    """What rounding to float16 explains of an unrounded sweep is a difference where the sweep was rounded as the notebook was."""
    def shifted(groups, _):
        dims, values = groups["weights"]["frobenius_norm"]
        groups["weights"]["frobenius_norm"] = (dims, values * (1 + 5e-6))
    plain, rounded = (findings(hold(tmp_path / slicing, "gpt2", slicing=slicing, change=shifted)) for slicing in ("correct", "as-published-float16"))
    place = ("opt_anomaly", "gpt2", "mean_frobenius")
    assert plain.loc[place]["verdict"] == "within rounding" and rounded.loc[place]["verdict"] == "differs"
    assert rounded.loc[place]["slicing"] == "as-published-float16"
    names = {model for source, model, quantity in plain.index if source == "restriction_map_summary" and quantity == "W_V Mean"}
    model = sorted(names)[0]
    row = findings(hold(tmp_path / "float32", model, slicing="as-published-float16")).loc[("restriction_map_summary", model, "W_V Mean")]
    assert row["verdict"] == "not run" and "rounded to float16" in row["reason"]


def test_what_has_no_definition_says_so(everything):
    for quantity in ("lambda_2", "spectral_gaps", "graph_lambda_2", "L_star_spectral"):
        row = everything.loc[("h4_v2_validation", "gpt2", quantity)]
        assert row["verdict"] == "not run" and "not published" in row["reason"], quantity
    assert "approaches 1/2" in everything.loc[("h4_v2_validation", "gpt2", "graph_lambda_2")]["reason"]
