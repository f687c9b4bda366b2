"""bfloat16 on CPUs with and without units for it."""

from __future__ import annotations

import warnings

import pytest
import torch

from xr_rsembed.errors import RsEmbedWarning
from xr_rsembed.models.precision import precision_dtype


@pytest.fixture
def cpu(monkeypatch):
    def pretend(**flags):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)

    return pretend


def test_bfloat16_in_software_says_so(cpu):
    cpu(architecture="x86_64", avx512_bf16=False, amx_bf16=False)
    with pytest.warns(RsEmbedWarning, match='precision="float32" is the faster one'):
        assert precision_dtype("bfloat16", "cpu") is torch.bfloat16


@pytest.mark.parametrize(
    "flags",
    [
        {"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False},
        {"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": True},
        {"architecture": "aarch64"},
    ],
    ids=["avx512", "amx", "arm"],
)
def test_bfloat16_elsewhere_says_nothing(cpu, flags):
    cpu(**flags)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert precision_dtype("bfloat16", "cpu") is torch.bfloat16


def test_neither_float32_nor_a_gpu_is_warned_of(cpu):
    cpu(architecture="x86_64", avx512_bf16=False, amx_bf16=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert precision_dtype("float32", "cpu") is torch.float32
        assert precision_dtype("bfloat16", "cuda:0") is torch.bfloat16
