#!/usr/bin/env bash
# The same path on a GPU and on the processor: synthetic slides → tiles → features → both losses → scores.
#
# Needs no compiler: WSI names a program built elsewhere (stripped), LIBTORCH a CUDA libtorch 2.11.0, for example the folder
# `torch` of an installed PyTorch of that version. OPENSLIDE_DIR as for set-up.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
wsi=${WSI:-$root/target/release/wsi}
out=${OUT:-$(mktemp -d)}
device=${DEVICE:-cuda:0}
[ -x "$wsi" ] || { echo "gpu-check: no program at '$wsi'; build it with ./run setup, or set WSI" >&2; exit 1; }
: "${LIBTORCH:?set LIBTORCH to a CUDA libtorch 2.11.0}"
export LD_LIBRARY_PATH=$LIBTORCH/lib:${OPENSLIDE_DIR:+$OPENSLIDE_DIR/lib:}${LD_LIBRARY_PATH:-}

command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
"$wsi" synth --out "$out/cohort"
"$wsi" tile --slides "$out/cohort/slides" --out "$out/tiles"
weights=()
[ -f "${WSI_WEIGHTS:-$HOME/.cache/wsi/weights}/efficientnet-lite0.safetensors" ] || weights=(--random-weights)
for where in cpu "$device"; do
  "$wsi" extract --slides "$out/cohort/slides" --tiles "$out/tiles" --out "$out/bags-$where" --device "$where" "${weights[@]}"
  for loss in cross-entropy ncmi; do
    "$wsi" train --no-probe --data "$out/bags-$where" --labels "$out/cohort/labels.csv" --loss "$loss" --config "$root/configs/ncmi-mil.toml" \
      --out "$out/train-$loss-$where" --device "$where"
    "$wsi" probe --train "$out/train-$loss-$where" --data "$out/bags-$where" --labels "$out/cohort/labels.csv" \
      --out "$out/probe-$loss-$where" --device "$where"
  done
done
grep -h tiles_per_second "$out"/bags-*/run.json
echo "gpu-check: done on $device"
