"""Print what completes the programs' flags in a shell, bash or zsh.

    python -m train.completion > ~/.rnnjax-completion
    echo "source ~/.rnnjax-completion" >> ~/.bashrc     # or ~/.zshrc

From the next shell on, the tab key completes what follows python -m train.
"""

import dataclasses
import typing

import tyro

from train.cli import flag, load_program, run

PROGRAMS = (
    "bench",
    "charlm",
    "completion",
    "convert",
    "export",
    "fetch",
    "inspect",
    "names",
    "page",
    "predict",
    "report",
    "results",
    "sample",
)

# tyro's own scripts are for commands of one word: they would take over every `python`.
SCRIPT = """\
# Printed by python -m train.completion, for bash and zsh.
if [ -n "${ZSH_VERSION-}" ]; then
  autoload -U +X compinit bashcompinit
  whence compdef > /dev/null || compinit
  bashcompinit
fi

_rnnjax() {
  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words=
  if [ "${COMP_WORDS[1]}" != -m ]; then
    return
  elif [ "$COMP_CWORD" = 2 ]; then
    words="@programs@"
  else
    case "${COMP_WORDS[2]} $before" in
@choices@
    esac
    case "${COMP_WORDS[2]} $words$current" in
@flags@
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}

# Where it finds nothing, the shell completes the names of files.
complete -o default -F _rnnjax python python3
"""


@dataclasses.dataclass(frozen=True)
class Config:
    """Print what completes the programs' flags in a shell, bash or zsh."""


def flags_of(config_type: type) -> dict[str, tuple[str, ...]]:
    """The flags of a program, each with what it may be; nothing where that is much.

    Example:
        >>> @dataclasses.dataclass
        ... class Config:
        ...     top_k: int | None = None
        ...     dtype: typing.Literal["float32", "bfloat16"] = "float32"
        >>> flags_of(Config)
        {'--help': (), '--top-k': (), '--dtype': ('float32', 'bfloat16')}
    """
    types = typing.get_type_hints(config_type, include_extras=True)
    flags: dict[str, tuple[str, ...]] = {"--help": ()}
    for name, of in types.items():
        if tyro.conf.Positional in getattr(of, "__metadata__", ()):
            continue
        literal = typing.get_origin(of) is typing.Literal
        flags[flag(name)] = typing.get_args(of) if literal else ()
    return flags


def script() -> str:
    """What a shell has to read once."""
    choices, flags = [], []
    for name in PROGRAMS:
        program = f"train.{name}"
        found = flags_of(load_program(name).Config)
        flags.append(f'      "{program} -"*) words="{" ".join(found)}" ;;')
        choices += [
            f'      "{program} {flag}") words="{" ".join(values)}" ;;'
            for flag, values in found.items()
            if values
        ]
    return (
        SCRIPT.replace("@programs@", " ".join(f"train.{name}" for name in PROGRAMS))
        .replace("@choices@", "\n".join(choices))
        .replace("@flags@", "\n".join(flags))
    )


def main(config: Config) -> None:
    """Print the script."""
    print(script(), end="")


if __name__ == "__main__":
    run(main, Config, __doc__)
