#!/usr/bin/env bash
# The pages in a browser: `run.sh DATA PACKAGES [PART…]`, with `wsi` on the PATH and Chromium in CHROMIUM. DATA is the test data's folder, PACKAGES one
# that npm has put package.json's packages into; parts are report and view; without any all of them. Pictures go into BROWSER_PICTURES, if that is set; LARGE_PAGE is
# one more report to open.
# Says what it sees; ends with 1 at the first thing that is not as it should be.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
data=$(cd "$1" && pwd)/lung-mil
packages=$(cd "$2" && pwd)
shift 2
parts=${*:-report view}
work=$(mktemp -d)
# A script finds packages beside itself or above.
scripts=$work/scripts
mkdir "$scripts" && cp "$here"/*.mjs "$scripts/" && ln -s "$packages/node_modules" "$scripts/node_modules"
pictures=${BROWSER_PICTURES:-$work/pictures}
mkdir -p "$pictures"

say() { printf '%s %s\n' "$(date +%T)" "$*"; }
end() {
  if [ -n "${good:-}" ]; then rm -rf "$work"; else say "everything is kept in $work"; fi
}
trap end EXIT

# Twelve slides looked at by two models: the same bags, fold and seed, both objectives.
lung() {
  [ -d "$work/lung" ] && return
  say "a small lung run"
  local loss out=$work/lung
  {
    wsi tile --slides "$data/slides" --out "$out/tiles"
    wsi extract --slides "$data/slides" --tiles "$out/tiles" --out "$out/bags"
    for loss in cross-entropy ncmi; do
      wsi train --loss "$loss" --data "$out/bags" --labels "$data/labels.csv" --config "$here/../../configs/ncmi-mil.toml" --no-probe \
        --set 'split={name="k-fold",folds=4,validation=0.0}' --set train.epochs=15 --out "$out/train/$loss"
      wsi probe --train "$out/train/$loss" --data "$out/bags" --labels "$data/labels.csv" --tiles "$out/tiles" \
        --set probe.resamples=200 --out "$out/probe/$loss"
      wsi heatmap "$out/probe/$loss" --annotations "$data/annotations" --out "$out/heatmap/$loss"
    done
  } >"$work/lung.log" 2>&1 || { tail -n 5 "$work/lung.log"; exit 1; }
}

report() {
  lung
  say "the report"
  wsi report "$work/lung" --out "$work/report" >"$work/report.log" 2>&1 || { tail -n 5 "$work/report.log"; exit 1; }
  # Our libraries are not the browser's.
  env -u LD_LIBRARY_PATH node "$scripts/report.mjs" "$work/report/report.html" "$pictures"
  [ -z "${LARGE_PAGE:-}" ] && return
  say "the report of a thousand slides"
  env -u LD_LIBRARY_PATH node "$scripts/report.mjs" "$LARGE_PAGE" "$pictures/large"
}

view() {
  lung
  say "the viewer"
  node "$scripts/view.mjs" "$work/lung" "$data/slides" "$data/annotations" "$pictures"
}

for part in $parts; do "$part"; done
good=1
say "all as it should be"
