"""Modules import only from lower layers, without circles, and fast commands do not import slow packages."""

import ast
import pathlib

import pytest

import vit_jax

PACKAGE = pathlib.Path(vit_jax.__file__).resolve().parent
VERBS = (
    "__main__",
    "main",
    "evaluate",
    "predict",
    "convert",
    "plan",
    "analyze",
    "study",
    "prepare",
    "describe",
    "command_line",
)  # the commands, and the module that they share
LAYERS = (
    VERBS,
    ("studies", "showing"),
    ("planning",),
    ("training",),
    ("evaluation", "analysis", "preparing", "predicting"),
    ("tasks", "figures"),
    ("checkpoints",),
    ("models", "data"),
    ("chips", "config_file", "durations", "sharding", "distributed", "randomness"),
    ("config",),
    ("checking",),
    ("schema",),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
EVERYONE = ("aliases", "errors", "logs", "progress", "streams", "values", "")


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] not in ("configs", "launch"):
            yield ".".join(part for part in parts if part != "__init__"), ast.parse(path.read_text())


FOUND = dict(modules())


def imported(tree, *, at_import):
    """Yields the modules of the package that a file imports; with `at_import`, without imports inside functions."""
    nodes = list(tree.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vit_jax":
            base = node.module.removeprefix("vit_jax").removeprefix(".")
            for alias in node.names:
                whole = f"{base}.{alias.name}".removeprefix(".")
                yield whole if whole in FOUND else base
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("vit_jax").removeprefix(".") for a in node.names if a.name[:7] == "vit_jax")
        elif not (at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            nodes.extend(ast.iter_child_nodes(node))


def allowed(importer, target):
    here, there = importer.split(".")[0], target.split(".")[0]
    if here == there or there in EVERYONE:
        return True
    if here in EVERYONE:
        return False
    return LEVEL[here] < LEVEL[there] or LEVEL[here] == LEVEL[there] == 0


@pytest.mark.parametrize("name", [name for name in FOUND if name])
def test_imports_run_one_way(name):
    wrong = [target for target in imported(FOUND[name], at_import=False) if not allowed(name, target)]
    assert not wrong, f"{name} imports {wrong}"


def test_no_circle():
    """There are no circles of imports between modules. The name of a folder stands for its `__init__`."""
    graph = {name: set(imported(tree, at_import=True)) - {""} for name, tree in FOUND.items()}
    for name in list(graph):  # importing a file also imports the `__init__` of its folder
        graph[name] |= {t.split(".")[0] for t in graph[name] if t.split(".")[0] != name.split(".")[0]}
    done: set[str] = set()

    def visit(name, above):
        assert name not in above, " → ".join([*above[above.index(name) :], name])
        if name not in done:
            for target in sorted(graph.get(name, ())):
                visit(target, [*above, name])
            done.add(name)

    for name in graph:
        visit(name, [])
