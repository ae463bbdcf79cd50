"""`sightline calibrate` against the real service app with fake models, over a socket."""

import json
import threading
import time

import httpx
import pytest
import uvicorn
from PIL import Image

from sightline import RewardClient
from sightline_core.fisao import Profile
from sightline_eval.calibrate_command import main
from sightline_service.app import create_app
from sightline_service.models.fake import FakeSimilarity
from sightline_service.served import Models
from sightline_service.settings import Settings

COLOURS = ("red", "green", "blue", "white")
NOUNS = ("dog", "cat", "bus", "pizza")
CAPTION = "A dog, a cat, a bus and a pizza by a lamp."


@pytest.fixture(scope="module")
def url():
    app = create_app(Settings(), Models(similarity=FakeSimilarity()))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline, "the service did not start"
        time.sleep(0.02)
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    while httpx.get(f"{address}/readyz").status_code != 200:
        assert time.monotonic() < deadline, "the service did not become ready"
        time.sleep(0.02)
    yield address
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def scores(tmp_path, url):
    """Writes four images; gives what the fake verifier thinks of each noun in each."""
    found = {}
    (tmp_path / "images").mkdir()
    with RewardClient(url) as client:
        for number, colour in enumerate(COLOURS):
            path = tmp_path / "images" / f"{colour}.png"
            Image.new("RGB", (32, 32), colour).save(path)
            (result,) = client.token_reward(path, CAPTION)
            found[number] = {span.entity: span.score for span in result.spans}
    return found


def arguments(tmp_path, url, truth):
    """Files in COCO's format that say which nouns are in which image."""
    instances = {
        "images": [{"id": n, "file_name": f"{name}.png"} for n, name in enumerate(COLOURS)],
        "categories": [{"id": n, "name": noun} for n, noun in enumerate(NOUNS)],
        "annotations": [
            {"image_id": image, "category_id": NOUNS.index(noun)}
            for image, nouns in truth.items()
            for noun in nouns
        ],
    }
    captions = [{"image_id": n, "caption": CAPTION} for n in range(len(COLOURS))]
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, captions)))
    return [
        f"--captions={tmp_path / 'captions.jsonl'}",
        f"--images={tmp_path / 'images'}",
        f"--instances={tmp_path / 'instances.json'}",
        f"--out={tmp_path / 'new' / 'profile.json'}",
        f"--url={url}",
    ]


def two_best(scores):
    return {image: sorted(NOUNS, key=by.get)[2:] for image, by in scores.items()}


def two_worst(scores):
    return {image: sorted(NOUNS, key=by.get)[:2] for image, by in scores.items()}


def test_a_profile_has_the_means_of_what_the_service_scored(tmp_path, url, scores, capsys):
    truth = two_best(scores)
    options = arguments(tmp_path, url, truth)
    plot = tmp_path / "plots" / "distributions.png"
    assert main([*options, "--margin=auto", "--name=toy", f"--plot={plot}"]) == 0
    profile = Profile.from_json((tmp_path / "new" / "profile.json").read_text())
    right = [scores[image][noun] for image, nouns in truth.items() for noun in nouns]
    wrong = [by[noun] for image, by in scores.items() for noun in NOUNS if noun not in truth[image]]
    assert profile.mu_gt == pytest.approx(sum(right) / 8)
    assert profile.mu_hal == pytest.approx(sum(wrong) / 8)
    assert (profile.s_min, profile.s_max) == pytest.approx((min(wrong + right), max(wrong + right)))
    assert (profile.name, profile.model_id, profile.n_gt, profile.n_hal) == ("toy", "fake", 8, 8)
    assert profile.s_min < profile.lower < profile.upper < profile.s_max
    with Image.open(plot) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
    assert {(26, 127, 90), (194, 65, 59)} <= colours  # the lines of both means
    assert "not annotated, left out" in capsys.readouterr().out  # the lamps


def test_a_verifier_that_prefers_what_is_absent_is_refused(tmp_path, url, scores, capsys):
    assert main(arguments(tmp_path, url, two_worst(scores))) == 1
    message = " ".join(capsys.readouterr().err.split())
    assert "correct objects must score above hallucinated ones" in message
    assert not (tmp_path / "new").exists()


def test_a_margin_that_silences_every_reward_is_reported(tmp_path, url, scores, capsys):
    assert main([*arguments(tmp_path, url, two_best(scores)), "--margin=500"]) == 0
    message = " ".join(capsys.readouterr().err.split())
    assert "Only 0.00% of the mentions lie above the upper threshold" in message
    assert "try --margin auto" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--margin=-1", "margin is -1.0: give 0 or more"),
        ("--url=http://127.0.0.1:9", "127.0.0.1:9"),
        ("--captions=/nowhere.jsonl", "/nowhere.jsonl"),
    ],
)
def test_what_cannot_work_is_one_line(tmp_path, url, scores, capsys, change, message):
    assert main([*arguments(tmp_path, url, two_best(scores)), change]) == 1
    assert message in " ".join(capsys.readouterr().err.split())


def test_missing_options_are_named(capsys):
    with pytest.raises(SystemExit):
        main(["--captions=x.jsonl"])
    assert "give --images, --instances, --out, or --world" in capsys.readouterr().err
