#!/usr/bin/env bash
# local_slurm.sh start|stop FOLDER: a real Slurm of two nodes of one core on this machine, from Debian's slurm-wlm and munge, as root.
# All that it writes lies in FOLDER; SLURM_CONF=FOLDER/slurm.conf is what sbatch and the others then need. Its nodes are named by
# addresses of this machine, so that every node finds the first one by its name.
set -euo pipefail
folder=$(cd "$2" && pwd)
export SLURM_CONF=$folder/slurm.conf

start() {
  cat > "$SLURM_CONF" <<CONF
ClusterName=specgen
SlurmctldHost=localhost
SlurmctldPort=16817
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SlurmctldPidFile=$folder/slurmctld.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmdLogFile=$folder/slurmd-%n.log
SlurmdSpoolDir=$folder/spool-%n
StateSaveLocation=$folder/state
SlurmUser=root
MpiDefault=none
ReturnToService=2
KillWait=30
NodeName=127.0.0.[1-2] NodeHostname=localhost Port=[17001-17002] CPUs=1 RealMemory=2000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  mkdir -p "$folder/state"
  (umask 077 && head -c 1024 /dev/urandom > "$folder/munge.key")
  munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munged.seed"
  slurmctld -f "$SLURM_CONF"
  slurmd -f "$SLURM_CONF" -N 127.0.0.1
  slurmd -f "$SLURM_CONF" -N 127.0.0.2
  for _ in $(seq 60); do
    [ "$(sinfo --noheader --format=%D --states=idle 2>/dev/null)" = 2 ] && return
    sleep 0.5
  done
  echo "the nodes did not come up" >&2
  sinfo >&2
  return 1
}

stop() {
  for name in slurmd-127.0.0.1 slurmd-127.0.0.2 slurmctld munged; do
    if [ -f "$folder/$name.pid" ]; then kill "$(cat "$folder/$name.pid")" || true; fi
  done
}

case "$1" in
start) start ;;
stop) stop ;;
*) echo "usage: local_slurm.sh start|stop FOLDER" >&2; exit 2 ;;
esac
