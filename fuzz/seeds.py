"""Seeds for the fuzz targets, from good and bad slides: `python3 seeds.py DATA`, where DATA holds `slides/`, `labels/`, `lung-mil/`.

Whole small files for `tiff`, `asap_xml` and `geojson`; for `jpeg_tables` the shared tables and the first tile of each file
that has them.
"""

import struct
import sys
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


def main():
    here = Path(__file__).resolve().parent / "corpus"
    for target in ("tiff", "jpeg_tables", "asap_xml", "geojson"):
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


if __name__ == "__main__":
    main()
