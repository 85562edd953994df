#!/usr/bin/env bash
# A one-node Slurm on this machine (Debian or Ubuntu, root), the small scale sent to it, and Slurm's own account of it.
#
#   workflow/slurm/one-node.sh [make arguments]      default: small PROFILE=slurm
#   workflow/slurm/one-node.sh shell <command ...>   run a command with the cluster up
#
# Installs munge, slurmctld, slurmd and slurm-client where they are missing. Configuration, state and logs lie in a
# temporary folder, to which /etc/slurm/slurm.conf points meanwhile; all three daemons are stopped at the end.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "one-node.sh installs and starts Slurm's daemons: run it as root" >&2; exit 1; }

if ! command -v slurmctld slurmd munged srun >/dev/null; then
  apt-get update -qq
  # nothing is to start by itself: the daemons below get a configuration of their own
  printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    munge slurmctld slurmd slurm-client >/dev/null || { rm -f /usr/sbin/policy-rc.d; exit 1; }
  rm -f /usr/sbin/policy-rc.d
fi

# Steps of a job look for the configuration at its usual place, whatever SLURM_CONF says.
config=/etc/slurm/slurm.conf
[ ! -e "$config" ] || { echo "$config exists: this machine has a Slurm already; use it with PROFILE=slurm" >&2; exit 1; }
home=$(mktemp -d /tmp/one-node.XXXXXX)
mkdir -p /etc/slurm && ln -sfn "$home/slurm.conf" "$config"
host=$(hostname -s)
memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
mkdir -p "$home"/{state,spool,munge}
chmod 755 "$home" && chmod 700 "$home/munge"
dd if=/dev/urandom of="$home/munge/key" bs=1024 count=1 status=none && chmod 400 "$home/munge/key"

# No control groups and no accounting database: what a container or a virtual machine in CI can offer.
cat > "$home/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$home/munge/socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobCompType=jobcomp/filetxt
JobCompLoc=$home/completed
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
MinJobAge=600
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/slurmd.pid
SlurmctldLogFile=$home/slurmctld.log
SlurmdLogFile=$home/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF

pids=()
stop() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$home" "$config"
}
trap stop EXIT

munged --foreground --force --key-file="$home/munge/key" --socket="$home/munge/socket" --pid-file="$home/munge/pid" \
  --log-file="$home/munge/log" --seed-file="$home/munge/seed" 2>/dev/null & pids+=($!)
slurmctld -D 2>/dev/null & pids+=($!)
slurmd -D -N "$host" 2>/dev/null & pids+=($!)
for _ in $(seq 60); do
  sinfo --noheader --format=%T 2>/dev/null | grep -q idle && break
  sleep 0.5
done
sinfo --noheader --format=%T | grep -q idle || { tail -n 20 "$home"/*.log >&2; echo "Slurm did not come up" >&2; exit 1; }
sinfo

# Without accounting there is no sacct to ask about ended jobs; squeue remembers them for MinJobAge seconds.
export queue="--slurm-no-account --slurm-status-command squeue --slurm-init-seconds-before-status-checks 5"
status=0
if [ "${1:-}" = shell ]; then shift; "$@" || status=$?; else make "${@:-small}" PROFILE=slurm ARGS="$queue" || status=$?; fi

echo "What Slurm has run (its own completion log):"
grep -o 'JobId=[0-9]*\|JobState=[A-Z]*\|TimeLimit=[0-9]*\|StartTime=[^ ]*\|EndTime=[^ ]*\|ProcCnt=[0-9]*' "$home/completed" \
  2>/dev/null | paste -sd' ' | sed 's/ JobId/\nJobId/g' || echo "nothing"
exit "$status"
