#!/usr/bin/env bash
# Train with several processes on one machine, or on several machines (the same command on each).
#
#   tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 tools/dist_train.sh CONFIG 8       on the first machine
#
# GPUS is the number of processes per machine. Without GPUs they run on the CPU (gloo).
# PORT is a free port by default on one machine, and 29500 on several, where all must use the same.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]" >&2
    exit 2
fi
config=$1 gpus=$2
shift 2
source "$(dirname "${BASH_SOURCE[0]}")/dist_launch.sh"
launch "$gpus" train.py "$config" --launcher pytorch "$@"
