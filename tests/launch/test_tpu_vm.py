import json
import pathlib
import shlex

import pytest

from vit_jax.chips import CHIPS

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUN = "-- python -m vit_jax.main --config=a.py:B/16,x --workdir=gs://b/r --config.data.name='a b'"
VERBS = {
    "create": "--topology=v5e:4x4 --tier=spot",
    "setup": "--bucket=data",
    "run": RUN,
    "status": "",
    "logs": "--worker=1",
    "stop": "",
    "delete": "",
}
SLICE_HOSTS = 4  # the number of hosts of v5e:4x4


def words(text, *more):
    """Returns the words of a command line, with `more` added before the command that is to be run."""
    found = shlex.split(text)
    place = found.index("--") if "--" in found else len(found)
    return [*found[:place], *more, *found[place:]]


def commands(printed):
    return [shlex.split(line) for line in printed.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("queue", [[], ["--no-queue"]], ids=["queued", "not_queued"])
@pytest.mark.parametrize("verb", VERBS)
def test_what_is_printed_is_what_is_done(launch, fakes, verb, queue):
    options = words(VERBS[verb], "--zone=z", *queue)
    printed = commands(launch("tpu_vm.sh", verb, "b16", *words(shlex.join(options), "--dry-run")).stdout)
    fake = fakes("gcloud", "tar", answers=[("describe", "ACTIVE", 0)])
    done = launch("tpu_vm.sh", verb, "b16", *options, fakes=fake)
    assert done.returncode == 0, done.stderr
    assert fake.called() == printed != []


@pytest.mark.parametrize("verb", VERBS)
def test_a_failing_gcloud_ends_it_with_its_own_error(launch, fakes, verb):
    fake = fakes("gcloud", "tar", answers=[("gcloud", "ERROR: quota exceeded", 3)])
    done = launch("tpu_vm.sh", verb, "b16", *words(VERBS[verb]), fakes=fake)
    assert done.returncode == 3 and "ERROR: quota exceeded" in done.stderr
    assert sum(command[0] == "gcloud" for command in fake.called()) == 1


def test_quotes_survive_two_shells(launch):
    done = launch("tpu_vm.sh", "run", "b16", *words(RUN, "--dry-run"))
    (command,) = commands(done.stdout)
    remote = shlex.split(command[-1].removeprefix("--command="))
    assert remote[-1] == "--config.data.name=a b"
    assert remote[:5] == ["bash", "vit_jax/launch/worker.sh", "start", "--", "python"]


@pytest.mark.parametrize(
    ("topology", "flags", "runtime"),
    [
        ("v2:2x2", "--accelerator-type=v2-8", "tpu-ubuntu2204-base"),
        ("v3:4x8", "--accelerator-type=v3-64", "tpu-ubuntu2204-base"),
        ("v3:32x32", "--accelerator-type=v3-2048", "tpu-ubuntu2204-base"),
        ("v4:2x2x1", "--type=v4 --topology=2x2x1", "tpu-ubuntu2204-base"),
        ("v4:8x8x8", "--type=v4 --topology=8x8x8", "tpu-ubuntu2204-base"),
        ("v5e:1x1", "--accelerator-type=v5litepod-1", "v2-alpha-tpuv5-lite"),
        ("v5e:2x4", "--accelerator-type=v5litepod-8", "v2-alpha-tpuv5-lite"),
        ("v5e:16x16", "--accelerator-type=v5litepod-256", "v2-alpha-tpuv5-lite"),
        ("v5p:2x2x1", "--accelerator-type=v5p-8", "v2-alpha-tpuv5"),
        ("V5P:8x8x8", "--accelerator-type=v5p-1024", "v2-alpha-tpuv5"),
        ("v6e:8x16", "--accelerator-type=v6e-128", "v2-alpha-tpuv6e"),
    ],
)
def test_accelerators_have_the_names_of_cloud_tpu(launch, topology, flags, runtime):
    create = commands(launch("tpu_vm.sh", "create", "b16", f"--topology={topology}", "--dry-run").stdout)[0]
    assert " ".join([flags, f"--runtime-version={runtime}"]) in " ".join(create)
    other = launch("tpu_vm.sh", "create", "b16", f"--topology={topology}", "--runtime=mine", "--dry-run").stdout
    assert "--runtime-version=mine" in other


def test_every_generation_of_plan_is_known(launch):
    for chip in CHIPS.values():
        shape = "x".join(map(str, chip.largest)) if chip.dimensions == 2 else "4x4x4"
        done = launch("tpu_vm.sh", "create", "b16", f"--topology={chip.name}:{shape}", "--dry-run")
        assert (done.returncode == 0) == (chip.tpu and chip.name != "tpu7x"), done.stderr


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "tpu_vm.sh takes create, setup"),
        ("build b16", "not 'build'"),
        ("create", "which TPUs?"),
        ("create B_16", "which TPUs?"),
        ("create b16", "which slice?"),
        ("create b16 --topology=v5e", "is no slice"),
        ("create b16 --topology=v9:2x2", "v2, v3, v4, v5e, v5p, v6e"),
        ("create b16 --topology=tpu7x:2x2x1", "TPU7x is on GKE only; take python launch/gke.py --topology=tpu7x:2x2x1"),
        ("create b16 --topology=v5e:4x4x4", "have 2 sides"),
        ("create b16 --topology=v5p:4x4", "have 3 sides"),
        ("create b16 --topology=v5e:16x32", "up to 256 chips"),
        ("create b16 --topology=v5e:4x16", "4x8, 8x8"),
        ("create b16 --topology=v5e:1x2", "4x8, 8x8"),
        ("create b16 --topology=v3:2x4", "4x8, 8x8"),
        ("create b16 --topology=v4:8x4x4", "ascending"),
        ("create b16 --topology=v4:2x2x3", "multiples of 4"),
        ("create b16 --topology=v5e:4x4 --slices=0", "--slices=NUMBER"),
        ("create b16 --topology=v5e:4x4 --slices=2 --no-queue", "leave out --no-queue"),
        ("create b16 --topology=v5e:4x4 --tier=cheap", "on-demand, spot and reserved"),
        ("create b16 --topology=v5e:4x4 --cache=gs://b/c", "--cache is for run, resume, not for create"),
        ("create b16 --wrong", "what is --wrong?"),
        ("run b16", "which command?"),
        ("run b16 --cache=/tmp/c -- python", "write --cache=gs://BUCKET/DIR"),
        ("run b16 --topology=v5e:4x4 -- python", "--topology is for create, resume, not for run"),
        ("resume b16 -- python", "which slice?"),
        ("logs b16 --worker=all", "--worker=NUMBER"),
        ("status b16", "gcloud is not installed"),
    ],
)
def test_errors_are_one_sentence(launch, command, message):
    done = launch("tpu_vm.sh", *command.split())
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and message in done.stderr and done.stderr.count("\n") == 1


def test_create_tells_of_a_request_that_failed(launch, fakes):
    fake = fakes("gcloud", answers=[("describe", "WAITING_FOR_RESOURCES", 0), ("describe", "FAILED", 0)])
    done = launch("tpu_vm.sh", "create", "b16", "--topology=v5e:4x4", "--poll=0", fakes=fake)
    assert done.returncode == 1 and "error: b16 is FAILED" in done.stderr


NOT_FOUND = ("describe", "ERROR: NOT_FOUND: Resource not found", 1)
ACTIVE = ("describe", "ACTIVE", 0)


def hosts(first, second=None):
    """Returns the answer of all the hosts to `status`: `first` from host 0, and `second` from the others."""
    states = [first] + [second or first] * (SLICE_HOSTS - 1)
    return ("status", "\n".join(f"vit_jax host-{number} {state}" for number, state in enumerate(states)), 0)


def resume(launch, fakes, *answers, options=""):
    """Runs `resume` with these answers of gcloud; returns the exit code, the steps that were taken, and stderr."""
    fake = fakes("gcloud", "tar", answers=answers)
    done = launch(
        "tpu_vm.sh", "resume", "b16", *words(RUN, "--topology=v5e:4x4", "--poll=0", *options.split()), fakes=fake
    )
    assert not fake.left(), done.stderr
    return done.returncode, [step for step in map(_step, fake.called()) if step], done.stderr


def _step(command):
    text = json.dumps(command)
    if "worker.sh status" in text or "describe" in command or "tar" in command:
        return None
    for word in ("worker.sh start", "worker.sh setup", "create", "delete", "scp"):
        if word in text:
            return word.removeprefix("worker.sh ")
    raise AssertionError(f"what is {command}?")


def test_resume_makes_everything_from_nothing(launch, fakes):
    made = NOT_FOUND, ("describe", "PROVISIONING", 0), ACTIVE, hosts("absent"), ACTIVE, hosts("none")
    code, steps, _ = resume(launch, fakes, *made, ACTIVE, hosts("running"), ACTIVE, hosts("exit 0"))
    assert (code, steps) == (0, ["create", "scp", "setup", "start"])


def test_resume_goes_on_after_a_preemption(launch, fakes):
    gone = ("status", "ssh: no route to host", 255), ("describe", "SUSPENDING", 0), ("describe", "SUSPENDED", 0)
    answers = ACTIVE, hosts("running"), ACTIVE, *gone, ACTIVE, hosts("absent"), ACTIVE, hosts("none"), ACTIVE
    code, steps, _ = resume(launch, fakes, *answers, hosts("exit 0"))
    assert (code, steps) == (0, ["delete", "create", "scp", "setup", "start"])


@pytest.mark.parametrize(
    "codes",
    [("exit 143",), ("exit 143", "exit 1"), ("lost", "exit 1"), ("exit 137", "exit 1"), ("exit 134", "exit 143")],
    ids=lambda codes: "_".join(codes).replace("exit ", ""),
)
def test_resume_starts_an_interrupted_run_again(launch, fakes, codes):
    """If one host is killed, the others end with exit code 1, which must not count as an error of the run."""
    first = ACTIVE, hosts("running", "exit 1"), ACTIVE, hosts(*codes)
    second = ACTIVE, hosts("running"), ACTIVE, hosts("exit 0")
    assert resume(launch, fakes, *first, *second)[:2] == (0, ["start"])


@pytest.mark.parametrize("codes", [("exit 1",), ("exit 0", "exit 1"), ("exit 2",)], ids=["all", "one", "usage"])
def test_resume_stops_at_an_error(launch, fakes, codes):
    code, steps, said = resume(launch, fakes, ACTIVE, hosts("running"), ACTIVE, hosts(*codes), options="--zone=z")
    assert (code, steps) == (1, [])
    assert "vit_jax host-0" in said and "launch/tpu_vm.sh logs b16 --zone=z\n" in said
    assert "error: the run ended with exit code" in said


def test_resume_does_not_take_an_old_end_for_a_new_one(launch, fakes):
    answers = ACTIVE, hosts("exit 1"), ACTIVE, hosts("running"), ACTIVE, hosts("exit 0")
    assert resume(launch, fakes, *answers)[:2] == (0, ["start"])


def test_resume_gives_up_after_so_many_crashes(launch, fakes):
    answers = ACTIVE, hosts("running"), ACTIVE, hosts("exit 137", "exit 1"), ACTIVE, hosts("exit 137", "exit 1")
    code, steps, said = resume(launch, fakes, *answers, options="--crashes=1")
    assert (code, steps) == (1, ["start"])
    assert "exit code 137, and had been started again 1 times" in said


def test_resume_shows_what_gcloud_finds_wrong(launch, fakes):
    code, steps, said = resume(launch, fakes, ("describe", "ERROR: PERMISSION_DENIED", 1))
    assert (code, steps) == (1, []) and "ERROR: PERMISSION_DENIED" in said


def test_resume_gives_up_where_hosts_do_not_answer(launch, fakes):
    answers = [answer for _ in range(10) for answer in (ACTIVE, ("status", "ssh: timed out", 255))]
    code, steps, said = resume(launch, fakes, *answers)
    assert (code, steps) == (1, []) and "asking the 4 hosts of b16 failed 10 times" in said


@pytest.mark.parametrize(
    ("options", "hosts"),
    [
        ("--topology=v5e:16x16", 64),
        ("--topology=v5e:2x4", 1),
        ("--topology=v6e:1x1", 1),
        ("--topology=v6e:2x2 --slices=3", 3),
        ("--topology=v4:2x2x2 --slices=2", 4),
        ("--topology=v3:4x4", 4),
        ("--topology=v5p:16x16x24", 1536),
    ],
)
def test_resume_does_not_take_some_hosts_for_all(launch, fakes, options, hosts):
    """gcloud only warns and does not fail if it can't reach a slice, so the answers must be counted."""
    told = "\n".join(f"vit_jax host-{number} running" for number in range(hosts - 1))
    fake = fakes("gcloud", answers=[answer for _ in range(10) for answer in (ACTIVE, ("status", told, 0))])
    done = launch("tpu_vm.sh", "resume", "b16", *options.split(), "--poll=0", "--", "python", fakes=fake)
    assert done.returncode == 1 and f"asking the {hosts} hosts of b16 failed 10 times" in done.stderr


def test_resume_tries_again_where_tpus_are_taken_away_while_they_are_set_up(launch, fakes):
    broken = ACTIVE, hosts("absent"), ("scp", "ssh: lost connection", 255), ("describe", "PREEMPTED", 0)
    again = ACTIVE, hosts("absent"), ACTIVE, hosts("none"), ACTIVE, hosts("exit 0")
    code, steps, _ = resume(launch, fakes, *broken, *again)
    assert (code, steps) == (0, ["scp", "delete", "create", "scp", "setup", "start"])


def test_resume_does_not_ask_for_ever_for_what_is_refused(launch, fakes):
    code, steps, said = resume(launch, fakes, *[("describe", "FAILED", 0)] * 10)
    assert (code, steps) == (1, ["delete", "create"] * 9) and "the request of b16 failed 10 times" in said
