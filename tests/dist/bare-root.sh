#!/usr/bin/env bash
# What `./run dist` made, in bare Debian systems: no compiler, no Python, nothing of ours, no network, a read-only root but for one folder,
# a user whom no file knows and who has no home, and libraries of the right names and wrong content in LD_LIBRARY_PATH.
#
#   bare-root.sh [SUITE…]     bookworm (glibc 2.36) and bullseye (2.31, the oldest that Debian's servers still hand out) unless named
#
# Needs root, debootstrap, zstd, and the network once for each suite; says what is missing and is not a failure then. The demo makes its own
# slides; the lung pipeline, cut down to four trainings, takes WSI_TEST_DATA or ../shared/data.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${WSI_CACHE:-${XDG_CACHE_HOME:-${HOME:-}/.cache}/wsi}
data=${WSI_TEST_DATA:-$root/../shared/data}
say() { printf '%s\n' "$*" >&2; }
skip() { say "skipped: $*"; exit 0; }
die() { say "bare-root: $*"; exit 1; }

# ---- inside the bare system, as a nobody --------------------------------------------------------

inside() {
  cd /scratch
  export TMPDIR=/scratch/tmp OUT=/scratch/out
  mkdir -p "$TMPDIR"
  local fake tool
  for tool in python3 gcc g++ cc ld; do ! command -v "$tool" >/dev/null || die "this system is not bare: $tool is there"; done
  ! id -un >/dev/null 2>&1 || die "this user has a name"
  [ -z "${HOME:-}" ] || die "HOME is set"
  [ "$(grep -c : /proc/net/dev)" = 1 ] || die "there is a network"
  ! touch /opt/wsi/x 2>/dev/null && ! touch /tmp/x 2>/dev/null || die "the root is not read-only"

  (cd /opt/wsi && sha256sum --quiet -c SHA256SUMS)
  # Whoever looks into this folder fails.
  mkdir hostile
  for fake in libtorch.so libtorch_cpu.so libtorch_cuda.so libc10.so libgomp.so.1 libopenslide.so.1 libcudart.so.13 libcupti.so.13 libhdf5.so libturbojpeg.so.0; do
    echo "no library" >"hostile/$fake"
  done
  export LD_LIBRARY_PATH=/scratch/hostile
  if /lib64/ld-linux-x86-64.so.2 --inhibit-rpath :/opt/wsi/wsi /opt/wsi/wsi --version >/dev/null 2>&1; then die "the wrong libraries do no harm"; fi
  ln -s /opt/wsi/wsi by-link
  ./by-link weights list | grep -q efficientnet-lite0 || die "called by a link, the program does not find what lies beside it"
  export PATH=/opt/wsi:$PATH
  wsi --version
  bash -c 'source /opt/wsi/completions/wsi.bash && complete -p wsi' >/dev/null

  say "-- demo"
  wsi synth --out /scratch/cohort
  wsi run /opt/wsi/pipelines/demo.toml --set data=/scratch/cohort --set out=/scratch/demo
  [ -n "$(find /scratch/demo -name report.html)" ] || die "the demo left no report"

  if [ -d /data/lung-mil ]; then
    say "-- lung, cut down"
    sed -e 's|"../configs|"/opt/wsi/configs|' -e 's/\["abmil", .*\]/["abmil", "transmil"]/' -e 's/^seed = .*/seed = [0]/' \
      -e 's/\[0, 1, 2, 3\]/[0]/' -e '/^\[\[sweep\]\]/{x;s/^/x/;/xx/Q;x}' /opt/wsi/pipelines/lung.toml >lung.toml
    echo 'train.epochs = 5' >epochs
    sed -i '/^\[settings\]/r epochs' lung.toml
    wsi run /scratch/lung.toml --set data=/data/lung-mil --set out=/scratch/lung
    [ -n "$(find /scratch/lung -name report.html)" ] || die "the lung pipeline left no report"
  else
    say "skipped: the lung pipeline; no lung-mil in WSI_TEST_DATA or ../shared/data"
  fi

  say "-- another libtorch"
  LD_DEBUG=libs LD_DEBUG_OUTPUT=/scratch/loaded WSI_LIBTORCH=/torch wsi encoders >/dev/null
  grep -qs 'calling init: /torch/lib/libtorch_cpu.so' loaded.* || die "WSI_LIBTORCH was not heeded"
  if WSI_LIBTORCH=/scratch wsi encoders >/dev/null 2>said; then die "a folder without libtorch was taken"; fi
  grep -q 'PyTorch 2.11.0' said || die "a folder without libtorch: $(cat said)"
}

# ---- outside ------------------------------------------------------------------------------------

bare() { # SUITE
  local suite=$1 system=$cache/bare-$1
  if [ ! -d "$system" ]; then
    say "bare-root: fetching Debian $suite"
    rm -rf "$system.part"
    debootstrap --variant=minbase "$suite" "$system.part" >"$work/debootstrap.log" 2>&1 ||
      { tail -n 3 "$work/debootstrap.log" >&2; rm -rf "$system.part"; skip "Debian $suite could not be fetched"; }
    mv "$system.part" "$system"
  fi
  say "== $suite: glibc $(chroot "$system" ldd --version | sed -n '1s/.* //p')"
  # The mounts go with the namespace.
  unshare --mount --net --pid --ipc --uts --fork --kill-child bash -euo pipefail -c '
    system=$1 archive=$2 script=$3 data=$4 torch=$5 scratch=$6
    mount --make-rprivate / && mount --bind "$system" "$system" && cd "$system"
    mkdir -p opt scratch data torch
    mount -t tmpfs -o size=2g none opt && zstd -dcq --long=27 "$archive" | tar -C opt -x && mv opt/wsi-*-linux-x86_64 opt/wsi
    mount -t tmpfs none run && cp "$script" run/bare-root.sh
    mount --bind "$scratch" scratch && mount --bind "$torch" torch
    [ ! -d "$data" ] || { mount --bind "$data" data && mount -o remount,bind,ro data; }
    mount -t proc none proc
    mount -t tmpfs none dev && for node in null zero full urandom random; do touch "dev/$node" && mount --bind "/dev/$node" "dev/$node"; done
    mount -o remount,ro opt && mount -o remount,bind,ro torch && mount -o remount,bind,ro "$system"
    exec chroot --userspec=54321:54321 . /usr/bin/env -i PATH=/usr/bin:/bin bash /run/bare-root.sh --inside
  ' bash "$system" "$archive" "$here/bare-root.sh" "$data" "$cache/libtorch-2.11.0-cpu" "$2"
}

if [ "${1:-}" = --inside ]; then
  inside
  exit
fi
[ "$(id -u)" = 0 ] || skip "bare systems are made and entered by root only"
for tool in debootstrap unshare zstd; do command -v "$tool" >/dev/null || skip "no $tool here"; done
archive=$(ls "$root"/dist/wsi-*-linux-x86_64.tar.zst 2>/dev/null | tail -n 1)
[ -n "$archive" ] || die "no archive in dist/; call ./run dist first"
(cd "$root/dist" && sha256sum --quiet -c "${archive##*/}.sha256")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ $# -gt 0 ] || set -- bookworm bullseye
for suite in "$@"; do
  mkdir -p "$work/$suite" && chown 54321:54321 "$work/$suite"
  bare "$suite" "$work/$suite"
done
say "bare-root: passed"
