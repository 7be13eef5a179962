"""Three encoders as anybody writes them in PyTorch, eager, for `bench extract`: images in memory to vectors, nothing else.

Arguments: threads. Orders on standard input, one a line, each answered with one line:
`NETWORK LAYOUT BATCH IMAGES` runs the network on so many images of 224 px, f32, and answers the seconds it took; LAYOUT is
`contiguous` or `channels-last`, for the weights and for the images.
"""

import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


class Bottleneck(nn.Module):
    def __init__(self, inputs, channels, stride):
        super().__init__()
        outputs = 4 * channels
        self.conv1, self.bn1 = nn.Conv2d(inputs, channels, 1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels)
        self.conv3, self.bn3 = nn.Conv2d(channels, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += shortcut
        return self.relu(y)


def resnet50_trunc():
    """ResNet-50 without its last stage, averaged: 1024 numbers."""
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, blocks in enumerate([3, 4, 6]):
        channels = 64 << stage
        for block in range(blocks):
            layers.append(Bottleneck(inputs, channels, 2 if stage and not block else 1))
            inputs = 4 * channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Same(nn.Module):
    """Zeros as TensorFlow adds them for this kernel and stride on a map of even side."""

    def __init__(self, inputs, outputs, kernel, stride, groups=1):
        super().__init__()
        missing = kernel - stride
        before, after = missing // 2, missing - missing // 2
        self.pad = nn.ZeroPad2d((before, after, before, after)) if missing > 0 else nn.Identity()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x):
        return self.conv(self.pad(x))


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride, expansion):
        super().__init__()
        inner = inputs * expansion
        layers = []
        if expansion != 1:
            layers += [Same(inputs, inner, 1, 1), nn.BatchNorm2d(inner, eps=1e-3), nn.ReLU6(inplace=True)]
        layers += [Same(inner, inner, kernel, stride, inner), nn.BatchNorm2d(inner, eps=1e-3), nn.ReLU6(inplace=True)]
        layers += [Same(inner, outputs, 1, 1), nn.BatchNorm2d(outputs, eps=1e-3)]
        self.layers = nn.Sequential(*layers)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x):
        return self.layers(x) + x if self.skip else self.layers(x)


def efficientnet_lite0():
    """EfficientNet-Lite0 without its classifier: 1280 numbers."""
    layers = [Same(3, 32, 3, 2), nn.BatchNorm2d(32, eps=1e-3), nn.ReLU6(inplace=True)]
    inputs = 32
    stages = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]
    for blocks, kernel, stride, expansion, outputs in stages:
        for block in range(blocks):
            layers.append(InvertedResidual(inputs, outputs, kernel, 1 if block else stride, expansion))
            inputs = outputs
    layers += [nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280, eps=1e-3), nn.ReLU6(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def attend(self, x):
        images, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(images, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(images, tokens, width))

    def forward(self, x):
        x = x + self.attend(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    def __init__(self, width=384, blocks=12, heads=6, patch=16, side=224):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.cls = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.position = nn.Parameter(torch.randn(1, 1 + (side // patch) ** 2, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.position
        return self.norm(self.blocks(x))[:, 0]


NETWORKS = {"resnet50-trunc": resnet50_trunc, "efficientnet-lite0": efficientnet_lite0, "vit-s16": ViT}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


@torch.inference_mode()
def main():
    torch.set_num_threads(int(sys.argv[1]))
    torch.manual_seed(0)
    networks = {}
    for line in sys.stdin:
        name, layout, batch, images = line.split()
        if (name, layout) not in networks:
            networks[name, layout] = NETWORKS[name]().eval().to(memory_format=LAYOUTS[layout])
        network = networks[name, layout]
        pictures = torch.randn(int(batch), 3, 224, 224).to(memory_format=LAYOUTS[layout])
        calls = -(-int(images) // int(batch))
        started = time.perf_counter()
        for _ in range(calls):
            network(pictures)
        # Per image asked for: the last batch may hold more.
        print((time.perf_counter() - started) * int(images) / (calls * int(batch)), flush=True)


if __name__ == "__main__":
    main()
