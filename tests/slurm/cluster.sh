#!/usr/bin/env bash
# A whole Slurm cluster of one node on this machine, for tests: `cluster.sh start DIR`, `cluster.sh stop DIR`, `cluster.sh env DIR`.
# Everything it writes is in DIR; ports are its own, so that a cluster that is there already is not touched. Needs root and Debian's slurm-wlm and munge.
set -euo pipefail

word=${1:?start, stop, stop-node, start-node or env}
dir=${2:?a folder of its own}
cpus=$(nproc)
[ "$cpus" -ge 2 ] || cpus=2 # two tasks train together
port=$((21000 + $(printf '%s' "$dir" | cksum | cut -d ' ' -f 1) % 9000))

configure() {
  mkdir -p "$dir"/{munge,state,spool}
  chmod 755 "$dir" && chown munge: "$dir/munge" && chmod 711 "$dir/munge"
  [ -f "$dir/munge/key" ] || { head -c 1024 /dev/urandom >"$dir/munge/key" && chown munge: "$dir/munge/key" && chmod 400 "$dir/munge/key"; }
  cat >"$dir/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A job that is put back waits as long as a credential lasts.
AuthInfo=socket=$dir/munge/socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
# As short as a test wants them.
SlurmdTimeout=15
KillWait=10
MinJobAge=300
InactiveLimit=0
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=5
# More than a shard for each slide of a large cohort.
MaxArraySize=20001
MaxJobCount=60000
ReturnToService=2
MpiDefault=none
SlurmdParameters=config_overrides
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
NodeName=localhost CPUs=$cpus RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
CONF
}

ended() { ! kill -0 "$1" 2>/dev/null; }

# Ends one of our daemons by the number in its own file, and waits for it.
end() {
  local file=$dir/$1.pid pid
  [ -f "$file" ] || return 0
  pid=$(cat "$file")
  kill "$pid" 2>/dev/null || return 0
  for _ in $(seq 100); do ended "$pid" && return 0; sleep 0.1; done
  kill -9 "$pid" 2>/dev/null || true
}

start_node() { SLURM_CONF=$dir/slurm.conf slurmd -N localhost; }

case $word in
  env) echo "export SLURM_CONF=$dir/slurm.conf" ;;
  start)
    configure
    runuser -u munge -- munged --key-file="$dir/munge/key" --socket="$dir/munge/socket" --pid-file="$dir/munge/pid" \
      --log-file="$dir/munge/log" --seed-file="$dir/munge/seed" --force 2>/dev/null
    export SLURM_CONF=$dir/slurm.conf
    slurmctld
    start_node
    for _ in $(seq 100); do
      [ "$(sinfo -h -o %T 2>/dev/null)" = idle ] && exit 0
      sleep 0.2
    done
    echo "cluster.sh: the node is not idle after 20 s; see $dir/slurmctld.log and $dir/slurmd.log" >&2
    exit 1
    ;;
  stop)
    SLURM_CONF=$dir/slurm.conf timeout 10 scancel --state=RUNNING,PENDING 2>/dev/null || true
    end slurmd && end slurmctld
    cp "$dir/munge/pid" "$dir/munged.pid" 2>/dev/null || true
    end munged
    ;;
  stop-node) end slurmd ;;
  start-node) start_node ;;
  *) echo "cluster.sh: no such word: $word" >&2; exit 2 ;;
esac
