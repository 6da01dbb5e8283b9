#!/usr/bin/env bash
# Train on a Slurm cluster; Slurm starts one task per GPU, on as many machines as needed.
#
#   [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS=...] \
#       tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py]
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py]" >&2
    exit 2
fi
partition=$1 job=$2 config=$3
shift 3
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}
if [ "$per_node" -gt "$gpus" ]; then per_node=$gpus; fi
root=$(cd "$(dirname "$0")/.." && pwd)
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python
    if [ -x "$root/.venv/bin/python" ]; then PYTHON=$root/.venv/bin/python; fi
fi
read -ra extra <<<"${SRUN_ARGS:-}"

export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
exec srun --partition="$partition" --job-name="$job" \
    --gres=gpu:"$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 ${extra[@]+"${extra[@]}"} \
    "$PYTHON" -u "$root/tools/train.py" "$config" --launcher slurm "$@"
