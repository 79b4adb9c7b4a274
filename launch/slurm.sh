#!/usr/bin/env bash
# Starts a training run on a SLURM cluster with GPUs: writes a batch script and submits it. The job puts itself back
# into the queue until the training is complete.
set -euo pipefail

usage() {
    cat <<'USAGE'
    slurm.sh --nodes=4 --gpus=8 [OPTIONS] -- python -m vit_jax.main --config=… --workdir=…

    --nodes=N               nodes
    --gpus=N                GPUs per node; each has a process of its own
    --name=vit_jax          the job's name; its log is NAME-JOBID.log in the working directory
    --time=24:00:00         when this time is over, the run saves and goes back to the queue; partitions may allow less
    --partition=P --account=A --constraint=C --cpus_per_gpu=N   as sbatch takes them
    --env=DIR               the virtual environment in which vit_jax is installed, on storage that all nodes share
    --cache=DIR             where compiled programs are kept, on storage that all nodes share
    --seconds=300           how long before the end of --time SIGTERM is sent
    --dry-run               print the batch script and the command, and submit nothing

    scancel --batch --signal=TERM JOBID      stops a job after it has saved; submit the same command again to continue

Exit codes: 0 submitted; 1 an error; otherwise that of sbatch. Those of the job: 0 the training is complete; 143 saved
after SIGTERM, and put back into the queue; 1 an error.
USAGE
}

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$HERE/common.sh"

# Prints the batch script. It starts one process per GPU, because jax.distributed gives each process of a SLURM job one
# GPU, that of number SLURM_LOCALID. Each process decodes its own images.
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

# Before the time is over, and at a preemption with a GraceTime, SLURM sends SIGTERM to the processes that srun started,
# but not to this shell and not to srun. The processes save and end with 143, and the job goes back to the queue.
# To stop the job for good, send SIGTERM to this shell:
#     scancel --batch --signal=TERM \$SLURM_JOB_ID
# The shell passes it on to the processes. (srun itself would kill them at SIGTERM.) The job then does not go back.
stopped="" interrupted=""
trap 'stopped=yes interrupted=yes; scancel --signal=TERM "\$SLURM_JOB_ID"' TERM

# A process that has saved and ended must not make srun kill the others, which may still be saving. If a process dies,
# JAX tells the others.
srun --kill-on-bad-exit=0 --wait=0 $(quoted "${COMMAND[@]}") &
run=\$!
code=0
wait "\$run" || code=\$?
while [[ -n \$interrupted ]]; do # wait also returns after a trap, so wait again
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
