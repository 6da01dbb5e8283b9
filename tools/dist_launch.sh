# Sourced by dist_train.sh and dist_test.sh: start one process per GPU with torchrun.

# launch GPUS SCRIPT [arguments]
launch() {
    local gpus=$1 script=$2 root rendezvous
    shift 2
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    if [ -z "${PYTHON:-}" ]; then
        PYTHON=python
        if [ -x "$root/.venv/bin/python" ]; then PYTHON=$root/.venv/bin/python; fi
    fi
    if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
        # torchrun binds a free port itself; a port found here could be taken before it is used.
        rendezvous=(--standalone --local-addr=127.0.0.1)
    else
        rendezvous=(
            --nnodes="${NNODES:-1}"
            --node_rank="${NODE_RANK:-0}"
            --master_addr="${MASTER_ADDR:-127.0.0.1}"
            --master_port="${PORT:-29500}"
        )
    fi
    export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
    exec "$PYTHON" -m torch.distributed.run "${rendezvous[@]}" --nproc_per_node="$gpus" \
        "$root/tools/$script" "$@"
}
