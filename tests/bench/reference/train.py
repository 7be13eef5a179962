"""ResNet-18 for 32-px images as anybody trains it in PyTorch, eager: SGD steps on one batch in memory, for `bench train` and `gpu-check`.

Arguments: threads, device. Orders on standard input, one a line, each answered with one line:
`PRECISION LAYOUT BATCH STEPS` takes so many steps and answers the seconds that they took; PRECISION is `f32`, `tf32` (a GPU's convolutions)
or `bf16` (autocast), LAYOUT `contiguous` or `channels-last`, for the weights and for the images.
"""

import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += self.shortcut(x)
        return self.relu(y)


def resnet18():
    layers, inputs = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)], 64
    for stage in range(4):
        for block in range(2):
            layers.append(Block(inputs, 64 << stage, 2 if stage and not block else 1))
            inputs = 64 << stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 100))


def main():
    torch.set_num_threads(int(sys.argv[1]))
    device = torch.device(sys.argv[2])
    torch.backends.cudnn.benchmark = True
    made = {}
    for line in sys.stdin:
        precision, layout, batch, steps = line.split()
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        if (precision, layout, batch) not in made:
            network = resnet18().to(device).train().to(memory_format=LAYOUTS[layout])
            optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
            images = torch.randn(int(batch), 3, 32, 32, device=device).to(memory_format=LAYOUTS[layout])
            made[precision, layout, batch] = network, optimizer, images, torch.randint(100, (int(batch),), device=device)
        network, optimizer, images, targets = made[precision, layout, batch]
        wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
        wait()
        started = time.perf_counter()
        for _ in range(int(steps)):
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                loss = F.cross_entropy(network(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        wait()
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
