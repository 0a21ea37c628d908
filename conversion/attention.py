"""``nn.MultiheadAttention`` in a form that keeps the batch in front.

PyTorch's own forward moves the batch axis and folds it into the heads; samples could not be told apart after it.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["with_plain_attention"]


def with_plain_attention(module: nn.Module) -> nn.Module:
    """Let every batch-first attention of the module, in place, compute the same with the batch in front; returns it.

    What has masks, or no batch in front, stays as it is, and the import then refuses it by name.
    """
    for part in module.modules():
        if type(part) is nn.MultiheadAttention and part.batch_first and part.bias_k is None and not part.add_zero_attn:
            part.__class__ = _BatchFirst
    return module


class _BatchFirst(nn.MultiheadAttention):
    """softmax(Q K^T / sqrt(d)) V by heads, (batch, tokens, width); the attention weights are not returned."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *masks: Any, attn_mask: Tensor | None = None, **options: Any
    ) -> tuple[Tensor, None]:
        if any(mask is not None for mask in (*masks[:1], *masks[2:3], options.get("key_padding_mask"))):
            raise NotImplementedError("attention with a mask that depends on the input")
        q, k, v = (self._heads(part, x) for part, x in enumerate((query, key, value)))
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=_added(attn_mask, q))
        return self.out_proj(y.transpose(1, 2).reshape(query.shape)), None

    def _heads(self, part: int, x: Tensor) -> Tensor:
        if self._qkv_same_embed_dim:
            weight: Tensor = self.in_proj_weight.chunk(3)[part]
        else:
            weight = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)[part]
        bias = None if self.in_proj_bias is None else self.in_proj_bias.chunk(3)[part]
        y = functional.linear(x, weight, bias)
        return y.reshape(*y.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)


def _added(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """The mask as it is added to the scores: in PyTorch's module, True hides."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))
