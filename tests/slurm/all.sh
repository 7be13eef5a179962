#!/usr/bin/env bash
# The program on a real Slurm of one node: `all.sh DATA [PART…]`, with `wsi` on the PATH. DATA is the test data's folder; parts are
# arrays, chaos, ranks, trouble; without any all of them. Says what it sees; ends with 1 at the first thing that is not as it should be.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
data=$(cd "$1" && pwd)/lung-mil
shift
parts=${*:-arrays chaos ranks trouble}
work=$(mktemp -d)
cluster=$work/cluster
events=${WSI_CHAOS_EVENTS:-20}
RANDOM=${WSI_CHAOS_SEED:-$(date +%s)}

say() { printf '%s %s\n' "$(date +%T)" "$*"; }
die() {
  say "FAILED: $*"
  say "everything is kept in $work"
  exit 1
}
end() {
  "$here/cluster.sh" stop "$cluster" || true
  [ -n "${good:-}" ] && rm -rf "$work"
}
trap end EXIT

cd "$work"
"$here/cluster.sh" start "$cluster"
export SLURM_CONF=$cluster/slurm.conf
# A killed training repeats little, and a lost machine's work is taken over soon.
export WSI_SAVE_EVERY=1 WSI_LEASE_EXPIRES=10
common=(run "$here/lung-small.toml" --set "data=$data")
slurm=(--set executor.name=slurm --set executor.cpus=1)

# Everything but clocks, jobs and how often somebody began.
same() {
  diff -rq -x slurm -x pipeline.json -x run.json -x log.jsonl "$1/lung-small" "$2/lung-small" || die "$2 differs from $1"
  [ -z "$(find "$2/lung-small" -name '.*')" ] || die "hidden files stay in $2"
}

waiting() { [ -n "$(squeue --noheader)" ]; }

until_empty() { # SECONDS
  for _ in $(seq "$1"); do
    waiting || return 0
    sleep 1
  done
  squeue
  die "the queue is not empty after $1 s"
}

reference() {
  [ -d local ] && return
  say "the pipeline here, as a reference"
  wsi "${common[@]}" --set out=local >local.txt 2>&1 || die "$(tail -n 3 local.txt)"
}

arrays() {
  reference
  say "arrays of 4"
  wsi "${common[@]}" --set out=arrays "${slurm[@]}" --set executor.array=4
  local refused
  refused=$(wsi "${common[@]}" --set out=arrays "${slurm[@]}" 2>&1) && die "a second call was taken"
  grep -q "jobs of an earlier call in Slurm's queue" <<<"$refused" || die "$refused"
  until_empty 300
  wsi status arrays/lung-small
  same local arrays
  wsi "${common[@]}" --set out=arrays "${slurm[@]}" --set executor.array=3 | grep -q 'nothing to do' || die "a complete pipeline was submitted again"
  say "arrays: $(find arrays -type f | wc -l) files, as here"
}

# A running job of ours, as ARRAY_SHARE.
running() { squeue --noheader --states=RUNNING --format=%F_%K | shuf -n 1 --random-source=<(yes "$RANDOM"); }

# The processes of a job that run the program, or its script.
processes() { # JOB NAME
  local number pid
  number=$(squeue --noheader --jobs="$1" --format=%A)
  for pid in $(scontrol listpids "$number" 2>/dev/null | awk 'NR > 1 && $1 > 0 { print $1 }'); do
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] && echo "$pid"
  done
  return 0
}

chaos() {
  reference
  say "$events disturbances at random moments"
  local done=0 calls=0 kind job pid outage shares began=$SECONDS
  declare -A count=()
  while :; do
    if ! waiting; then
      shares=$((RANDOM % 4 + 2))
      wsi "${common[@]}" --set out=chaos "${slurm[@]}" --set "executor.array=$shares" >call.txt 2>&1 || die "$(cat call.txt)"
      grep -q 'nothing to do' call.txt && break
      calls=$((calls + 1))
      say "call $calls, $shares shares: $(tr '\n' ';' <call.txt)"
    fi
    sleep "0.$((RANDOM % 10))"
    [ "$done" -lt "$events" ] && [ $((RANDOM % 3)) = 0 ] || { sleep 1; continue; }
    job=$(running)
    [ -n "$job" ] || continue
    kind=$((RANDOM % 6))
    case $kind in
      0) what='TERM to the script' && scancel --batch --signal=TERM "$job" ;;
      1) what='TERM to all' && scancel --full --signal=TERM "$job" ;;
      2) what=requeue && scontrol requeue "$job" ;;
      3 | 4)
        name=wsi
        [ "$kind" = 4 ] && name=slurm_script
        what="KILL of $name" && pid=$(processes "$job" "$name" | head -n 1)
        [ -n "$pid" ] && kill -9 "$pid"
        ;;
      5)
        # Beyond SlurmdTimeout the node is down and its jobs are elsewhere, while the old ones may still run.
        outage=$((RANDOM % 2 * 22 + 2)) what="slurmd away for a while"
        [ "$outage" -gt 15 ] && what='slurmd away until the node is down'
        "$here/cluster.sh" stop-node "$cluster" && sleep "$outage" && "$here/cluster.sh" start-node "$cluster"
        ;;
    esac 2>/dev/null || continue
    done=$((done + 1))
    count[$what]=$((${count[$what]:-0} + 1))
    say "$done: $what ($job)"
    [ $((SECONDS - began)) -lt 1500 ] || die "no end after 25 minutes"
  done
  for what in "${!count[@]}"; do say "  ${count[$what]} x $what"; done
  [ "$done" -gt 0 ] || die "nothing was disturbed"
  same local chaos
  say "chaos: $done disturbances, $calls calls, $((SECONDS - began)) s, as here"
}

ranks() {
  say "one training by two tasks"
  local alone=(--set "train.model.aggregator.name=abmil" --set train.batch-size=12 --set train.drop-last=true)
  reference
  cp -r local ranks
  rm -rf ranks/lung-small/{train,probe,report}
  wsi "${common[@]}" "${alone[@]}" --set out=ranks "${slurm[@]}" --set executor.array=2 --set executor.stage.train.ntasks=2 >call.txt 2>&1 || die "$(cat call.txt)"
  until_empty 300
  wsi status ranks/lung-small | tee status.txt
  grep -q '^Complete' status.txt || die "$(tail -n 5 ranks/lung-small/slurm/train-*.out)"
  local run one
  for run in ranks/lung-small/train/*; do
    grep -q '"ranks": 2' "$run/run.json" || die "$run was not trained by two"
  done
  # The same training by two processes of this machine, and by two tasks without a pipeline.
  run=$(ls -d ranks/lung-small/train/ncmi-* | head -n 1)
  one=(train --data "$(ls -d ranks/lung-small/extract/*)" --labels "$data/labels.csv" --config "$run/config.toml" --no-probe)
  wsi "${one[@]}" --out nproc --nproc 2 >call.txt 2>&1 || die "$(cat call.txt)"
  srun --ntasks=2 wsi "${one[@]}" --out tasks >call.txt 2>&1 || die "$(cat call.txt)"
  for other in nproc tasks; do
    cmp "$run/checkpoint-last.safetensors" "$other/checkpoint-last.safetensors" || die "the training by $other differs"
  done
  say "ranks: $(ls ranks/lung-small/train | wc -l) trainings of two tasks, one of them the same to the bit by --nproc 2 and by srun alone"
}

trouble() {
  local said
  reference
  say "what goes wrong"
  said=$(wsi "${common[@]}" --set out=trouble "${slurm[@]}" --set executor.stage.probe.partition=nowhere 2>&1) && die "a wrong partition was taken"
  grep -q "'probe' was not submitted.*nvalid partition.*cancelled" <<<"$said" || die "$said"
  waiting && sleep 5
  waiting && die "jobs of a refused call are in the queue: $(squeue)"

  # A slide that is broken fails by name, and what waits for it is cancelled.
  mkdir cohort cohort/slides
  ln -s "$data"/slides/* cohort/slides/
  cp "$data/labels.csv" cohort/
  local slide
  slide=$(ls cohort/slides | head -n 5 | tail -n 1)
  rm "cohort/slides/$slide"
  head -c 3000 "$data/slides/$slide" >"cohort/slides/$slide"
  wsi run "$here/lung-small.toml" --set data=cohort --set out=broken "${slurm[@]}" --set executor.array=4 >/dev/null
  until_empty 120
  wsi status broken/lung-small | tee status.txt
  grep -q "^tile failed.*${slide%.*}" status.txt || die "status does not name the slide"
  wsi status broken/lung-small --json | grep -q '"complete": false' || die "it is said to be complete"

  # Cancelled, nothing comes back; repeated, the rest is done.
  rm "cohort/slides/$slide"
  ln -s "$data/slides/$slide" cohort/slides/
  wsi run "$here/lung-small.toml" --set data=cohort --set out=trouble "${slurm[@]}" --set executor.array=4 >/dev/null
  sleep 8
  wsi cancel trouble/lung-small
  until_empty 30
  sleep 8
  waiting && die "cancelled jobs came back: $(squeue)"
  wsi status trouble/lung-small
  wsi run "$here/lung-small.toml" --set data=cohort --set out=trouble "${slurm[@]}" --set executor.array=3 >/dev/null
  until_empty 300
  same local trouble

  # No controller.
  said=$(SLURM_CONF=$work/none.conf WSI_SLURM_WAIT=5 wsi "${common[@]}" --set out=gone "${slurm[@]}" 2>&1) && die "a call without a controller was taken"
  say "without a controller: $said"
  say "trouble: refused, named, cancelled and continued"
}

for part in $parts; do $part; done
good=yes
say "all is well: $parts"
