"""The documents of the repository, and the links, code and commands in them."""

import html.parser
import itertools
import json
import pathlib
import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "launch/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "notebooks").glob("*.ipynb")),
]
NAMES = [str(file.relative_to(ROOT)) for file in FILES]
_MARKDOWN = MarkdownIt("commonmark").enable("table")
_COMMAND = re.compile(r"(python -m vit_jax\.|vit_jax |pip install |python \w+/)")


class Block(NamedTuple):
    """A block of code: its language, which is empty for an indented block, and its text."""

    language: str
    text: str


def text(name: str) -> str:
    """Returns the text of a document, and of a notebook that of its Markdown cells."""
    content = (ROOT / name).read_text(encoding="utf-8")
    return "\n\n".join(_cells(content, "markdown")) if name.endswith(".ipynb") else content


def links(name: str) -> list[str]:
    """Returns the targets of the links and images of a document, also of images in HTML."""
    found = [str(token.attrs.get("href") or token.attrs.get("src") or "") for token in _inline(name)]
    reader = _Targets()
    for token in [*_blocks(name), *_inline(name)]:
        if token.type in ("html_block", "html_inline"):
            reader.feed(token.content)
    return [*filter(None, found), *reader.found]


def anchors(name: str) -> set[str]:
    """Returns the anchors that GitHub gives the headings of a document.

    A heading in lower case loses all but letters, digits, underscores, hyphens and spaces; spaces become hyphens.
    """
    tokens = _blocks(name)
    headings = [after for token, after in itertools.pairwise(tokens) if token.type == "heading_open"]
    words = ["".join(part.content for part in heading.children or ()) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in words}


def blocks(name: str) -> list[Block]:
    """Returns the blocks of code of a document."""
    return [Block(t.info.strip(), t.content) for t in _blocks(name) if t.type in ("code_block", "fence")]


def spans(name: str) -> list[str]:
    """Returns the pieces of code inside the sentences and tables of a document."""
    return [" ".join(token.content.split()) for token in _inline(name) if token.type == "code_inline"]


def commands(name: str) -> list[list[str]]:
    """Returns the commands of a document, each as a list of words.

    They are those of blocks without a language, of pieces of code that start as a command does, and those that a
    notebook passes to the shell. A command that starts another one, after `--`, counts as two.
    """
    lines = [line for block in blocks(name) if not block.language for line in _lines(block.text)]
    lines += [each for span in spans(name) if _COMMAND.match(span) for each in _alternatives(span)]
    if name.endswith(".ipynb"):
        for cell in _cells((ROOT / name).read_text(encoding="utf-8"), "code"):
            shell = [line for line in _lines(cell) if line.lstrip().startswith(("!", "%pip"))]
            lines += [line.lstrip().lstrip("!%").replace("{sys.executable}", "python") for line in shell]
    return [command for line in lines for command in _split(line)]


class _Targets(html.parser.HTMLParser):
    """Collects what `href` and `src` of HTML name."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for key, value in attrs if key in ("href", "src") and value]


def _cells(notebook: str, kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(notebook)["cells"] if cell["cell_type"] == kind]


def _blocks(name: str) -> list[Token]:
    return _MARKDOWN.parse(text(name))


def _inline(name: str) -> list[Token]:
    return [child for token in _blocks(name) for child in token.children or ()]


def _lines(code: str) -> list[str]:
    return [line for line in code.replace("\\\n", " ").splitlines() if line.strip()]


def _alternatives(span: str) -> list[str]:
    """Returns the commands that a piece of code such as `vit_jax train|predict` stands for."""
    found = re.search(r"\b\w+(?:\|\w+)+", span)
    return [span.replace(found[0], word) for word in found[0].split("|")] if found else [span]


def _split(line: str) -> Iterator[list[str]]:
    """Yields the commands of a line of a shell, which `&&`, `;`, `|` and `--` separate."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    command: list[str] = []
    for word in [*lexer, ";"]:
        if word in ("&&", ";", "|", "--"):
            if command:
                yield command
            command = []
        else:
            command.append(word)
