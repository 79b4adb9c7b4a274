#!/usr/bin/env bash
# A run on a SLURM cluster with GPUs: writes the batch script and submits it; it goes back to the queue until it is done.
set -euo pipefail

usage() {
    cat <<'USAGE'
    slurm.sh --nodes=4 --gpus=8 [OPTIONS] -- python -m vit_jax.main --config=… --workdir=…

    --nodes=N               nodes
    --gpus=N                GPUs of a node, each with a process of its own
    --name=vit_jax          of the job; its log is NAME-JOBID.log in the working directory
    --time=24:00:00         after which it saves and goes back to the queue; partitions may have less
    --partition=P --account=A --constraint=C --cpus_per_gpu=N   as sbatch takes them
    --env=DIR               the virtual environment that vit_jax is installed in, on all nodes
    --cache=DIR             compiled programs kept there, on storage that all nodes share
    --seconds=300           before the end of --time at which SIGTERM is sent
    --dry-run               print the batch script and the command and submit nothing

    scancel --batch --signal=TERM JOBID      stops a job after it has saved; the same command submitted again goes on

Exit codes: 0 submitted; 1 an error; else that of sbatch. Of the job: 0 the training is complete; 143 saved after SIGTERM,
and put back into the queue; 1 an error.
USAGE
}

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/common.sh"

# One process a GPU: jax.distributed takes SLURM_LOCALID for the one GPU of a process, and each decodes its own images.
batch() {
    cat <<HEAD
#!/usr/bin/env bash
#SBATCH --job-name=$name
#SBATCH --nodes=$nodes
#SBATCH --ntasks-per-node=$gpus
#SBATCH --gpus-per-node=$gpus
#SBATCH --time=$time
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=$name-%j.log
#SBATCH --signal=TERM@$seconds
HEAD
    ((${#asked[@]} == 0)) || printf '#SBATCH %s\n' "${asked[@]}"
    echo "set -euo pipefail"
    [[ -z $env ]] || echo "source $(quoted "$env/bin/activate")"
    [[ -z $cache ]] || echo "export JAX_COMPILATION_CACHE_DIR=$(quoted "$cache")"
    cat <<BODY

# SLURM sends SIGTERM to the processes of srun, not to this shell and not to srun, before the time is over and at a
# preemption with a GraceTime; they save and end with 143, and the job goes back to the queue. This shell gets SIGTERM by
#     scancel --batch --signal=TERM \$SLURM_JOB_ID
# which hands it on, and the job does not go back. (srun itself would kill them on SIGTERM.)
stopped="" interrupted=""
trap 'stopped=yes interrupted=yes; scancel --signal=TERM "\$SLURM_JOB_ID"' TERM

# One that has saved must not end the others, which are still at it; of the dead JAX tells the others.
srun --kill-on-bad-exit=0 --wait=0 $(quoted "${COMMAND[@]}") &
run=\$!
code=0
wait "\$run" || code=\$?
while [[ -n \$interrupted ]]; do # a trap ends a wait
    interrupted="" code=0
    wait "\$run" || code=\$?
done
if ((code == 143)) && [[ -z \$stopped ]]; then
    scontrol requeue "\$SLURM_JOB_ID" || echo "not put back by this script; SLURM may do so itself" >&2
fi
exit "\$code"
BODY
}

nodes="" gpus="" name=vit_jax time=24:00:00 env="" cache="" seconds=300 dry_run=""
asked=() COMMAND=()
while (($#)); do
    option=${1%%=*} value=${1#*=}
    case $1 in
        --nodes=* | --gpus=* | --seconds=*)
            [[ $value =~ ^[1-9][0-9]*$ ]] || fail "$1: write $option=NUMBER"
            printf -v "${option#--}" %s "$value"
            ;;
        --name=?* | --time=?* | --env=?* | --cache=?*) printf -v "${option#--}" %s "$value" ;;
        --partition=?* | --account=?* | --constraint=?*) asked+=("$1") ;;
        --cpus_per_gpu=?*) asked+=("--cpus-per-gpu=$value") ;;
        --dry-run) dry_run=yes ;;
        -h | --help) usage && exit 0 ;;
        --)
            COMMAND=("${@:2}")
            break
            ;;
        *) fail "what is $1? slurm.sh --help says what it takes" ;;
    esac
    shift
done
[[ -n $nodes && -n $gpus ]] || fail "how large? add --nodes=NUMBER --gpus=NUMBER (of a node)"
((${#COMMAND[@]})) || fail "which command? add -- python -m vit_jax.main --config=… --workdir=…"

if [[ -n $dry_run ]]; then
    batch
    echo "# submitted by: sbatch, which reads it from its input"
    exit 0
fi
command -v sbatch >/dev/null || fail "sbatch is not installed; run this where jobs are submitted, or take --dry-run"
echo "+ sbatch" >&2
batch | sbatch
