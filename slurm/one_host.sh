#!/usr/bin/env bash
# A SLURM cluster of one host, to try sweeps on: two nodes that are really this machine.
#
#   slurm/one_host.sh run COMMAND ...   up, the command, down; its exit code
#   slurm/one_host.sh up                prints the line that clients need
#   slurm/one_host.sh down              ends what `up` started, and removes its folder
#   slurm/one_host.sh kill NAME         node `one` or `two` with all of its jobs, or `slurmctld`: SIGKILL
#   slurm/one_host.sh start NAME ...    starts them again
#
# Partitions: `tests`; `short-grace`, whose jobs have 8 s to end before `urgent` takes their CPUs.
# ALPS_SLURM_MAX_ARRAY is the cluster's MaxArraySize.
# Needs root and Debian's packages slurmctld, slurmd, slurm-client and munge; installs them where
# they are missing. Everything lies below ALPS_SLURM_DIR, listens on loopback and has keys of its
# own, so that nothing in /etc/slurm or of a cluster this machine may belong to is touched.
# /etc/hosts receives the two nodes' names.
set -euo pipefail
home=${ALPS_SLURM_DIR:-/tmp/alps-one-host}
port=${ALPS_SLURM_PORT:-16800}
nodes=(one two)

say() { echo "one_host: $*" >&2; }

install_packages() {
  local missing=() pair
  for pair in slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client munged:munge; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
  done
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null || { say "install ${missing[*]}"; exit 2; }
  say "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1
}

# running FILE NAME: whether the process whose id is in FILE lives and is NAME; a zombie has no exe.
running() {
  [ -s "$1" ] && [ "$(cat "/proc/$(cat "$1")/comm" 2>/dev/null)" = "$2" ] &&
    readlink "/proc/$(cat "$1")/exe" >/dev/null
}

# within SECONDS COMMAND ...: whether the command succeeds in that time.
within() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.2
  done
}

write_configuration() {
  local host i=0 node
  host=$(hostname -s)
  for node in "$host" "${nodes[@]}"; do
    getent hosts "$node" >/dev/null || echo "127.0.0.1 $node # alps one_host.sh" >>/etc/hosts
  done
  {
    cat <<CONF
ClusterName=alps
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A job that is requeued waits until its credential has expired: 5 s in place of 120.
AuthInfo=socket=$home/munge/socket,cred_expire=5
SlurmctldPidFile=$home/slurmctld.pid
SlurmctldLogFile=$home/slurmctld.log
StateSaveLocation=$home/state
SlurmdPidFile=$home/slurmd-%n.pid
SlurmdLogFile=$home/slurmd-%n.log
SlurmdSpoolDir=$home/spool-%n
# The nodes have the CPUs we say, not those that are found.
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MaxArraySize=${ALPS_SLURM_MAX_ARRAY:-1001}
# A dead node is noticed in about 10 s.
SlurmdTimeout=10
JobRequeue=1
ReturnToService=2
KillWait=10
InactiveLimit=0
CONF
    # A host whose name is loopback would otherwise listen on every address.
    case $(getent ahostsv4 "$host" | head -n 1) in
      127.*) echo "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny" ;;
    esac
    for node in "${nodes[@]}"; do
      i=$((i + 1))
      echo "NodeName=$node NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + i)) CPUs=8" \
        "RealMemory=8000 State=UNKNOWN"
    done
    echo "PartitionName=tests Nodes=ALL Default=YES MaxTime=INFINITE State=UP"
    echo "PartitionName=short-grace Nodes=ALL MaxTime=INFINITE State=UP GraceTime=8"
    echo "PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF"
  } >"$SLURM_CONF"
}

all_idle() { [ "$(sinfo --noheader --Node --partition=tests --states=idle,mix,alloc,comp | wc -l)" = ${#nodes[@]} ]; }

up() {
  [ "$(id -u)" = 0 ] || { say "must run as root, as SLURM's daemons do"; exit 2; }
  install_packages
  mkdir -p "$home/munge" "$home/state"
  chmod 755 "$home" "$home/munge"
  write_configuration
  if ! running "$home/munge/pid" munged; then
    (umask 077 && head -c 1024 /dev/urandom >"$home/munge/key")
    # --force: below a folder that everybody may write to, as /tmp is
    munged --force --key-file="$home/munge/key" --socket="$home/munge/socket" \
      --pid-file="$home/munge/pid" --log-file="$home/munge/log" \
      --seed-file="$home/munge/seed" 2>"$home/munge/said"
  fi
  within 10 munge --socket="$home/munge/socket" --no-input || fail munge/said munge/log
  for name in slurmctld "${nodes[@]}"; do start "$name"; done
  within 30 all_idle || fail slurmctld.log "slurmd-${nodes[0]}.log"
}

# start NAME: slurmctld, or the slurmd of a node.
start() {
  if [ "$1" = slurmctld ]; then
    running "$home/slurmctld.pid" slurmctld || slurmctld
  else
    mkdir -p "$home/spool-$1"
    running "$home/slurmd-$1.pid" slurmd || slurmd -N "$1"
  fi
}

fail() {
  say "the cluster does not come up:"
  for log in "$@"; do tail -n 20 "$home/$log" >&2 || true; done
  down
  exit 1
}

# kill_all NAME: slurmctld, or the slurmd of a node with all its jobs, as if it had lost its power.
kill_all() {
  if [ "$1" = slurmctld ]; then
    kill -KILL $(below "$(cat "$home/slurmctld.pid")")
    return
  fi
  local id ids=()
  for id in /proc/[0-9]*; do # steps of jobs write to the log of their slurmd
    [ "$(readlink "$id/fd/3")" != "$home/slurmd-$1.log" ] || ids+=("${id#/proc/}")
  done
  [ ${#ids[@]} = 0 ] || kill -KILL $(for id in "${ids[@]}"; do below "$id"; done) 2>/dev/null || true
}

# below ID: the process and all that it started.
below() {
  local id
  echo "$1"
  for id in $(pgrep -P "$1"); do below "$id"; done
}

# end FILE NAME: the process whose id is in FILE, if it is NAME.
end() {
  running "$1" "$2" || return 0
  local id
  id=$(cat "$1")
  kill "$id"
  within 15 not_alive "$id" || kill -KILL "$id"
}

not_alive() { ! kill -0 "$1"; }

no_jobs() { [ -z "$(squeue --noheader)" ]; }

down() {
  [ -d "$home" ] || return 0
  if running "$home/slurmctld.pid" slurmctld; then
    timeout 20 scancel --user=root 2>/dev/null || true
    within 20 no_jobs || say "some job does not end"
  fi
  for node in "${nodes[@]}"; do end "$home/slurmd-$node.pid" slurmd; done
  end "$home/slurmctld.pid" slurmctld
  end "$home/munge/pid" munged
  rm -rf "$home"
}

export SLURM_CONF=$home/slurm.conf
case ${1:-} in
  up)
    up
    echo "export SLURM_CONF=$SLURM_CONF"
    ;;
  down) down ;;
  kill) kill_all "$2" ;;
  start)
    shift
    for name in "$@"; do start "$name"; done
    within 30 all_idle || say "a node is down"
    ;;
  run)
    shift
    trap down EXIT
    up
    "$@"
    ;;
  *)
    sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
