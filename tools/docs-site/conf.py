"""The manual as a site, by Sphinx with MyST-Parser (tools/docs). Its pages are the Markdown files as they lie in the repository.

The site mirrors the repository, so the files' own links are right in both forms. What they link to besides Markdown becomes a
page (the notebook, sources with the suffixes below) or comes along as it is (pictures, LICENSE).
"""

import json
import re
from pathlib import Path

from sphinx import addnodes
from sphinx.writers.html5 import HTML5Translator

ROOT = Path(__file__).resolve().parents[2]
LEXERS = {".hpp": "cpp", ".cff": "yaml"}
# The order of reading. A page that is in docs/ and not here is an error of the build.
CONTENTS = {
    "Using it": ["Overview <self>", "docs/installing", "docs/manual", "docs/cluster"],
    "Results": ["docs/quantities", "docs/file-format", "docs/exports", "docs/demo"],
    "How it works": ["docs/families", "docs/numerics", "docs/benchmarks", "docs/design", "docs/adding-*"],
    "Jobs of the studies": ["jobs/*/README"],
    "About": ["CHANGELOG", "tools/docs-site/licence"],
}


def cited_sources():
    """{source: pages that link to it}, as paths in the repository."""
    cited = {}
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("jobs/*/README.md"))]:
        for link in re.findall(r"\]\(([^)#:\s]+)\)", page.read_text(encoding="utf-8")):
            target = (page.parent / link).resolve()
            if target.suffix in LEXERS and target.is_file():
                cited.setdefault(target.relative_to(ROOT).as_posix(), set()).add(page.relative_to(ROOT).as_posix())
    return cited


def markdown_of_contents():
    return "".join("\n```{toctree}\n:hidden:\n:glob:\n:caption: " + caption + "\n" + "".join(page + "\n" if "<" in page else f"/{page}\n" for page in pages) + "```\n"
                   for caption, pages in CONTENTS.items())


def markdown_of_source(path, text):
    up = "../" * path.count("/")
    pages = ", ".join(f"[{page}]({up}{page})" for page in sorted(CITED[path]))
    return f"---\norphan: true\n---\n# {path}\n\nCited by {pages}.\n\n``````{LEXERS[Path(path).suffix]}\n{text}``````\n"


def markdown_of_notebook(text):
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = {kind: "".join(value) for kind, value in output.get("data", {"text/plain": output.get("text", "")}).items()}
            if "image/png" in data:
                parts.append(f"![What the cell draws](data:image/png;base64,{data['image/png'].strip()})")
            elif "<table" in data.get("text/html", ""):
                table = data["text/html"].replace('class="dataframe"', 'class="dataframe docutils"')
                parts.append(f"``````{{raw}} html\n<div class=\"output\">{table}</div>\n``````")
            else:
                parts.append(f"``````text\n{data['text/plain']}\n``````")
    return "\n\n".join(parts)


def as_markdown(app, docname, content):
    path = app.env.doc2path(docname, base=False).as_posix()
    if docname == root_doc:
        content[0] += markdown_of_contents()
    elif path in CITED:
        content[0] = markdown_of_source(path, content[0])
    elif path.endswith(".ipynb"):
        content[0] = markdown_of_notebook(content[0])


def visit_file(translator, node):
    """A link to a file that comes along opens it; Sphinx would have it saved."""
    HTML5Translator.visit_download_reference(translator, node)
    translator.body[-1] = translator.body[-1].replace(' download=""', "")


def setup(app):
    app.connect("source-read", as_markdown)
    app.add_node(addnodes.download_reference, override=True, html=(visit_file, HTML5Translator.depart_download_reference))


CITED = cited_sources()
project = "spectrace"
author = copyright = "The spectrace authors"
version = release = re.search(r"project\(spectrace VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))[1]
root_doc = "README"
extensions = ["myst_parser"]
source_suffix = {suffix: "markdown" for suffix in (".md", ".ipynb", *LEXERS)}
include_patterns = ["README.md", "CHANGELOG.md", "docs/*.md", "docs/*.ipynb", "jobs/*/README.md", "tools/docs-site/*.md", *CITED]
exclude_patterns = [".*", "build", "out", "jobs/**/results"]
nitpicky = True
smartquotes = False
myst_heading_anchors = 4
highlight_language = "text"

html_theme = "furo"
html_title = f"spectrace {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "index.html"}
templates_path = ["templates"]
html_copy_source = False
html_show_sphinx = False
html_show_search_summary = False  # it would be fetched, which browsers refuse from file://
