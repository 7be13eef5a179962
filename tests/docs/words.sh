# What the words of a block mean while it is tried. Every block's shell reads this first, so that the blocks need no other text than
# that of the page. Functions go before the PATH, also where a block puts a program there.

unset BASH_ENV # what a block starts is as everywhere

# Sweeps and trainings of hours become minutes: settings go before those of a sweep, and equal runs are one folder.
smaller=(--set seed=0 --set train.epochs=1 --set probe.resamples=20)
smaller_here() { # PIPELINE
  case ${1##*/} in
    lung.toml | lung-losses.toml | ncmi-mil-ablation.toml) echo --set tile.mpp=1 --set train.model.aggregator.name=abmil ;;
    bracs.toml | camelyon17.toml) echo --set tile.mpp=1 ;;
    classic-mil.toml) echo --set split.fold=0 ;;
    mnist-bags.toml) echo --set train.mnist-bags.test-bags=40 ;;
    table[0-9].toml | figure[0-9].toml)
      echo --set train.model.encoder.name=cifar-resnet18 --set train.model.encoder.width=4 --set train.batch-size=8 --set probe.linear.epochs=1 ;;
  esac
}

wsi() {
  case ${1:-} in
    run) [ -n "${WSI_DOCS_WHOLE:-}" ] || set -- "$@" "${smaller[@]}" $(smaller_here "$2") ;;
    # A large network: one slide shows that it works.
    extract) case " $* " in *" --encoder uni "*) ls SLIDES | sed -n '1s/\.[^.]*$//p' | sed '1i slide' >.one.csv && set -- "$@" --only .one.csv ;; esac ;;
    view) look "$@"; return ;;
    # One asks again until the jobs are done; what they say is read then.
    status) command wsi "$@" && until_jobs_end ;;
  esac
  command wsi "$@"
}

# Fetches the page as a browser does: the link gives a cookie and leads on.
page_behind() { # LINK
  python3 - "$1" <<'PY'
import sys
import urllib.request as web

browser = web.build_opener(web.ProxyHandler({}), web.HTTPCookieProcessor())
sys.exit(b"<html" not in browser.open(sys.argv[1], timeout=20).read().lower())
PY
}

# The viewer runs until it is told to stop; Ctrl-C must end it well.
look() {
  local said=.view.txt link= viewer
  command wsi "$@" >"$said" &
  viewer=$!
  for _ in $(seq 100); do
    link=$(grep -oE 'http://[^ ]+' "$said" || true)
    [ -z "$link" ] || break
    kill -0 "$viewer" 2>/dev/null || break
    sleep 0.2
  done
  cat "$said"
  if [ -z "$link" ] || ! page_behind "$link"; then
    kill -INT "$viewer" 2>/dev/null
    echo "no link, or none that leads to a page"
    return 1
  fi
  kill -INT "$viewer"
  wait "$viewer"
}

# A site's file is edited after it was copied, as the page says; here for a small node.
cp() {
  command cp "$@"
  case "${!#}" in
    configs/sites/mine.toml) sed -i 's/^memory = .*/memory = "2G"/; s/^cpus = .*/cpus = 1/; s/^array = .*/array = 2/' configs/sites/mine.toml ;;
  esac
}

until_jobs_end() {
  [ -n "${SLURM_CONF:-}" ] || return 0
  for _ in $(seq 900); do
    [ -n "$(squeue --noheader)" ] || return 0
    sleep 1
  done
  echo "jobs do not end: $(squeue)"
  return 1
}

there() { # FILE…
  local file
  for file in "$@"; do [ -s "$file" ] || { echo "'$file' is missing or empty"; return 1; }; done
}

# Reading is looking whether there is something to read.
less() { if [ $# = 0 ]; then grep -q .; else there "$@"; fi; }
firefox() { there "$@"; }

# `./run` of a book. The demo is the script's own; tests and benchmarks would try the whole project again.
word_of_run() {
  case ${1:-} in
    wsi) shift && wsi "$@" ;;
    demo)
      setup() { :; }
      program() { wsi "$@"; }
      local root=$PWD
      eval "$(sed -n '/^demo() {$/,/^}$/p' "$WSI_DOCS_ROOT/run")"
      demo
      ;;
    *) "$WSI_DOCS_ROOT/run" help | grep -q "^./run $1\b" && echo "./run $*: a word of the script; not run here, where the pages are tried" ;;
  esac
}
