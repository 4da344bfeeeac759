"""Every command of the manual: run as it stands there in a folder like a checkout, or one of NOT_RUN, with the reason.

The models that the studies' jobs name are the demo's tiny ones here, under those names in a hub cache; `sbatch` and `sinfo` only
look at what they are given. Options that the text mentions are held against the programs' --help.
"""

import contextlib
import functools
import importlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import pytest
from program import ENVIRONMENT, PROGRAM, ROOT, run_job, spectrace

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "jobs").glob("*/README.md"))]
SCRIPTS = tomllib.loads((ROOT / "tools/python/pyproject.toml").read_text())["project"]["scripts"]

# What is not run, and why; its options are held against --help all the same.
CHECKOUT, NETWORK, BUILD, HOURS, ELSEWHERE = (
    "sets up the whole checkout", "needs the network, and root or another machine's modules", "builds, or copies a build of 440 MB",
    "takes hours", "needs a program that Debian's set-up does not bring")
NOT_RUN = {
    "tools/demo": CHECKOUT,
    "tools/test": CHECKOUT,
    "tools/setup --no-system": NETWORK,
    "tools/setup --oracle": NETWORK,
    "tools/setup --cuda": NETWORK,
    "module load gcc/13 openmpi hdf5 python/3.11": ELSEWHERE,
    "mamba create -p ~/spectrace-libs -c conda-forge fmt spdlog nlohmann_json cli11 xxhash pcre2 libutf8proc openssl gtest": ELSEWHERE,
    "podman build -f packaging/Containerfile -t spectrace .": ELSEWHERE,
    'podman run --rm -v "$PWD/jobs:/jobs" spectrace run /jobs/demo/demo.json': ELSEWHERE,
    "apptainer build spectrace.sif packaging/spectrace.def": ELSEWHERE,
    "srun --mpi=pmix apptainer run spectrace.sif run job.json": ELSEWHERE,
    """cmake --preset release -DSPECTRACE_TORCH_DIR=$(python3 -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])") -DSPECTRACE_TESTS=OFF""": BUILD,
    "cmake --build build/release --target spectrace_program": BUILD,
    "cmake --build build/release --target dump_forward": BUILD,
    "cmake --install build/release --prefix ~/software/spectrace": BUILD + " (tests/python/test_install.py does)",
    "tools/bench/compare --out bench.json": HOURS,
    "tools/bench/compare --table docs/benchmarks.md bench.json": HOURS,
    "tools/dev/differential --family apertus --seeds 250 --json run-apertus.json": HOURS,
    "tools/dev/differential --table docs/families.md run-apertus.json": HOURS,
}
EXIT_CODES = {"spectrace-compare jobs/demo/results jobs/demo/results --pair gpt2-tiny=neox-tiny --json changes.json": 1}  # two models
CHEAPER = [("mpirun -n 8", "mpirun -n 2"), ("--host a:4,b:4 -n 8", "--host localhost:2 -n 2")]

# Options that the text names without a program, of programs that are not ours.
FOREIGN = {"--oversubscribe": "mpirun", "--bind-to": "mpirun", "--mpi": "srun", "--kill-on-bad-exit": "srun",
           "--signal": "sbatch", "--requeue": "sbatch", "--strip": "cmake --install",
           "--quick": "the scripts of tools/dev/gpu_bundle"}


def commands_of(page):
    """The lines of the page's bash blocks, without comments."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [re.sub(r"(^|\s+)#.*", "", line).strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


COMMANDS = {page.relative_to(ROOT).as_posix(): found for page in PAGES if (found := commands_of(page))}


# A folder like a checkout, with results ------------------------------------------------------------------------------------------
def demo_job(prompt_set, num_models=4):
    """The demo's job with one of its prompt sets: half the results for the same commands."""
    home = ROOT / "jobs/demo"
    job = json.loads((home / "demo.json").read_text())
    models = [model | {"path": str(home / model["path"])} for model in job["models"][:num_models]]
    sets = [one | ({"path": str(home / one["path"])} if "path" in one else {}) for one in job["prompt_sets"] if one["name"] == prompt_set]
    return job | {"models": models, "prompt_sets": sets}


@pytest.fixture(scope="module")
def demo_results(tmp_path_factory):
    return run_job(tmp_path_factory.mktemp("demo"), demo_job("facts"))


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory):
    """Every model that a job of jobs/ names, as one of the demo's."""
    cache = tmp_path_factory.mktemp("hub")
    for job in ROOT.glob("jobs/*/*.json"):
        for model in json.loads(job.read_text())["models"]:
            tiny = next((tiny for word, tiny in (("gpt2", "gpt2"), ("pythia", "neox"), ("opt", "opt")) if word in model["path"]), "llama")
            entry = cache / ("models--" + model["path"].replace("/", "--"))
            if not entry.exists():
                (entry / "refs").mkdir(parents=True)
                (entry / "refs/main").write_text("abc")
                (entry / "snapshots").mkdir()
                (entry / "snapshots/abc").symlink_to(ROOT / "jobs/demo/models" / f"{tiny}-tiny")
    return cache


def run_script(name, arguments, folder="."):
    """A program of the Python package, in this process: what they import takes longer than most of what they do."""
    module, function = SCRIPTS[name].split(":")
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = getattr(importlib.import_module(module), function)(arguments)
        except SystemExit as stop:
            code = stop.code
    return code, out.buffer.getvalue().decode()


def run_line(command, folder, environment):
    """(exit code, what it says)"""
    words = shlex.split(command)
    if words[0] in SCRIPTS:
        return run_script(words[0], words[1:], folder)
    line = functools.reduce(lambda text, pair: text.replace(*pair), CHEAPER, command)
    done = subprocess.run(["bash", "-ec", line], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def write_program(path, text):
    path.write_text("#!/bin/bash\n" + text)
    path.chmod(0o755)


# As sbatch reads its words: options, the script, and what is for the script.
SBATCH = r"""
while [[ $1 == -* ]]; do
  if [ -n "$SBATCH_HELP" ] && ! grep -qe "${1%%=*}[=, ]" "$SBATCH_HELP"; then echo "sbatch has no ${1%%=*}" >&2; exit 1; fi
  shift
done
bash -n "$1" && test -r "$2" && echo "Submitted batch job 1"
"""


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bin")
    (folder / "spectrace").symlink_to(PROGRAM)
    write_program(folder / "sinfo", "echo n1 32 64000\necho n2 32 64000\n")
    if sbatch := shutil.which("sbatch"):  # it says nothing without a configuration
        (folder / "slurm.conf").write_text("ClusterName=none\nSlurmctldHost=localhost\n")
        text = subprocess.run([sbatch, "--help"], env=os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}, capture_output=True, text=True).stdout
        (folder / "sbatch.help").write_text(text)
    write_program(folder / "sbatch", f"SBATCH_HELP={folder / 'sbatch.help' if sbatch and text else ''}\n{SBATCH}")
    return folder


@pytest.fixture
def checkout(tmp_path, tools, hub_cache, demo_results):
    """(folder, environment)"""
    for name in ("tools", "slurm"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "build/release").mkdir(parents=True)
    (tmp_path / "build/release/spectrace").symlink_to(PROGRAM)
    shutil.copytree(ROOT / "jobs", tmp_path / "jobs", ignore=shutil.ignore_patterns("results"))
    shutil.copytree(demo_results, tmp_path / "jobs/demo/results")
    for path in (path for path in tmp_path.glob("jobs/*/*.json") if path.parent.name != "demo"):
        job = json.loads(path.read_text())
        path.write_text(json.dumps(job | {"models": job["models"][:3]}))  # enough to see that it works
    (tmp_path / "job.json").write_text(json.dumps(demo_job("code", num_models=2)))  # the user's own
    environment = ENVIRONMENT | {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "tools/python"), "HOME": str(tmp_path),
                                 "HF_HUB_CACHE": str(hub_cache), "MPLBACKEND": "Agg"}
    return tmp_path, environment


# What Slurm would have run before the page's other commands.
RUN_BY_SLURM = {
    "docs/cluster.md": [["job.json", "--model", model, "-o", f"results/{model}"] for model in ("gpt2-tiny", "neox-tiny")],  # an array
    "jobs/h4-v2-extended/README.md": [["jobs/h4-v2-extended/job.json"]],
}


@pytest.mark.parametrize("page", COMMANDS)
def test_commands_of(page, checkout):
    folder, environment = checkout
    for words in RUN_BY_SLURM.get(page, []):
        subprocess.run([PROGRAM, "run", *words], cwd=folder, env=environment, check=True, capture_output=True)
    for command in COMMANDS[page]:
        if command in NOT_RUN:
            continue
        code, said = run_line(command, folder, environment)
        assert code == EXIT_CODES.get(command, 0), f"{command}\n{said}"
        words = shlex.split(command)
        if words[0].startswith("spectrace") and "-o" in words:
            made = folder / words[words.index("-o") + 1]
            assert any(made.iterdir()) if made.is_dir() else made.stat().st_size > 100
        elif words[0].startswith("spectrace"):
            assert said, command


def test_python_of_the_readme(checkout, demo_results):
    folder, environment = checkout
    (folder / "results").symlink_to(demo_results)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        done = subprocess.run([sys.executable, "-c", block], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_what_is_not_run_is_in_the_manual():
    assert set(NOT_RUN) - {command for found in COMMANDS.values() for command in found} == set()


def test_every_program_is_shown_and_run():
    run = " \n".join(command for found in COMMANDS.values() for command in found if command not in NOT_RUN) + "\n"
    names = [*SCRIPTS, *(f"spectrace {name}" for name in ("run", "check", "plan", "inspect", "tokenize", "diff", "completion")), "tools/slurm-submit"]
    assert [name for name in names if f"{name} " not in run] == []


# Options in the text -------------------------------------------------------------------------------------------------------------
SUBCOMMANDS = "run|check|plan|inspect|tokenize|diff|completion"
OURS = re.compile(rf"(?<![\w/.-])(?:(?:\.venv/bin/)?(?P<script>{'|'.join(SCRIPTS)})|(?:build/release/)?spectrace (?P<subcommand>{SUBCOMMANDS})"
                  rf"|^(?P<bare>{SUBCOMMANDS})|slurm/(?P<batch>\S+)\.sbatch|(?P<tool>tools/[\w/-]+|make_checkpoints\.py))(?![\w.])")


@functools.cache
def help_of(program):
    """What a program says of its options: ("spectrace", "run"), ("spectrace-report",), ("tools/setup",)."""
    name = program[0]
    if name == "spectrace":
        return spectrace(*program[1:], "--help").stdout
    if name in SCRIPTS:
        return run_script(name, ["--help"])[1]
    if name == "make_checkpoints.py":
        command = [sys.executable, str(ROOT / "tests/oracle" / name)]
    else:
        command = [str(ROOT / name)]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, env=ENVIRONMENT)
    assert "usage" in done.stdout + done.stderr, (program, done.stderr)
    return done.stdout + done.stderr


def has_option(program, option):
    return re.search(rf"{re.escape(option)}(?![\w-])", help_of(program)) is not None


def spans():
    """(page, text): all code in the text, and each line of the bash blocks, comments too."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            yield from ((page.name, line) for line in block.splitlines())
        for span in re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)):
            yield page.name, span


def mentioned():
    """(page, program or None, option): None where no program of ours stands before it, in a span of its own."""
    for page, span in spans():
        found = list(OURS.finditer(span))
        for match, end in zip(found, [*(match.start() for match in found[1:]), len(span)]):
            program = ((match["script"] or match["tool"],) if match["script"] or match["tool"]
                       else ("spectrace", match["subcommand"] or match["bare"] or "run"))
            words = re.split(r" -- |[;#]|\b(?:srun|mpirun|sbatch)\b", span[match.end():end])[0]
            yield from ((page, program, option) for option in re.findall(r"(?<![\w-])(--[a-z][\w-]*)", words))
        if span.startswith("--"):
            yield from ((page, None, option) for option in re.findall(r"(?<![\w-])(--[a-z][\w-]*)", span))


def test_options_that_the_text_names_exist():
    everything = list(mentioned())
    wrong = [item for item in everything if item[1] and not has_option(*item[1:])]
    assert wrong == []
    assert len({program for _, program, _ in everything if program}) >= 10
    known = [("spectrace",)] + [("spectrace", name) for name in SUBCOMMANDS.split("|")] + [(name,) for name in SCRIPTS] + [("tools/setup",), ("tools/slurm-submit",)]
    bare = {option for _, program, option in everything if program is None}
    unknown = {option for option in bare if not any(has_option(program, option) for program in known)}
    assert unknown == set(FOREIGN)


def test_presets_targets_and_variables_of_cmake_exist():
    files = [ROOT / "CMakeLists.txt", *ROOT.glob("tools/cmake/*"), *ROOT.glob("tests/**/CMakeLists.txt")]
    cmake = "\n".join(path.read_text(encoding="utf-8") for path in files if path.is_file())
    for command in (command for command in NOT_RUN if command.startswith("cmake")):
        for name in re.findall(r"-D(\w+)=|--target (\w+)", command):
            assert "".join(name) in cmake, command
        for preset in re.findall(r"--preset (\S+)", command):
            assert preset in [entry["name"] for entry in json.loads((ROOT / "CMakePresets.json").read_text())["configurePresets"]]
