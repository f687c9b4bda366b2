"""Weights files: read without running code, loaded strictly, and never half."""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from tests.fake_weights import filled, load, small_terrafm, small_terrafm_shapes
from xr_rsembed.config import set_options
from xr_rsembed.errors import OptionError, WeightsError, WeightsNotFoundError
from xr_rsembed.models.checkpoint import load_state_dict, strict_load
from xr_rsembed.models.registry import find_spec
from xr_rsembed.models.spec import WeightsRef
from xr_rsembed.models.weights import open_weights, resolve

SPEC = small_terrafm()


@pytest.fixture(scope="module")
def state():
    return filled(small_terrafm_shapes())


@pytest.fixture
def saved(tmp_path):
    def saved(content, name="weights.pth"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return saved


@pytest.fixture
def output(state):
    """What the right weights give for one tile."""

    def output(file):
        image = torch.rand(1, 12, 224, 224, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            return load(SPEC, "S2L2A", file)({"S2L2A": image}, (-1,), {}).grid

    return output


def refused(file, *said):
    """The error that a file raises names the file, and says what was asked for."""
    with pytest.raises(WeightsError) as caught:
        load(SPEC, "S2L2A", file)
    for word in (str(file), *said):
        assert word in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_truncated(saved, state, share):
    file = saved(state)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    refused(file, "truncated", "copy the file again")


def test_flipped_bit(saved, state):
    """torch.load takes such a file without a word."""
    file = saved(state)
    content = bytearray(file.read_bytes())
    place = content.index(state["blocks.1.mlp.fc1.weight"].numpy().tobytes())
    content[place + 1002] ^= 0x40
    file.write_bytes(content)
    assert len(torch.load(file, weights_only=True)) == len(state)
    refused(file, "is damaged", "checksum")


def test_missing_keys(saved, state):
    gone = ("blocks.0.attn.qkv.weight", "norm.bias")
    file = saved({key: value for key, value in state.items() if key not in gone})
    refused(file, "2 keys missing", *gone, f"{len(state) - 2} keys matched")


def test_wrong_shapes(saved, state):
    file = saved(state | {"pos_embed": torch.zeros(1, 50, 128)})
    refused(file, "pos_embed: (1, 50, 128), not (1, 197, 128)")


def test_surplus_keys(saved, state):
    refused(saved(state | {"head.weight": torch.zeros(3)}), "no place", "head.weight")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_broken_numbers(saved, state, bad):
    broken = state["blocks.2.norm1.weight"].clone()
    broken[5] = bad
    refused(saved(state | {"blocks.2.norm1.weight": broken}), "NaN or infinite", "blocks.2.norm1.weight")


def test_of_another_model(saved):
    refused(
        saved({f"layer{i}.conv.weight": torch.zeros(4, 4) for i in range(30)}),
        "does not fit",
        "0 keys matched",
    )


@pytest.mark.parametrize("content", [[1, 2, 3], {}, {"epoch": 3}, torch.zeros(3)])
def test_no_weights_inside(saved, content):
    refused(saved(content), "holds no weights")


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"<html>404 Not Found</html>" * 100, b"PK\x03\x04" + bytes(50)]
)
def test_no_checkpoint(tmp_path, content):
    file = tmp_path / "page.pth"
    file.write_bytes(content)
    refused(file, "not a checkpoint")


class Burglar:
    """A pickle that leaves a folder behind when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_is_not_run(tmp_path, state, legacy):
    file, mark = tmp_path / "evil.pth", tmp_path / "was-here"
    torch.save({**state, "x": Burglar(mark)}, file, _use_new_zipfile_serialization=not legacy)
    refused(file, "would run code", "posix.mkdir")
    assert not mark.exists()


def test_objects_name_their_class(saved, state):
    file = saved({"state_dict": state, "args": argparse.Namespace(lr=1)})
    refused(file, "argparse.Namespace", 'torch.load(path, weights_only=False)["state_dict"]')


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": OrderedDict(state)},
        lambda state: {"model_state_dict": state},
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {f"backbone.{key}": value for key, value in state.items()},
        lambda state: {"model": {f"_orig_mod.module.{key}": value for key, value in state.items()}},
        lambda state: {"state_dict": {f"model.encoder.{key}": value for key, value in state.items()}},
        lambda state: {key: value.half().float() for key, value in state.items()},
    ],
    ids=["state_dict", "model", "model_state_dict", "module", "backbone", "compiled", "lightning", "flat"],
)
def test_wrappers_are_taken_off(saved, state, output, wrap):
    tolerance = 2e-3 if wrap(state).keys() == state.keys() else 0
    torch.testing.assert_close(
        output(saved(wrap(state))), output(saved(state, "plain.pth")), atol=tolerance, rtol=0
    )


def test_the_rest_of_a_task_is_left_out_and_said(saved, state, output, caplog):
    """A decoder beside a wrapped encoder is no mistake; a head within it would be."""
    task = {f"model.encoder.{key}": value for key, value in state.items()}
    task |= {"model.decoder.conv.weight": torch.zeros(3), "criterion.weight": torch.zeros(2)}
    file = saved({"state_dict": task})
    with caplog.at_level(logging.INFO, "xr_rsembed"):
        torch.testing.assert_close(output(file), output(saved(state, "plain.pth")), atol=0, rtol=0)
    line = next(record.getMessage() for record in caplog.records if str(file) in record.getMessage())
    for word in (
        f"{len(state)} keys matched under 'model.encoder.'",
        "2 left out",
        "1 model.decoder",
        "1 criterion",
    ):
        assert word in line
    refused(saved(task | {"model.encoder.head.bias": torch.zeros(3)}), "no place", "model.encoder.head.bias")


def test_a_head_that_was_taken_off_is_no_part_but_an_adapter_is():
    module = torch.nn.Module()
    module.body, module.head = torch.nn.Linear(2, 2), torch.nn.Identity()
    state = {**module.state_dict(), "head.weight": torch.ones(3, 2)}
    assert strict_load(module, state).surplus == ("head.weight",)
    for name in ("body.scale", "body.lora_a", "prompts.0"):
        with pytest.raises(WeightsError, match=rf"inside the encoder(.|\n)*{name}"):
            strict_load(module, {**state, name: torch.ones(2)})


def test_safetensors(tmp_path, state, saved, output):
    from safetensors.torch import save_file

    file = tmp_path / "weights.safetensors"
    save_file(state, file)
    torch.testing.assert_close(output(file), output(saved(state)), atol=0, rtol=0)
    file.write_bytes(file.read_bytes()[:-100])
    refused(file, "truncated")


def test_half_precision_files(saved, state, output):
    file = saved({key: value.bfloat16() for key, value in state.items()})
    torch.testing.assert_close(output(file), output(saved(state, "plain.pth")), atol=0.05, rtol=0.05)


def test_nothing_is_loaded_from_a_file_that_is_refused(state):
    """All checks come first: a module is filled whole or left as it was."""
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(WeightsError):
        strict_load(module, {"0.weight": torch.zeros(2, 2), "1.weight": torch.zeros(3, 2)})
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])


def test_resolved_file(saved, state):
    file = saved(state)
    ref = resolve(file, SPEC)
    assert ref == WeightsRef("file", str(file), hashlib.sha256(file.read_bytes()).hexdigest())
    assert resolve(str(file), SPEC) == ref
    assert open_weights(ref) == file
    assert load_state_dict(ref).keys() == state.keys()


def test_relative_and_home_paths(saved, state, monkeypatch):
    file = saved(state)
    monkeypatch.chdir(file.parent)
    monkeypatch.setenv("HOME", str(file.parent))
    for path in (file.name, f"./{file.name}", f"~/{file.name}"):
        assert resolve(path, SPEC).source == str(file)


def test_a_file_that_looks_like_a_hub_name(tmp_path, monkeypatch, state):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "owner" / "name@main" / "w.pth"
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    assert resolve("owner/name@main/w.pth", SPEC).kind == "file"


def test_file_changed_after_the_graph_was_built(saved, state):
    ref = resolve(saved(state), SPEC)
    file = saved({key: value + 1 for key, value in state.items()})
    os.utime(file, ns=(1, 1))
    with pytest.raises(WeightsError, match="has changed"):
        load(SPEC, "S2L2A", ref)
    file.unlink()
    with pytest.raises(WeightsNotFoundError, match="same path on every worker"):
        load(SPEC, "S2L2A", ref)


@pytest.mark.parametrize("choice", ["no/such/file.pth", "pretraned", "/tmp"])
def test_no_file(choice):
    with pytest.raises(WeightsNotFoundError, match=r"There is no weights file(.|\n)*random"):
        resolve(choice, SPEC)


def test_choices():
    assert resolve("random", SPEC) == resolve("random (seed 0)", SPEC)
    with pytest.raises(OptionError, match="weights="):
        resolve(3, SPEC)
    with set_options({"terramind.pretrained": False}):
        assert resolve("pretrained", find_spec("terramind_v1_tiny")).kind == "random"
