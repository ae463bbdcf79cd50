"""The printed matrix and its page."""

from pathlib import Path

from sightline_service.models.families import DETECTORS, VERIFIERS, main, table
from sightline_service.models.reference import ModelReference

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_page_holds_the_tables_that_the_code_prints(capsys):
    main()
    printed = capsys.readouterr().out
    for families in (VERIFIERS, DETECTORS):
        assert table(families) in PAGE.read_text()
        assert table(families) in printed


def test_every_example_is_a_reference_of_the_grammar():
    for family in (*VERIFIERS, *DETECTORS):
        assert ModelReference.parse(family.example).text == family.example
