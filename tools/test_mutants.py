"""Check what tools/mutants.py changes."""

import pytest

from tools.mutants import find_mutants


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("f()", ["pass"]),
        ("await f()", ["pass", "await f()\nawait f()"]),
        ("f()\na = b", ["a = b", "f()", "a = b\nf()"]),
        ("with a: f()", ["pass", "f()", "with a:\n    pass"]),
        ("try: f()\nfinally: a", ["try:\n    f()\nfinally:\n    pass"]),
        ("match a:\n case 1: f()\n case 2: b", ["match a:\n    case 2:\n        b"]),
        ("def f(): return 1", ["def f():\n    pass"]),
        ("import a\n'b'\nif __name__ == '__main__': f()", []),
    ],
)
def test_changes(code: str, expected: list[str]) -> None:
    right, *mutants = find_mutants(code)
    assert set(expected) <= set(mutants)
    assert right not in mutants
    assert mutants or not expected
