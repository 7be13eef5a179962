"""Bags as other programs read and write them, by h5py and PyTorch alone.

    bags.py make LAYOUT FOLDER    writes two bags as that program's own writer lays them out
    bags.py dump LAYOUT FOLDER    reads bags as that program's readers do

Both print what the bags hold as JSON: id -> {coords (level-0 pixels), features, encoder, side (footprint, level-0 pixels)}.
The rules are those of docs/formats.md; nothing here is taken from those programs.
"""

import json
import sys
from pathlib import Path

import h5py
import numpy as np

MPP = 0.2499
SIDE = 448
TILE = 224
WIDTH = 5
ENCODER = "oracle-vit"
CANVAS = (210_000, 90_000)


def invented():
    """Two bags: far corners of a large slide, and a single tile."""
    random = np.random.default_rng(7)
    grid = np.stack(np.meshgrid(np.arange(20), np.arange(11)), axis=-1).reshape(-1, 2) * SIDE
    many = np.concatenate([grid, grid + [200_000, 80_000]]).astype(np.int64)
    return {
        "slide_a": (many, random.standard_normal((len(many), WIDTH)).astype(np.float16)),
        "slide_b": (many[3:4], random.standard_normal((1, WIDTH)).astype(np.float16)),
    }


def said(coords, features, encoder, side):
    return {
        "coords": np.asarray(coords).astype(int).tolist(),
        "features": np.asarray(features, dtype=np.float64).tolist(),
        "encoder": encoder,
        "side": int(side),
    }


def growing(file, name, array, rows):
    """A chunked dataset that its writer appends to."""
    data = file.create_dataset(name, shape=array.shape, maxshape=(None, array.shape[1]), chunks=(rows, array.shape[1]), dtype=array.dtype)
    data[:] = array
    return data


# ---- CLAM ------------------------------------------------------------------------------------------------------------


def make_clam(root):
    import torch

    for folder in ("patches", "h5_files", "pt_files"):
        (root / folder).mkdir(parents=True)
    for name, (coords, features) in invented().items():
        with h5py.File(root / "patches" / f"{name}.h5", "w") as file:
            data = growing(file, "coords", coords, 1)
            # 224 pixels of a level twice as coarse: its footprint on level 0 is 448.
            data.attrs["patch_size"] = TILE
            data.attrs["patch_level"] = 1
            data.attrs["downsample"] = np.array([2.0, 2.0])
            data.attrs["downsampled_level_dim"] = np.array(CANVAS) // 2
            data.attrs["level_dim"] = np.array(CANVAS)
            data.attrs["name"] = name
            data.attrs["save_path"] = "patches"
        with h5py.File(root / "h5_files" / f"{name}.h5", "w") as file:
            growing(file, "features", features.astype(np.float32), 32)
            growing(file, "coords", coords.astype(np.int32), 32)
        torch.save(torch.from_numpy(features.astype(np.float32)), root / "pt_files" / f"{name}.pt")


def dump_clam(root):
    import torch

    found = {}
    for path in sorted((root / "pt_files").glob("*.pt")):
        tensor = torch.load(path, weights_only=True)
        assert tensor.dtype == torch.float32 and tensor.dim() == 2 and tensor.is_contiguous()
        with h5py.File(root / "h5_files" / f"{path.stem}.h5", "r") as file:
            features, coords = file["features"][:], file["coords"][:]
        assert features.dtype == np.float32 and coords.dtype == np.int32
        assert np.array_equal(tensor.numpy(), features), "the .pt and the .h5 of a slide hold different features"
        with h5py.File(root / "patches" / f"{path.stem}.h5", "r") as file:
            data = file["coords"]
            assert np.array_equal(data[:], coords)
            assert not Path(data.attrs["save_path"]).is_absolute()
            side = data.attrs["patch_size"] * (data.attrs["downsample"][0] if data.attrs["patch_level"] else 1)
        found[path.stem] = said(coords, features, None, round(side))
    return found


# ---- TRIDENT ---------------------------------------------------------------------------------------------------------


def trident_attributes(data, name):
    for key, value in (
        ("patch_size", TILE),
        ("patch_size_level0", SIDE),
        ("level0_magnification", 40),
        ("target_magnification", 20),
        ("overlap", 0),
        ("level0_width", CANVAS[0]),
        ("level0_height", CANVAS[1]),
        ("name", name),
        ("savetodir", "."),
    ):
        data.attrs[key] = value


def make_trident(root):
    folder = root / f"20x_{TILE}px_0px_overlap"
    (folder / "patches").mkdir(parents=True)
    (folder / f"features_{ENCODER}").mkdir()
    for name, (coords, features) in invented().items():
        with h5py.File(folder / "patches" / f"{name}_patches.h5", "w") as file:
            trident_attributes(growing(file, "coords", coords, 1), name)
        with h5py.File(folder / f"features_{ENCODER}" / f"{name}.h5", "w") as file:
            data = growing(file, "features", features, 1)
            data.attrs["name"], data.attrs["savetodir"], data.attrs["encoder"] = name, ".", ENCODER
            trident_attributes(growing(file, "coords", coords, 1), name)


def trident_bag(path):
    with h5py.File(path, "r") as file:
        data, coords = file["features"], file["coords"]
        needed = {"patch_size", "level0_magnification", "target_magnification", "patch_size_level0", "overlap", "name"}
        assert needed <= set(coords.attrs), f"TRIDENT's readers miss {needed - set(coords.attrs)}"
        assert not Path(coords.attrs["savetodir"]).is_absolute()
        assert data.shape[0] == coords.shape[0]
        return said(coords[:], data[:], data.attrs["encoder"], coords.attrs["patch_size_level0"])


def dump_trident(root):
    return {path.stem: trident_bag(path) for path in sorted(root.glob("*px_overlap/features_*/*.h5"))}


def dump_wsi(root):
    """Our own bags, by TRIDENT's rules alone: its names and attributes are all that its readers know."""
    found = {}
    for path in sorted((root / "bags").glob("*.h5")):
        found[path.stem] = trident_bag(path)
        with h5py.File(path, "r") as file:
            header = json.loads(file.attrs["wsi"])
            assert header["tiles"] == file["coords"].shape[0] and file["features"].dtype == np.float16
            if "tile_status" in file:
                assert int((file["tile_status"][:] == 0).sum()) == header["tiles"]
                assert file["quality"].shape == (header["tiles"], len(file["quality"].attrs["columns"].split(",")))
    return found


def dump_patches(root):
    """Coordinate files of `wsi tile`, by TRIDENT's rules."""
    found = {}
    for path in sorted((root / "patches").glob("*_patches.h5")):
        with h5py.File(path, "r") as file:
            data = file["coords"]
            assert {"patch_size", "level0_magnification", "target_magnification"} <= set(data.attrs)
            found[path.stem.removesuffix("_patches")] = said(data[:], np.zeros((0, 1)), None, data.attrs["patch_size_level0"])
    return found


# ---- STAMP -----------------------------------------------------------------------------------------------------------


def make_stamp(root):
    (root / "centre_1").mkdir(parents=True)
    for name, (coords, features) in invented().items():
        with h5py.File(root / "centre_1" / f"{name}.h5", "w") as file:
            file["coords"] = (coords * MPP).astype(np.float32)
            file["feats"] = features
            for key, value in (
                ("stamp_version", "2.3.0"),
                ("extractor", ENCODER),
                ("unit", "um"),
                ("tile_size_um", SIDE * MPP),
                ("tile_size_px", TILE),
                ("code_hash", "0"),
                ("feat_type", "tile"),
            ):
                file.attrs[key] = value


def dump_stamp(root):
    found = {}
    for path in sorted(root.rglob("*.h5")):
        with h5py.File(path, "r") as file:
            assert tuple(int(part) for part in file.attrs["stamp_version"].split(".")) <= (2, 5, 0)
            assert file.attrs["unit"] == "um" and file.attrs["feat_type"] == "tile"
            assert file["coords"].dtype == np.float32 and file["feats"].dtype == np.float16
            pixels = np.rint(file["coords"][:].astype(np.float64) / MPP)
            found[path.stem] = said(pixels, file["feats"][:], file.attrs["extractor"], round(file.attrs["tile_size_um"] / MPP))
    return found


# ---- ACMIL -----------------------------------------------------------------------------------------------------------


def make_acmil(root):
    root.mkdir(parents=True)
    with h5py.File(root / "patch_feats_pretrain_natural_supervised.h5", "w") as file:
        for label, (name, (coords, features)) in enumerate(invented().items()):
            group = file.create_group(name)
            group.create_dataset("feat", data=features)
            group.create_dataset("coords", data=coords)
            group.attrs["label"] = label


def dump_acmil(root):
    (path,) = root.glob("patch_feats*.h5")
    found = {}
    with h5py.File(path, "r") as file:
        for label, name in enumerate(sorted(file)):
            group = file[name]
            assert int(group.attrs["label"]) == label and group["feat"].dtype == np.float16
            found[name] = said(group["coords"][:], group["feat"][:], None, SIDE)
    return found


# ---- AtlasPatch ------------------------------------------------------------------------------------------------------


def make_atlaspatch(root):
    (root / "patches").mkdir(parents=True)
    for name, (coords, features) in invented().items():
        with h5py.File(root / "patches" / f"{name}.h5", "w") as file:
            rest = np.tile(np.array([[TILE, TILE, 1]]), (len(coords), 1))
            file["coords"] = np.concatenate([coords, rest], axis=1).astype(np.int32)
            file.create_dataset(f"features/{ENCODER}", data=features.astype(np.float32))
            file.create_dataset("features/another", data=features.astype(np.float32))
            for key, value in (("patch_size", TILE), ("patch_size_level0", SIDE), ("level0_width", CANVAS[0]), ("level0_height", CANVAS[1])):
                file.attrs[key] = value


if __name__ == "__main__":
    verb, layout, root = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    if verb == "make":
        globals()[f"make_{layout}"](root)
        print(json.dumps({name: said(coords, features, None, SIDE) for name, (coords, features) in invented().items()}))
    else:
        print(json.dumps(globals()[f"dump_{layout}"](root)))
