import re
import subprocess

import pytest
import yaml

BASE = "--name=b16 --image=IMAGE --config=configs/pretrain.py:B/16,imagenet2012 --workdir=gs://b/r"


@pytest.fixture
def manifest(launch):
    """Returns a function that runs gke.py with options and returns the JobSet that it prints, parsed."""

    def make(options):
        done = launch("gke.py", *BASE.split(), *options.split(), "--dry-run")
        assert done.returncode == 0, done.stderr
        return yaml.safe_load(done.stdout)

    return make


def parts(jobset):
    """Returns the replicated job, the specs of its Job and its pod, and the container."""
    (replicated,) = jobset["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    return replicated, job, pod, container


@pytest.mark.parametrize(
    ("topology", "accelerator", "hosts", "chips"),
    [
        ("v4:2x2x1", "tpu-v4-podslice", 1, 4),
        ("v4:8x8x8", "tpu-v4-podslice", 128, 4),
        ("v5e:1x1", "tpu-v5-lite-podslice", 1, 1),
        ("v5e:2x2", "tpu-v5-lite-podslice", 1, 4),
        ("v5e:2x4", "tpu-v5-lite-podslice", 1, 8),
        ("v5e:4x4", "tpu-v5-lite-podslice", 4, 4),
        ("v5e:16x16", "tpu-v5-lite-podslice", 64, 4),
        ("v5p:2x2x2", "tpu-v5p-slice", 2, 4),
        ("v5p:16x16x24", "tpu-v5p-slice", 1536, 4),
        ("v6e:2x4", "tpu-v6e-slice", 1, 8),
        ("v6e:16x16", "tpu-v6e-slice", 64, 4),
        ("tpu7x:2x2x1", "tpu7x", 1, 4),
        ("tpu7x:4x4x4", "tpu7x", 16, 4),
    ],
)
def test_a_slice_has_its_selectors_hosts_and_chips(manifest, topology, accelerator, hosts, chips):
    replicated, job, pod, container = parts(manifest(f"--topology={topology}"))
    assert replicated["replicas"] == 1
    assert job["parallelism"] == job["completions"] == hosts
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-accelerator"] == accelerator
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == topology.split(":")[1]
    assert container["resources"] == {"requests": {"google.com/tpu": chips}, "limits": {"google.com/tpu": chips}}


def test_what_a_jobset_on_tpus_needs(manifest):
    jobset = manifest("--topology=v5e:16x16 --slices=4 --queue=tpus --namespace=vision --config.mesh.fsdp=16")
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    meta, spec = jobset["metadata"], jobset["spec"]
    assert (meta["name"], meta["namespace"]) == ("b16", "vision")
    assert meta["labels"] == {"kueue.x-k8s.io/queue-name": "tpus"}
    assert meta["annotations"] == {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    assert spec["network"] == {"enableDNSHostnames": True, "subdomain": "b16"}
    replicated, job, pod, container = parts(jobset)
    assert replicated["replicas"] == 4
    assert (job["completionMode"], job["backoffLimit"], pod["restartPolicy"]) == ("Indexed", 0, "Never")
    assert pod["terminationGracePeriodSeconds"] == 300
    assert {port["containerPort"] for port in container["ports"]} == {8471, 8080}
    assert container["image"] == "IMAGE"
    assert container["command"] == [
        *("python", "-m", "vit_jax.main", "--config=configs/pretrain.py:B/16,imagenet2012", "--workdir=gs://b/r"),
        "--config.mesh.fsdp=16",
    ]
    assert pod["volumes"][0] == {"name": "shm", "emptyDir": {"medium": "Memory"}}
    assert container["volumeMounts"] == [{"name": "shm", "mountPath": "/dev/shm"}]


def outcome(jobset, exit_code=None, disrupted=False):
    """Returns the action that JobSet takes after a pod has ended, by the rules of the manifest.

    If a rule of the pod's failure policy matches, Kubernetes fails the Job with the message "… matching FailJob rule at
    index N". If none matches, the Job fails because its backoffLimit of 0 is exceeded.
    """
    _, job, _, container = parts(jobset)
    reason, message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    for index, rule in enumerate(job["podFailurePolicy"]["rules"]):
        assert rule["action"] == "FailJob"
        codes = rule.get("onExitCodes", {})
        conditions = [condition["type"] for condition in rule.get("onPodConditions", [])]
        assert codes.get("containerName", container["name"]) == container["name"]
        if exit_code in codes.get("values", []) or (disrupted and "DisruptionTarget" in conditions):
            reason, message = "PodFailurePolicy", f"… matching FailJob rule at index {index}"
            break
    for rule in jobset["spec"]["failurePolicy"]["rules"]:
        if reason in rule["onJobFailureReasons"]:
            if any(re.search(pattern, message) for pattern in rule["onJobFailureMessagePatterns"]):
                return rule["action"]
    return "RestartJobSet"


def test_exit_codes_mean_what_main_says(manifest):
    jobset = manifest("--topology=v5e:4x4 --restarts=7")
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] == 7
    assert outcome(jobset, exit_code=1) == outcome(jobset, exit_code=2) == "FailJobSet"
    assert outcome(jobset, exit_code=143) == "RestartJobSetAndIgnoreMaxRestarts"
    assert outcome(jobset, exit_code=137, disrupted=True) == "RestartJobSetAndIgnoreMaxRestarts"
    assert outcome(jobset, exit_code=137) == outcome(jobset, exit_code=134) == "RestartJobSet"


def test_what_is_not_asked_for_is_not_there(manifest):
    jobset = manifest("--topology=v5p:4x4x4")
    _, job, pod, container = parts(jobset)
    assert "labels" not in jobset["metadata"] and "serviceAccountName" not in pod and "tolerations" not in pod
    assert len(pod["nodeSelector"]) == 2
    assert "annotations" not in (job["template"]["metadata"] or {})
    assert "env" not in container


def test_storage_and_nodes(manifest):
    options = "--cache=gs://b/cache --bucket=data --spot --service_account=trainer --grace=60"
    _, job, pod, container = parts(manifest(f"--topology=v6e:4x4 {options}"))
    assert {"name": "JAX_COMPILATION_CACHE_DIR", "value": "gs://b/cache"} in container["env"]
    assert job["template"]["metadata"]["annotations"] == {"gke-gcsfuse/volumes": "true"}
    csi = pod["volumes"][1]["csi"]
    assert (csi["driver"], csi["volumeAttributes"]["bucketName"]) == ("gcsfuse.csi.storage.gke.io", "data")
    assert container["volumeMounts"][1] == {"name": "data", "mountPath": "/data", "readOnly": True}
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert pod["tolerations"][0]["key"] == "cloud.google.com/gke-spot"
    assert pod["serviceAccountName"] == "trainer" and pod["terminationGracePeriodSeconds"] == 60
    *_, reserved, _ = parts(manifest("--topology=v6e:4x4 --reservation=ours"))
    assert reserved["nodeSelector"]["cloud.google.com/reservation-name"] == "ours"


def test_values_can_hold_anything(manifest):
    *_, container = parts(manifest("--topology=v6e:4x4 --config.data.name=it's:{a}#$b"))
    assert container["command"][-1] == "--config.data.name=it's:{a}#$b"


def test_the_manifest_goes_to_kubectl(launch, tmp_path, fakes):
    fake = fakes("kubectl")
    (fake.folder / "kubectl").write_text('#!/bin/sh\necho "$@" >"$0.args"\ncat >"$0.input"\nexit "${CODE:-0}"\n')
    options = [*BASE.split(), "--topology=v5e:4x4"]
    printed = launch("gke.py", *options, "--dry-run").stdout.splitlines()
    done = launch("gke.py", *options, fakes=fake)
    assert done.returncode == 0, done.stderr
    assert (fake.folder / "kubectl.input").read_text().splitlines() == printed[:-1]
    arguments = (fake.folder / "kubectl.args").read_text().strip()
    assert printed[-1] == f"# applied by: kubectl {arguments}"
    assert launch("gke.py", *options, fakes=fake, CODE="4").returncode == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--topology=v3:4x4", "launch/tpu_vm.sh has it"),
        ("--topology=v5e", "is no slice"),
        ("--topology=h100:8", "v4, v5e, v5p, v6e, tpu7x"),
        ("--topology=v5e:4x4x4", "have 2 sides"),
        ("--topology=tpu7x:4x4", "have 3 sides"),
        ("--topology=v5e:1x2", "up to 16x16"),
        ("--topology=v5e:3x3", "up to 16x16"),
        ("--topology=v5e:16x32", "up to 16x16"),
        ("--topology=v4:8x4x4", "ascending"),
        ("--topology=v5e:4x4 --slices=0", "at least one slice"),
        ("--topology=v5e:4x4 --slices=two", "invalid int value"),
        ("--topology=v5e:2x4 --slices=2", "slices of several hosts only"),
        ("--topology=v5e:4x4 --spot --reservation=r", "leave out one"),
        ("--topology=v5e:4x4 --workdir=/tmp/r", "write gs://BUCKET/DIR"),
        ("--topology=v5e:4x4 --name=B_16", "small letters"),
        ("--topology=v5e:4x4 --wrong=1", "what is --wrong=1?"),
        ("", "--topology"),
        ("--topology=v5e:4x4", "kubectl is not installed"),
    ],
)
def test_errors_are_one_sentence(launch, options, message):
    done = launch("gke.py", *BASE.split(), *options.split())
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and message in done.stderr and done.stderr.count("\n") == 1


def test_help_tells_of_every_flag(launch):
    done = launch("gke.py", "--help")
    assert done.returncode == 0 and "--topology" in done.stdout and "JobSet 0.10.1" in done.stdout
    assert isinstance(done, subprocess.CompletedProcess)
