"""bfloat16 on CPUs with and without units for it."""

from __future__ import annotations

import warnings

import pytest
import torch

from xr_rsembed.engine import devices
from xr_rsembed.errors import RsEmbedWarning
from xr_rsembed.models.precision import has_bfloat16, place


@pytest.fixture
def cpu(monkeypatch):
    def pretend(**flags):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)

    return pretend


def test_bfloat16_without_units_computes_in_float32_from_rounded_weights_and_says_so(cpu):
    cpu(architecture="x86_64", avx512_bf16=False, amx_bf16=False)
    module = torch.nn.Linear(3, 3)
    rounded = module.weight.detach().to(torch.bfloat16).float()
    with pytest.warns(RsEmbedWarning, match='precision="auto"'):
        assert place(module, "bfloat16", "cpu") is torch.float32
    assert module.weight.dtype == torch.float32
    torch.testing.assert_close(module.weight, rounded, rtol=0, atol=0)


UNITS = [
    {"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False},
    {"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": True},
    {"architecture": "aarch64", "bf16": True},
]


@pytest.mark.parametrize("flags", UNITS, ids=["avx512", "amx", "arm"])
def test_bfloat16_in_units_says_nothing(cpu, flags):
    cpu(**flags)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert place(torch.nn.Linear(3, 3), "bfloat16", "cpu") is torch.bfloat16
    assert devices.resolve_precision("auto", "cpu") == "bfloat16"


def test_auto_is_float32_where_bfloat16_has_no_units(cpu):
    cpu(architecture="x86_64", avx512_bf16=False, amx_bf16=False)
    assert devices.resolve_precision("auto", "cpu") == "float32"
    assert devices.resolve_precision("bfloat16", "cpu") == "bfloat16"
    assert not has_bfloat16("mps")


def test_float32_says_nothing(cpu):
    cpu(architecture="x86_64", avx512_bf16=False, amx_bf16=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert place(torch.nn.Linear(3, 3), "float32", "cpu") is torch.float32
