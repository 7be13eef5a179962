"""Seeds for the fuzz targets, from good and bad slides: `python3 seeds.py DATA`, where DATA holds `slides/`, `labels/`, `lung-mil/`.

Whole small files for `tiff`, `asap_xml` and `geojson`; for `jpeg_tables` the shared tables and the first tile of each file
that has them. For `pickle` and `checkpoint` a state dict as each protocol of PyTorch would write it, without PyTorch.
"""

import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

LARGEST = 100_000


def fields(data):
    """Tag -> (count, offset of the values) of every classic little-endian directory."""
    (place,) = struct.unpack_from("<I", data, 4)
    while 0 < place < len(data) - 2:
        (count,) = struct.unpack_from("<H", data, place)
        found = {}
        for entry in range(count):
            at = place + 2 + 12 * entry
            tag, kind, values = struct.unpack_from("<HHI", data, at)
            size = {3: 2, 4: 4}.get(kind, 1) * values
            found[tag] = (values, at + 8 if size <= 4 else struct.unpack_from("<I", data, at + 8)[0])
        yield found
        (place,) = struct.unpack_from("<I", data, place + 2 + 12 * count)


def jpeg(data):
    for found in fields(data):
        if 347 in found and 324 in found:
            tables = data[found[347][1] : found[347][1] + found[347][0]]
            (start,) = struct.unpack_from("<I", data, found[324][1])
            (length,) = struct.unpack_from("<I", data, found[325][1])
            yield struct.pack(">H", len(tables)) + tables + data[start : start + length]


class Tensor:
    """Six numbers, [2,3], pickled as PyTorch pickles a tensor."""

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, (Storage(), 0, (2, 3), (3, 1), False, OrderedDict())


class Storage:
    pass


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return ("storage", sys.modules["torch"].FloatStorage, "0", "cpu", 6) if isinstance(value, Storage) else None


def pretend(module, name, thing):
    """Pickles name what they refer to by module and name; nothing behind the name is needed."""
    thing.__module__, thing.__qualname__, thing.__name__ = module, name, name
    setattr(sys.modules.setdefault(module, types.ModuleType(module)), name, thing)


def checkpoints():
    """Name -> target and bytes."""
    pretend("torch", "FloatStorage", type("FloatStorage", (), {}))
    pretend("torch._utils", "_rebuild_tensor_v2", lambda *_: None)
    state = OrderedDict(weight=Tensor(), bias=Tensor())
    for protocol in (2, 3, 4, 5):

        def dumped(value):
            out = io.BytesIO()
            Pickler(out, protocol).dump(value)
            return out.getvalue()

        for name, value in (("plain", state), ("nested", {"epoch": 3, "best": 0.5, "state_dict": state, "optimizer": {"state": {}, "groups": [{1, 2}]}})):
            data = dumped(value)
            yield "pickle", f"{name}-{protocol}", data
            out = io.BytesIO()
            with zipfile.ZipFile(out, "w") as archive:
                for member, content in (("x/data.pkl", data), ("x/byteorder", b"little"), ("x/data/0", bytes(24))):
                    archive.writestr(member, content)
            yield "checkpoint", f"zip-{name}-{protocol}", out.getvalue()
            head = [dumped(part) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
            yield "checkpoint", f"flat-{name}-{protocol}", b"".join([*head, data, dumped(["0"]), struct.pack("<Q", 6), bytes(24)])


def main():
    here = Path(__file__).resolve().parent / "corpus"
    for target in ("tiff", "jpeg_tables", "asap_xml", "geojson", "pickle", "checkpoint"):
        (here / target).mkdir(parents=True, exist_ok=True)
    for path in sorted((Path(sys.argv[1]) / "slides").rglob("*")):
        if path.suffix not in (".svs", ".tif", ".tiff"):
            continue
        data = path.read_bytes()
        if len(data) <= LARGEST:
            (here / "tiff" / path.name).write_bytes(data)
        if data[:4] == b"II*\0":
            for number, seed in enumerate(jpeg(data)):
                (here / "jpeg_tables" / f"{path.stem}-{number}").write_bytes(seed)
    for target, pattern in (("asap_xml", "*.xml"), ("geojson", "*.geojson")):
        for path in Path(sys.argv[1]).rglob(pattern):
            if path.stat().st_size <= LARGEST:
                (here / target / path.name).write_bytes(path.read_bytes())
    for target, name, seed in checkpoints():
        (here / target / name).write_bytes(seed)


if __name__ == "__main__":
    main()
