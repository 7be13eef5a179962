#!/usr/bin/env bash
# Every command of README.md and docs/, run as it is written: `run.sh [--quick] [PAGE…]`, with `wsi` on the PATH.
#
# Each page gets a book: a folder that looks like a checkout, in which the names that the page uses (SLIDES, labels.csv …) are small real things,
# made by `wsi synth` or inputs.py. Its blocks run there in order, each in a bash of its own that stops at the first error; words.sh makes long
# sweeps short. A page with `<!-- after: PAGE -->` goes on in a copy of that page's book. `--quick` runs nothing: it checks links, pictures,
# fences, the book's contents, and that verbs and flags named in sentences exist. WSI_DOCS_KEEP=1 keeps the books.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
tools=${WSI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/wsi}/tools
export WSI_DOCS_ROOT=$root PATH=$PATH:$tools/zstd/usr/bin
began=$SECONDS ran=0 skipped=0 failed=0 bad_pages=

python3 "$here/pages.py" check "$root" || bad_pages=yes
if [ "${1:-}" = --quick ]; then
  [ -z "$bad_pages" ] || exit 1
  echo "docs: links, fences, verbs and flags are as they should be"
  exit 0
fi

work=$(mktemp -d) && chmod 755 "$work" # Slurm's munged is another user
inputs=$work/inputs books=$work/books cluster=$work/cluster
mkdir "$inputs" "$books" "$work/blocks"
# Test data lie beside a checkout.
data=$(realpath -m "${WSI_TEST_DATA:-$root/../shared/data}")
mkdir "$books/shared" && ln -s "$data" "$books/shared/data"
source "$here/inputs.sh"
end() {
  if [ -d "$cluster" ]; then "$root/tests/slurm/cluster.sh" stop "$cluster" || true; fi
  if [ -n "${WSI_DOCS_KEEP:-}" ]; then echo "docs: the books are in $books"; else rm -rf "$work"; fi
}
trap end EXIT

# Imported weights go into a folder of their own.
mkdir "$work/weights"
if [ -d "${WSI_WEIGHTS:-}" ]; then cp "$WSI_WEIGHTS"/efficientnet-lite0.* "$work/weights/"; fi
export WSI_WEIGHTS=$work/weights

# Why a block that needs something cannot run here; nothing if it can.
missing() { # NEED
  case $1 in
    gpu)
      nvidia-smi >/dev/null 2>&1 || { echo "no GPU"; return; }
      python3 -c 'import torch' 2>/dev/null || echo "no PyTorch"
      ;;
    archive)
      compgen -G "$root/dist/wsi-*.tar.zst" >/dev/null || { echo "no archive; ./run dist makes it"; return; }
      command -v zstd >/dev/null || echo "no zstd"
      ;;
    slurm)
      [ "$(id -u)" = 0 ] || { echo "starting Slurm needs root"; return; }
      command -v slurmctld >/dev/null && command -v munged >/dev/null || { echo "no Slurm"; return; }
      [ -d "$cluster" ] || "$root/tests/slurm/cluster.sh" start "$cluster" >&2 || echo "Slurm does not start"
      ;;
    fuzz)
      cargo fuzz --version >/dev/null 2>&1 || { echo "no cargo-fuzz"; return; }
      [ -d "$data" ] || echo "no test data"
      ;;
  esac
}

# A page's folder, which looks like a checkout.
make_book() { # PAGE BOOK
  local after
  after=$(python3 "$here/pages.py" after "$root" "$1")
  if [ -n "$after" ]; then
    try_page "$after"
    cp -a "$books/$(name_of "$after")" "$2"
    return
  fi
  mkdir "$2"
  (cd "$root" && tar -c --exclude=target --exclude=corpus README.md configs docs fuzz pipelines src) | tar -x -C "$2"
  printf '#!/usr/bin/env bash\nset -euo pipefail\nsource "%s/words.sh"\nword_of_run "$@"\n' "$here" >"$2/run"
  chmod +x "$2/run"
}

name_of() { tr '/' '-' <<<"${1%.md}"; }

# Puts the inputs that a block names into its book.
put_inputs() { # BLOCK BOOK
  local name
  for name in "${names[@]}" $(grep -oE 'wsi-[0-9.]+-linux-x86_64\.tar\.zst(\.sha256)?' "$1"); do
    grep -qE "(^|[^[:alnum:]_./-])${name//./\\.}($|[^[:alnum:]_.-])" "$1" || continue
    make_input "$name" >"$work/made.txt" 2>&1 || { cat "$work/made.txt"; return 1; }
    case $name in
      wsi-*) cp -n "$inputs/$name" "$2/$name" ;; # zstd opens no links
      *) [ -e "$2/$name" ] || ln -s "$inputs/$name" "$2/$name" ;;
    esac
  done
}

report() { # PLACE WHAT
  printf '%-26s %s\n' "$1" "$2"
}

try_block() { # PAGE LINE FILE NEEDS BOOK
  local place=$1:$2 need why start said=$work/said.txt whole=
  for need in $([ "$4" = - ] || tr ',' ' ' <<<"$4"); do
    why=$(missing "$need" 2>"$said")
    if [ -n "$why" ]; then
      report "$place" "skipped: $why"
      skipped=$((skipped + 1))
      return
    fi
    if [ "$need" = slurm ]; then export SLURM_CONF=$cluster/slurm.conf; fi
  done
  put_inputs "$3" "$5" || { report "$place" "FAILED: its inputs could not be made"; failed=$((failed + 1)); return; }
  # The archive's folder is where that block works.
  if [ "$4" != "${4/slurm/}" ]; then
    local folder
    folder=$(grep -oE 'wsi-[0-9.]+-linux-x86_64' "$3" | head -n 1)
    if [ -n "$folder" ]; then mkdir -p "$5/$folder" && ln -s "$inputs/BRACS" "$5/$folder/BRACS"; fi
  fi
  if [ "$1" = docs/tutorial.md ]; then whole=yes; fi
  start=$(date +%s%N)
  if (cd "$5" && WSI_DOCS_WHOLE=$whole BASH_ENV=$here/words.sh timeout 1200 bash -euo pipefail "$3") >"$said" 2>&1 </dev/null; then
    report "$place" "ok  $(seconds "$start")"
    ran=$((ran + 1))
  else
    report "$place" "FAILED  $(seconds "$start")"
    sed 's/^/    | /' "$said" | tail -n 60
    failed=$((failed + 1))
  fi
  unset SLURM_CONF
}

seconds() { awk -v ns=$(($(date +%s%N) - $1)) 'BEGIN { printf "%.1f s", ns / 1e9 }'; }

try_page() { # PAGE
  local book line file needs page
  book=$books/$(name_of "$1")
  [ ! -d "$book" ] || return 0
  make_book "$1" "$book"
  mkdir -p "$work/blocks/$(name_of "$1")"
  while IFS=$'\t' read -r page line file needs; do
    try_block "$page" "$line" "$file" "$needs" "$book"
  done < <(python3 "$here/pages.py" blocks "$root" "$work/blocks/$(name_of "$1")" "$1")
}

cd "$root"
if [ $# = 0 ]; then
  mapfile -t all < <(grep -l '^ *```sh' README.md docs/*.md)
  set -- "${all[@]}"
fi
for page in "$@"; do try_page "$page"; done
echo "docs: $ran blocks ran, $skipped skipped, $failed failed; $((SECONDS - began)) s"
[ "$failed" = 0 ] && [ -z "$bad_pages" ]
