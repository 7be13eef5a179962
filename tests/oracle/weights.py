"""Published weights as PyTorch programs save them, and features as PyTorch pipelines compute them.

    weights.py make FOLDER                                random networks of torchvision and timm, each saved in several ways
    weights.py export FOLDER                              MODEL.pth of every MODEL of EXPORTED, MODEL.pt (TorchScript), MODEL.pt2 (torch.export)
    weights.py features MODEL FILE INPUT SLIDE PATCHES OUT   features of a slide's tiles, read by OpenSlide, resized by Pillow, f32

`make` prints what it saved as JSON: file -> {encoder, tensors: name -> [dtype, shape, sha256 of the bytes]}. `features` reads the tiles at
the coordinates of `wsi tile` (PATCHES.h5), prepares them as INPUT says (JSON: interpolation, short, crop, mean, std) and writes OUT.safetensors;
MODEL is one of MODELS below.
"""

import hashlib
import json
import sys
from collections import OrderedDict
from pathlib import Path

import torch

# torchvision's compiled half wants CUDA's libraries; its models do not, but ask for the name of one of its operators.
OPERATORS = torch.library.Library("torchvision", "DEF")
OPERATORS.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm
import torchvision

# Our name of an encoder -> how the reference builds it without weights.
MODELS = {
    "resnet18": lambda: torchvision.models.resnet18(weights=None),
    "resnet50": lambda: torchvision.models.resnet50(weights=None),
    "resnet50-trunc": lambda: torchvision.models.resnet50(weights=None),
    "lunit-vits16": lambda: timm.create_model("vit_small_patch16_224", num_classes=0),
    "lunit-vits8": lambda: timm.create_model("vit_small_patch8_224", num_classes=0),
}
EXPORTED = ("resnet50-trunc", "lunit-vits16")


def random_network(name):
    """Weights of the usual sizes, running statistics that are not 0 and 1."""
    torch.manual_seed(7)
    network = MODELS[name]()
    for key, buffer in network.named_buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand_like(buffer) + (0.5 if key.endswith("running_var") else -0.5))
    return network.eval()


# ---- make ------------------------------------------------------------------------------------------------------------


def described(state):
    def one(tensor):
        flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        return [str(tensor.dtype).removeprefix("torch."), list(tensor.shape), hashlib.sha256(flat.numpy().tobytes()).hexdigest()]

    return {name: one(tensor) for name, tensor in state.items()}


def sharded(folder, state, ending, save):
    """Two parts and their index, as Hugging Face lays them out."""
    names = list(state)
    parts = {f"part-{place + 1}-of-2{ending}": names[place::2] for place in range(2)}
    for part, held in parts.items():
        save({name: state[name] for name in held}, folder / part)
    index = {"metadata": {}, "weight_map": {name: part for part, held in parts.items() for name in held}}
    return json.dumps(index)


def make(folder):
    import numpy as np
    from safetensors.torch import save_file

    made = {}

    def note(file, encoder, state):
        made[file] = {"encoder": encoder, "tensors": described(state)}

    for encoder in ("resnet50", "lunit-vits16"):
        state = random_network(encoder).state_dict()
        for file, save in (("pth", torch.save), ("bin", torch.save), ("safetensors", save_file)):
            file = f"{encoder}.{file}"
            save(dict(state) if file.endswith("safetensors") else state, folder / file)
            note(file, encoder, state)

    network = random_network("resnet18")
    state = network.state_dict()
    for protocol in (2, 3, 4, 5):
        for layout in ("zip", "flat"):
            file = f"{layout}-{protocol}.pth"
            torch.save(state, folder / file, pickle_protocol=protocol, _use_new_zipfile_serialization=layout == "zip")
            note(file, "resnet18", state)
    torch.save(OrderedDict((name, torch.nn.Parameter(tensor, False)) for name, tensor in state.items()), folder / "parameters.pth")
    note("parameters.pth", "resnet18", state)

    # A training checkpoint: names of a wrapper, an optimiser with its own tensors, numbers of numpy.
    optimiser = torch.optim.AdamW(network.parameters())
    network.train()(torch.rand(2, 3, 64, 64)).sum().backward()
    optimiser.step()
    state = network.state_dict()
    training = {
        "epoch": 3,
        "best": np.float64(0.5),
        "state_dict": OrderedDict((f"module.{name}", tensor) for name, tensor in state.items()),
        "optimizer": optimiser.state_dict(),
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimiser, [1, 2]).state_dict(),
    }
    for file, flat in (("training.pth", False), ("training-flat.pth", True)):
        torch.save(training, folder / file, _use_new_zipfile_serialization=not flat)
        note(file, "resnet18", state)
    teacher = {f"backbone.{name}": tensor for name, tensor in state.items()} | {"head.weight": torch.rand(3, 3)}
    torch.save({"student": {}, "teacher": teacher}, folder / "teacher.pth")
    note("teacher.pth", "resnet18", state)

    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        cast = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
        file = f"{str(dtype).removeprefix('torch.')}.pth"
        torch.save(cast, folder / file)
        note(file, "resnet18", cast)

    # Views: filters in the order of channels-last, and all vectors in one storage.
    views = {name: tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor for name, tensor in state.items()}
    vectors = [name for name, tensor in state.items() if tensor.dim() == 1]
    shared = torch.cat([state[name] for name in vectors])
    views |= dict(zip(vectors, shared.split([len(state[name]) for name in vectors])))
    torch.save(views, folder / "views.pth")
    note("views.pth", "resnet18", state)

    for ending, save in ((".safetensors", save_file), (".bin", torch.save)):
        file = ("model.safetensors" if ending == ".safetensors" else "pytorch_model.bin") + ".index.json"
        (folder / file).write_text(sharded(folder, state, ending, save))
        note(file, "resnet18", state)
    return made


# ---- features --------------------------------------------------------------------------------------------------------


def tiles(slide, patches):
    """Tiles as RGB pictures of the side that the network gets."""
    import h5py
    import openslide
    from PIL import Image

    with h5py.File(patches, "r") as file, openslide.OpenSlide(slide) as opened:
        coords = file["coords"]
        side, footprint = int(coords.attrs["patch_size"]), int(coords.attrs["patch_size_level0"])
        level = opened.get_best_level_for_downsample(footprint / side * 1.001)
        read = round(footprint / opened.level_downsamples[level])
        for x, y in coords[:].tolist():
            picture = opened.read_region((x, y), level, (read, read)).convert("RGB")
            yield picture if read == side else picture.resize((side, side), Image.Resampling.BICUBIC)


def vectors(name, network, images):
    if name.startswith("resnet50-trunc"):
        for part in (network.conv1, network.bn1, network.relu, network.maxpool, network.layer1, network.layer2, network.layer3):
            images = part(images)
        return images.mean((2, 3))
    if name.startswith("resnet"):
        network.fc = torch.nn.Identity()
    return network(images)


class Encoder(torch.nn.Module):
    """A network as a program has it: images in, vectors out."""

    def __init__(self, name, network):
        super().__init__()
        self.name, self.network = name, network

    def forward(self, images):
        return vectors(self.name, self.network, images)


@torch.no_grad()
def export(folder):
    batch = torch.export.Dim("batch", min=1, max=1024)
    images = torch.rand(2, 3, 224, 224)
    for name in EXPORTED:
        network = random_network(name)
        torch.save(network.state_dict(), folder / f"{name}.pth")
        encoder = Encoder(name, network).eval()
        torch.jit.trace(encoder, images).save(folder / f"{name}.pt")
        torch.export.save(torch.export.export(encoder, (images,), dynamic_shapes=({0: batch},)), folder / f"{name}.pt2")


@torch.no_grad()
def features(name, weights, given, slide, patches, out):
    from safetensors.torch import save_file
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

    network = MODELS[name]()
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.eval()
    given = json.loads(given)
    resize = Resize(given["short"], interpolation=InterpolationMode(given["interpolation"]))
    whole = [resize, CenterCrop(given["crop"])]
    normalise = [ToTensor(), Normalize(given["mean"], given["std"])]

    def seen(tile):
        # As the program does: a tile that has the side already is not resampled.
        return Compose(normalise if tile.width == given["crop"] else whole + normalise)(tile)[None]

    rows = [vectors(name, network, seen(tile))[0] for tile in tiles(slide, patches)]
    save_file({"features": torch.stack(rows).contiguous()}, out)


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    if verb == "make":
        print(json.dumps(make(Path(rest[0]))))
    elif verb == "export":
        export(Path(rest[0]))
    elif verb == "features":
        features(*rest)
    else:
        sys.exit(__doc__)
