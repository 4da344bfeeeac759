"""What is made from the analyses' declarations is up to date (tools/update_docs), and docs/quantities.md agrees with the headers."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("SPECTRACE_PROGRAM", ROOT / "build" / "release" / "spectrace"))
FACTS = {"prompt_id", "num_tokens", "prompt_error", "token_ids", "row_start", "prompt_error_by_analysis"}  # of /prompts/<set>: they are no quantities
# "Section 3 of docs/quantities.md", "docs/quantities.md, section 3", "…, last section"
CITATION = r"[Ss]ections? ([\d, to]+)[^\n]*docs/quantities\.md|docs/quantities\.md, (?:last )?section(?: (\d+))?"
MADE = ("docs/file-format.md", "docs/quantities.md", "jobs/job.schema.json", "tools/python/spectrace/quantities.json")


def sections_of(text, pattern):
    """{title: body} of the headings that match."""
    parts = re.split(r"^(#+ .*)$", text, flags=re.MULTILINE)
    return {match[1]: body for title, body in zip(parts[1::2], parts[2::2]) if (match := re.fullmatch(pattern, title))}


def rows_of(body):
    cells = [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in body.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row for row in cells}


@pytest.fixture
def page(root):
    return (root / "docs/quantities.md").read_text(encoding="utf-8")


@pytest.fixture
def rows(page):
    """{group: {dataset: row}} of docs/quantities.md"""
    return {title.replace("&lt;", "<").replace("&gt;", ">"): rows_of(body) for title, body in sections_of(page, r"### (/.*)").items()}


@pytest.fixture
def schema(root):
    """The same of docs/file-format.md; /checkpoint holds digests, /summary what models' files hold: no quantities."""
    text = (root / "docs/file-format.md").read_text(encoding="utf-8")
    return {title: {name: row for name, row in rows_of(body).items() if name not in FACTS}
            for title, body in sections_of(text, r"## (/.*)").items() if title not in ("/checkpoint", "/summary")}


def test_page_has_every_dataset_and_no_other(schema, rows):
    assert set(rows) == set(schema)
    for group in schema:
        assert list(rows[group]) == list(schema[group]), group


def test_units_are_those_of_the_file(schema, rows):
    for group, of_file in schema.items():
        for dataset, row in of_file.items():
            assert rows[group][dataset][2] == row[2], f"{group}/{dataset}"


def test_every_row_names_a_function_that_its_header_declares(root, rows):
    for group, of_group in rows.items():
        for dataset, row in of_group.items():
            link = re.search(r"\[`(\w+)`\]\(\.\./(include/spectrace/[\w/]+\.hpp)\)", row[3])
            assert link, f"{group}/{dataset} links no function"
            assert re.search(rf"\b{link[1]}\b", (root / link[2]).read_text()), f"{link[2]} declares no {link[1]}"


def test_headers_and_page_cite_each_other(root, page):
    linked = set(re.findall(r"\.\./(include/spectrace/[\w/]+\.hpp)", page))
    for path in linked:
        assert (root / path).is_file(), path
    citing = {str(path.relative_to(root)) for path in (root / "include").rglob("*.hpp") if re.search(CITATION, path.read_text())}
    assert citing <= linked, f"cite the page, which does not link them: {sorted(citing - linked)}"
    # These cite docs/numerics.md, which the page does too.
    assert linked - citing <= {f"include/spectrace/numerics/{name}.hpp" for name in ("singular_values", "exact_gram")}
    assert "(numerics.md)" in page and "docs/numerics.md" in (root / "include/spectrace/numerics/singular_values.hpp").read_text()


def test_sections_that_headers_cite_are_there(root, page):
    titles = re.findall(r"^## (\d+)\. ", page, re.MULTILINE)
    cited = {number for folder in ("include", "src") for path in (root / folder).rglob("*.?pp")
             for line in re.findall(CITATION, path.read_text()) for number in re.findall(r"\d+", "".join(line))}
    assert len(cited) >= 5 and cited <= set(titles)
    assert page.rindex("## 9. Where the notebooks differ") > page.rindex("## 8.")  # "last section"


def test_file_format_links_the_page(root):
    assert "(quantities.md)" in (root / "docs/file-format.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def described():
    if not PROGRAM.exists():
        pytest.skip(f"{PROGRAM} is not built (tools/setup)")
    return json.loads(subprocess.run([PROGRAM, "describe", "--json"], check=True, capture_output=True, text=True).stdout)


@pytest.fixture
def copy(tmp_path, described):
    """What tools/update_docs reads and writes, and a program that says what `say` gives it: at first what ours says."""
    for name in (*MADE, "tools/update_docs", "tools/lib/cpp_source.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "include", tmp_path / "include")
    (tmp_path / "program").write_text(f"#!/bin/sh\n[ \"$*\" = 'describe --json' ] && cat '{tmp_path}/said.json'\n")
    (tmp_path / "program").chmod(0o755)
    say(tmp_path, described)
    return tmp_path


def say(copy, described):
    (copy / "said.json").write_text(json.dumps(described))


def update(folder, *options, program=None):
    return subprocess.run([sys.executable, folder / "tools/update_docs", "--program", program or folder / "program", *options], capture_output=True, text=True)


def replace(path, before, after):
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, (path, before)
    path.write_text(text.replace(before, after), encoding="utf-8")


def test_nothing_that_is_made_is_stale(described):
    run = update(ROOT, "--check", program=PROGRAM)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_copy_is_up_to_date(copy):
    before = {name: (copy / name).read_bytes() for name in MADE}
    assert update(copy, "--check").returncode == 0 and update(copy).returncode == 0
    assert {name: (copy / name).read_bytes() for name in MADE} == before


@pytest.mark.parametrize("name, before, after", [
    ("docs/file-format.md", "Trace of the sheaf Laplacian |", "Trace of the Laplacian |"),
    ("docs/quantities.md", "| `trace` | Tr Δ_F = (ΣA − tr A)", "| `trace` | Tr Δ_F = ΣA"),
    ("jobs/job.schema.json", "The grid of inverse temperatures", "The grid of temperatures"),
    ("tools/python/spectrace/quantities.json", "\"Trace of the sheaf Laplacian\"", "\"Trace\""),
])
def test_stale_file_is_named_and_brought_up_to_date(copy, name, before, after):
    replace(copy / name, before, after)
    stale = (copy / name).read_bytes()
    run = update(copy, "--check")
    assert (run.returncode, run.stdout) == (1, f"{name} is not up to date: run tools/update_docs\n")
    assert (copy / name).read_bytes() == stale
    run = update(copy)
    assert (run.returncode, run.stdout) == (0, f"{name} is brought up to date\n")
    assert (copy / name).read_bytes() == (ROOT / name).read_bytes()


def test_hand_written_remark_survives_an_update(copy, described):
    page = copy / "docs/quantities.md"
    remark = "the same, but for what a \\| means"
    row = re.search(r"^\| `lambda_max` \|.*\| (.*?) \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    replace(page, row[0], row[0].removesuffix(f"{row[1]} |") + f"{remark} |")
    quantity = next(dataset for dataset in described["datasets"] if dataset["name"] == "lambda_max")
    say(copy, json.loads(json.dumps(described).replace(json.dumps(quantity["formula"]), json.dumps("another formula"))))
    assert update(copy).returncode == 0
    after = next(line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `lambda_max` |"))
    assert "another formula" in after and after.endswith(f"| {remark} |")


def test_new_quantity_is_in_all_that_is_made(copy, described):
    more = json.loads(json.dumps(described))
    last = [dataset for dataset in more["datasets"] if dataset["group"] == "/weights" and dataset["function"]][-1]
    more["datasets"].append(last | {"name": "entry_maximum", "meaning": "Largest of the entries"})
    say(copy, more)
    assert update(copy).returncode == 0
    assert "| `entry_maximum` | layer, matrix | 1 | Largest of the entries |" in (copy / "docs/file-format.md").read_text(encoding="utf-8")
    assert re.search(r"^\| `entry_maximum` \|.*\| – \|$", (copy / "docs/quantities.md").read_text(encoding="utf-8"), re.MULTILINE)
    known = json.loads((copy / "tools/python/spectrace/quantities.json").read_text(encoding="utf-8"))
    assert known["groups"]["/weights"]["entry_maximum"]["meaning"] == "Largest of the entries"


def test_function_that_no_header_declares_is_an_error(copy, described):
    say(copy, json.loads(json.dumps(described).replace('"entry_moments"', '"entry_momenta"')))
    run = update(copy)
    assert run.returncode == 1 and "no header under include declares 'entry_momenta', which a quantity names" in run.stderr
    assert (copy / "docs/file-format.md").read_bytes() == (ROOT / "docs/file-format.md").read_bytes()  # all or nothing


def test_group_without_a_heading_is_an_error(copy, described):
    say(copy, json.loads(json.dumps(described).replace('"/heads"', '"/maps"')))
    run = update(copy)
    assert run.returncode == 1 and "docs/quantities.md has no heading '### /maps'" in run.stderr
