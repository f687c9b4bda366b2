"""Packed products give the plain layers' numbers, or the plain layers stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xr_rsembed.errors import RsEmbedWarning
from xr_rsembed.models import packed


class Mlp(nn.Module):
    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(48, 96), act, nn.Linear(96, 48, bias=False)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


@pytest.fixture
def tokens():
    return torch.randn(3, 50, 48, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def avx512(monkeypatch):
    """oneDNN's float32 products give the same numbers on every CPU; they only do not pay on every one."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


@pytest.mark.parametrize(("act", "fused"), [(nn.GELU(), True), (nn.GELU("tanh"), False), (nn.ReLU(), False)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@torch.inference_mode()
def test_packing_keeps_the_numbers_and_fuses_an_exact_gelu_alone(
    tokens, avx512, act, fused, dtype, tolerance
):
    if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN has no bfloat16 products on this CPU")
    torch.manual_seed(0)
    mlp, x = Mlp(act).to(dtype), tokens.to(dtype)
    expected = mlp(x)
    packed.pack(mlp, rows=150)
    assert isinstance(mlp.fc1, packed.PackedLinear)
    assert isinstance(mlp.fc2, packed.PackedLinear)
    assert isinstance(mlp.act, nn.Identity) == fused
    torch.testing.assert_close(mlp(x), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(mlp(x[:1, :7]), expected[:1, :7], rtol=tolerance, atol=tolerance)


@torch.inference_mode()
def test_a_product_that_gives_other_numbers_is_not_used(tokens, avx512, monkeypatch):
    torch.manual_seed(0)
    mlp = Mlp(nn.GELU())
    expected = mlp(tokens)
    forward = packed.PackedLinear.forward
    monkeypatch.setattr(packed.PackedLinear, "forward", lambda self, x: forward(self, x) * 1.001)
    with pytest.warns(RsEmbedWarning, match="numbers differ"):
        packed.pack(mlp, rows=150)
    assert type(mlp.fc1) is nn.Linear
    torch.testing.assert_close(mlp(tokens), expected, rtol=0, atol=0)


def test_without_avx512_all_stays(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    mlp = Mlp(nn.GELU())
    packed.pack(mlp, rows=150)
    assert type(mlp.fc1) is nn.Linear
    assert isinstance(mlp.act, nn.GELU)


def test_without_onednn_all_stays(avx512, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    mlp = Mlp(nn.GELU())
    packed.pack(mlp, rows=150)
    assert type(mlp.fc1) is nn.Linear
