"""The one gin loader, for `welm` and for the Beam pipelines.

A binding that is misspelt, mistyped, missing or used by nothing is refused before anything heavy
is imported: the classes' fields are read from their source. Only then are their modules imported
and the objects built. gin's parser reads the files; its registry, which accepts most of these in
silence, is not used. Library code never sees gin; a gin file cannot import.
"""

import ast
import dataclasses
import difflib
import importlib
import importlib.util
import os
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from etils import epath
from gin import config_parser

from welm_jax.failures import InputError

REQUIRED = "gin.REQUIRED"
HELP = """
configuration:
  --gin_file FILE      a gin file, here or among the installed ones; may be given several times
  --gin.NAME=VALUE     a macro or Class.field, over the files; strings need no quotes
  --debug              shows the traceback of an error
"""


@dataclass(frozen=True, kw_only=True)
class GinConfig:
    """What the gin files and flags came to.

    Attributes:
      objects: class name -> the object built.
      files: that were read, includes too, each once.
      given: everything as given, includes written out; loading it again gives the same objects.
      operative: every parameter in force, defaults too.
    """

    objects: Mapping[str, Any]
    files: Sequence[str]
    given: str
    operative: str

    def __getitem__(self, name: str) -> Any:
        return self.objects[name]


def load(
    gin_files: Sequence[str],
    bindings: Sequence[str],
    wanted: Mapping[str, str],
    siblings: Mapping[str, str] | None = None,
) -> GinConfig:
    """Checks every binding, then builds one object of each wanted class.

    Args:
      gin_files: paths; one that does not exist here is looked for among the installed gin_configs.
      bindings: `NAME=VALUE` or `Class.field=VALUE`, which win over the files.
      wanted: class name -> its module; built with what the files bind.
      siblings: classes that the files (but not the flags) may bind for another command that
        reads the same files.

    Returns:
      The objects and the two texts.

    Raises:
      InputError: a file is missing or does not parse; a name is unknown (with the nearest known
        one), a value has the wrong type, a required value is missing, or a binding is used by
        nothing.
    """
    read: list[str] = []
    lines = [line for path in gin_files for line in _spliced(path, (), read)]
    lines += [_Line("the command line", 0, _quoted(binding)) for binding in bindings]
    values = _checked(list(_parsed(lines)), wanted, siblings or {})
    objects = {
        name: getattr(importlib.import_module(module), name)(**values[name])
        for name, module in wanted.items()
    }
    return GinConfig(
        objects=objects,
        files=list(dict.fromkeys(read)),
        given="".join(f"{line.text}\n" for line in lines),
        operative="".join(
            f"{name}.{field.name} = {getattr(built, field.name)!r}\n"
            for name, built in objects.items()
            for field in dataclasses.fields(built)
        ),
    )


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Takes `--gin_file F` and `--gin.NAME=VALUE` out of a command line.

    Returns:
      The gin files, the bindings (`NAME=VALUE`), and the other arguments in their order.

    Raises:
      InputError: `--gin_file` without a path, or `--gin.NAME` without a value.
    """
    files, bindings, rest = [], [], []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == "--gin_file":
            path = next(waiting, None)
            if path is None:
                raise InputError("--gin_file needs a path, as in --gin_file runs/quickstart.gin")
            files.append(path)
        elif argument.startswith("--gin_file="):
            files.append(argument.removeprefix("--gin_file="))
        elif argument.startswith("--gin."):
            if "=" not in argument:
                raise InputError(f"{argument} needs a value: write {argument}=VALUE")
            bindings.append(argument.removeprefix("--gin."))
        else:
            rest.append(argument)
    return files, bindings, rest


class _Line(NamedTuple):
    file: str
    number: int  # from 1; 0 for a flag
    text: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.number}" if self.number else self.file


class _Reference(NamedTuple):
    macro: str


class _Binding(NamedTuple):
    name: str  # a macro, or Class.field
    value: Any
    where: str
    from_flag: bool

    @property
    def target(self) -> tuple[str, str] | None:
        """(class, field), or None for a macro."""
        owner, dot, field = self.name.rpartition(".")
        return (owner, field) if dot else None


class _NamesOnly(config_parser.ParserDelegate):
    """Parses without resolving anything: a macro becomes its name, `@f()` is refused."""

    def configurable_reference(self, scoped_configurable_name, evaluate):
        raise InputError(
            f"@{scoped_configurable_name}: references to classes or functions are not used here; "
            "bind plain values and %MACROS"
        )

    def macro(self, macro_name):
        return _Reference(macro_name)


def _spliced(path: str, including: tuple[str, ...], read: list[str]) -> Iterator[_Line]:
    """The lines of a file with its includes written out in their place; adds to `read` its path."""
    found = _find(path, including)
    read.append(str(found))
    if str(found) in including:
        raise InputError(f"{path} includes itself, by way of {' -> '.join(including)}")
    try:
        lines = found.read_bytes().decode("utf-8-sig").splitlines()  # with or without a mark
    except UnicodeDecodeError as error:
        raise InputError(f"gin file {path} is no UTF-8 text ({error.reason})") from error
    for number, text in enumerate(lines, 1):
        include = re.fullmatch(r"\s*include\s+['\"](.+)['\"]\s*(#.*)?", text)
        if include:
            yield from _spliced(include[1], (*including, str(found)), read)
        else:
            yield _Line(path, number, text)


def _find(path: str, including: tuple[str, ...]) -> epath.Path:
    """The file of a path: beside the one that includes it, here, or among the installed ones.

    An installed file includes installed ones alone, so that it means the same in every folder.
    """
    installed = Path(importlib.util.find_spec("gin_configs").origin).parent
    places = [installed / path, installed / path.removeprefix("gin_configs/")]
    includer = Path(os.path.realpath(including[-1])) if including else None
    if not (includer and includer.is_relative_to(os.path.realpath(installed))):
        places.insert(0, path)
    if including:
        places.insert(0, epath.Path(including[-1]).parent / path)
    for place in map(epath.Path, places):
        if place.is_file():
            return place
    known = [str(file.relative_to(installed)) for file in sorted(installed.rglob("*.gin"))]
    raise InputError(
        f"gin file {path} is neither here nor among the installed ones; {nearest(path, known)}"
    )


def _quoted(binding: str) -> str:
    """A flag's binding with a bare string put in quotes, so that a shell user need not."""
    name, _, value = binding.partition("=")
    if "\n" in binding:
        raise InputError(f"--gin.{name}: a value is one line")
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        if not value.startswith(("%", "@", "(", "[", "{")):
            value = repr(value)
    return f"{name.strip()} = {value}"


def _parsed(lines: Sequence[_Line]) -> Iterator[_Binding]:
    try:
        parser = config_parser.ConfigParser("\n".join(line.text for line in lines), _NamesOnly())
        for statement in parser:
            line = lines[statement.location.line_num - 1]
            where = line.place
            if isinstance(statement, config_parser.ImportStatement):
                raise InputError(f"{where}: a gin file cannot import; use --import my_pkg.tasks")
            if isinstance(statement, config_parser.BindingStatement):
                if statement.scope:
                    raise InputError(f"{where}: {statement.scope}/: scopes are not used here")
                name = ".".join(filter(None, (statement.selector, statement.arg_name)))
                yield _Binding(name, statement.value, where, not line.number)
    except InputError as error:  # gin's parser adds lines of its own
        raise InputError(str(error).partition("\n")[0]) from None
    except (SyntaxError, ValueError, TypeError, tokenize.TokenError) as error:
        line = lines[min(getattr(error, "lineno", None) or 1, len(lines)) - 1]
        raise InputError(
            f"{line.place}: {line.text.strip()!r} is not gin ({error.args[0]}); "
            "write NAME = VALUE with strings in quotes"
        ) from error


def _checked(
    statements: Sequence[_Binding], wanted: Mapping[str, str], siblings: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Class -> field -> value, once every statement has been found to be right and of use."""
    fields = {name: _fields(module, name) for name, module in {**siblings, **wanted}.items()}
    macros = {one.name: one for one in statements if one.target is None}
    values: dict[str, dict[str, Any]] = {name: {} for name in fields}
    used: dict[bool, set[str]] = {False: set(), True: set()}  # by any class; by a wanted one
    for one in statements:
        if one.target is None:
            continue
        _check_name(one, fields, wanted)
        owner, field = one.target
        value, names = _resolved(one, macros)
        used[False] |= names  # also where a later binding wins
        used[True] |= names if owner in wanted else set()
        if not _fits(value, fields[owner][field].annotation):
            expected = ast.unparse(fields[owner][field].annotation)
            raise InputError(f"{one.where}: {one.name} = {value!r}; it must be {expected}")
        values[owner][field] = value
    for name, macro in macros.items():
        if name not in used[macro.from_flag]:
            raise InputError(
                f"{macro.where}: {name} is set, but nothing here uses it; "
                f"{nearest(name, sorted(used[macro.from_flag]))}"
            )
    for owner in wanted:
        for field, declared in fields[owner].items():
            if declared.required and field not in values[owner]:
                raise InputError(f"{owner}.{field} is not set; add --gin.{owner}.{field}=VALUE")
    return values


def _check_name(one: _Binding, fields: Mapping[str, Mapping], wanted: Mapping[str, str]) -> None:
    owner, field = one.target
    if owner not in fields:
        known = [f"{name}.{own}" for name, owned in fields.items() for own in owned]
        raise InputError(f"{one.where}: {one.name}: no {owner} here; {nearest(one.name, known)}")
    if field not in fields[owner]:
        known = [f"{owner}.{own}" for own in fields[owner]]
        raise InputError(
            f"{one.where}: {one.name}: {owner} has no {field}; {nearest(one.name, known)}"
        )
    if one.from_flag and owner not in wanted:
        raise InputError(f"{one.where}: {one.name} is not used by this command; leave it out")


def _resolved(one: _Binding, macros: Mapping[str, _Binding]) -> tuple[Any, set[str]]:
    """The binding's value with its macros replaced, and the names of the macros met."""
    met: set[str] = set()

    def resolve(value, seen):
        if isinstance(value, _Reference):
            name = value.macro
            if name in seen:
                raise InputError(f"{one.where}: %{name} is defined by itself")
            if name not in macros:
                missing = name if name != REQUIRED else (one.name, *seen)[-1]
                raise InputError(
                    f"{one.where}: {one.name} needs {missing}, which is not set; "
                    f"add --gin.{missing}=VALUE"
                )
            met.add(name)
            return resolve(macros[name].value, (*seen, name))
        if isinstance(value, (list, tuple)):
            return type(value)(resolve(item, seen) for item in value)
        if isinstance(value, dict):
            return {resolve(key, seen): resolve(item, seen) for key, item in value.items()}
        return value

    return resolve(one.value, ()), met


class _Field(NamedTuple):
    annotation: ast.expr
    required: bool


def _fields(module: str, name: str) -> dict[str, _Field]:
    """A dataclass's fields, read from its module's source without importing it."""
    source = Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return {
                item.target.id: _Field(item.annotation, item.value is None)
                for item in node.body
                if isinstance(item, ast.AnnAssign)
            }
    raise LookupError(f"no class {name} in {module}")


def _fits(value: Any, annotation: ast.expr) -> bool:
    """Whether a value has the annotated type; the kinds of annotation our configs use."""
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _fits(value, left) or _fits(value, right)
        case ast.Constant(value=None):
            return value is None
        case ast.Name(id="int"):
            return isinstance(value, int) and not isinstance(value, bool)
        case ast.Name(id="float"):
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case ast.Name(id="str" | "bool" as kind):
            return isinstance(value, {"str": str, "bool": bool}[kind])
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            allowed = choices.elts if isinstance(choices, ast.Tuple) else [choices]
            return value in [ast.literal_eval(choice) for choice in allowed]
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=[item, _])):
            return isinstance(value, tuple) and all(_fits(one, item) for one in value)
        case ast.Subscript(value=ast.Name(id="Mapping"), slice=ast.Tuple(elts=[key, item])):
            return isinstance(value, dict) and all(
                _fits(k, key) and _fits(v, item) for k, v in value.items()
            )
    raise TypeError(f"gin_files does not know the annotation {ast.unparse(annotation)}")


def nearest(name: str, known: Sequence[str]) -> str:
    """What to say of a name that is not known: the nearest one that is, or all of them."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]}?"
    return f"known are {', '.join(known)}" if known else "there is nothing it could mean"
