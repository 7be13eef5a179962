#!/usr/bin/env bash
# The program on a real Slurm of one node: `all.sh DATA [PART…]`, with `wsi` on the PATH. DATA is the test data's folder; parts are
# arrays, chaos, ranks, trouble; without any all of them. Says what it sees; ends with 1 at the first thing that is not as it should be.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
data=$(cd "$1" && pwd)/lung-mil
shift
parts=${*:-arrays chaos ranks trouble}
work=$(mktemp -d) && chmod 755 "$work" # munged is another user
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
  if [ -n "${good:-}" ]; then rm -rf "$work"; fi
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
  diff -rq -x slurm -x pipeline.json -x run.json -x log.jsonl -x logs "$1/lung-small" "$2/lung-small" || die "$2 differs from $1"
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
  grep -q "of an earlier call" <<<"$refused" || die "$refused"
  until_empty 300
  wsi status arrays/lung-small
  same local arrays
  wsi "${common[@]}" --set out=arrays "${slurm[@]}" --set executor.array=3 | grep -q 'nothing to do' || die "a complete pipeline was submitted again"
  say "arrays: $(find arrays -type f | wc -l) files, as here"
}

# A running job of ours, as ARRAY_SHARE.
running() { squeue --noheader --states=RUNNING --format=%F_%K | shuf -n 1; }

# The processes of a job that run the program, or its script.
processes() { # JOB NAME
  local number pid
  number=$(squeue --noheader --jobs="$1" --format=%A)
  for pid in $(scontrol listpids "$number" localhost 2>/dev/null | awk 'NR > 1 && $1 > 0 { print $1 }'); do
    if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ]; then echo "$pid"; fi
  done
}

# Ends a process of a job as a machine without memory does.
strike() { # JOB NAME
  local pid
  pid=$(processes "$1" "$2" | head -n 1)
  [ -n "$pid" ] && kill -9 "$pid"
}

# Takes the node's daemon away for some seconds, or until the controller thinks that the node is gone: then its jobs go back into the queue while
# the old ones may still be at work.
outage() { # SECONDS or down
  "$here/cluster.sh" stop-node "$cluster"
  if [ "$1" = down ]; then
    for _ in $(seq 90); do
      case $(sinfo --noheader --format=%T) in down*) break ;; esac
      sleep 1
    done
  else
    sleep "$1"
  fi
  "$here/cluster.sh" start-node "$cluster"
}

kinds=('TERM to the script' 'TERM to all' requeue 'KILL of the program' 'KILL of the script' 'slurmd away for 2 s' 'slurmd away until the node is down')

disturb() { # KIND JOB
  case $1 in
    0) scancel --batch --signal=TERM "$2" ;;
    1) scancel --full --signal=TERM "$2" ;;
    2) scontrol requeue "$2" ;;
    3) strike "$2" wsi ;;
    4) strike "$2" slurm_script ;;
    5) outage 2 ;;
    6) outage down ;;
  esac
}

# Disturbs runs of the pipeline at random moments, each kind in its turn, until there were enough; whatever was killed, each run is ended and compared.
chaos() {
  reference
  say "$events disturbances at random moments"
  local done=0 calls=0 run=0 out= kind job shares began=$SECONDS
  while :; do
    if ! waiting; then
      if [ -z "$out" ]; then
        [ "$done" -lt "$events" ] || break
        run=$((run + 1)) out=chaos-$run
      fi
      shares=$((RANDOM % 4 + 2))
      wsi "${common[@]}" --set "out=$out" "${slurm[@]}" --set "executor.array=$shares" >call.txt 2>&1 || die "$(cat call.txt)"
      if grep -q 'nothing to do' call.txt; then
        same local "$out"
        say "run $run is as the one here"
        out=
        continue
      fi
      calls=$((calls + 1))
      say "call $calls, $shares shares: $(tr '\n' ';' <call.txt)"
    fi
    sleep "$((RANDOM % 6)).$((RANDOM % 10))"
    [ "$done" -lt "$events" ] || continue
    job=$(running)
    kind=$((done % ${#kinds[@]}))
    [ -n "$job" ] && disturb "$kind" "$job" 2>/dev/null || continue
    done=$((done + 1))
    say "$done: ${kinds[kind]} ($job)"
    [ $((SECONDS - began)) -lt 2400 ] || die "no end after 40 minutes"
  done
  say "chaos: $done disturbances, $run runs by $calls calls, $((SECONDS - began)) s; each run is as the one here"
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
