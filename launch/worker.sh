#!/usr/bin/env bash
# Runs on each host: installs what a run needs, starts a command that continues without the connection, tells its state.
set -euo pipefail

usage() {
    cat <<'USAGE'
The part of a run on one host. tpu_vm.sh calls this script on each host, and sky.yaml calls its `exec`.

    worker.sh setup  [--bucket=BUCKET]          install this clone for TPUs in ~/vit_jax_env, and gcsfuse for a bucket
    worker.sh exec   [OPTIONS] -- COMMAND …     run COMMAND here
    worker.sh start  [OPTIONS] -- COMMAND …     run COMMAND in the background, with its log in ~/vit_jax_run/log
    worker.sh status                            print none, running, lost (the host was restarted) or exit CODE
    worker.sh logs                              follow the log
    worker.sh stop                              send SIGTERM, after which training saves, and wait until it has ended

OPTIONS
    --cache=gs://BUCKET/DIR keep compiled programs there (JAX_COMPILATION_CACHE_DIR)
    --bucket=BUCKET         mount the bucket at ~/BUCKET, read-only

    --dry-run, with any verb, prints the commands and runs none.

Exit codes: 0 done; 1 an error; for exec that of COMMAND.
USAGE
}

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/common.sh"
CLONE=${HERE%/*} RUN=~/vit_jax_run ENVIRONMENT=~/vit_jax_env

# Runs a command, or prints it so that it can be pasted.
act() {
    if [[ -n $dry_run ]]; then
        quoted "$@"
    else
        "$@"
    fi
}

setup() {
    local python="" name
    for name in python3.11 python3.12 python3.13; do # 3.11 first: the versions in constraints.txt are tested with it
        [[ -n $python ]] || python=$(command -v "$name" || true)
    done
    if [[ -z $python || -n $dry_run ]]; then # the images of TPU VMs have only Python 3.10
        act python3 -m pip install --quiet --user uv
        act python3 -m uv venv --quiet --seed --allow-existing --python=3.11 "$ENVIRONMENT"
    else
        act "$python" -m venv "$ENVIRONMENT"
    fi
    act cd "$CLONE"
    act "$ENVIRONMENT/bin/pip" install --quiet '.[tpu]' -c constraints.txt
    if [[ -n $bucket ]] && ! { [[ -z $dry_run ]] && command -v gcsfuse >/dev/null; }; then
        act sudo curl --silent --show-error --fail --output /etc/apt/keyrings/gcsfuse.asc \
            https://packages.cloud.google.com/apt/doc/apt-key.gpg
        act sudo bash -c "echo 'deb [signed-by=/etc/apt/keyrings/gcsfuse.asc] https://packages.cloud.google.com/apt \
gcsfuse-jammy main' >/etc/apt/sources.list.d/gcsfuse.list"
        act sudo apt-get -o DPkg::Lock::Timeout=600 update --quiet # a new VM holds the lock for some minutes
        act sudo apt-get -o DPkg::Lock::Timeout=600 install --quiet --yes gcsfuse
    fi
}

# Prepares the environment and the mounts for the command.
prepare() {
    [[ ${#COMMAND[@]} -gt 0 ]] || fail "which command? add -- python -m vit_jax.main --config=… --workdir=…"
    if [[ -n $bucket ]] && { [[ -n $dry_run ]] || ! mountpoint --quiet ~/"$bucket"; }; then
        act mkdir -p ~/"$bucket"
        act gcsfuse --implicit-dirs -o ro "$bucket" ~/"$bucket"
    fi
    [[ -z $cache ]] || act export JAX_COMPILATION_CACHE_DIR="$cache"
    if [[ -n $dry_run ]]; then
        echo "export PATH=$ENVIRONMENT/bin:\$PATH"
    elif [[ -d $ENVIRONMENT ]]; then
        PATH=$ENVIRONMENT/bin:$PATH
    fi
}

state() {
    local keeper="" boot=""
    if [[ -f $RUN/exit_code ]]; then
        echo "exit $(<"$RUN/exit_code")"
    elif [[ ! -f $RUN/pid ]]; then
        echo none
    else
        read -r _ keeper boot <"$RUN/pid"
        if [[ $boot == "$(</proc/sys/kernel/random/boot_id)" ]] && kill -0 "$keeper" 2>/dev/null; then
            echo running
        else
            echo lost
        fi
    fi
}

start() {
    [[ -n $dry_run || $(state) != running ]] || fail "a run is going on $(hostname); stop it first, or follow its logs"
    prepare
    act cd "$CLONE" # config files are looked up in the working directory first
    act mkdir -p "$RUN"
    act rm -f "$RUN/exit_code" "$RUN/pid"
    if [[ -n $dry_run ]]; then
        act setsid bash "$HERE/worker.sh" supervise -- "${COMMAND[@]}"
        return
    fi
    setsid bash "$HERE/worker.sh" supervise -- "${COMMAND[@]}" </dev/null >>"$RUN/log" 2>&1 &
    until [[ -f $RUN/pid ]]; do sleep 0.1; done
    echo "started on $(hostname)"
}

# Runs the command and writes its exit code to a file. Signals are sent to the command directly; this shell ignores
# them, so that it is still there when the command ends.
supervise() {
    echo "$(date --iso-8601=seconds) ${COMMAND[*]}"
    "${COMMAND[@]}" &
    local pid=$! code=0
    trap '' TERM HUP INT # set after the command is started, which would otherwise inherit it
    echo "$pid $$ $(</proc/sys/kernel/random/boot_id)" >"$RUN/pid.new"
    mv "$RUN/pid.new" "$RUN/pid"
    wait "$pid" || code=$?
    echo "$(date --iso-8601=seconds) exit code $code"
    echo "$code" >"$RUN/exit_code.new"
    mv "$RUN/exit_code.new" "$RUN/exit_code"
}

stop() {
    if [[ -n $dry_run ]]; then
        act kill -TERM PID
        return
    fi
    local pid=""
    [[ $(state) != running ]] || read -r pid _ <"$RUN/pid"
    [[ -z $pid ]] || kill -TERM "$pid" 2>/dev/null || true # it may just have ended
    while [[ $(state) == running ]]; do sleep 1; done
    status
}

status() {
    echo "vit_jax $(hostname) $(state)"
}

verb=${1:-}
shift || true
dry_run="" cache="" bucket=""
COMMAND=()
while (($#)); do
    case $1 in
        --dry-run) dry_run=yes ;;
        --cache=?*) cache=${1#*=} ;;
        --bucket=?*) bucket=${1#*=} ;;
        --) COMMAND=("${@:2}") && break ;;
        *) fail "what is $1? worker.sh --help says what it takes" ;;
    esac
    shift
done
case $verb in
    -h | --help | help) usage ;;
    exec)
        prepare
        act exec "${COMMAND[@]}"
        ;;
    logs) act tail -n 100 -F "$RUN/log" ;;
    setup | start | status | stop | supervise) "$verb" ;;
    *) fail "worker.sh takes setup, exec, start, status, logs or stop, not '$verb'; see worker.sh --help" ;;
esac
