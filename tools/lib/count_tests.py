"""Counts the test cases in JUnit files of ctest and pytest: prints "PASSED FAILED".

usage: count_tests.py FILE.xml ...

A ctest entry is a whole GoogleTest program; its cases are counted from its output. An entry that failed without a failed
case (a crash, a time-out, a rank that died) counts as one failed.
"""
import re
import sys
import xml.etree.ElementTree as ElementTree

PASSED_CASE = re.compile(r"^\[       OK \] ", re.MULTILINE)
FAILED_CASE = re.compile(r"^\[  FAILED  \] \S+.*\(\d+ ms\)$", re.MULTILINE)


def count(path: str) -> tuple[int, int]:
    passed = failed = 0
    for case in ElementTree.parse(path).iter("testcase"):
        bad = case.find("failure") is not None or case.find("error") is not None or case.get("status") == "fail"
        if not bad and (case.find("skipped") is not None or case.get("status") in ("disabled", "notrun")):
            continue
        output = case.findtext("system-out") or ""
        passed_cases, failed_cases = len(PASSED_CASE.findall(output)), len(FAILED_CASE.findall(output))
        passed += passed_cases if passed_cases or bad else 1
        failed += max(failed_cases, 1) if bad else 0
    return passed, failed


if __name__ == "__main__":
    counts = [count(path) for path in sys.argv[1:]]
    print(sum(c[0] for c in counts), sum(c[1] for c in counts))
