"""docs/quantities.md has every dataset of the schema, with its unit and the function that computes it; and nothing else."""

import re

import pytest


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
def described(page):
    """{group: {dataset: row}} of docs/quantities.md"""
    return {title.replace("&lt;", "<").replace("&gt;", ">"): rows_of(body) for title, body in sections_of(page, r"### (/.*)").items()}


@pytest.fixture
def schema(root):
    """The same of docs/file-format.md, which is made from src/store/schema.cpp; /checkpoint holds digests, no quantities."""
    text = (root / "docs/file-format.md").read_text(encoding="utf-8")
    return {title: rows_of(body) for title, body in sections_of(text, r"## (/.*)").items() if title != "/checkpoint"}


def test_page_has_every_dataset_and_no_other(schema, described):
    assert set(described) == set(schema)
    for group in schema:
        assert list(described[group]) == list(schema[group]), group


def test_units_are_those_of_the_file(schema, described):
    for group, rows in schema.items():
        for dataset, row in rows.items():
            assert described[group][dataset][2] == row[2], f"{group}/{dataset}"


def test_every_row_names_a_function_that_its_header_declares(root, described):
    for group, rows in described.items():
        for dataset, row in rows.items():
            link = re.search(r"\[`(\w+)`\]\(\.\./(include/spectrace/[\w/]+\.hpp)\)", row[3])
            assert link, f"{group}/{dataset} links no function"
            assert re.search(rf"\b{link[1]}\b", (root / link[2]).read_text()), f"{link[2]} declares no {link[1]}"


def test_headers_and_page_cite_each_other(root, page):
    linked = set(re.findall(r"\.\./(include/spectrace/[\w/]+\.hpp)", page))
    for path in linked:
        assert (root / path).is_file(), path
    citing = {str(path.relative_to(root)) for path in (root / "include").rglob("*.hpp") if "docs/quantities.md" in path.read_text()}
    assert citing <= linked, f"cite the page, which does not link them: {sorted(citing - linked)}"
    assert linked - citing <= {"include/spectrace/numerics/singular_values.hpp"}  # it cites docs/numerics.md, which the page does too
    assert "(numerics.md)" in page and "docs/numerics.md" in (root / "include/spectrace/numerics/singular_values.hpp").read_text()


def test_sections_that_headers_cite_are_there(root, page):
    titles = re.findall(r"^## (\d+)\. ", page, re.MULTILINE)
    cited = {number for path in (root / "include").rglob("*.hpp")
             for line in re.findall(r"[Ss]ections? ([\d, to]+)[^\n]*docs/quantities\.md|docs/quantities\.md, section (\d+)", path.read_text())
             for number in re.findall(r"\d+", "".join(line))}
    assert len(cited) >= 5 and cited <= set(titles)
    assert page.rindex("## 9. Where the notebooks differ") > page.rindex("## 8.")  # "last section"


def test_file_format_links_the_page(root):
    assert "(quantities.md)" in (root / "docs/file-format.md").read_text(encoding="utf-8")
