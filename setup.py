"""Builds the package brain_mri out of the folders that users of a checkout import by their own names.

`client`, `core` and the like would collide with other packages, so in a wheel they lie inside brain_mri: there,
`import client` is `from brain_mri import client`, and `python -m client` is `brain-mri classify`. For everything else
see pyproject.toml.
"""

import ast
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

FOLDERS = ("client", "core", "imaging", "serving", "webapp")

# What messages and help texts tell people to type.
TOLD = {
    "python -m serving.releases": "brain-mri releases",
    "python -m webapp.audit": "brain-mri audit",
    "python -m webapp.keys": "brain-mri keys",
    "python -m client": "brain-mri classify",
    "python -m serving": "brain-mri serve",
    "python -m webapp": "brain-mri web",
    "webapp:create_app": "brain_mri.webapp:create_app",
    "pip install -r requirements.txt": "pip install 'brain-mri[serve]'",
}


def is_module(text: str) -> bool:
    """Return whether a string is the dotted name of a module in FOLDERS; nothing would move it."""
    dotted = re.fullmatch(rf"({'|'.join(FOLDERS)})(\.\w+)+", text)
    return bool(dotted) and Path(text.replace(".", "/") + ".py").is_file()


def moved(source: str) -> str:
    """Return a module's code with its imports of FOLDERS naming brain_mri, and TOLD replaced.

    Raises:
        ValueError: an import that cannot be moved without changing which name it binds, or a module named in a string.
    """
    lines = source.encode().splitlines(keepends=True)  # columns of ast count bytes
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and is_module(node.value):
            raise ValueError(f"Expected {{__package__}} in the name of a module. Received: {node.value!r}")
        if isinstance(node, ast.ImportFrom):
            names, form, new = [node.module or ""] * (not node.level), rb"from\s+", b"from brain_mri."
        elif isinstance(node, ast.Import):
            names, form, new = [alias.name for alias in node.names], rb"import\s+", b"from brain_mri import "
        else:
            continue
        if not any(name.split(".")[0] in FOLDERS for name in names):
            continue
        if isinstance(node, ast.Import) and (len(names) > 1 or "." in names[0]):
            raise ValueError(f"Expected `import x` or `from x.y import z`. Received: {ast.unparse(node)}")
        line, column = lines[node.lineno - 1], node.col_offset
        lines[node.lineno - 1] = line[:column] + re.sub(form, new, line[column:], count=1)
    text = b"".join(lines).decode()
    for old, told in TOLD.items():
        text = text.replace(old, told)
    ast.parse(text)
    return text


class Build(build_py):
    """Copies modules as ever, those of FOLDERS moved."""

    def run(self):
        """Begin with an empty folder: a module that is gone would otherwise still be in the next wheel."""
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()

    def build_module(self, module, module_file, package):
        """Copy one module."""
        copied, is_new = super().build_module(module, module_file, package)
        Path(copied).write_text(moved(Path(module_file).read_text(encoding="utf-8")), encoding="utf-8")
        return copied, is_new


inner = find_packages(include=[pattern for folder in FOLDERS for pattern in (folder, f"{folder}.*")])
setup(
    cmdclass={"build_py": Build},
    packages=["brain_mri", *(f"brain_mri.{name}" for name in inner)],
    package_dir={f"brain_mri.{folder}": folder for folder in FOLDERS},
)
