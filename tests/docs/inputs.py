"""Inputs that no word of the program makes: `inputs.py NAME OUT`. Numbers are arbitrary, shapes are those of the real files."""

import gzip
import json
import random
import struct
import sys
from pathlib import Path

draw = random.Random(0)


def classic_sets(out):
    """MUSK1, MUSK2, Elephant, Fox, Tiger with forty bags each, and the digits of bags of digits."""
    out.mkdir()
    for name in ["musk1", "musk2", "elephant", "fox", "tiger"]:
        rows = []
        for bag in range(40):
            for _ in range(draw.randint(1, 4)):
                rows.append([bag % 2, bag, *(round(draw.gauss(bag % 2, 1), 3) for _ in range(8))])
        text = "".join(",".join(map(str, row)) + "\n" for row in rows)
        (out / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
    digits = 4000
    labels = bytes(index % 10 for index in range(digits))
    pictures = b"".join(bytes([25 * label]) * 784 for label in labels)
    (out / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(struct.pack(">4I", 2051, digits, 28, 28) + pictures, mtime=0))
    (out / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(struct.pack(">2I", 2049, digits) + labels, mtime=0))


def cifar(out):
    """CIFAR-100's binary layout with ten classes: four training images and two test images of each."""
    out.mkdir()
    for part, images in [("train", 40), ("test", 20)]:
        records = (bytes([0, index % 10]) + draw.randbytes(3072) for index in range(images))
        (out / f"{part}.bin").write_bytes(b"".join(records))
    (out / "fine_label_names.txt").write_text("".join(f"class_{index}\n" for index in range(10)))


def uni(out):
    """Tensors of UNI's names and shapes, all zeros, of which the file system stores nothing."""
    width, shapes = 1024, {}
    shapes["cls_token"], shapes["pos_embed"] = [1, 1, width], [1, 197, width]
    shapes["patch_embed.proj.weight"], shapes["patch_embed.proj.bias"] = [width, 3, 16, 16], [width]
    for block in range(24):
        layers = {"attn.qkv": (3 * width, width), "attn.proj": (width, width), "mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
        for layer, (rows, columns) in layers.items():
            shapes[f"blocks.{block}.{layer}.weight"], shapes[f"blocks.{block}.{layer}.bias"] = [rows, columns], [rows]
        for norm in ["norm1", "norm2"]:
            shapes[f"blocks.{block}.{norm}.weight"], shapes[f"blocks.{block}.{norm}.bias"] = [width], [width]
        shapes[f"blocks.{block}.ls1.gamma"], shapes[f"blocks.{block}.ls2.gamma"] = [width], [width]
    shapes["norm.weight"], shapes["norm.bias"] = [width], [width]
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4
        for side in shape:
            size *= side
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with out.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


if __name__ == "__main__":
    {"MIL": classic_sets, "cifar-100-binary": cifar, "pytorch_model.bin": uni}[sys.argv[1]](Path(sys.argv[2]))
