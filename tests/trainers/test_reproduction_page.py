"""docs/reproduction.md shows what the committed results say, and nothing else."""

from pathlib import Path

from sightline_trainers.reproduction.results import read_results
from sightline_trainers.reproduction.summary import summarise_all

DOCS = Path(__file__).parents[2] / "docs"


def test_every_table_of_the_page_is_the_summary_of_the_committed_results() -> None:
    page = (DOCS / "reproduction.md").read_text(encoding="utf-8")
    files = sorted((DOCS / "reproduction").glob("*.json"))
    assert files
    sections = summarise_all([read_results(file) for file in files]).split("### ")[1:]
    assert len(sections) == page.count("\n### ")
    for section in sections:
        assert section.strip() in page
