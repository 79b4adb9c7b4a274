"""Keeps libtpu quiet where it is installed and no TPU is.

libtpu is there for `vit_jax.plan` on machines of any kind. JAX loads it with its other backends, and without a TPU it
asks in vain what slice it is on and prints that to stderr. Told that it is alone, it finds no TPU and says nothing.
"""

import glob
import importlib.util
import os
import pathlib
from collections.abc import MutableMapping

# What JAX and libtpu set themselves says nothing about the machine.
_NO_SIGNS = {"TPU_SKIP_MDS_QUERY", "TPU_LIBRARY_PATH"}
_GOOGLE = "0x1ae0"  # the vendor by which jax._src.hardware_utils knows a TPU on the PCI bus
_NO_TPUS = {"0x001f", "0x0042"}  # Google's disks and network cards, which its machines without a TPU have, too


def quiet(environ: MutableMapping[str, str] = os.environ, root: str = "/") -> None:
    """Sets TPU_ACCELERATOR_TYPE and TPU_WORKER_HOSTNAMES if libtpu is installed and nothing shows a TPU.

    Changes nothing if JAX_PLATFORMS is set, any other TPU_* variable is, or a device file or a PCI device may be a TPU.
    Has no effect once JAX has initialized its backends.
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
        return True  # what can't be read may be one
