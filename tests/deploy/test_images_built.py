"""The images, built from their Dockerfiles and run as the chart runs them: hardened, no network."""

import json

import pytest
from rig import images
from rig.chart import named, objects
from rig.containers import running_node
from rig.release import AUTH, RUN, SECRETS

pytestmark = pytest.mark.skipif(images.why_not() is not None, reason=str(images.why_not()))

VALUES = {
    "auth": AUTH,
    "layout": "together",
    "router": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "reward": {"settings": {"torch_threads": 1}},
    "trainers": {"run": {"method": "fisao", "config": RUN}},
}
COMPILERS = ("cc", "gcc", "c++", "g++", "clang", "cargo", "rustc", "nvcc", "make")


@pytest.fixture(scope="module", params=["reward", "trainer"])
def image(request):
    return f"localhost/sightline-{request.param}:test"


@pytest.fixture(scope="module", autouse=True)
def built():
    images.fetch_wheels()
    return {name: images.build(name) for name in images.EXTRAS}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    folder = tmp_path_factory.mktemp("node")
    folder.chmod(0o755)
    with running_node(folder, objects(VALUES), SECRETS) as started:
        yield started


@pytest.fixture(scope="module")
def reward(node, built):
    deployment = named(node.documents, "Deployment", "demo-sightline-reward")
    mounts = list(images.torch_mounts("reward"))
    started = node.start(deployment["spec"]["template"], built["reward"], mounts)
    started.wait_healthy("/readyz")
    return started


def configuration(image):
    [found] = json.loads(images.run(["podman", "image", "inspect", image]))
    return found


def inside(image, command):
    return images.run(
        ["podman", "run", "--rm", "--network=none", "--entrypoint=sh", image, "-c", command]
    )


def test_an_image_holds_no_compiler_and_no_installer(image):
    found = inside(image, "for t in " + " ".join(COMPILERS) + "; do command -v $t; done; true")
    assert found == ""
    assert (
        "pip"
        not in inside(image, f"ls /opt/sightline/bin /opt/sightline/{images.PACKAGES}").split()
    )


def test_an_image_holds_the_locked_packages_and_nothing_else(image, built):
    [name] = [name for name, tag in built.items() if tag == image]
    listed = inside(image, f"ls -d /opt/sightline/{images.PACKAGES}/*.dist-info").split()
    found = {path.rsplit("/", 1)[1].split("-")[0].lower().replace("_", "-") for path in listed}
    locked = set(images.names(images.lock(name).text)) | {"sightline"}
    assert found - locked == set()
    assert "transformers" in found


def test_an_image_says_how_it_runs(image):
    said = configuration(image)["Config"]
    assert said["User"] == "10001:10001"
    assert said["Entrypoint"] == ["sightline"]
    assert said["WorkingDir"] == "/tmp"


def test_the_service_answers_every_endpoint_in_its_image(node, built, reward):
    smoke = named(node.documents, "Pod", "demo-sightline-smoke")
    asked = node.start(smoke, built["reward"], list(images.torch_mounts("reward")))
    assert asked.join() == 0, asked.log()
    endpoints = [line.partition(":")[0] for line in asked.log().splitlines()]
    assert endpoints == ["token_reward", "sentence_reward", "ground", "perplexity"]


def test_the_images_own_health_check_passes(reward):
    assert reward.healthy()


def test_the_process_has_no_rights_and_no_place_to_write(reward):
    status = reward.execute("cat", "/proc/1/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert set(fields["Uid"].split()) == set(fields["Gid"].split()) == {"10001"}
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
    for place in ("/", "/opt/sightline", "/models", "/etc/sightline/keys", "/var/tmp"):
        assert reward.execute("touch", f"{place}/file").returncode != 0, place
    assert reward.execute("touch", "/tmp/file").returncode == 0


def test_a_trainer_learns_from_the_service_in_its_image(node, built, reward):
    [job] = [d for d in node.documents if d["kind"] == "Job"]
    mounts = list(images.torch_mounts("trainer"))
    trainer = node.start(job["spec"]["template"], built["trainer"], mounts)
    assert trainer.join() == 0, trainer.log()[-3000:]
    assert (node.folder / "demo-sightline-run/run/adapter").is_dir()


def test_the_service_stops_in_peace(reward):
    assert reward.stop(grace_s=60) == 0, reward.log()[-3000:]
