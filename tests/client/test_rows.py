import re
from pathlib import Path

import pytest

from sightline.rows import BadRow, Row, read_rows

FOLDER = Path("/data")


def rows(*lines: str, image: Path | None = None) -> list[Row | BadRow]:
    return list(
        read_rows([line.encode() for line in lines], name="file.jsonl", folder=FOLDER, image=image)
    )


def test_a_line_names_an_image_and_its_texts():
    assert rows(
        '{"image": "a.png", "text": "A dog.", "label": "ignored"}\n',
        '{"image": "/b.png", "texts": ["A", "B"], "id": 7, "language_scores": [1, 2.5]}',
        '{"image": "c.png", "text": "A", "token_offsets": [[[0, 1]]]}',
    ) == [
        Row("file.jsonl:1", FOLDER / "a.png", ("A dog.",)),
        Row("file.jsonl:2", Path("/b.png"), ("A", "B"), id="7", language_scores=(1.0, 2.5)),
        Row("file.jsonl:3", FOLDER / "c.png", ("A",), token_offsets=(((0, 1),),)),
    ]


def test_blank_lines_are_skipped_but_counted():
    [row] = rows("\n", "  \n", '{"image": "a", "text": "b"}')
    assert row.origin == "file.jsonl:3"


def test_lines_without_an_image_take_the_one_that_is_given():
    [row] = rows('{"text": "A"}', image=Path("given.png"))
    assert isinstance(row, Row)
    assert row.image == Path("given.png")


def test_a_byte_order_mark_is_skipped_and_other_encodings_are_bad_lines():
    lines = [b'\xef\xbb\xbf{"image": "a", "text": "b"}\n', '{"text": "é"}'.encode("latin-1")]
    good, bad = read_rows(lines, name="f", folder=FOLDER, image=Path("x"))
    assert isinstance(good, Row)
    assert isinstance(bad, BadRow)
    assert "unicode" in bad.message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", "not JSON: key must be a string at line 1 column 2"),
        ("[1]", "should be an object"),
        ('{"text": "A"}', 'no "image"'),
        ('{"image": "a"}', 'give either "text" or "texts"'),
        ('{"image": "a", "text": "A", "texts": ["B"]}', 'give either "text" or "texts"'),
        ('{"image": 3, "text": "A"}', "image: .*got 3"),
        ('{"image": "a", "texts": ["A", 3]}', r"texts\[1\]: .*got 3"),
    ],
)
def test_a_bad_line_is_named_and_the_next_is_read(line, message):
    bad, good = rows(line, '{"image": "a", "text": "b"}')
    assert isinstance(bad, BadRow)
    assert bad.origin == "file.jsonl:1"
    assert re.search(message, bad.message)
    assert isinstance(good, Row)
