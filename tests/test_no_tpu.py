"""On machines without any sign of a TPU, environment variables stop libtpu from searching for one."""

import importlib.machinery
import os
import subprocess
import sys

import pytest

from vit_jax import no_tpu


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    monkeypatch.setattr(no_tpu.importlib.util, "find_spec", lambda name: importlib.machinery.ModuleSpec(name, None))


def told(root, **environ):
    before = dict(environ)
    no_tpu.quiet(environ, f"{root}/")
    return environ.keys() - before.keys()


def test_it_is_told_where_nothing_shows_a_tpu(tmp_path):
    (tmp_path / "dev" / "vfio").mkdir(parents=True)
    (tmp_path / "dev" / "vfio" / "vfio").touch()  # exists on every machine with VFIO, even without a TPU
    pci(tmp_path, "0x8086", "0x0063")
    pci(tmp_path, "0x1ae0", "0x0042")
    assert told(tmp_path) >= {"TPU_ACCELERATOR_TYPE", "TPU_WORKER_HOSTNAMES"}
    assert told(tmp_path, TPU_SKIP_MDS_QUERY="1", TPU_LIBRARY_PATH="libtpu.so") >= {"TPU_ACCELERATOR_TYPE"}


def pci(root, vendor, device):
    folder = root / "sys" / "bus" / "pci" / "devices" / f"{vendor}:{device}"
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "device").write_text(f"{device}\n")


@pytest.mark.parametrize("name", ["JAX_PLATFORMS", "TPU_WORKER_ID", "TPU_NAME", "MEGASCALE_SLICE_ID"])
def test_what_is_set_stays(tmp_path, name):
    assert not told(tmp_path, **{name: ""})


@pytest.mark.parametrize("file", ["dev/accel0", "dev/vfio/0"])
def test_a_tpus_files_show_it(tmp_path, file):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).touch()
    assert not told(tmp_path)


def test_a_tpu_on_the_bus_shows(tmp_path):
    pci(tmp_path, "0x1ae0", "0x0063")
    assert not told(tmp_path)


def test_nothing_is_told_without_libtpu(tmp_path, monkeypatch):
    monkeypatch.setattr(no_tpu.importlib.util, "find_spec", lambda name: None)
    assert not told(tmp_path)


def test_python_prints_nothing(tpu_compiler):
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("TPU_", "LIBTPU", "JAX_", "XLA_"))}
    code = "import vit_jax, sys; assert 'jax' not in sys.modules; import jax; jax.devices()"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stderr == ""
