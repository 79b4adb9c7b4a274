#!/usr/bin/env bash
# Starts and looks after a training run on Cloud TPU VMs, from the request for TPUs to the end of the run. It restarts
# the run after preemptions. TPUs are requested by queued resources, or directly with --no-queue.
set -euo pipefail
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
    echo "error: $0 needs bash 4.4 or newer, and this is $BASH_VERSION; on macOS: brew install bash" >&2
    exit 1
fi

usage() {
    cat <<'USAGE'
    tpu_vm.sh create NAME --topology=v5e:16x16 [--slices=2] [--tier=spot] [--zone=ZONE] …
    tpu_vm.sh setup  NAME                       copy this clone to all hosts and install it there
    tpu_vm.sh run    NAME -- python -m vit_jax.main --config=… --workdir=gs://…
    tpu_vm.sh status NAME                       print the run's state on each host: none, running, lost or exit CODE
    tpu_vm.sh logs   NAME [--worker=0]          follow the log of one host
    tpu_vm.sh stop   NAME                       send SIGTERM on all hosts: the run saves and ends with exit code 143
    tpu_vm.sh resume NAME --topology=… -- …     do what is needed of create, setup and run, and do it again after each
                                                preemption, until the run ends with 0, or with 1 by its own error
    tpu_vm.sh delete NAME                       delete the TPUs with their disks, and the request for them

The run continues if the connection is lost. A command that is started again continues from its newest checkpoint.

create, resume
    --topology=v5e:16x16        the slice, as `python -m vit_jax.plan` takes it; v2, v3, v4, v5e, v5p and v6e
    --slices=N                  several such slices, joined by the network (queued resources only)
    --tier=on-demand            or spot, or reserved
    --runtime=VERSION           an image other than the usual one for the generation
    --no-queue                  request a TPU VM directly, which fails if none is free; then give this to every verb
run, resume
    --cache=gs://BUCKET/cache   where compiled programs are kept
    --bucket=BUCKET             mount the bucket at ~/BUCKET on all hosts, read-only, because array_record can only read
                                files (setup takes this flag, too)
resume
    --crashes=10                how often to start again after exit codes other than 0, 1, 2 and 143, such as 137
all
    --zone=ZONE --project=ID    by default those of gcloud's configuration
    --poll=60                   seconds between two requests for the state
    --dry-run                   print the commands and run none

Exit codes: 0 done (for resume: the training is complete); 1 an error; otherwise that of gcloud.
USAGE
}

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/common.sh"
CLONE=${HERE%/*}

act() {
    if [[ -n $dry_run ]]; then
        quoted "$@"
    else
        echo "+ $(quoted "$@")" >&2
        "$@"
    fi
}

note() { # in a dry run, prints a comment between the commands
    [[ -z $dry_run ]] || echo "# $*"
}

# Sets, from `topology` and `slices`: `accelerator` (flags of create), `runtime` (the image, unless --runtime is given),
# and `hosts` (the number of hosts in all slices). Fails if Cloud TPU has no such slice.
choose() {
    local generation=${topology%%:*} shape=${topology#*:} chips=1 side
    local -a sides
    [[ $topology =~ ^[a-z0-9]+:[1-9][0-9]*(x[1-9][0-9]*)*$ ]] ||
        fail "--topology=$topology is no slice; write GENERATION:SHAPE, such as v5e:16x16"
    IFS=x read -ra sides <<<"$shape"
    for side in "${sides[@]}"; do chips=$((chips * side)); done
    case $generation in
        v2 | v3 | v5e | v6e)
            local most=256
            [[ $generation != v3 ]] || most=1024
            ((${#sides[@]} == 2)) || fail "--topology=$topology: slices of $generation have 2 sides, such as $generation:4x4"
            # The number of chips is a power of two. The shape is a square or two squares, such as 4x8. Only v5e and v6e
            # have 1x1 and 2x4.
            ((chips <= most && (chips & (chips - 1)) == 0)) && ((sides[1] == sides[0] || sides[1] == 2 * sides[0])) &&
                ((chips == 1 || sides[0] > 1)) && [[ ! ($generation == v[23] && ($chips == 1 || $chips == 8)) ]] ||
                fail "--topology=$topology is no slice that Cloud TPU has; take 2x2, 4x4, 4x8, 8x8, … up to $most chips"
            ;;
        v4 | v5p)
            ((${#sides[@]} == 3)) || fail "--topology=$topology: slices of $generation have 3 sides, such as $generation:4x4x4"
            [[ $shape =~ ^2x(2x1|2x2|2x4|4x4)$ ]] || {
                ((sides[0] % 4 == 0 && sides[1] % 4 == 0 && sides[2] % 4 == 0)) &&
                    ((sides[0] <= sides[1] && sides[1] <= sides[2]))
            } || fail "--topology=$topology is no slice that Cloud TPU has; take 2x2x1, 2x2x2, 2x2x4, 2x4x4 or multiples of 4, ascending"
            ;;
        tpu7x) fail "TPU7x is on GKE only; take python launch/gke.py --topology=$topology" ;;
        *) fail "--topology=$topology is of no generation that Cloud TPU has; take one of v2, v3, v4, v5e, v5p, v6e" ;;
    esac
    hosts=$((slices * (chips / 4)))
    [[ ! ($generation == v[56]e && ($chips == 1 || $chips == 8)) ]] || hosts=$slices
    case $generation in # the names have the number of cores, two per chip; those of v5e and v6e the number of chips
        v2 | v3 | v5p) accelerator=("--accelerator-type=$generation-$((2 * chips))") ;;
        v4) accelerator=(--type=v4 "--topology=$shape") ;; # by shape, because several shapes have the same size
        v5e) accelerator=("--accelerator-type=v5litepod-$chips") ;;
        v6e) accelerator=("--accelerator-type=v6e-$chips") ;;
    esac
    case $generation in # https://cloud.google.com/tpu/docs/runtimes
        v5e) : "${runtime:=v2-alpha-tpuv5-lite}" ;;
        v5p) : "${runtime:=v2-alpha-tpuv5}" ;;
        v6e) : "${runtime:=v2-alpha-tpuv6e}" ;;
        *) : "${runtime:=tpu-ubuntu2204-base}" ;;
    esac
}

create() {
    request
    [[ -n $no_queue ]] || await # without a queue, gcloud itself waits until the TPU VM is there
}

request() {
    local -a tier_flags=()
    [[ $tier == on-demand ]] || tier_flags=("--$tier")
    if [[ -n $no_queue ]]; then
        act "${tpus[@]}" create "$name" "${where[@]}" "${accelerator[@]}" "--version=$runtime" "${tier_flags[@]}"
        return
    fi
    local -a nodes=("--node-id=$name")
    ((slices == 1)) || nodes=("--node-count=$slices" "--node-prefix=$name")
    act "${tpus[@]}" create "$name" "${where[@]}" "${accelerator[@]}" "--runtime-version=$runtime" "${nodes[@]}" "${tier_flags[@]}"
}

# Prints the state of the TPUs, or NONE if there are none. After any other error of gcloud, shows it and exits.
state() {
    local text code=0
    text=$("${describe[@]}" 2>"$errors") || code=$?
    if ((code)); then
        grep -q NOT_FOUND "$errors" || { cat "$errors" >&2 && exit "$code"; }
        text=NONE
    fi
    echo "$text"
}

await() {
    note "every $poll s, until it says $ready:"
    if [[ -n $dry_run ]]; then
        quoted "${describe[@]}"
        return
    fi
    local now=""
    while now=$(state) || exit; [[ $now != "$ready" ]]; do
        case $now in
            FAILED | SUSPENDED | NONE) fail "$name is $now; gcloud tells why: $(quoted "${tpus[@]}" describe "$name" "${where[@]}")" ;;
        esac
        echo "$name is $now" >&2
        sleep "$poll"
    done
}

on_hosts() { # all of them
    act "${tpus[@]}" ssh "$name" "${where[@]}" "${everywhere[@]}" "--command=$*"
}

setup() {
    local archive=/tmp/vit_jax-$name.tar.gz
    [[ -f $CLONE/setup.py ]] || fail "$0 copies the clone it lies in to the hosts, and $CLONE is none; run it from a clone"
    act tar --create --gzip --file="$archive" --directory="$CLONE" --exclude=__pycache__ \
        vit_jax configs launch setup.py pyproject.toml constraints.txt README.md LICENSE
    act "${tpus[@]}" scp "$archive" "$name:vit_jax.tar.gz" "${where[@]}" "${everywhere[@]}"
    on_hosts "mkdir -p vit_jax && tar --extract --file=vit_jax.tar.gz --directory=vit_jax &&" \
        "bash vit_jax/launch/worker.sh setup${bucket:+ $(quoted "--bucket=$bucket")}"
}

run() {
    local -a options=()
    [[ -z $cache ]] || options+=("--cache=$cache")
    [[ -z $bucket ]] || options+=("--bucket=$bucket")
    on_hosts "bash vit_jax/launch/worker.sh start $(quoted "${options[@]}" -- "${COMMAND[@]}")"
}

status() {
    on_hosts "if [ -f vit_jax/launch/worker.sh ]; then bash vit_jax/launch/worker.sh status;" \
        "else echo vit_jax \$(hostname) absent; fi"
}

resume() {
    if [[ -n $dry_run ]]; then
        note "1. asked for every $poll s, until it says $ready:"
        quoted "${describe[@]}"
        note "where it says FAILED, SUSPENDED, PREEMPTED or TERMINATED:"
        delete
        note "then, and where there are none:"
        request
        note "2. where the hosts are new:"
        setup
        note "3. where no run is going on:"
        run
        note "4. every $poll s, until the run has ended on all hosts:"
        status
        note "exit code 0 on all: the end; 1 or 2, and no host that was killed: the end, by that error;"
        note "143, or lost TPUs: again from 1; others, such as 137: again from 1, at most $crashes times"
        return
    fi
    local started="" crashed=0 now told codes
    failures=0
    while :; do
        now=$(state) || exit
        case $now in
            "$ready") ;;
            FAILED | SUSPENDED | PREEMPTED | TERMINATED | NONE)
                [[ $now != FAILED ]] || failed "the request of $name"
                [[ $now == NONE ]] || delete
                request
                continue
                ;;
            STOPPED) fail "$name was stopped by somebody; start or delete it first" ;;
            *)
                echo "$name is $now" >&2
                sleep "$poll"
                continue
                ;;
        esac
        # This fails if the connection is lost or the hosts are just being preempted. If gcloud can't reach a slice, it
        # only warns, so the answers are counted, too.
        if ! told=$(status) || (($(grep -c '^vit_jax ' <<<"$told") < hosts)); then
            failed "asking the $hosts hosts of $name"
            continue
        fi
        codes=$(sed -nE 's/^vit_jax [^ ]+ (exit )?//p' <<<"$told" | sort -u | tr '\n' ' ')
        case " $codes" in
            *" running "*)
                started=yes failures=0
                sleep "$poll"
                ;;
            *" absent "*) try setup ;;
            *)
                [[ -z $started ]] || ended
                try run
                ;;
        esac
    done
}

# Runs a step of `resume`. It may fail because the TPUs are just being preempted, so a failure does not exit.
try() {
    local code=0
    set +e # called in a condition, bash would ignore `set -e` inside the function, and continue after a failure
    (
        set -e
        "$1"
    )
    code=$?
    set -e
    if ((code)); then
        failed "$1 of $name"
    elif [[ $1 == run ]]; then
        started=yes
    fi
}

failed() {
    ((++failures < 10)) || fail "$1 failed 10 times, and nothing ran between; see what gcloud printed"
    echo "$1 failed; trying again" >&2
    sleep "$poll"
}

# Decides by the exit codes of all hosts: exits if the training is complete or failed, and returns if the run is to be
# started again.
#
# If a host is killed, the other hosts may end with 1. So 1 is an error of the run itself only if no host was killed.
ended() {
    echo "$told" | grep '^vit_jax ' >&2
    local code failed="" killed=""
    for code in $codes; do
        case $code in
            0 | 143 | none | lost) ;;
            1 | 2) failed=$code ;;
            *) killed=$code ;;
        esac
    done
    [[ $codes != "0 " ]] || { echo "the training is complete" >&2 && exit 0; }
    if [[ -n $killed ]]; then
        ((++crashed <= crashes)) || fail "the run ended with exit code $killed, and had been started again $crashes times"
    elif [[ -n $failed && ! $codes =~ (143|lost|none) ]]; then
        fail "the run ended with exit code $failed; its log says why: $(quoted "$0" logs "$name" "${shown[@]}")"
    fi
    echo "starting it again" >&2
}

delete() {
    local -a force=()
    [[ -n $no_queue ]] || force=(--force) # deletes the TPUs, too
    act "${tpus[@]}" delete "$name" "${where[@]}" "${force[@]}"
}

verb=${1:-}
case $verb in
    create | setup | run | status | logs | stop | resume | delete) ;;
    -h | --help | help) usage && exit 0 ;;
    *) fail "tpu_vm.sh takes create, setup, run, status, logs, stop, resume or delete, not '$verb'; see tpu_vm.sh --help" ;;
esac
name=${2:-}
[[ $name =~ ^[a-z][a-z0-9-]*$ ]] || fail "which TPUs? write tpu_vm.sh $verb NAME, of small letters, digits and hyphens"
shift 2

topology="" slices=1 hosts=1 tier=on-demand runtime="" no_queue="" cache="" bucket="" worker=0 poll=60 crashes=10 dry_run=""
where=(--quiet) shown=() COMMAND=()
while (($#)); do
    option=${1%%=*} value=${1#*=}
    case $option in # the verbs that read the option
        --topology | --runtime | --slices | --tier) readers="create resume" ;;
        --cache) readers="run resume" ;;
        --bucket) readers="setup run resume" ;;
        --worker) readers="logs" ;;
        --crashes) readers="resume" ;;
        --) readers="run resume" ;;
        *) readers=$verb ;;
    esac
    [[ " $readers " == *" $verb "* ]] || fail "$option is for ${readers// /, }, not for $verb"
    case $1 in
        --topology=?*) topology=${value,,} ;;
        --slices=* | --worker=* | --crashes=* | --poll=*)
            [[ $value =~ ^(0|[1-9][0-9]*)$ && $1 != --slices=0 ]] || fail "$1: write $option=NUMBER"
            option=${option#--}
            printf -v "$option" %s "$value"
            ;;
        --tier=on-demand | --tier=spot | --tier=reserved) tier=$value ;;
        --runtime=?*) runtime=$value ;;
        --no-queue)
            no_queue=yes
            shown+=("$1")
            ;;
        --cache=gs://?*) cache=$value ;;
        --bucket=?*) bucket=$value ;;
        --zone=?* | --project=?*)
            where+=("$1")
            shown+=("$1")
            ;;
        --dry-run) dry_run=yes ;;
        --)
            COMMAND=("${@:2}")
            break
            ;;
        --tier*) fail "$1: the tiers are on-demand, spot and reserved" ;;
        --cache*) fail "$1: all hosts must reach the cache, so write --cache=gs://BUCKET/DIR" ;;
        *) fail "what is $1? tpu_vm.sh --help says what it takes" ;;
    esac
    shift
done

tpus=(gcloud compute tpus queued-resources) everywhere=(--node=all --worker=all)
ready=ACTIVE format='value(state.state)'
if [[ -n $no_queue ]]; then
    tpus=(gcloud compute tpus tpu-vm) everywhere=(--worker=all)
    ready=READY format='value(state)'
    ((slices == 1)) || fail "--slices=$slices: several slices are joined by a queued resource; leave out --no-queue"
fi
describe=("${tpus[@]}" describe "$name" "${where[@]}" "--format=$format")
case $verb in
    create | resume)
        [[ -n $topology ]] || fail "which slice? add --topology=v5e:16x16, say"
        choose
        ;;
esac
case $verb in
    run | resume) ((${#COMMAND[@]})) || fail "which command? add -- python -m vit_jax.main --config=… --workdir=gs://…" ;;
esac
if [[ -z $dry_run ]]; then
    command -v gcloud >/dev/null || fail "gcloud is not installed; see https://cloud.google.com/sdk/docs/install"
    errors=$(mktemp)
    trap 'rm -f "$errors"' EXIT
fi

case $verb in
    logs)
        host=("--worker=$worker")
        [[ -n $no_queue ]] || host=(--node=0 "--worker=$worker")
        act "${tpus[@]}" ssh "$name" "${where[@]}" "${host[@]}" "--command=bash vit_jax/launch/worker.sh logs"
        ;;
    stop) on_hosts "bash vit_jax/launch/worker.sh stop" ;;
    *) "$verb" ;;
esac
