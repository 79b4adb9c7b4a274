"""Keeps libtpu from printing messages on machines without a TPU.

`vit_jax.plan` needs libtpu, so it may be installed on machines of any kind. JAX loads it as one of its backends.
Without a TPU, libtpu then asks the network which slice it is on, gets no answer, and prints messages to stderr. It
prints nothing if environment variables say that it is the only host of its slice.
"""

import glob
import importlib.util
import os
import pathlib
from collections.abc import MutableMapping

# Variables that JAX and libtpu set themselves, so that they are no sign of a TPU.
_NO_SIGNS = {"TPU_SKIP_MDS_QUERY", "TPU_LIBRARY_PATH"}
_GOOGLE = "0x1ae0"  # Google's vendor number, by which jax._src.hardware_utils finds TPUs on the PCI bus
_NO_TPUS = {"0x001f", "0x0042"}  # Google's virtual disks and network cards: they are no sign of a TPU


def quiet(environ: MutableMapping[str, str] = os.environ, root: str = "/") -> None:
    """Sets TPU_* environment variables that keep libtpu quiet, if it is installed and the machine seems to have no TPU.

    Changes nothing if JAX_PLATFORMS is set, or if there is a sign of a TPU: an environment variable of a TPU machine, a
    device file or a PCI device. Has no effect if JAX has initialized its backends already.

    Args:
        environ: the environment variables, which are changed.
        root: the folder that contains dev/ and sys/; tests use another than /.
    """
    if "JAX_PLATFORMS" in environ or importlib.util.find_spec("libtpu") is None or _shows_tpu(environ, root):
        return
    environ.update(TPU_SKIP_MDS_QUERY="1", TPU_ACCELERATOR_TYPE="v5litepod-4", TPU_WORKER_HOSTNAMES="localhost")


def _shows_tpu(environ: MutableMapping[str, str], root: str) -> bool:
    prefixes = ("TPU_", "CLOUD_TPU_", "MEGASCALE_", "JAX_FORCE_TPU_INIT")
    if any(name.startswith(prefixes) and name not in _NO_SIGNS for name in environ):
        return True
    if any(glob.glob(f"{root}dev/{files}") for files in ("accel*", "vfio/[0-9]*")):
        return True
    try:
        devices = [pathlib.Path(folder) for folder in glob.glob(f"{root}sys/bus/pci/devices/*/")]
        google = [one for one in devices if (one / "vendor").read_text().strip() == _GOOGLE]
        return any((one / "device").read_text().strip() not in _NO_TPUS for one in google)
    except OSError:
        return True  # a device that can't be read may be a TPU
