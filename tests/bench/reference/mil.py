"""The peer of `mil.rs`: ABMIL and TransMIL trained by a plain PyTorch loop, one bag a step.

Reads orders from standard input, one a line, and answers each with one line:
    load BAGS TILES WIDTH       makes the bags, f16                       -> "loaded"
    train MODEL STEPS           one step on each of the first STEPS bags  -> seconds
    memory                      peak resident memory of this process      -> MB
"""

import math
import resource
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

CLASSES = 2


class Abmil(nn.Module):
    """Gated attention over max(0, W x): Ilse et al. 2018, eq. 9, after a first layer without bias."""

    def __init__(self, features, width=128, hidden=128):
        super().__init__()
        self.embed = nn.Linear(features, width, bias=False)
        self.tanh = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, bag):  # [1,N,D] -> [1,C]
        hidden = torch.relu(self.embed(bag))
        scores = self.score(torch.tanh(self.tanh(hidden)) * torch.sigmoid(self.gate(hidden)))
        attention = scores.transpose(1, 2).softmax(-1)
        return self.head((attention @ hidden).squeeze(1))


class Nystrom(nn.Module):
    """Nystrom attention as TransMIL uses it: 8 heads, half as many landmarks as channels, zero rows in front."""

    def __init__(self, width, heads=8):
        super().__init__()
        self.heads, self.landmarks = heads, width // 2
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.1))
        self.residual = nn.Conv2d(heads, heads, (33, 1), padding=(16, 0), groups=heads, bias=False)

    @staticmethod
    def inverse(matrices):
        absolute = matrices.abs()
        found = matrices.transpose(-1, -2) / (absolute.sum(-1).max() * absolute.sum(-2).max())
        eye = torch.eye(matrices.shape[-1], device=matrices.device)
        for _ in range(6):
            product = matrices @ found
            found = 0.25 * found @ (13 * eye - product @ (15 * eye - product @ (7 * eye - product)))
        return found

    def forward(self, tokens):  # [1,n,W]
        _, count, width = tokens.shape
        tokens = F.pad(tokens, (0, 0, -count % self.landmarks, 0))
        length = tokens.shape[1]
        parts = self.query_key_value(tokens).chunk(3, dim=-1)
        query, key, value = (part.reshape(1, length, self.heads, -1).transpose(1, 2) for part in parts)
        query = query * (width // self.heads) ** -0.5
        query_marks, key_marks = (
            part.reshape(1, self.heads, self.landmarks, length // self.landmarks, -1).mean(3) for part in (query, key)
        )
        to_marks = (query @ key_marks.transpose(-1, -2)).softmax(-1)
        between = (query_marks @ key_marks.transpose(-1, -2)).softmax(-1)
        from_marks = (query_marks @ key.transpose(-1, -2)).softmax(-1)
        read = (to_marks @ self.inverse(between)) @ (from_marks @ value) + self.residual(value)
        return self.out(read.transpose(1, 2).reshape(1, length, width))[:, -count:]


class TransMil(nn.Module):
    """Shao et al. 2021: two such layers with convolutions of the square of tokens between them, read at a class token."""

    def __init__(self, features, width=128):
        super().__init__()
        self.embed = nn.Linear(features, width)
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.attention = nn.ModuleList(Nystrom(width) for _ in range(2))
        self.positions = nn.ModuleList(nn.Conv2d(width, width, k, padding=k // 2, groups=width) for k in (7, 5, 3))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, bag):  # [1,N,D] -> [1,C]
        hidden = torch.relu(self.embed(bag))
        count = hidden.shape[1]
        side = math.ceil(math.sqrt(count))
        tokens = torch.cat([self.class_token, hidden, hidden[:, : side * side - count]], dim=1)
        tokens = tokens + self.attention[0](self.norms[0](tokens))
        square = tokens[:, 1:].transpose(1, 2).reshape(1, -1, side, side)
        placed = square + sum(filter(square) for filter in self.positions)
        tokens = torch.cat([tokens[:, :1], placed.flatten(2).transpose(1, 2)], dim=1)
        tokens = tokens + self.attention[1](self.norms[1](tokens))
        return self.head(self.norms[2](tokens[:, 0]))


MODELS = {"abmil": Abmil, "transmil": TransMil}


class Side:
    """A model with its optimiser."""

    def __init__(self, name, features):
        torch.manual_seed(1)
        self.model = MODELS[name](features).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=5e-4, weight_decay=1e-5)

    def step(self, bag, label):
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(bag.float().unsqueeze(0)), label)
        loss.backward()
        self.optimizer.step()
        return loss.item()


def main():
    torch.set_num_threads(int(sys.argv[1]))
    bags, labels, sides = [], [], {}
    for line in sys.stdin:
        order, *words = line.split()
        if order == "load":
            count, tiles, width = map(int, words)
            torch.manual_seed(2)
            bags = [torch.randn(tiles, width).half() for _ in range(count)]
            labels = [torch.tensor([row % CLASSES]) for row in range(count)]
            print("loaded", flush=True)
        elif order == "train":
            name, steps = words[0], int(words[1])
            side = sides.setdefault(name, Side(name, bags[0].shape[1]))
            started = time.perf_counter()
            losses = [side.step(bags[row], labels[row]) for row in range(steps)]
            seconds = time.perf_counter() - started
            assert all(map(math.isfinite, losses))
            print(seconds, flush=True)
        elif order == "memory":
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)
        else:
            sys.exit(f"mil.py: no such order: {order}")


if __name__ == "__main__":
    main()
