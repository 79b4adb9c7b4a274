"""The notebook about slices runs from top to bottom; it compiles for TPUs."""

import pytest

from helpers.notebooks import check


def test_pods(tmp_path):
    pytest.importorskip("libtpu")
    check("pods", tmp_path)
