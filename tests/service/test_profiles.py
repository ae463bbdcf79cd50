from dataclasses import replace
from pathlib import Path

import pytest

from sightline_core.fisao import Profile
from sightline_proto import ModelInfo
from sightline_service.loading import ModelLoader
from sightline_service.models.reference import ModelLoadError
from sightline_service.profiles import ProfileError, ProfileFiles, read_profiles
from sightline_service.settings import Settings

MODEL = ModelInfo(id="fake", revision="fake", preprocess="fake", dtype="float32")
PROFILE = Profile(
    name="mine",
    model_id="fake",
    model_revision="fake",
    preprocess="fake",
    scale="cos100",
    mu_gt=10.0,
    mu_hal=-10.0,
    margin=1.0,
    s_min=-80.0,
    s_max=80.0,
    norm="corrected",
    n_gt=2,
    n_hal=2,
    created="2026-01-01T00:00:00Z",
    sightline_version="0.1.0",
)


def write(folder: Path, profile: Profile) -> Path:
    path = folder / f"{profile.name}.json"
    path.write_text(profile.to_json())
    return path


def fake(**settings: object) -> Settings:
    return Settings(similarity="fake", detector="none", perplexity="none", **settings)


def test_the_default_profile_has_its_name_and_the_default_name(tmp_path):
    files = read_profiles(fake(profile=str(write(tmp_path, PROFILE))))
    assert files.matching(MODEL) == {"mine": PROFILE, "default": PROFILE}


def test_a_folder_of_profiles_is_chosen_from_by_name(tmp_path):
    other = replace(PROFILE, name="strict", margin=2.0)
    write(tmp_path, PROFILE)
    write(tmp_path, other)
    files = read_profiles(fake(profile="none", profiles_dir=tmp_path))
    assert files.matching(MODEL) == {"mine": PROFILE, "strict": other}


def test_other_models_than_the_world_have_no_profile_of_their_own():
    assert read_profiles(fake()).matching(MODEL) == {}


def test_a_profile_of_another_model_is_refused_with_the_mend():
    files = ProfileFiles(replace(PROFILE, model_revision="older"), ())
    with pytest.raises(ProfileError, match="sightline calibrate"):
        files.matching(MODEL)


def test_a_shipped_profile_of_other_weights_is_left_out_with_a_warning(caplog):
    files = ProfileFiles(replace(PROFILE, preprocess="older"), (), shipped=True)
    assert files.matching(MODEL) == {}
    assert "left out" in caplog.text


def test_what_a_profile_does_not_record_is_not_compared():
    profile = replace(PROFILE, model_revision="", preprocess="")
    assert ProfileFiles(profile, ()).matching(MODEL)["mine"] == profile


def test_a_scale_that_needs_unnormalised_features_is_refused():
    with pytest.raises(ProfileError, match="cos100"):
        ProfileFiles(replace(PROFILE, scale="dot"), ()).matching(MODEL)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"name": "x"}'])
def test_a_file_that_is_no_profile_is_named(tmp_path, content):
    path = tmp_path / "p.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ProfileError, match=r"p\.json"):
        read_profiles(fake(profile=str(path)))


def test_a_missing_folder_and_names_given_twice_are_refused(tmp_path):
    with pytest.raises(ProfileError, match="no folder"):
        read_profiles(fake(profiles_dir=tmp_path / "nowhere"))
    write(tmp_path, replace(PROFILE, name="default"))
    with pytest.raises(ProfileError, match="reserved"):
        read_profiles(fake(profiles_dir=tmp_path))
    (tmp_path / "default.json").unlink()
    write(tmp_path, PROFILE)
    (tmp_path / "copy.json").write_text(PROFILE.to_json())
    with pytest.raises(ProfileError, match="mine twice"):
        read_profiles(fake(profiles_dir=tmp_path))


def test_the_loader_reports_each_role_and_passes_the_profiles(tmp_path):
    loader = ModelLoader(fake(profile=str(write(tmp_path, PROFILE))))
    assert loader.roles == ("similarity",)
    reports: list[tuple[str, str]] = []
    models = loader(lambda role, state: reports.append((role, state)))
    assert reports == [("similarity", "loading"), ("similarity", "ready")]
    assert models.detector is None
    assert models.profiles["default"] == PROFILE


def test_a_malformed_reference_is_refused_before_anything_is_loaded():
    with pytest.raises(ModelLoadError, match="foo:bar"):
        ModelLoader(Settings(similarity="foo:bar"))
