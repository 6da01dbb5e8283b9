#!/usr/bin/env bash
# Train on several processes of one machine, or of several machines (the same command on each).
#
#   tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 tools/dist_train.sh CONFIG 8       on the first machine
#
# GPUS is the number of processes on this machine; without GPUs they run on the CPU (gloo).
# PORT defaults to a free port on one machine and to 29500 on several, where all must name the same.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]" >&2
    exit 2
fi
config=$1 gpus=$2
shift 2
root=$(cd "$(dirname "$0")/.." && pwd)
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python
    if [ -x "$root/.venv/bin/python" ]; then PYTHON=$root/.venv/bin/python; fi
fi
if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
    # torchrun takes a port itself and keeps it; one found here could be gone before it is used.
    meeting=(--standalone --local-addr=127.0.0.1)
else
    meeting=(
        --nnodes="${NNODES:-1}"
        --node_rank="${NODE_RANK:-0}"
        --master_addr="${MASTER_ADDR:-127.0.0.1}"
        --master_port="${PORT:-29500}"
    )
fi

export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
exec "$PYTHON" -m torch.distributed.run \
    "${meeting[@]}" \
    --nproc_per_node="$gpus" \
    "$root/tools/train.py" "$config" --launcher pytorch "$@"
