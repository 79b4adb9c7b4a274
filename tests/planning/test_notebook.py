"""The notebook about slices runs from top to bottom; it compiles for TPUs."""

from helpers.notebooks import check


def test_pods(tpu_compiler, tmp_path):
    check("pods", tmp_path)
