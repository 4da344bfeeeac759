"""C++ as far as checks of sources need it: where sources lie, which declarations stand in which namespace or class, and from which
line to which they go.

No parser: it relies on code that clang-format has laid out and a compiler has accepted.
"""

import dataclasses
import pathlib
import re
import sys

# Modules, each of which includes only what stands to its left.
CHAIN = ("core", "numerics", "checkpoint", "text", "model", "measure", "plan", "comm", "store", "results", "work", "sweep", "app")
ALL_SUFFIXES = (".hpp", ".cpp", ".inl", ".in")


def sources(root: pathlib.Path, folders=("include", "src"), suffixes=ALL_SUFFIXES) -> list[pathlib.Path]:
    """C++ below these folders of a checkout, from its root, in the order of their paths."""
    return sorted(path.relative_to(root) for folder in folders for path in (root / folder).rglob("*") if path.suffix in suffixes and path.is_file())


def module_of(path: pathlib.Path) -> str | None:
    """include/spectrace/M/..., src/M/..., tests/M/...; None for what is in no module (tests/support)."""
    name = path.parts[2] if path.parts[0] == "include" else path.parts[1]
    return name if name in CHAIN else None


def run_check(problems_of, all_is_well: str, **where) -> int:
    """A check's main: problems_of(root, files) of the checkout, or of the folder that is its argument. Prints the problems, else
    how many files are well; returns the exit code: 1 too where there are no files."""
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]
    files = sources(root, **where)
    problems = problems_of(root, files)
    print("\n".join(problems) or f"{len(files)} files {all_is_well}")
    return 1 if problems or not files else 0


LITERAL = r'''R"(?P<mark>[^(\s]*)\(.*?\)(?P=mark)"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+\''''
COMMENT = r"//[^\n]*|/\*.*?\*/"
DIRECTIVE = r"^[ \t]*\#(?:\\\n|[^\n])*"
NOT_CODE = re.compile(f"{LITERAL}|{COMMENT}|{DIRECTIVE}", re.DOTALL | re.MULTILINE)
NAMESPACE = re.compile(r"^(?:inline\s+)?namespace(?:\s+([\w:]+))?$")
# Not `struct stat status`, which declares a variable.
TYPE = re.compile(r"^(?:class|struct|union|enum(?:\s+class|\s+struct)?)\s+(?:alignas\([^)]*\)\s*)?([\w:]+)(?![\w:]|\s+(?!final\b)[A-Za-z_])")
ALIAS = re.compile(r"^using\s+(\w+)$")  # up to its =
TYPEDEF = re.compile(r"^typedef\b.*?(\w+)$", re.DOTALL)
ATTRIBUTE = re.compile(r"\[\[.*?\]\]|__extension__\b|__attribute__\s*\(\(.*?\)\)", re.DOTALL)
NO_DECLARATION = re.compile(r"^(?:static_assert|friend|using|extern|template|namespace|return)\b")
ACCESS = re.compile(r"^(?:(?:public|private|protected)\s*:\s*)+")
CONCEPT = re.compile(r"!?[\w:]+")
# Not a place in an array, nor an attribute.
LAMBDA = re.compile(r"(?<![\w\])>\[])\[(?!\[)")
BEFORE_BODY = re.compile(r"[\s\w:&*]*(?:->[\s\w:&*]*)?(?=[({<])")  # parameters, `mutable`, a type
QUALIFIED = re.compile(r"(?:[A-Za-z_]\w*(?:<[^()]*>)?::)*~?[A-Za-z_]\w*$")


@dataclasses.dataclass(frozen=True)
class Declaration:
    name: str  # with the classes before it where it is defined outside of them
    kind: str  # "type", "function" or "variable"
    namespaces: tuple[str, ...]  # around it; "" for one without a name
    is_member: bool  # it stands in a class
    first_line: int
    last_line: int  # of the body, if it has one; else the first one


@dataclasses.dataclass
class Scope:
    kind: str  # "namespace", "type" or "body"
    name: str = ""
    declared: tuple[str, str] | None = None
    begin: int = 0


def without_literals(text: str) -> str:
    """The same text, on the same lines, in which braces and names are code."""
    return NOT_CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def end_of_angles(text: str) -> int:
    """Place behind the > of the < that the text has first."""
    depth = 0
    for at, c in enumerate(text):
        depth += (c == "<") - (c == ">" and text[at - 1] != "-")
        if c == ">" and depth == 0:
            return at + 1
    return len(text)


def end_of_parentheses(text: str, at: int) -> int:
    """Place behind the ) of the ( at that place."""
    depth = 0
    for place in range(at, len(text)):
        depth += (text[place] in "({[") - (text[place] in ")}]")
        if depth == 0:
            return place + 1
    return len(text)


def without_requirements(head: str) -> str:
    """What follows a `requires` clause."""
    rest = head.removeprefix("requires").strip()
    while True:
        if rest.startswith("("):
            rest = rest[end_of_parentheses(rest, 0):].strip()
        elif match := CONCEPT.match(rest):
            rest = rest[match.end():]
            rest = rest[end_of_angles(rest):].strip() if rest.startswith("<") else rest.strip()
        if not rest.startswith(("&&", "||")):
            return rest
        rest = rest[2:].strip()


def declared_by(head: str) -> tuple[str, str] | None:
    """Name and kind of what the beginning of a declaration, up to its `{`, `=` or `;`, declares."""
    head = ACCESS.sub("", ATTRIBUTE.sub(" ", head).strip())
    while head.startswith("template"):
        head = head[end_of_angles(head):].strip()
        if head.startswith("requires"):
            head = without_requirements(head)
    for pattern in (TYPE, ALIAS, TYPEDEF):
        if match := pattern.match(head):
            return match[1], "type"
    if not head or NO_DECLARATION.match(head):
        return None
    depth, before = 0, None
    for at, c in enumerate(head):
        if c == "(" and depth == 0:
            before = head[:at]
            break
        depth += (c == "<") - (c == ">" and head[at - 1] != "-")
    if "operator" in head:
        return "operator", "function"
    text = (before if before is not None else head.split("[")[0]).rstrip()
    match = QUALIFIED.search(text)
    if not match or (before is None and not text[:match.start()].strip()):
        return None  # a macro, or an enum without a name
    return match[0], "variable" if before is None else "function"


class Scanner:
    def __init__(self, text: str):
        self.text = without_literals(text)
        self.scopes: list[Scope] = []
        self.begin = 0  # of the declaration under way
        self.is_taken = False  # its name is known
        self.declarations: list[Declaration] = []

    def line(self, at: int) -> int:
        return self.text.count("\n", 0, at) + 1

    def start(self) -> int:
        """Where the declaration under way begins, white space and access specifiers aside."""
        return self.begin + re.match(r"\s*(?:(?:public|private|protected)\s*:\s*)*", self.text[self.begin:])[0].__len__()

    def is_in_body(self) -> bool:
        return any(scope.kind == "body" for scope in self.scopes)

    def add(self, declared: tuple[str, str], begin: int, end: int) -> None:
        namespaces = tuple(scope.name for scope in self.scopes if scope.kind == "namespace")
        is_member = any(scope.kind == "type" for scope in self.scopes)
        self.declarations.append(Declaration(*declared, namespaces, is_member, self.line(begin), self.line(end)))

    def take(self, end: int) -> None:
        """Without a body."""
        if not self.is_taken and not self.is_in_body():
            if declared := declared_by(self.text[self.begin:end]):
                self.add(declared, self.start(), self.start())
            self.is_taken = True

    def begin_anew(self, at: int) -> None:
        if not self.is_in_body():
            self.begin, self.is_taken = at, False

    def open(self, at: int) -> None:
        head = self.text[self.begin:at].strip()
        if self.is_in_body() or self.is_taken:
            self.scopes.append(Scope("body"))
        elif match := NAMESPACE.match(head):
            self.scopes.append(Scope("namespace", match[1] or ""))
            self.begin_anew(at + 1)
        else:
            declared = declared_by(head)
            is_class = declared is not None and declared[1] == "type" and not re.search(r"\benum\b", head)
            self.scopes.append(Scope("type" if is_class else "body", declared[0] if declared else "", declared, self.start()))
            if is_class:
                self.begin_anew(at + 1)

    def close(self, at: int) -> None:
        if not self.scopes:
            return
        scope = self.scopes.pop()
        if scope.declared is not None:
            self.add(scope.declared, scope.begin, at)
        follows = self.text[at + 1:].lstrip()[:1]
        if scope.kind != "namespace" and follows in (",", "{", ";", "=", ")"):
            # A member's initializer, or a type or variable whose `;` follows.
            self.is_taken = follows not in (",", "{") or scope.declared is None
            if follows in (",", "{") and scope.declared is not None and not self.is_in_body():
                self.declarations.pop()
                self.begin = scope.begin
            return
        self.begin_anew(at + 1)

    def scan(self) -> list[Declaration]:
        parentheses = 0
        for at, c in enumerate(self.text):
            if c in "()":
                parentheses += 1 if c == "(" else -1
            elif parentheses:
                continue
            elif c == "=" and self.text[at - 1] not in "=!<>+-*/%&|^" and self.text[at + 1:at + 2] != "=":
                if "operator" not in self.text[self.begin:at]:
                    self.take(at)
            elif c == "{":
                self.open(at)
            elif c == "}":
                self.close(at)
            elif c == ";":
                self.take(at)
                self.begin_anew(at + 1)
        return self.declarations


def declarations(text: str) -> list[Declaration]:
    return Scanner(text).scan()


def lambdas(text: str) -> list[Declaration]:
    """Each lambda, wherever it stands: in a table, in a call, in a function."""
    text, found = without_literals(text), []
    for match in LAMBDA.finditer(text):
        at = end_of_parentheses(text, match.start())
        while body := BEFORE_BODY.match(text, at):
            at = body.end()
            if text[at] == "{":
                lines = [text.count("\n", 0, place) + 1 for place in (match.start(), end_of_parentheses(text, at) - 1)]
                found.append(Declaration("a lambda", "function", (), False, *lines))
                break
            at = end_of_parentheses(text, at) if text[at] == "(" else at + end_of_angles(text[at:])
    return found
