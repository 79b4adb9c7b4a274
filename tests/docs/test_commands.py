"""Every command of the documents is one: its program, flags, config, keys and extras are there and fit."""

import functools
import importlib.util
import json
import os
import pathlib
import re
import runpy
import subprocess
import sys

import pytest
import setuptools

from helpers import documents
from helpers.documents import ROOT
from vit_jax import config as config_lib
from vit_jax import config_file
from vit_jax.__main__ import VERBS
from vit_jax.models import variants
from vit_jax.studies import checks

MODULES = {verb: module for verb, module, _ in VERBS}
PARSER = pathlib.Path(__file__).with_name("parse_flags.py")
OTHERS = {".ci/run", "docker", "kubectl", "mypy", "pytest", "ruff", "sky", "source", "sphinx-build", "tfds", "venv"}
OTHERS |= {"vit_jax", "wandb"}
PACKAGES = {"skypilot[gcp]"}  # that documents install, beside this one
PLACEHOLDERS = {"…", "FILE", "configs/evaluate.py:DATASET", "configs/transfer.py:VARIANT,folder:DIR"}  # for a config


def program(command):
    """Returns the kind of a command, what it starts, and its arguments."""
    match command:
        case ["python", "-m", module, *rest] if module.startswith("vit_jax."):
            return "verb", module.removeprefix("vit_jax."), rest
        case ["vit_jax", verb, *rest] if verb in MODULES:
            return "verb", MODULES[verb], rest
        case ["vit_jax", "--help" | "--version"]:
            return "other", "vit_jax", []
        case ["pip", "install", *rest]:
            return "pip", "install", rest
        case ["python", script, *rest] if script.endswith(".py"):
            return "script", script, rest
        case [script, *rest] if script.startswith("launch/"):
            return "script", script, rest
        case ["python3", "-m", "venv", *rest]:
            return "other", "venv", rest
    return "other", command[0], command[1:]


@functools.cache
def everything():
    """Returns the commands of all documents: (document, kind, what, arguments)."""
    return [(name, *program(command)) for name in documents.NAMES for command in documents.commands(name)]


def of(kind):
    return [(name, what, rest) for name, found, what, rest in everything() if found == kind]


@functools.cache
def parsed():
    """Returns the flags of each verb, and what is wrong with the arguments of each of its commands, if anything."""
    lines = {}
    for _, module, rest in of("verb"):
        lines.setdefault(module, []).append([word for word in rest if word != "…"])
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    for module in {*MODULES.values(), *lines}:
        assert importlib.util.find_spec(f"vit_jax.{module}") is not None, f"there is no vit_jax.{module}"
        lines.setdefault(module, [])
    done = subprocess.run(
        [sys.executable, str(PARSER)], input=json.dumps(lines), capture_output=True, text=True, env=env, check=True
    )
    return json.loads(done.stdout)


def test_documents_have_commands():
    assert len(of("verb")) > 40 and len(of("script")) > 10 and len(of("pip")) > 10


def test_programs_are_known():
    assert {what for _, what, _ in of("other")} <= OTHERS


def test_the_readme_names_every_verb():
    spans = "\n".join(documents.spans("README.md"))
    assert all(f"vit_jax {verb}" in spans for verb in MODULES)


def test_verbs_take_their_flags():
    wrong = [error for module in parsed().values() for error in module["errors"]]
    assert not wrong, "\n".join(wrong)


def test_flags_in_sentences_are_those_of_a_command():
    known = {flag for module in parsed().values() for flag in module["flags"]} | {"help"}
    scripts = "".join(path.read_text() for path in [*ROOT.glob("launch/*.[ps]*"), *ROOT.glob("benchmarks/*.py")])
    for name in documents.NAMES:
        for span in documents.spans(name):
            if span.split()[0] in OTHERS:
                continue
            for flag in re.findall(r"(?:^|\s)--([a-z_]\w*)", span):
                negated = flag.removeprefix("no")
                assert {flag, negated} & known or flag == "config" or f"--{flag}" in scripts, (name, span)


def configs():
    """Yields the configs that documents name, each with the command that reads it and the keys that flags set."""
    for name, module, rest in of("verb"):
        flags = [word.removeprefix("--") for word in rest if word.startswith("--config")]
        files = [flag.partition("=")[2] for flag in flags if flag.startswith("config=")]
        overrides = [flag.removeprefix("config.") for flag in flags if flag.startswith("config.")]
        yield from ((name, module, file, overrides) for file in files)
    for name in documents.NAMES:
        for span in documents.spans(name):
            if found := re.fullmatch(r"(configs/\w+\.py):\S+", span):
                yield name, "study" if "/study_" in found[0] else "main", found[0], []


def test_configs_load():
    """With all keys that flags set, and their models exist. Studies are checked whole."""
    seen = set()
    for name, module, path, overrides in configs():
        if path in PLACEHOLDERS or (path, *overrides) in seen:
            continue
        seen.add((path, *overrides))
        if module == "study":
            pairs = [tuple(override.split("=", 1)) for override in overrides]
            assert checks.checked(config_file.result_of(path, "get_study"), path, pairs).runs, name
        else:
            variants.named(config_file.load_config(path, overrides).model.name)
    assert len(seen) > 30


def test_keys_in_sentences_are_keys():
    sections = {key.rpartition(".")[0] for key in config_lib.KEYS}
    for name in documents.NAMES:
        for span in documents.spans(name):
            for key in re.findall(r"^(?:--)?config\.(?!json|py|md)([a-z][\w.|]*)", span):
                first, *others = key.split("|")
                parent = first.rpartition(".")[0]
                for each in [first, *(f"{parent}.{other}" for other in others)]:
                    bare = each.removesuffix(".update")
                    assert config_lib.is_key(bare) or bare in sections or bare == "evaluations", (name, span)


def test_scripts_have_their_flags():
    for name, script, rest in of("script"):
        text = (ROOT / script).read_text() + (ROOT / "launch" / "common.sh").read_text()
        for word in rest:
            if word.startswith("--") and not (word.startswith("--config") and "gke" in script):
                assert word.partition("=")[0] in {*re.findall(r"--[\w-]+", text), "--help"}, (name, script, word)


@pytest.fixture
def extras(monkeypatch):
    """Returns the extras of setup.py."""
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **keywords: given.update(keywords))
    runpy.run_path(str(ROOT / "setup.py"))
    return given["extras_require"]


def test_every_extra_is_described(extras):
    assert set(extras) <= set(documents.spans("docs/start.md"))


def test_what_pip_installs_is_there(extras):
    for name, _, rest in of("pip"):
        words = [word for word in rest if word not in ("-e", "-q", "--quiet", "-c", "--upgrade")]
        for word in words:
            if found := re.fullmatch(r"\.(?:\[([\w,]+)\])?", word) or re.match(r"vit_jax(?:\[([\w,]+)\])?$", word):
                assert {*(found[1] or "").split(",")} - {""} <= set(extras), (name, word)
            else:
                assert word in PACKAGES or (ROOT / word).is_file(), (name, word)
