#!/usr/bin/env bash
# Does a GPU compute what the processor does, and how fast? One JSON, within 9 minutes, without a compiler.
#
#   gpu-check.sh [JSON]         check; JSON is gpu-check.json unless named
#   gpu-check.sh pack FOLDER    put what it needs into FOLDER: the program without its symbols and OpenSlide, 11 MB as .xz
#
# Where it runs, only two things have to be there: a driver, and a CUDA libtorch 2.11.0, which is the folder `torch` of an installed
# PyTorch of that version (found by itself if python3 has it, else named by LIBTORCH). WSI names the program, DEVICE the device
# (cuda:0), CIFAR a folder of CIFAR-100 in its binary layout (otherwise images are made up).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../..
die() { echo "gpu-check: $*" >&2; exit 1; }

pack() {
  local program=${WSI:-$root/target/release/wsi} openslide=${OPENSLIDE_DIR:-${WSI_CACHE:-$HOME/.cache/wsi}/openslide-4.0.1}
  [ -x "$program" ] || die "no program at '$program'; build it with ./run setup, or set WSI"
  mkdir -p "$1"
  strip -o "$1/wsi" "$program"
  cp -L "$openslide/lib/libopenslide.so.1" "$1/"
  xz -f -T0 -3 "$1/wsi" "$1/libopenslide.so.1"
  cp "$here/gpu-check.sh" "$here/reference/train.py" "$1/"
  du -sh "$1" >&2
}

if [ "${1:-}" = pack ]; then
  pack "${2:?a folder to pack into}"
  exit
fi

json=${1:-gpu-check.json}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What `pack` made lies beside this script; a checkout has its own program.
if [ -f "$here/wsi.xz" ]; then
  for file in wsi libopenslide.so.1; do xz -dc "$here/$file.xz" >"$work/$file"; done
  chmod +x "$work/wsi"
  wsi=$work/wsi
  export LD_LIBRARY_PATH=$work:${LD_LIBRARY_PATH:-}
else
  wsi=${WSI:-$root/target/release/wsi}
fi
[ -x "$wsi" ] || die "no program at '$wsi'; build it with ./run setup, or set WSI"

if [ -z "${LIBTORCH:-}" ]; then
  LIBTORCH=$(python3 -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])' 2>/dev/null) ||
    die "set LIBTORCH to a CUDA libtorch 2.11.0"
fi
export LD_LIBRARY_PATH=$LIBTORCH/lib:${OPENSLIDE_DIR:+$OPENSLIDE_DIR/lib:}${LD_LIBRARY_PATH:-}

more=()
if card=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1) && [ -n "$card" ]; then
  more+=(--card "$card")
fi
[ -z "${CIFAR:-}" ] || more+=(--cifar "$CIFAR")
"$wsi" gpu-check --out "$json" --device "${DEVICE:-cuda:0}" "${more[@]}" ${GPU_CHECK_ARGUMENTS:-}
cat "$json"

# The same steps in eager PyTorch, on images that are there already; the first of each pair warms up.
peer=$here/train.py
[ -f "$peer" ] || peer=$here/reference/train.py
if python3 -c 'import torch' 2>/dev/null; then
  for batch in 64 128 512; do
    for way in 'f32 contiguous' 'tf32 contiguous' 'bf16 contiguous' 'bf16 channels-last'; do echo "$way $batch 20"; echo "$way $batch 60"; done
  done >"$work/orders"
  env -u LD_LIBRARY_PATH python3 -W ignore "$peer" "$(nproc)" "${DEVICE:-cuda:0}" <"$work/orders" |
    paste -d ' ' "$work/orders" - | awk 'NR % 2 == 0 { printf "PyTorch, batch %d, %s, %s: %.0f images/s\n", $3, $1, $2, $3 * $4 / $5 }' ||
    echo "gpu-check: no figures of PyTorch" >&2
fi
