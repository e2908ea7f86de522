"""The custom network and its training step in PyTorch: what a user of PyTorch would run instead, on a CPU at its best.

channels_last and bfloat16 autocast, as PyTorch's performance tuning guide advises for CPUs.
"""

import time

import numpy as np
import torch
from torch import nn

from core import contract
from stages.common import params
from stages.data import preprocess
from stages.networks import custom


def build(knobs: custom.TrainCustom, input_pooling: int) -> nn.Module:
    """Return the network of stages/networks/custom.py, untrained; it ends with logits."""
    layers, channels = [nn.AvgPool2d(input_pooling)] if input_pooling > 1 else [], preprocess.CHANNELS
    dropout = nn.Dropout2d if knobs.spatial_dropout else nn.Dropout
    for filters in custom.FILTERS:
        for _ in range(2):
            layers += [nn.Conv2d(channels, filters, 3, padding=1, bias=False),
                       nn.BatchNorm2d(filters, momentum=1 - knobs.bn_momentum), nn.ReLU(inplace=True)]
            channels = filters
        layers += [nn.MaxPool2d(2), dropout(knobs.dropout)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 256), nn.ReLU(inplace=True),
            nn.Dropout(knobs.dense_dropout), nn.Linear(256, len(contract.CLASSES))]
    return nn.Sequential(*layers, *head)


class Run:
    """A bare training step on constant tensors."""

    def __init__(self, knobs: params.Params, bfloat16: bool, pixels: np.ndarray, labels: np.ndarray):
        """Take the params, the precision, and one batch: float32 [b, size, size, 3] in [0, 1] and int64 [b]."""
        self.network = build(knobs.train_custom, knobs.train.input_pooling).to(memory_format=torch.channels_last)
        decayed = [weight for weight in self.network.parameters() if weight.ndim > 1]
        rest = [weight for weight in self.network.parameters() if weight.ndim == 1]
        # L2 in the loss has this gradient; nothing else is decayed.
        self.optimizer = torch.optim.Adam([{"params": decayed, "weight_decay": 2 * knobs.train_custom.l2},
                                           {"params": rest}], lr=knobs.train.lr)
        channels_first = torch.tensor(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        self.pixels = channels_first.to(memory_format=torch.channels_last)
        self.labels, self.bfloat16 = torch.tensor(labels), bfloat16

    def __call__(self, steps: int, watch) -> None:
        """Run steps, noting the end of each on the stopwatch."""
        watch.on_train_begin()
        self.network.train()
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
                loss = nn.functional.cross_entropy(self.network(self.pixels), self.labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            watch.ends.append(time.perf_counter())
