#!/usr/bin/env bash
# Test a checkpoint with several processes on one machine, or on several machines (the same command on each).
#
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 tools/dist_test.sh CONFIG CHECKPOINT 8       on the first machine
#
# GPUS is the number of processes per machine. Without GPUs they run on the CPU (gloo).
# PORT is a free port by default on one machine, and 29500 on several, where all must use the same.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]" >&2
    exit 2
fi
config=$1 checkpoint=$2 gpus=$3
shift 3
source "$(dirname "${BASH_SOURCE[0]}")/dist_launch.sh"
launch "$gpus" test.py "$config" "$checkpoint" --launcher pytorch "$@"
