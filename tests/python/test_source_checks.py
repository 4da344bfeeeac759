"""The checks of C++ sources by what they are for: tools/check_sizes, tools/check_names, and their reader tools/lib/cpp_source.py."""

import subprocess
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools" / "lib"))
import cpp_source  # noqa: E402


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def check(tool, tree):
    run = subprocess.run([sys.executable, ROOT / "tools" / tool, tree], capture_output=True, text=True)
    assert run.stderr == "" and run.returncode in (0, 1)
    return run.stdout.splitlines() if run.returncode else []


def body(num_lines, head, end="}"):
    """Code of so many lines, the first of them `head`."""
    return "\n".join([head, *["  f();"] * (num_lines - 2), end]) + "\n"


# How functions begin and end that may be too long.
FUNCTIONS = {
    "function": ("void long_one(int a) {", "}"),
    "two lines of parameters": ("void long_one(int a,\n              int b) {", "}"),
    "member": ("class A {\n public:\n  void long_one() const {", "  }\n};"),
    "out of its class": ("void A::long_one() {", "}"),
    "constructor": ("A::long_one() : a_{1}, b_(2) {", "}"),
    "template": ("template <class T>\nT long_one(std::vector<T> a) {", "}"),
    "constrained": ("template <class T>\n  requires std::integral<T> && (sizeof(T) > 2)\nT long_one(T a) {", "}"),
    "constrained behind": ("template <class T>\nT long_one(T a) requires std::integral<T> {", "}"),
    "with a default": ("void long_one(A a = {}, B b = A{1}) {", "}"),
    "of a namespace": ("namespace a {\nnamespace {\nvoid long_one() {", "}\n}\n}"),
    "lambda": ("const auto long_one = [](int a) {", "};"),
    "lambda that returns a type": ("const auto long_one = [&a, b = 1](int a) mutable -> std::vector<int> {", "};"),
    "lambda without parameters": ("auto long_one = [] {", "};"),
    "lambda of a template": ("auto long_one = []<class T>(T a) {", "};"),
    "lambda in a table": ("const Entry kTable[] = {{\"a\", [](int a) {", "}}};"),
    "lambda in a call": ("const bool is_known = learn(\"a\", [](int a) {", "});"),
}


@pytest.mark.parametrize("head, end", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize("file", ["src/core/a.cpp", "src/core/b.hpp", "include/spectrace/core/a.hpp"])
def test_functions_above_60_lines_are_named(tmp_path, file, head, end):
    # A function's lines begin where its declaration does: behind what stands around it.
    around = sum(line.startswith(("class A", " public", "namespace")) for line in head.splitlines())
    own = 61 + around + end.count("\n")
    assert check("check_sizes", write(tmp_path, {file: body(own - head.count("\n") - end.count("\n"), head, end)})) != []
    assert check("check_sizes", write(tmp_path, {file: body(own - 1 - head.count("\n") - end.count("\n"), head, end)})) == []


def test_the_place_and_the_name_are_said(tmp_path):
    text = "\n" + body(61, "void long_one() {") + body(70, "static auto handler = [](int a) {", "};")
    assert check("check_sizes", write(tmp_path, {"src/core/a.cpp": text})) == [
        "src/core/a.cpp:2: long_one has 61 lines, expected at most 60", "src/core/a.cpp:63: a lambda has 70 lines, expected at most 60"]


def test_what_is_long_and_no_function_passes(tmp_path):
    text = body(90, "struct Table {", "};").replace("f()", "int a") + "const int kTable[] = {\n" + "  1,\n" * 90 + "};\n"
    text += "enum class Kind {\n" + "  a,\n" * 90 + "};\n/*\nvoid f() {\n" + "  f();\n" * 90 + "}\n*/\n"
    assert check("check_sizes", write(tmp_path, {"src/core/a.cpp": text})) == []


@pytest.mark.parametrize("file", ["src/core/a.cpp", "include/spectrace/core/a.hpp", "src/core/a.inl"])
def test_sources_above_400_lines_are_named(tmp_path, file):
    assert check("check_sizes", write(tmp_path, {file: "int a;\n" * 400})) == []
    assert check("check_sizes", write(tmp_path, {file: "int a;\n" * 401})) == [f"{file}: has 401 lines, expected at most 400"]


def hidden(declaration):
    return "namespace spectrace {\nnamespace {\n" + declaration + "\n}\n}\n"


@pytest.mark.parametrize("declaration, name", [
    ("void f(int a) {}", "f"), ("constexpr int kA = 1;", "kA"), ("struct A {\n  int b;\n};", "A"), ("enum class E { a, b };", "E"),
    ("using T = int;", "T"), ("typedef int T;", "T"), ("template <class T>\nT f(T a);", "f"), ("template <class T>\n  requires Number<T>\nT f(T a);", "f"),
    ("const std::map<int, std::pair<int, int>> kMap = {{1, {2, 3}}};", "kMap"), ("int values[3] = {1, 2, 3};", "values"),
    ("const auto f = [](int a) { return a; };", "f"), ("[[maybe_unused]] int count() { return 1; }", "count"),
])
def test_a_name_of_its_own_in_two_sources_of_a_module_is_named(tmp_path, declaration, name):
    tree = write(tmp_path, {"src/core/a.cpp": hidden(declaration), "src/core/b.cpp": hidden(declaration)})
    assert check("check_names", tree) == [f"src/core/a.cpp:3: '{name}' is in src/core/b.cpp:3 too"]


@pytest.mark.parametrize("files", [
    {"src/core/a.cpp": hidden("int f();"), "src/text/b.cpp": hidden("int f();")},  # another module
    {"src/core/a.cpp": hidden("namespace a {\nint f();\n}"), "src/core/b.cpp": hidden("namespace b {\nint f();\n}")},
    {"src/core/a.cpp": hidden("struct A {\n  int f();\n};"), "src/core/b.cpp": hidden("struct B {\n  int f();\n};")},  # members
    {"src/core/a.cpp": hidden("int f() {\n  int g = 1;\n  return g;\n}"), "src/core/b.cpp": hidden("int h() {\n  int g = 1;\n  return g;\n}")},
    {"src/text/a.cpp": hidden("int f();"), "include/spectrace/plan/b.hpp": "namespace spectrace {\nint f();\n}\n"},  # to its right: never seen there
    {"src/core/a.cpp": hidden("// int f();\nconst char* kA = \"int f();\";"), "src/core/b.cpp": hidden("int f();")},
])
def test_names_that_never_meet_pass(tmp_path, files):
    assert check("check_names", write(tmp_path, files)) == []


def test_a_name_of_its_own_that_a_header_declares_is_named(tmp_path):
    tree = write(tmp_path, {"src/text/a.cpp": hidden("int f();"), "include/spectrace/core/b.hpp": "namespace spectrace {\nint f();\n}\n"})
    assert check("check_names", tree) == ["src/text/a.cpp:3: 'f' is in include/spectrace/core/b.hpp:2 too"]


def test_declarations_of_a_source():
    text = '''#include "a.hpp"
namespace spectrace {
namespace {
constexpr double kHalf = 0.5;
struct Point {
  double x = 0, y{1};
  double norm() const { return x; }
};
}
/// Not this: void g() {
std::string name(const Point& p, int n = 1) {
  return R"(void h() {)" + "}";
}
Point::Point() : x{1}, y(2) {
}
bool operator<(const Point& a, const Point& b) { return a.x < b.x; }
extern int other;
}
'''
    found = [(d.name, d.kind, d.namespaces, d.is_member, d.first_line, d.last_line) for d in cpp_source.declarations(text)]
    hidden_in, outside = ("spectrace", ""), ("spectrace",)
    assert sorted(found, key=lambda d: (d[4], d[0])) == [
        ("kHalf", "variable", hidden_in, False, 4, 4), ("Point", "type", hidden_in, False, 5, 8),
        ("x", "variable", hidden_in, True, 6, 6), ("norm", "function", hidden_in, True, 7, 7), ("name", "function", outside, False, 11, 13),
        ("Point::Point", "function", outside, False, 14, 15), ("operator", "function", outside, False, 16, 16)]


def test_all_sources_are_found_and_tests_are_none_of_them(tmp_path):
    names = ["include/spectrace/core/a.hpp", "src/core/a.cpp", "src/core/c.cpp.in", "src/core/deep/b.inl"]
    tree = write(tmp_path, {name: "" for name in [*names, "src/core/CMakeLists.txt", "tests/core/a_test.cpp", "docs/a.cpp"]})
    assert [str(path) for path in cpp_source.sources(tree)] == names
    assert [cpp_source.module_of(path) for path in cpp_source.sources(tree, folders=("include", "src", "tests"))] == ["core"] * 5


@pytest.mark.parametrize("tool", ["check_sizes", "check_names", "check_layers"])
def test_a_tree_without_sources_does_not_pass(tmp_path, tool):
    assert check(tool, tmp_path) != []


@pytest.mark.parametrize("tool", ["check_sizes", "check_names", "check_layers"])
def test_this_tree_passes(tool):
    assert check(tool, ROOT) == []
