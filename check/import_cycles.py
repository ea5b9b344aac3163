#!/usr/bin/env python3
"""Fails when files of one crate import each other in a circle.

usage: check/import_cycles.py [--self-test] [--edges CRATE_ROOT]

A file imports another one if it names it in a path: `use crate::x`, `crate::x::f()`, `super::x`, also in braces. A
`mod` declaration is not an import, and neither is a `pub use` in the file that declares the module, which is how a
parent shows its children's names. Code for tests only (`#[cfg(test)]` modules, files below `tests/`) is left out.

What a macro generates and `use x::*` of a child's child are not seen: this is a check of the layering, not a compiler.
"""

import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Crates whose files still import each other in circles. Empty this list as they are mended.
ALLOWED = {
    "src/client",
    "src/dst-target",
    "src/rpc",
    "sim/spdk",
}

COMMENT_OR_TEXT = re.compile(
    r'//[^\n]*|/\*.*?\*/|r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?\'(?:\\.[^\']*|[^\'\\])\'', re.DOTALL
)
TEST_MOD = re.compile(r"#\[cfg\((?:all\()?test\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([^)]*\))?\s+)?mod\s+\w+\s*([{;])")
MOD = re.compile(r'((?:#\[[^\]]*\]\s*)*)(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*;')
PATH_ATTRIBUTE = re.compile(r'#\[path\s*=\s*"([^"]+)"\]')
USE = re.compile(r"\b(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);")
PATH = re.compile(r"(?<![\w:])(?:\$crate|crate|self|super)(?:\s*::\s*\w+)+")


def without_comments(text):
    """Comments and literals blanked, but for the paths in attributes."""

    def blank(found):
        keep = text[max(0, found.start() - 10) : found.start()]
        return found.group(0) if re.search(r"path\s*=\s*$", keep) else " "

    return COMMENT_OR_TEXT.sub(blank, text)


def without_tests(text):
    """The text without modules that exist for tests only."""
    while found := TEST_MOD.search(text):
        end = found.end()
        if found.group(1) == "{":
            depth = 1
            while depth and end < len(text):
                depth += {"{": 1, "}": -1}.get(text[end], 0)
                end += 1
        text = text[: found.start()] + text[end:]
    return text


def split(text):
    """Splits at the commas that are in no braces."""
    depth, part = 0, ""
    for char in text:
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            yield part
            part = ""
        else:
            part += char
    yield part


def paths_of_use(tree):
    """All paths of a `use`: `a::{b, c::d}` gives a::b and a::c::d, each as a tuple."""
    head, brace, rest = tree.partition("{")
    names = tuple(name.strip() for name in re.split(r"\bas\b", head)[0].split("::") if name.strip())
    if not brace:
        yield names
        return
    for part in split(rest[: rest.rindex("}")]):
        if part.strip():
            for tail in paths_of_use(part):
                yield names + tail


class Crate:
    """The modules of a crate, each with its file, and what each file imports."""

    def __init__(self, root):
        self.files = {}
        self.texts = {}
        self.find((), root, root.parent)

    def find(self, module, file, folder):
        text = without_tests(without_comments(file.read_text()))
        self.files[module] = file
        self.texts[module] = text
        for attributes, name in MOD.findall(text):
            path = PATH_ATTRIBUTE.search(attributes)
            candidates = [folder / f"{name}.rs", folder / name / "mod.rs"]
            if path:
                candidates = [file.parent / path.group(1)]
            for candidate in candidates:
                # Two declarations of one name, for two versions of SPDK, are two files.
                if candidate.exists():
                    key = module + (name,)
                    if key in self.files:
                        key = module + (f"{name}#{path.group(1) if path else ''}",)
                    self.find(key, candidate, folder / name)

    def file_of(self, path):
        """The module that a path leads to: the longest beginning of it that is one."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.files:
                return path[:length]
        return ()

    def absolute(self, module, path):
        if path[0] in ("crate", "$crate"):
            return path[1:]
        here = tuple(name.split("#")[0] for name in module)
        if path[0] == "self":
            return here + path[1:]
        while path and path[0] == "super":
            here, path = here[:-1], path[1:]
        return here + path

    def twins(self, module):
        """The files of a module that is declared more than once."""
        if not module:
            return [module]
        return [m for m in self.files if m[:-1] == module[:-1] and m and m[-1].split("#")[0] == module[-1]]

    def imports(self, module):
        text = self.texts[module]
        found = set()
        children = {m[len(module)].split("#")[0] for m in self.files if len(m) == len(module) + 1 and m[: len(module)] == module}

        def add(path, public=False):
            if not path:
                return
            if path[0] not in ("crate", "$crate", "self", "super"):
                if path[0] not in children:
                    return
                path = ("self",) + path
            target = self.file_of(self.absolute(module, path))
            here = tuple(name.split("#")[0] for name in module)
            if target == here or (public and target[: len(here)] == here):
                return
            found.update((twin, "::".join(path)) for twin in self.twins(target))

        rest = text
        for use in USE.finditer(text):
            for path in paths_of_use(use.group(2)):
                add(path, public=bool(use.group(1)))
        rest = USE.sub(" ", text)
        for path in PATH.finditer(rest):
            add(tuple(re.split(r"\s*::\s*", path.group(0))))
        for child in children:
            for call in re.finditer(rf"(?<![\w:.]){child}\s*::\s*\w+", rest):
                add(tuple(re.split(r"\s*::\s*", call.group(0))))
        # What a root shows of its modules (`pub use errno::Errno`) is a name of the module, wherever it is used.
        return {(self.through(target, name), name) for target, name in found}

    def through(self, target, name):
        """Follows a name that a file only shows on (`pub use child::Name`) to the file that has it."""
        last = name.split("::")[-1]
        for use in USE.finditer(self.texts[target]):
            if not use.group(1):
                continue
            for path in paths_of_use(use.group(2)):
                if path and path[-1] == last and len(path) > 1:
                    if path[0] not in ("crate", "self", "super"):
                        path = ("self",) + path
                    found = self.file_of(self.absolute(target, path))
                    if found != target and found[: len(target)] == target:
                        return self.through(found, name)
        return target

    def graph(self):
        graph = {module: {} for module in self.files}
        for module in self.files:
            for target, name in self.imports(module):
                if target != module:
                    graph[module].setdefault(target, set()).add(name)
        return graph


def circles(graph):
    """The strongly connected components of more than one module (Tarjan, 1972)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = []
            while not component or component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def crates():
    """The roots of the crates that are checked."""
    for folder in [*(ROOT / "src").iterdir(), ROOT / "spdk/safe/src", ROOT / "spdk/contract/src", ROOT / "sim/spdk", ROOT / "sim/world", ROOT / "sim/src", ROOT / "sim/tcp/src"]:
        for name in ("lib.rs", "main.rs"):
            if (folder / name).exists():
                yield folder / name
                break


def report(root, show=False):
    """Prints the circles of a crate. Returns how many there are."""
    crate = Crate(root)
    graph = crate.graph()

    def shown(module):
        return crate.files[module].relative_to(root.parent).as_posix()

    if show:
        for module, targets in sorted(graph.items()):
            for target, names in sorted(targets.items()):
                print(f"{shown(module)} -> {shown(target)}: {', '.join(sorted(names))}")
    found = circles(graph)
    for circle in found:
        print(f"{root.parent}: {len(circle)} files import each other in a circle:")
        for module in circle:
            for target, names in sorted(graph[module].items()):
                if target in circle:
                    print(f"    {shown(module)} -> {shown(target)}: {', '.join(sorted(names))}")
    return len(found)


def self_test():
    """Plants circles, and things that look like circles but are none."""
    cases = [
        ("a circle of two", {"lib.rs": "mod a; mod b;", "a.rs": "use crate::b::B;", "b.rs": "fn f() { crate::a::g() }"}, 1),
        ("in braces", {"lib.rs": "mod a; mod b;", "a.rs": "use crate::{b::{B, C}};", "b.rs": "use super::a;"}, 1),
        ("of parent and child", {"lib.rs": "mod a;", "a.rs": "mod b; fn f() { b::g() } struct S;", "a/b.rs": "use super::S;"}, 1),
        ("a declaration", {"lib.rs": "mod a;", "a.rs": "mod b; pub use b::B; struct S;", "a/b.rs": "use super::S;"}, 0),
        ("tests", {"lib.rs": "mod a; mod b;", "a.rs": "use crate::b::B;", "b.rs": "#[cfg(test)] mod tests { use crate::a::A; }"}, 0),
        ("comments", {"lib.rs": "mod a; mod b;", "a.rs": "use crate::b::B;", "b.rs": "// crate::a::A\nconst S: &str = \"crate::a\";"}, 0),
        ("one way", {"lib.rs": "pub mod a; mod b; pub use a::A;", "a.rs": "fn f() {}", "b.rs": "use crate::A;"}, 0),
    ]
    for name, files, wanted in cases:
        with tempfile.TemporaryDirectory() as folder:
            for file, text in files.items():
                path = Path(folder) / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            found = len(circles(Crate(Path(folder) / "lib.rs").graph()))
            if found != wanted:
                sys.exit(f"import_cycles: self-test, {name}: found {found} circles, not {wanted}")


def main(words):
    if "--edges" in words:
        report(Path(words[words.index("--edges") + 1]).resolve(), show=True)
        return
    self_test()
    if "--self-test" in words:
        return
    bad = 0
    for root in crates():
        if root.parent.relative_to(ROOT).as_posix() not in ALLOWED:
            bad += report(root)
    if bad:
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
