"""What timings of side-by-side runs mean, and when they mean nothing.

A *round* is one run of spectrace and one of each contender, one after the other, between two probes of the machine. A round
in which the machine also worked for others decides nothing; a row of less than two good rounds, or less than half, has no
conclusion.
"""

import statistics
from dataclasses import dataclass, field

MOST_BY_OTHERS = 0.05  # of the machine's cores, while a round ran
MOST_STOLEN = 0.02  # by the hypervisor
MOST_MOVED = 0.10  # of a gemm rate, over a round
LEAST_ROUNDS = 2
OURS = "spectrace"
TIMELESS = {"peak GB", "bytes read / checkpoint", "planned / measured memory"}  # figures that no load of the machine moves


def disturbances(round_):
    """Why a round does not count, {what: share}; empty if it does."""
    shares = {"others took {} of the cores": (round_["others"], MOST_BY_OTHERS), "the hypervisor stole {}": (round_["stolen"], MOST_STOLEN)}
    for rate in ("gemm_float32", "gemm_float64"):
        before, after = round_["before"][rate], round_["after"][rate]
        shares[f"the rate of {rate} moved by {{}}"] = (abs(after - before) / max(after, before), MOST_MOVED)
    return {what: share for what, (share, most) in shares.items() if share > most}


def reasons_of(rounds):
    """In words, of all rounds, each kind once with its worst."""
    found = {}
    for round_ in rounds:
        for what, share in disturbances(round_).items():
            found.setdefault(what, []).append(share)
    return [what.format(f"{'up to ' * (len(shares) > 1)}{100 * max(shares):.0f} %") for what, shares in found.items()]


def rates_of(round_):
    """The machine's rates in a round: the mean of the probes before and after."""
    return {name: (round_["before"][name] + round_["after"][name]) / 2 for name in round_["before"]}


def floor_s(floor, rates):
    """Seconds that the flops take at the measured gemm rates. `floor`: {"gemm_float64": flops, …}"""
    return sum(flops / rates[rate] for rate, flops in floor.items())


def seconds_of(run, counts):
    """`counts`: "whole", start to end of the process, or "work", without Python's start and imports where the program says so."""
    return run.get("work_s", run["wall_s"]) if counts == "work" else run["wall_s"]


@dataclass
class Spread:
    least: float
    median: float
    most: float

    @staticmethod
    def of(values):
        values = list(values)
        return Spread(min(values), statistics.median(values), max(values)) if values else None

    def text(self, form):
        return " – ".join(format(value, form) for value in (self.least, self.median, self.most))


@dataclass
class Row:
    """One figure of one case."""

    case: str
    figure: str
    target: float | None
    spread: Spread | None  # over the rounds that count; over all, if too few do
    rounds: int
    good: int
    is_conclusive: bool
    reasons: list = field(default_factory=list)
    at_most: bool = False  # the target is an upper limit

    def verdict(self):
        """One of: reached, missed, no target, no conclusion (why). The median decides."""
        if not self.is_conclusive:
            if self.reasons:
                return f"no conclusion: {'; '.join(self.reasons)}"
            return f"no conclusion: {self.good} round{'s are' if self.good != 1 else ' is'} too few"
        if self.target is None:
            return "no target"
        reached = self.spread.median <= self.target if self.at_most else self.spread.median >= self.target
        return "reached" if reached else "missed"


def figures_of(case, round_):
    """figure -> value, in one round."""
    ours, rates, figures = round_["runs"][OURS], rates_of(round_), {}
    for name, run in round_["runs"].items():
        if name != OURS:
            figures[f"{name} / spectrace"] = seconds_of(run, case["counts"]) / ours["wall_s"]
    if case.get("floor"):
        figures["share of the floor"] = floor_s(case["floor"], rates) / ours["wall_s"]
        if "compute_s" in ours:  # run.json's: without start, opening and writing results
            figures["share of the floor, computing alone"] = floor_s(case["floor"], rates) / ours["compute_s"]
    figures["cores busy"] = ours["cpu_s"] / ours["wall_s"] / case["threads"]
    if case.get("planned_s"):
        figures["planned / measured time"] = case["planned_s"] / ours["wall_s"]
    if case.get("planned_bytes"):
        figures["planned / measured memory"] = case["planned_bytes"] / ours["peak_bytes"]
    figures["peak GB"] = ours["peak_bytes"] / 1e9
    if case.get("checkpoint_bytes") and "bytes_read" in ours:
        figures["bytes read / checkpoint"] = ours["bytes_read"] / case["checkpoint_bytes"]
    return figures


def rows_of(case):
    """The rows of a case {"case", "counts", "threads", "floor", "targets": {figure: [least|most, value]}, "rounds": […]}."""
    rounds = case["rounds"]
    undisturbed = [round_ for round_ in rounds if not disturbances(round_)]
    reasons, rows = reasons_of(rounds), []
    for figure in figures_of(case, rounds[0]):
        kind, target = case["targets"].get(figure, ("least", None))
        good = rounds if figure in TIMELESS else undisturbed
        enough = figure in TIMELESS or (len(good) >= case.get("least_rounds", LEAST_ROUNDS) and 2 * len(good) >= len(rounds))
        spread = Spread.of(figures_of(case, round_)[figure] for round_ in (good if enough else rounds))
        rows.append(Row(case["case"], figure, target, spread, len(rounds), len(good), enough, reasons, kind == "most"))
    return rows


def label_of(machine):
    """A machine's processor as the page names it."""
    return f"{machine.get('cpu', '?')}{', ' + machine['vectors'] if machine.get('vectors') else ''}"


def merged(documents):
    """One document of several: rounds of the same case, measured with the same processor, threads and program, are taken
    together. Each case says which machine it is of."""
    cases, scalings, machines = {}, {}, {}
    for document in documents:
        known = document.get("machines") or {label_of(document["machine"]): document["machine"]}
        machines |= known
        for case in document.get("cases", []):
            case = {"machine": next(iter(known))} | case
            key = (case["machine"], case["case"], case["threads"], case["program"])
            if key in cases:
                cases[key] = cases[key] | {"rounds": cases[key]["rounds"] + case["rounds"]}
            else:
                cases[key] = case
        for scaling in document.get("scalings", []):
            scaling = {"machine": next(iter(known))} | scaling
            scalings[scaling["machine"], scaling["case"], scaling["threads"], scaling["program"]] = scaling
    eigenvalues = {}
    for document in documents:
        of = document.get("eigenvalues", {})
        eigenvalues |= of if "machines" in document else {label_of(document["machine"]): of} if of else {}
    return {"machines": machines, "cases": list(cases.values()), "scalings": list(scalings.values()), "eigenvalues": eigenvalues}


def growth_of(points):
    """Between neighbours of a scaling: measured growth of the time, and that of the floor."""
    return [(b["wall_s"] / a["wall_s"], b["floor_s"] / a["floor_s"]) for a, b in zip(points, points[1:])]


def row_text(row):
    target = "" if row.target is None else f"{'<=' if row.at_most else '>='} {row.target:g}"
    return f"| {row.figure} | {row.spread.text('.2f')} | {target} | {row.good} of {row.rounds} | {row.verdict()} |"


def heading(what, document):
    """Of a case or a scaling; its machine is named where there are several."""
    return f"### {what['case']}" + (f" ({what['machine']})" if len(document["machines"]) > 1 else "")


def processors_text(document):
    """What each processor's figures against others came to, side by side."""
    figures = {}
    for case in document["cases"]:
        for row in rows_of(case):
            if row.figure.endswith(f" / {OURS}"):
                said = f"{row.spread.median:.2f}" if row.is_conclusive else f"({row.spread.median:.2f})"
                figures.setdefault((row.case, row.figure), {})[case["machine"]] = said
    if not figures:
        return []
    machines = list(document["machines"])
    lines = ["## By processor", "", "Medians; in brackets those of too few good rounds to conclude.", "",
             f"| case | figure | {' | '.join(machines)} |", f"|---|---|{'---|' * len(machines)}"]  # fmt: skip
    lines += [f"| {case} | {figure} | {' | '.join(of.get(machine, 'not measured') for machine in machines)} |" for (case, figure), of in figures.items()]
    return [*lines, ""]


def case_text(case, document):
    lines = [heading(case, document), "", case["what"], ""]
    if case.get("note"):
        lines += [case["note"], ""]
    lines += ["| program | seconds, least – median – most | of these count | CPU seconds |", "|---|---|---|---|"]
    for name in case["rounds"][0]["runs"]:
        runs = [round_["runs"][name] for round_ in case["rounds"]]
        counted = Spread.of(seconds_of(run, "whole" if name == OURS else case["counts"]) for run in runs)
        wall, cpu = (Spread.of(run[key] for run in runs).text(".2f") for key in ("wall_s", "cpu_s"))
        lines.append(f"| {name} | {wall} | {counted.text('.2f')} | {cpu} |")
    lines += ["", "| figure | least – median – most | target | rounds that count | verdict |", "|---|---|---|---|---|"]
    lines += [row_text(row) for row in rows_of(case)]
    lines += ["", *stages_text(case)]
    rates = [rates_of(round_) for round_ in case["rounds"]]
    gemm32, gemm64, bandwidth = (Spread.of(r[name] / 1e9 for r in rates).text(".0f") for name in ("gemm_float32", "gemm_float64", "bandwidth"))
    lines += [f"Machine meanwhile: gemm float32 {gemm32} GF/s, float64 {gemm64} GF/s, memory {bandwidth} GB/s; {case['threads']} threads; {case['program']}.", ""]
    return lines


def stages_text(case):
    """Where the time of spectrace's fastest run went, by its own accounting."""
    round_ = min(case["rounds"], key=lambda one: one["runs"][OURS]["wall_s"])
    ours, rates = round_["runs"][OURS], rates_of(round_)
    if "stages" not in ours:
        return []
    stages = sorted(ours["stages"].items(), key=lambda item: -item[1]["seconds"])
    rest = ours["wall_s"] - sum(stage["seconds"] for _, stage in stages)
    lines = ["Where the fastest run's time went; rates against those of a gemm of the same type.", "",
             "| stage | seconds | share | GF/s | of the gemm rate | GB read |", "|---|---|---|---|---|---|"]  # fmt: skip
    for name, stage in [*stages, ("start, opening, results", {"seconds": rest, "flops": 0, "bytes_read": 0})]:
        rate = stage["flops"] / max(stage["seconds"], 1e-9)
        gemm = rates["gemm_float32" if name == "forward" else "gemm_float64"]
        speed = f"{rate / 1e9:.1f} | {rate / gemm:.0%}" if stage["flops"] else " | "
        read = f"{stage['bytes_read'] / 1e9:.2f}" if stage["bytes_read"] else ""
        lines.append(f"| {name} | {stage['seconds']:.2f} | {stage['seconds'] / ours['wall_s']:.1%} | {speed} | {read} |")
    return [*lines, ""]


def scaling_text(scaling, document):
    lines = [heading(scaling, document), "", scaling["what"], "", "| size | seconds | grew | the floor grew | share of the floor |", "|---|---|---|---|---|"]
    growth = [None, *growth_of(scaling["points"])]
    for point, grew in zip(scaling["points"], growth):
        grown = "| | " if grew is None else f"| {grew[0]:.2f} | {grew[1]:.2f} "
        lines.append(f"| {point['size']} | {point['wall_s']:.2f} {grown}| {point['floor_s'] / point['wall_s']:.2f} |")
    reasons = reasons_of(scaling["points"])
    lines += ["", f"No conclusion: {'; '.join(reasons)}." if reasons else "Nobody else worked on the machine.", ""]
    return lines


def eigenvalues_text(document):
    """Of tools/bench/eigenvalues."""
    if not document["eigenvalues"]:
        return []
    lines = ["## Eigenvalues of token graphs", "",
             "Laplacians of random causal attention, values alone, as many matrices as heads (tools/bench/eigenvalues): microseconds a matrix, least of all",
             "rounds; ratios, medians of those within rounds. torch and numpy get Laplacians that are there already; spectrace makes them of the attention.", ""]  # fmt: skip
    for machine, rows in document["eigenvalues"].items():
        lines += [f"{machine}:", "", "| n | threads | spectrace | torch | numpy | torch / spectrace | numpy / spectrace |", "|---|---|---|---|---|---|---|"]
        for row in rows:
            least, ratios = row["least_us"], row["ratios"]
            lines.append(f"| {row['n']} | {row['threads']} | {least['spectrace']:.1f} | {least['torch']:.1f} | {least['numpy']:.1f} "
                         f"| {ratios['torch']:.2f} | {ratios['numpy']:.2f} |")  # fmt: skip
        lines.append("")
    return lines


def page(document):
    """docs/benchmarks.md."""
    document = merged([document])
    machines = [
        f"- {label}: {machine['cores']} cores, {machine['memory_gb']:.0f} GB; {', '.join(f'{k} {v}' for k, v in machine['versions'].items())}."
        for label, machine in document["machines"].items()
    ]
    lines = [
        "# Benchmarks", "", "<!-- Generated by tools/bench/compare --table; do not edit. -->", "",
        "spectrace beside what people use, in turns, on the same machine, threads and weights, each a process of its own. A round",
        "is one run of each; before and after it the machine's gemm rates and memory bandwidth are measured. Ratios are taken",
        "within a round: more than 1 says that spectrace was faster. spectrace counts from the start of the process to its end;",
        "the others as each case says. A floor is the least time for the flops of the textbook's algorithm at the rates of torch's",
        "gemm: a share of more than 1 takes fewer flops, or multiplies faster than the BLAS of torch does on that processor.",
        f"A round does not count if others took more than {MOST_BY_OTHERS:.0%} of the cores, the hypervisor more than {MOST_STOLEN:.0%}, or a gemm",
        f"rate moved by more than {MOST_MOVED:.0%}; less than {LEAST_ROUNDS} rounds that count, or less than half, conclude nothing.",
        "Memory and bytes are judged whatever others do.", "",
        *machines, "",
        "Again, after `tools/setup --oracle` and `.venv/bin/pip install -r tools/requirements-bench.txt`:", "",
        "```bash", "tools/bench/compare --out bench.json", "tools/bench/compare --table docs/benchmarks.md bench.json   # and docs/benchmarks.json", "```", "", *processors_text(document), "## Side by side", "",
    ]  # fmt: skip
    for case in document["cases"]:
        lines += case_text(case, document)
    lines += eigenvalues_text(document)
    if document["scalings"]:
        lines += ["## Cost by size", ""]
        for scaling in document["scalings"]:
            lines += scaling_text(scaling, document)
    return "\n".join(lines).rstrip("\n") + "\n"
