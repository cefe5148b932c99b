"""Scripts that complete `octad` in bash, zsh and fish: text from shapes, and no Python in it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from octad.client.cli.completion.shapes import Choice, Shape

_HEAD = "# Completes octad in {shell}. Made by: octad completion {shell}\n"


def bash_script(shapes: Sequence[Shape]) -> str:
    """For `source`, or a file in ~/.local/share/bash-completion/completions called octad."""
    cases = "".join(
        f"    {place}) words={shlex.quote(' '.join(words))} ;;\n"
        for place, words in _places(shapes)
    )
    verbs = shlex.quote(" ".join([*(shape.verb for shape in shapes), "--help", "--version"]))
    return (
        _HEAD.format(shell="bash")
        + f"""_octad() {{
  local words= typed="${{COMP_WORDS[COMP_CWORD]}}"
  if [ "$COMP_CWORD" -eq 1 ]; then
    words={verbs}
  else
    case "${{COMP_WORDS[1]}} ${{COMP_WORDS[2]}}" in
{cases}    esac
    if [ "$COMP_CWORD" -eq 2 ]; then
      case "${{COMP_WORDS[1]}}" in
{_second_words(shapes)}      esac
    fi
  fi
  COMPREPLY=($(compgen -W "$words" -- "$typed"))
}}
complete -o default -F _octad octad
"""
    )


def zsh_script(shapes: Sequence[Shape]) -> str:
    """For a file called _octad in a directory of $fpath."""
    verbs = "\n".join(f"    {shlex.quote(_described(s.verb, s.explained))}" for s in shapes)
    cases = "".join(
        f"    ({place}) candidates=({' '.join(map(shlex.quote, words))}) ;;\n"
        for place, words in _places(shapes)
    )
    second = _second_words(shapes, zsh=True)
    return f"""#compdef octad
{_HEAD.format(shell="zsh")}_octad() {{
  local -a verbs candidates
  verbs=(
{verbs}
  )
  if (( CURRENT == 2 )); then
    _describe verb verbs
    return
  fi
  case "$words[2] $words[3]" in
{cases}  esac
  if (( CURRENT == 3 )); then
    case "$words[2]" in
{second}    esac
  fi
  compadd -- $candidates
  [[ "$PREFIX" == -* ]] || _files
}}
_octad "$@"
"""


def fish_script(shapes: Sequence[Shape]) -> str:
    """For ~/.config/fish/completions/octad.fish."""
    return _HEAD.format(shell="fish") + "".join(_fish_lines(shapes))


def _places(shapes: Sequence[Shape]) -> Iterator[tuple[str, list[str]]]:
    """Patterns of the first two words, the closest first, and what may follow them."""
    for shape in shapes:
        for inner in shape.verbs:
            yield f'"{shape.verb} {inner.verb}"', [*_words_of(inner)]
        yield f'"{shape.verb} "*', [*_words_of(shape)]


def _words_of(shape: Shape) -> list[str]:
    return [*shape.words, *(option.word for option in shape.options)]


def _second_words(shapes: Sequence[Shape], *, zsh: bool = False) -> str:
    """Behind the verb alone: its sub-verbs, too."""
    lines = []
    for shape in shapes:
        if shape.verbs:
            words = [*(inner.verb for inner in shape.verbs), *_words_of(shape)]
            if zsh:
                lines.append(f"      ({shape.verb}) candidates=({' '.join(words)}) ;;\n")
            else:
                lines.append(f"        {shape.verb}) words={shlex.quote(' '.join(words))} ;;\n")
    return "".join(lines)


def _described(word: str, explained: str) -> str:
    return f"{word}:{explained}"


def _fish_lines(shapes: Sequence[Shape]) -> Iterator[str]:
    for shape in shapes:
        yield _fish("__fish_use_subcommand", f"-a {shape.verb}", shape.explained)
        here = f"__fish_seen_subcommand_from {shape.verb}"
        inner_verbs = " ".join(inner.verb for inner in shape.verbs)
        for inner in shape.verbs:
            before = f"{here}; and not __fish_seen_subcommand_from {inner_verbs}"
            yield _fish(before, f"-a {inner.verb}", inner.explained)
            yield from _fish_options(f"{here}; and __fish_seen_subcommand_from {inner.verb}", inner)
        yield from _fish_options(here, shape)


def _fish_options(condition: str, shape: Shape) -> Iterator[str]:
    if shape.words:
        yield _fish(condition, f"-a {shlex.quote(' '.join(shape.words))}", "")
    for option in shape.options:
        yield _fish(condition, _fish_option(option), option.explained)


def _fish_option(option: Choice) -> str:
    kind = "-l" if option.word.startswith("--") else "-s"
    known = f" -xa {shlex.quote(' '.join(option.choices))}" if option.choices else ""
    return f"{kind} {option.word.lstrip('-')}{known}"


def _fish(condition: str, what: str, explained: str) -> str:
    described = f" -d {_fish_quoted(explained)}" if explained else ""
    return f"complete -c octad -n {_fish_quoted(condition)} {what}{described}\n"


def _fish_quoted(text: str) -> str:
    """fish knows two escapes inside single quotes."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
