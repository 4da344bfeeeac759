"""What tools/bench/compare makes of timings; of made ones: no test here times anything."""

import copy
import importlib.machinery
import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "lib"))
import bench_verdict as bench  # noqa: E402
import geometries  # noqa: E402
import made_checkpoints  # noqa: E402


def module(path):
    loader = importlib.machinery.SourceFileLoader(path.name + "_under_test", str(path))
    made = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.modules[loader.name] = made  # dataclasses look themselves up
    loader.exec_module(made)
    return made


RATES = {"gemm_float32": 200e9, "gemm_float64": 100e9, "bandwidth": 20e9}


def a_round(ours_s=2.0, theirs_s=5.0, others=0.0, stolen=0.0, before=RATES, after=RATES):
    return {"before": dict(before), "after": dict(after), "others": others, "stolen": stolen,
            "runs": {"spectrace": {"wall_s": ours_s, "cpu_s": 3.0, "peak_bytes": 2e9, "bytes_read": 1.0e9},
                     "svdvals float32": {"wall_s": theirs_s + 3, "work_s": theirs_s, "cpu_s": 9.0, "peak_bytes": 1e9}}}  # fmt: skip


def a_case(*rounds, **more):
    return {"case": "weights", "what": "What.", "note": "", "counts": "work", "threads": 2, "program": "p", "floor": {"gemm_float64": 1e11, "gemm_float32": 1e11},
            "targets": {"svdvals float32 / spectrace": ["least", 2.0], "peak GB": ["most", 3.0]}, "rounds": list(rounds)} | more  # fmt: skip


def rows(case):
    return {row.figure: row for row in bench.rows_of(case)}


def test_ratios_are_taken_within_rounds():
    found = rows(a_case(a_round(2.0, 5.0), a_round(4.0, 8.0), a_round(1.0, 3.5)))["svdvals float32 / spectrace"]
    assert (found.spread.least, found.spread.median, found.spread.most) == (2.0, 2.5, 3.5)
    assert found.verdict() == "reached" and found.good == found.rounds == 3


def test_the_accounting_is_that_of_the_fastest_run():
    slow, fast = a_round(4.0), a_round(2.0)
    for round_, forward_s in ((slow, 3.0), (fast, 1.0)):
        round_["runs"]["spectrace"]["stages"] = {
            "heads": {"seconds": 0.25, "flops": 1e10, "bytes_read": 0},
            "forward": {"seconds": forward_s, "flops": 1e11, "bytes_read": 0},
            "reading": {"seconds": 0.5, "flops": 0.0, "bytes_read": 1.5e9},
        }
    lines = bench.stages_text(a_case(slow, fast))
    assert [line for line in lines if line.startswith("|")][2:] == [
        "| forward | 1.00 | 50.0% | 100.0 | 50% |  |",
        "| reading | 0.50 | 25.0% |  |  | 1.50 |",
        "| heads | 0.25 | 12.5% | 40.0 | 40% |  |",
        "| start, opening, results | 0.25 | 12.5% |  |  |  |",
    ]
    assert bench.stages_text(a_case(a_round())) == []


def test_work_or_the_whole_process_counts():
    assert rows(a_case(a_round(2.0, 5.0), a_round(), counts="whole"))["svdvals float32 / spectrace"].spread.least == 4.0
    no_work = a_round(2.0, 5.0)
    del no_work["runs"]["svdvals float32"]["work_s"]
    assert rows(a_case(no_work, no_work))["svdvals float32 / spectrace"].spread.least == 4.0


def test_the_median_decides_in_both_directions():
    slow = a_case(a_round(2.0, 3.0), a_round(2.0, 3.9), a_round(2.0, 9.0))
    assert rows(slow)["svdvals float32 / spectrace"].verdict() == "missed"
    assert rows(slow)["peak GB"].verdict() == "reached"
    assert rows(a_case(*slow["rounds"], targets={"peak GB": ["most", 1.9]}))["peak GB"].verdict() == "missed"
    assert rows(slow)["cores busy"].verdict() == "no target"


def test_the_floor_is_of_the_rates_of_the_round():
    # 1e11 flops at 100 GF/s and 1e11 at 200 GF/s are 1.5 s; at the mean of 100 and 105, and of 200, a little less.
    assert rows(a_case(a_round(2.0), a_round(2.0)))["share of the floor"].spread.median == pytest.approx(0.75, rel=1e-12)
    computing = a_round(2.0)
    computing["runs"]["spectrace"]["compute_s"] = 1.6
    assert rows(a_case(computing, computing))["share of the floor, computing alone"].spread.median == pytest.approx(1.5 / 1.6, rel=1e-12)
    faster = a_round(2.0, after=RATES | {"gemm_float64": 105e9})
    expected = (1e11 / 102.5e9 + 1e11 / 200e9) / 2.0
    assert rows(a_case(faster, faster))["share of the floor"].spread.median == pytest.approx(expected, rel=1e-12)
    assert rows(a_case(a_round(2.0), a_round(2.0)))["cores busy"].spread.median == 3.0 / (2.0 * 2)


@pytest.mark.parametrize("change, reason", [
    ({"others": 0.06}, "others took up to 6 % of the cores"),
    ({"stolen": 0.03}, "the hypervisor stole up to 3 %"),
    ({"after": RATES | {"gemm_float32": 175e9}}, "gemm_float32 moved by up to 12 %"),
    ({"before": RATES | {"gemm_float64": 80e9}}, "gemm_float64 moved by up to 20 %"),
])
def test_a_loaded_machine_concludes_nothing(change, reason):
    assert bench.disturbances(a_round()) == {}
    found = rows(a_case(a_round(**change), a_round(**change), a_round()))["svdvals float32 / spectrace"]
    assert found.verdict().startswith("no conclusion") and reason in found.verdict()
    assert (found.good, found.rounds) == (1, 3)


def test_bandwidth_that_moves_does_not_matter():
    assert bench.disturbances(a_round(after=RATES | {"bandwidth": 10e9})) == {}


def test_disturbed_rounds_are_left_out_where_enough_are_left():
    found = rows(a_case(a_round(2.0, 5.0), a_round(2.0, 100.0, others=0.5), a_round(2.0, 5.0)))["svdvals float32 / spectrace"]
    assert found.spread.most == 2.5 and found.verdict() == "reached" and (found.good, found.rounds) == (2, 3)
    # Two of five: more was disturbed than not.
    few = rows(a_case(a_round(), a_round(), *3 * [a_round(others=0.5)]))["svdvals float32 / spectrace"]
    assert few.verdict().startswith("no conclusion")


def test_one_round_is_too_few_but_for_long_cases():
    figure = "svdvals float32 / spectrace"
    assert rows(a_case(a_round()))[figure].verdict() == "no conclusion: 1 round is too few"
    assert rows(a_case(a_round(), least_rounds=1))[figure].verdict() == "reached"


def test_memory_is_judged_whatever_others_do():
    found = rows(a_case(a_round(others=0.9)))["peak GB"]
    assert found.verdict() == "reached" and (found.good, found.rounds) == (1, 1)


def test_reasons_are_said_once_with_the_worst():
    assert bench.reasons_of([a_round(others=0.2), a_round(), a_round(others=0.6)]) == ["others took up to 60 % of the cores"]


def test_rounds_of_the_same_case_and_program_are_taken_together():
    one = {"machine": {}, "cases": [a_case(a_round())]}
    other = {"machine": {}, "cases": [a_case(a_round()), a_case(a_round(), program="q"), a_case(a_round(), threads=1)]}
    before = copy.deepcopy(one)
    assert [len(case["rounds"]) for case in bench.merged([one, other])["cases"]] == [2, 1, 1]
    assert one == before


def test_a_scaling_shows_growth_beside_the_floors():
    points = [{"size": n, "wall_s": n**2 / 1e6, "floor_s": n**3 / 1e9, "before": RATES, "after": RATES, "others": 0.0, "stolen": 0.0} for n in (512, 1024, 2048)]
    assert bench.growth_of(points) == [(4.0, 8.0), (4.0, 8.0)]
    text = "\n".join(bench.scaling_text({"case": "by-matrix", "what": "What.", "points": points}, {"machines": {"A": {}}}))
    assert "| 1024 | 1.05 | 4.00 | 8.00 | 1.02 |" in text and "Nobody else" in text
    points[1]["others"] = 0.5
    assert "No conclusion: others took 50 %" in "\n".join(bench.scaling_text({"case": "by-matrix", "what": "What.", "points": points}, {"machines": {"A": {}}}))


def test_the_page_says_target_verdict_and_reason(tmp_path):
    machine = {"cpu": "A", "cores": 2, "memory_gb": 24.0, "versions": {"torch": "2"}}
    document = {"machine": machine, "cases": [a_case(a_round(2.0, 5.0), a_round(2.0, 6.0)), a_case(a_round(others=0.9), program="q")], "scalings": []}
    (tmp_path / "run.json").write_text(json.dumps(document))
    command = [sys.executable, ROOT / "tools" / "bench" / "compare", "--table", tmp_path / "page.md", tmp_path / "run.json"]
    subprocess.run(command, check=True)
    text = (tmp_path / "page.md").read_text()
    assert text == bench.page(document)
    subprocess.run([*command[:3], tmp_path / "again.md", tmp_path / "page.json"], check=True)
    assert (tmp_path / "again.md").read_text() == text
    assert "| svdvals float32 / spectrace | 2.50 – 2.75 – 3.00 | >= 2 | 2 of 2 | reached |" in text
    assert "| svdvals float32 / spectrace | 2.50 – 2.50 – 2.50 | >= 2 | 0 of 1 | no conclusion: others took 90 % of the cores |" in text
    assert "| svdvals float32 | 8.00 – 8.50 – 9.00 | 5.00 – 5.50 – 6.00 | 9.00 – 9.00 – 9.00 |" in text


def test_processors_stand_side_by_side():
    machines = [{"cpu": "A", "vectors": "AVX2", "cores": 2, "memory_gb": 24.0, "versions": {"torch": "2"}}]
    machines.append(machines[0] | {"vectors": "AVX-512"})
    documents = [{"machine": machine, "cases": [a_case(a_round(2.0, seconds), a_round(2.0, seconds))]} for machine, seconds in zip(machines, (5.0, 7.0))]
    documents[1]["cases"].append(a_case(a_round(), case="matrix"))
    both = bench.merged(documents)
    assert [(case["machine"], len(case["rounds"])) for case in both["cases"]] == [("A, AVX2", 2), ("A, AVX-512", 2), ("A, AVX-512", 1)]
    text = bench.page(both)
    assert text == bench.page(bench.merged([both])) and bench.merged([both, documents[0]])["cases"][0]["rounds"] == 4 * [a_round(2.0, 5.0)]
    assert "| weights | svdvals float32 / spectrace | 2.50 | 3.50 |" in text and "| matrix | svdvals float32 / spectrace | not measured | (2.50) |" in text
    rows = [{"n": 64, "threads": 2, "least_us": {"spectrace": 10.0, "torch": 80.0, "numpy": 90.0}, "ratios": {"torch": 8.0, "numpy": 9.0}}]
    with_eigenvalues = bench.merged([both, {"machine": machines[1], "eigenvalues": rows}])
    assert "A, AVX-512:\n\n| n |" in bench.page(with_eigenvalues) and "| 64 | 2 | 10.0 | 80.0 | 90.0 | 8.00 | 9.00 |" in bench.page(bench.merged([with_eigenvalues]))
    assert "### weights (A, AVX2)" in text and "### weights (A, AVX-512)" in text and "- A, AVX2: 2 cores" in text


def test_the_docs_page_is_made_of_its_json():
    page, document = (ROOT / "docs" / name for name in ("benchmarks.md", "benchmarks.json"))
    assert page.read_text() == bench.page(json.loads(document.read_text()))


def test_wrong_usage_is_said():
    for words, message in (([], "--out"), (["--case", "nope", "--out", "x"], "invalid choice"), (["--table", "x"], "at least one")):
        run = subprocess.run([sys.executable, ROOT / "tools" / "bench" / "compare", *words], capture_output=True, text=True)
        assert run.returncode == 2 and message in run.stderr


def test_flops_are_the_textbooks():
    compare = module(ROOT / "tools" / "bench" / "compare")
    assert compare.svd_flops(300, 300) == pytest.approx(8 / 3 * 300**3, rel=1e-15)
    assert compare.svd_flops(1000, 10) == compare.svd_flops(10, 1000) == 2 * 1000 * 10**2 + 2 * 10**3
    config = geometries.CONFIGS["llama-3.1-8b"]
    shapes = compare.matrix_shapes(config, ["weights", "heads", "unembedding"])
    assert len(shapes) == 32 * (4 + 32 + 32 + 8 + 8) + 1 and shapes[-1] == (128256, 4096)
    floor = compare.floor_of(config, ["attention", "residual"], (8, 64))
    # The blocks hold all parameters but embeddings, unembedding and norms; attention's products are 4 n^2 d a head.
    blocks = 8_030_261_248 - 2 * 128256 * 4096 - 65 * 4096
    assert floor == {"gemm_float64": 0.0, "gemm_float32": 8 * (64 * 2 * blocks + 32 * 32 * 4 * 64**2 * 128)}
    with_sheaf = compare.floor_of(config, ["sheaf"], (8, 64))["gemm_float64"]
    assert with_sheaf == pytest.approx(8 * 32 * 32 * 4 / 3 * 64**3 + 32 * 8 * compare.svd_flops(128, 4096), rel=1e-12)


def test_every_case_has_targets_among_its_figures():
    compare = module(ROOT / "tools" / "bench" / "compare")
    for name, case in compare.cases().items():
        run = {"wall_s": 1.0, "work_s": 1.0, "cpu_s": 1.0, "peak_bytes": 1, "bytes_read": 1}
        made = {"before": RATES, "after": RATES, "runs": {contender: run for contender in ("spectrace", *case.contenders)}}
        figures = bench.figures_of({"counts": case.counts, "threads": 2, "floor": case.floor(), "checkpoint_bytes": 1}, made)
        assert set(case.targets) <= set(figures), name
        names = {m.name for t in geometries.tensors_of(case.config).values() for m in t.matrices}
        assert set(case.matrices()) <= names, name


@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt2", "pythia-6.9b"])
def test_contenders_measure_the_same_matrices(tmp_path, model):
    """numpy's spectra of what the contenders read are the noted ones; heads are slices whose squares add up to the matrix'."""
    pytest.importorskip("safetensors.torch", reason="comes with tools/setup --oracle", exc_type=ImportError)
    contenders = module(ROOT / "tools" / "bench" / "contenders.py")
    import torch

    config = geometries.tiny(geometries.CONFIGS[model])
    made_checkpoints.make_checkpoint(tmp_path / "m", config, "float32", "decaying")
    noted = json.loads((tmp_path / "m" / "spectra.json").read_text())["singular_values"]
    weights = contenders.Weights(tmp_path / "m")
    for name, known in noted.items():
        matrix = weights.matrix(name, torch.float64)
        found = np.linalg.svd(matrix.numpy(), compute_uv=False)
        # Rounding to float32 moves no singular value by more than its own norm.
        assert np.abs(found - known).max() <= 2**-24 * np.linalg.norm(known) + 1e-12 * known[0]
        parts = weights.slices(name, matrix)
        if parts:
            assert len(parts) == (weights.heads if name[-1] in "QO" else weights.kv_heads)
            assert math.fsum(float((part**2).sum()) for part in parts) == pytest.approx(float((matrix**2).sum()), rel=1e-12)
            assert len({tuple(part.shape) for part in parts}) == 1 and parts[0].shape[1 if name.endswith("W_O") else 0] == weights.head_dim
