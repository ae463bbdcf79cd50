import io
import json
from pathlib import Path

import pytest

from sightline import cli
from sightline.scoring import ROWS_PER_REQUEST
from sightline_proto import ErrorCode


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(b"an image")
    return path


@pytest.fixture
def score(live, capsys, monkeypatch):
    monkeypatch.setenv("REWARD_URL", live.url)
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def run(*arguments: object) -> tuple[int, list[str], list[str]]:
        status = cli.main(["score", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out.splitlines(), captured.err.splitlines()

    return run


def test_captions_are_shown_with_their_rewards(score, image):
    status, out, err = score(image, "--text", "A dog and a cat.")
    assert (status, err) == (0, [])
    assert out == [
        str(image),
        "A [dog +0.83] and a [cat -0.83].",
        "  dog  score  33.00  reward +0.83  supported",
        "  cat  score   7.00  reward -0.83  hallucinated",
        "  [word reward] from -1 (hallucinated) to +1; score = 100 x cosine",
    ]


def test_both_levels_are_asked_for_together(score, image):
    status, out, _ = score(image, "--text", "A cat. A dog.", "--level", "both")
    assert status == 0
    assert out[1] == "A [cat -0.83]. A [dog +0.83]."
    assert out[4:7] == [
        "  text      score  33.00",
        "  sentence  score   7.00  A cat.",
        "  sentence  score  33.00  A dog.",
    ]


def test_sentences_alone_repeat_the_text_and_need_no_legend(score, image):
    status, out, _ = score(image, "--text", "A cat.", "--level", "sentence")
    assert status == 0
    assert out == [
        str(image),
        "A cat.",
        "  text      score   7.00",
        "  sentence  score   7.00  A cat.",
    ]


def test_every_image_meets_every_text(score, image, tmp_path, live):
    other = tmp_path / "b.png"
    other.write_bytes(b"another")
    status, out, _ = score(image, other, "--text", "A dog.", "--text", "A cat.", "--json")
    assert status == 0
    lines = [json.loads(line) for line in out]
    assert [(line["image"], line["texts"]) for line in lines] == [
        (str(image), ["A dog.", "A cat."]),
        (str(other), ["A dog.", "A cat."]),
    ]
    verdicts = [[r["spans"][0]["verdict"] for r in line["token_reward"]] for line in lines]
    assert verdicts == [["supported", "hallucinated"]] * 2
    assert len(live.fake.requests) == 1


def test_rows_fail_alone_and_are_named_by_file_and_line(score, image, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"broken")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        '{"image": "a.png", "text": "A dog.", "id": "first"}\n'
        '{"image": "gone.png", "text": "A dog.", "id": "second"}\n'
        "{oops\n"
        "\n"
        '{"image": "broken.png", "text": "A dog."}\n'
        '{"image": "a.png", "texts": ["A dog."], "token_offsets": [[[0, 99]]]}\n'
        '{"image": "a.png", "texts": ["A cat."], "token_offsets": [[[0, 2], [2, 5]]]}\n'
    )
    status, out, err = score("--texts-file", rows, "--json")
    assert status == 1
    lines = [json.loads(line) for line in out]
    assert [line["origin"].rsplit(":")[-1] for line in lines] == ["1", "2", "3", "5", "6", "7"]
    assert ["error" in line for line in lines] == [False, True, True, True, True, False]
    assert lines[0]["id"] == "first"
    assert lines[5]["token_reward"][0]["token_rewards"] == pytest.approx([0.0, -0.8333333])
    assert [line.split(": ")[1] for line in err] == [f"{rows}:{n}" for n in (2, 3, 5, 6)]
    assert "gone.png' cannot be read: No such file" in err[0]
    assert "the bytes are no image (image_invalid)" in err[2]
    assert "[0, 99], outside the text" in err[3]


def test_rows_come_from_stdin_with_paths_from_the_working_directory(score, image, monkeypatch):
    monkeypatch.chdir(image.parent)
    lines = '{"image": "a.png", "text": "A dog."}\n{"text": "A cat."}\n'
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    status, out, err = score(image, "--texts-file", "-", "--json")
    assert (status, err) == (0, [])
    assert [json.loads(line)["origin"] for line in out] == ["stdin:1", "stdin:2"]


def test_many_rows_travel_in_batches_and_come_back_in_order(score, image, tmp_path, live):
    rows = tmp_path / "rows.jsonl"
    count = 3 * ROWS_PER_REQUEST + 1
    rows.write_text(
        "".join(
            json.dumps({"image": "a.png", "text": "A dog.", "id": number}) + "\n"
            for number in range(count)
        )
    )
    status, out, _ = score("--texts-file", rows, "--json")
    assert status == 0
    assert [json.loads(line)["id"] for line in out] == [str(number) for number in range(count)]
    posts = [request for request in live.fake.requests if request.method == "POST"]
    assert 4 <= len(posts) <= 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --text or --texts-file"),
        (["--text", "A"], "--text needs an IMAGE"),
        (["a", "b", "--texts-file", "x"], "at most one IMAGE"),
        (["a", "--text", "A", "--level", "word"], "invalid choice: 'word'"),
    ],
)
def test_wrong_usage_is_explained(score, arguments, message):
    status, _, err = score(*arguments)
    assert status == 2
    assert message in err[-1]


def test_a_missing_file_and_a_refusal_are_one_line(score, image, live):
    status, _, err = score("--texts-file", "gone.jsonl")
    assert (status, len(err)) == (1, 1)
    assert "gone.jsonl" in err[0]
    live.fake.fail_next(404, ErrorCode.PROFILE_NOT_FOUND)
    status, _, err = score(image, "--text", "A", "--profile", "gone")
    assert (status, len(err)) == (1, 1)
    assert "profile_not_found" in err[0]


def test_help_shows_examples(capsys):
    assert cli.main(["score", "--help"]) == 0
    assert 'sightline score photo.jpg --text "A dog' in capsys.readouterr().out
