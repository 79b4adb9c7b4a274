"""Sphinx makes HTML of the pages in docs/ without a warning."""

import subprocess
import sys

import vit_jax
from helpers.documents import ROOT


def test_pages_build_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(ROOT / "docs"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    first = (tmp_path / "index.html").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f'href="{page.stem}.html"' in first or page.stem == "index"
    described = (tmp_path / "api.html").read_text(encoding="utf-8")
    assert "Returns a model with freshly initialised parameters." in described
    assert all(f'id="vit_jax.{name}"' in described for name in vit_jax._PUBLIC)
    assert (tmp_path / "_images" / "inside.png").exists()
