"""Every link of the documents leads somewhere. The network is not asked: other hosts are those of a list."""

import re
import urllib.parse

import pytest

from helpers import documents
from helpers.documents import ROOT

HOSTS = {
    "arxiv.org",
    "cloud.google.com",
    "colab.research.google.com",
    "github.com",
    "img.shields.io",
    "keepachangelog.com",
    "kubernetes.io",
    "semver.org",
    "www.tensorflow.org",
}
OURS = re.compile(r"/(?:github/)?vit-jax/vit_jax/blob/main/(.+)")  # on GitHub and on Colab
FOLDERS = r"(?:benchmarks|configs|docs|launch|notebooks|tests|vit_jax)/"


@pytest.mark.parametrize("name", documents.NAMES)
def test_links_lead_somewhere(name):
    for link in documents.links(name):
        target = urllib.parse.urlsplit(link)
        if target.scheme:
            assert target.scheme == "https" and target.netloc in HOSTS, link
            if ours := OURS.fullmatch(target.path):
                assert (ROOT / ours[1]).is_file(), link
            continue
        file = (ROOT / name).parent / target.path if target.path else ROOT / name
        assert file.exists() and file.resolve().is_relative_to(ROOT), link
        if target.fragment:
            assert target.fragment in documents.anchors(str(file.resolve().relative_to(ROOT))), link


@pytest.mark.parametrize("name", [name for name in documents.NAMES if name != "CHANGELOG.md"])
def test_files_that_are_named_exist(name):
    """CHANGELOG.md may name files that are no more."""
    code = [*documents.spans(name), *(block.text for block in documents.blocks(name))]
    for path in re.findall(rf"(?<![\w/.-]){FOLDERS}[\w./*-]*[\w*/]", "\n".join(code)):
        assert any(ROOT.glob(path)), path


def test_anchors_are_those_of_github():
    assert {"weights--biases", "when-a-run-stops"} <= documents.anchors("docs/training.md")
    assert {"evaluationsname", "the-run"} <= documents.anchors("docs/config.md")


def test_a_page_is_one_click_from_the_first():
    linked = set(documents.links("docs/index.md"))
    assert {file.name for file in (ROOT / "docs").glob("*.md")} - linked == {"index.md"}
