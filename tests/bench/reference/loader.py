"""Training batches from JPEG files as anybody loads them with torchvision and Pillow, for `bench loader`: one process, one thread.

Argument: a folder of class folders, or one that holds `train/` and more. Orders on standard input, one a line, each answered with one line:
`BATCH IMAGES` loads so many images, the first of the folder again and again, and answers the seconds it took and what the images are like.
"""

import pathlib
import sys
import time

import torch

# torchvision's compiled half wants CUDA's libraries; its transforms do not, but importing it asks for the name of one of its operators.
OPERATORS = torch.library.Library("torchvision", "DEF")
OPERATORS.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from PIL import Image
from torchvision.transforms import Compose, Normalize, RandomHorizontalFlip, RandomResizedCrop, ToTensor

torch.set_num_threads(1)
torch.manual_seed(0)
folder = pathlib.Path(sys.argv[1])
files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg", ".png"))
transform = Compose(
    [
        RandomResizedCrop(176),
        RandomHorizontalFlip(),
        ToTensor(),
        Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
)


def load(path):
    with open(path, "rb") as file:
        return transform(Image.open(file).convert("RGB"))


sizes = [Image.open(path).size for path in files]
about = f"{len(files)} files of {sum(w for w, _ in sizes) // len(sizes)} × {sum(h for _, h in sizes) // len(sizes)} px on average"
for line in sys.stdin:
    batch, images = map(int, line.split())
    started = time.perf_counter()
    for first in range(0, images, batch):
        torch.stack([load(files[image % len(files)]) for image in range(first, first + batch)])
    print(time.perf_counter() - started, about, flush=True)
