"""Weights from a folder and from an HTTP stand-in of the hub: fetched, locked, verified, served."""

import importlib.util
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from sightline_service.__main__ import main as serve
from sightline_service.loading import ModelLoader
from sightline_service.models.load import load_similarity
from sightline_service.models.reference import ModelLoadError
from sightline_service.models.weights_lock import LOCK_NAME, WeightsFolder, check_locked
from sightline_service.settings import Settings
from sightline_service.weights_command import main

AT = Path(__file__).with_name("verifiers") / "models.py"
SPEC = importlib.util.spec_from_file_location("verifiers", AT)
MODELS = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(MODELS)
COMMIT = "0123456789" * 4


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("locked")
    MODELS.hf_siglip(folder)
    return folder


@pytest.fixture
def copy(sound, tmp_path):
    return Path(shutil.copytree(sound, tmp_path / "model"))


@pytest.fixture
def hub(sound):
    """A hub with one repository, org/siglip, at one commit; it also holds a pickle."""

    class Hub(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.answer()

        def answer(self):
            names = [*sorted(path.name for path in sound.iterdir()), "pytorch_model.bin"]
            name = self.path.rpartition("/")[2].partition("?")[0]
            asked.append(name)
            if "/tree/" in self.path:
                tree = [{"type": "file", "path": each, "size": 1, "oid": each} for each in names]
                body = json.dumps(tree).encode()
            elif self.path.startswith("/api/models/org/siglip"):
                files = [{"rfilename": each} for each in names]
                body = json.dumps({"id": "org/siglip", "sha": COMMIT, "siblings": files}).encode()
            elif "/resolve/" in self.path and (sound / name).is_file():
                body = (sound / name).read_bytes()
            else:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("ETag", f'"{len(body)}-{name}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = asked
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def online(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


def test_what_a_hub_gives_is_locked_and_served_without_it(hub, online, tmp_path, monkeypatch):
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    home = tmp_path / "home"
    lock = WeightsFolder(home).fetch(["hf:org/siglip"], endpoint=endpoint)
    assert "pytorch_model.bin" not in hub.asked
    [model] = lock.models
    assert (model.reference, model.revision) == ("hf:org/siglip", COMMIT)
    assert {"model.safetensors", "config.json"} <= set(model.files)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(home / "hub"))
    assert WeightsFolder(home).verify() == lock
    check_locked(["hf:org/siglip", "world"], home / LOCK_NAME)
    served = load_similarity("hf:org/siglip", device="cpu", dtype="float32")
    assert served.info.revision == COMMIT


def test_a_folder_is_locked_where_it_is(copy, tmp_path, capsys):
    assert main(["fetch", f"hf:{copy}", "--folder", str(tmp_path)]) == 0
    assert main(["verify", "--folder", str(tmp_path)]) == 0
    assert f"hf:{copy}  revision local" in capsys.readouterr().out
    settings = Settings(
        similarity=f"hf:{copy}",
        detector="fake",
        perplexity="none",
        weights_lock=tmp_path / LOCK_NAME,
    )
    assert ModelLoader(settings).roles == ("similarity", "detector")


@pytest.mark.parametrize("name", ["model.safetensors", "preprocessor_config.json"])
def test_a_changed_file_is_named_with_both_hashes_before_the_port_opens(
    name, copy, tmp_path, capsys
):
    lock = WeightsFolder(tmp_path).fetch([f"hf:{copy}"])
    file = copy / name
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert main(["verify", "--folder", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert f"{file} has sha256 " in message
    assert lock.models[0].files[name] in message
    flags = ["--similarity", f"hf:{copy}", "--detector", "none", "--perplexity", "none"]
    assert serve([*flags, "--weights-lock", str(tmp_path / LOCK_NAME), "--port", "0"]) == 2
    told = capsys.readouterr().err
    assert f"{file} has sha256 " in told
    assert "serving" not in told


@pytest.mark.parametrize(("change", "words"), [("lose", "is missing"), ("add", "is not in")])
def test_a_lost_or_an_added_file_is_named(change, words, copy, tmp_path):
    WeightsFolder(tmp_path).fetch([f"hf:{copy}"])
    if change == "lose":
        (copy / "config.json").unlink()
    else:
        (copy / "extra.json").write_text("{}")
    with pytest.raises(ModelLoadError, match=words):
        WeightsFolder(tmp_path).verify()


def test_preprocessing_has_a_hash_of_its_own(copy, tmp_path):
    before = WeightsFolder(tmp_path).fetch([f"hf:{copy}"]).models[0].preprocess
    (copy / "preprocessor_config.json").write_text("{}")
    assert WeightsFolder(tmp_path).fetch([f"hf:{copy}"]).models[0].preprocess != before


@pytest.mark.parametrize("content", [None, "", "[]", '{"version": 1}'])
def test_a_missing_or_broken_lock_is_named(content, tmp_path):
    if content is not None:
        (tmp_path / LOCK_NAME).write_text(content)
    with pytest.raises(ModelLoadError, match=LOCK_NAME):
        WeightsFolder(tmp_path).verify()


def test_a_model_that_is_not_locked_is_not_served(copy, tmp_path):
    WeightsFolder(tmp_path).fetch([f"hf:{copy}"])
    with pytest.raises(ModelLoadError, match="is not in"):
        check_locked([f"hf:{tmp_path}"], tmp_path / LOCK_NAME)
    with pytest.raises(ModelLoadError, match="cannot be locked"):
        WeightsFolder(tmp_path).fetch(["open_clip:ViT-B-32/openai"])
