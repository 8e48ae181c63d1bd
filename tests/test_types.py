"""The types that rnnjax promises to its users (`py.typed`)."""

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import rnnjax

MODULES = [module.name for module in pkgutil.walk_packages(rnnjax.__path__, "rnnjax.")]


def public_functions(module):
    """The functions, and the methods of the classes, that are written in a module."""
    for name, value in vars(module).items():
        if (
            name.startswith("_")
            or getattr(value, "__module__", None) != module.__name__
        ):
            continue
        if inspect.isfunction(value):
            yield value
        elif inspect.isclass(value):
            for method_name, method in vars(value).items():
                # Flax and NamedTuple add methods of their own to a class.
                function = getattr(method, "fget", None) or getattr(
                    method, "__func__", method
                )
                function = inspect.unwrap(function) if callable(function) else None
                is_ours = getattr(function, "__module__", None) == module.__name__
                if is_ours and (method_name == "__call__" or method_name[0] != "_"):
                    yield function


@pytest.mark.parametrize("name", MODULES)
def test_every_public_function_is_annotated(name):
    missing = []
    for function in public_functions(importlib.import_module(name)):
        if not inspect.isfunction(function) or function.__name__ == "setup":
            continue
        signature = inspect.signature(function)
        missing += [
            f"{function.__qualname__}({parameter.name})"
            for parameter in signature.parameters.values()
            if parameter.annotation is parameter.empty
            and parameter.name not in ("self", "cls")
        ]
        if signature.return_annotation is signature.empty:
            missing.append(f"{function.__qualname__} -> ?")
    assert not missing


def test_the_package_says_that_it_has_types():
    assert (Path(rnnjax.__path__[0]) / "py.typed").is_file()
