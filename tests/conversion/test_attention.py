"""Attention in the form that the front end reads equals PyTorch's, and what cannot be read is refused by name."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikeport import UnsupportedError
from spikeport.conversion.attention import with_plain_attention
from spikeport.conversion.module_import import import_module

HIDDEN = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1)


@pytest.mark.parametrize(
    ("options", "mask"),
    [
        ({}, None),
        ({"bias": False}, None),
        ({"kdim": 6, "vdim": 4}, None),
        ({}, HIDDEN),
        ({}, torch.linspace(-1, 1, 25).reshape(5, 5)),
    ],
    ids=["plain", "no bias", "other widths", "hidden", "added"],
)
def test_the_plain_form_equals_the_module(options: dict[str, Any], mask: Tensor | None) -> None:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, 2, batch_first=True, **options).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter)  # biases start at 0
    widths = (8, options.get("kdim", 8), options.get("vdim", 8))
    query, key, value = (torch.randn(3, 5, width) for width in widths)
    plain = with_plain_attention(copy.deepcopy(module))
    assert type(plain) is not nn.MultiheadAttention
    wanted, _ = module(query, key, value, attn_mask=mask, need_weights=False)
    torch.testing.assert_close(plain(query, key, value, attn_mask=mask, need_weights=False)[0], wanted)


def test_what_has_no_plain_form_stays_as_it_is() -> None:
    for options in ({}, {"batch_first": True, "add_bias_kv": True}, {"batch_first": True, "add_zero_attn": True}):
        assert type(with_plain_attention(nn.MultiheadAttention(8, 2, **options))) is nn.MultiheadAttention


class Of(nn.Module):
    def __init__(self, function: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x).mean(1)


def masked(net: Any, x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x, attn_mask=x @ x.transpose(1, 2) > 0)


@pytest.mark.parametrize(
    ("module", "word"),
    [
        (Of(lambda net, x: net.a(x, x, x)[0], a=nn.MultiheadAttention(8, 2)), "batch"),
        (Of(masked), "mask that depends on the input"),
        (Of(lambda net, x: torch.cat([x, torch.arange(24.0).reshape(3, 1, 8)], 1)), "differs between samples"),
        (Of(lambda net, x: net.n(x.transpose(1, 2)).transpose(1, 2), n=nn.GroupNorm(2, 8)), "BatchNorm"),
        (Of(lambda net, x: x.softmax(0)), "softmax over the batch"),
        (Of(lambda net, x: F.layer_norm(x, x.shape)), "norm over the batch"),
        (Of(lambda net, x: x.permute(1, 0, 2).relu().permute(1, 0, 2)), "batch axis was moved"),
        (Of(lambda net, x: x @ torch.ones(3, 8, 8)), "more than two axes"),
    ],
    ids=["batch second", "mask", "token", "group norm", "softmax", "layer norm", "moved", "constant"],
)
def test_what_cannot_be_read_is_refused(module: nn.Module, word: str) -> None:
    with pytest.raises(UnsupportedError, match=word):
        import_module(module, (5, 8))
