"""The table of docs/policies.md says what is tested, and nothing else."""

from pathlib import Path

HERE = Path(__file__).parent


def test_the_page_holds_the_table_as_it_is(matrix):
    page = HERE.parents[2] / "docs/policies.md"
    assert matrix.table() in page.read_text(encoding="utf-8")


def test_every_column_is_a_test_of_every_family(matrix):
    tests = "".join(path.read_text() for path in HERE.glob("test_policy_*.py"))
    for test in matrix.CHECKS.values():
        assert f"\ndef {test}(" in tests
