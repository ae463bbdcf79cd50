"""What `accelerate launch` is told, and what the trainers make of it."""

from importlib.resources import files

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

from sightline_trainers import runs


def test_the_shipped_configuration_is_one_that_accelerate_reads():
    config = load_config_from_file(str(files("sightline_trainers") / "accelerate/ddp.yaml"))
    assert config.distributed_type == DistributedType.MULTI_GPU
    assert config.mixed_precision == "no"
    assert (config.num_machines, config.use_cpu) == (1, False)


@pytest.mark.parametrize(
    ("variable", "name"),
    [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")],
)
def test_processes_that_would_share_out_the_model_are_refused(monkeypatch, variable, name):
    monkeypatch.setenv(variable, "true")
    with pytest.raises(ValueError, match=rf"launched with {name}, .* accelerate/ddp\.yaml"):
        runs.build_accelerator(1.0)


def test_learning_is_not_cast_where_sampling_is_not(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert runs.build_accelerator(1.0).mixed_precision == "no"
