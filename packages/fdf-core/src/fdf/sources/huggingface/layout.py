"""Which files of a dataset belong to a config and split: what its card says, else what its names say.

The rules are those of the `datasets` library (5.2, `data_files.py`, `utils/metadata.py`), over a list of paths: nothing
is opened here. A dataset that `save_to_disk` wrote says itself which files are its.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from fsspec.utils import glob_translate

from fdf.errors import PlanError, Problem, did_you_mean

DataFiles = str | list[str] | dict[str, str | list[str]]
Patterns = dict[str, list[str]]
"""Glob patterns by split."""

CARD = "README.md"
_SHARDED = re.compile(r"data/(?P<split>[^/]+)-\d{5}-of-\d{5}[^/]*\.[^/]*")
_SHARDS_OF = "data/{split}-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]*.*"
_SPLIT_NAME = re.compile(r"\w+(\.\w+)*")
_KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SEPARATORS = "-._ 0-9"
_IN_FOLDERS = ("**/{word}/**", "**/{word}[{s}]*/**", "**/*[{s}]{word}/**", "**/*[{s}]{word}[{s}]*/**")
_IN_FILES = ("**/{word}[{s}]*", "**/*[{s}]{word}[{s}]*")
_NOT_DATA = frozenset(
    {CARD, "config.json", "dataset_info.json", "dataset_infos.json", "dummy_data.zip", "dataset_dict.json"}
)
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Chosen:
    """What was found for a config and split."""

    config: str
    files: tuple[str, ...]
    saved: bool = False
    """Written by `save_to_disk`: Arrow files, whatever they are called."""


def choose(
    paths: Iterable[str],
    *,
    read: Callable[[str], bytes],
    name: str,
    config: str | None,
    split: str,
    data_files: DataFiles | None,
) -> Chosen:
    """Return the files of a config and split among the paths of a dataset, in order of path.

    `read` returns the bytes of a small one; `name` is the dataset's, for messages. Raises PlanError for a config or
    split that is not there, telling those that are.
    """
    there = sorted(paths)
    if data_files is None and "state.json" in there and "dataset_info.json" in there:
        return _saved(there, "", read)
    if data_files is None and "dataset_dict.json" in there:
        splits = list(json.loads(read("dataset_dict.json")).get("splits", []))
        wanted = _wanted(split, splits, name)
        found = [_saved(there, f"{one}/", read).files for one in wanted]
        return Chosen("default", tuple(f for files in found for f in files), saved=True)
    configs = {} if data_files is not None else _configs(there, read, name)
    chosen, patterns = _patterns(there, configs, data_files, config, name)
    files: dict[str, None] = {}
    for one in _wanted(split, list(patterns), name):
        of_split: dict[str, None] = {}
        for pattern in patterns[one]:
            matches = matching(pattern, there)
            if not matches and not _MAGIC.search(pattern):
                raise _wrong("data_files" if data_files is not None else "split", f"`{name}` has no file {pattern}")
            of_split |= dict.fromkeys(matches)
        if not of_split:
            message = f"no file of `{name}` matches {', '.join(patterns[one])}, which split `{one}` consists of"
            raise _wrong("data_files" if data_files is not None else "split", message)
        files |= of_split
    return Chosen(chosen, tuple(sorted(files)))


def _wanted(split: str, known: Sequence[str], name: str) -> list[str]:
    """Return the splits that `a+b` names. Raises PlanError for one that is not there."""
    if "[" in split:
        message = f"`split: {split}` takes a part of a split, which only `datasets` does"
        raise _wrong("split", message, help="take the whole split, and `SampleFilter` or `fdf run --limit`")
    wanted = [part.strip() for part in split.split("+")]
    for one in wanted:
        if one not in known:
            have = f"it has: {', '.join(known)}" if known else "it has none"
            raise _wrong("split", f"`{name}` has no split `{one}`", hint=did_you_mean(one, known), help=have)
    return wanted


def _patterns(
    there: Sequence[str], configs: Mapping[str, dict[str, Any]], data_files: DataFiles | None, config: str | None,
    name: str,
) -> tuple[str, Patterns]:  # fmt: skip
    """Return the config that is meant, and its patterns by split."""
    if data_files is not None:
        return config or "default", _by_split(data_files)
    if not configs:
        if config not in (None, "default"):
            raise _wrong("config", f"`{name}` has no config `{config}`", help="it has no configs: leave `config` out")
        return "default", patterns_of(there, name=name)
    if config is None:
        config = _default(configs, name)
    elif config not in configs:
        have = f"it has: {', '.join(configs)}"
        hint = did_you_mean(config, configs)
        raise _wrong("config", f"`{name}` has no config `{config}`", hint=hint, help=have)
    declared = configs[config]
    below = str(declared.get("data_dir") or "").strip("/")
    prefix = f"{below}/" if below else ""
    if declared.get("data_files") is not None:
        given = _by_split(declared["data_files"])
    else:
        inside = [p[len(prefix) :] for p in there if p.startswith(prefix)]
        given = patterns_of(inside, name=f"{name}, config {config}")
    return config, {split: [prefix + p for p in patterns] for split, patterns in given.items()}


def _default(configs: Mapping[str, dict[str, Any]], name: str) -> str:
    named = [c for c, declared in configs.items() if c == "default" or declared.get("default")]
    if len(configs) == 1:
        return next(iter(configs))
    if len(named) == 1:
        return named[0]
    message = f"`{name}` has several configs and names {'no' if not named else 'more than one'} default"
    raise _wrong("path", message, help=f"choose one with `config:`: {', '.join(configs)}")


def _by_split(data_files: Any) -> Patterns:
    """Return data files, as a recipe or a card gives them, by split; those of no split are `train`."""
    if isinstance(data_files, dict):
        return {str(k): [v] if isinstance(v, str) else list(v) for k, v in data_files.items()}
    if isinstance(data_files, str):
        return {"train": [data_files]}
    found: Patterns = {}
    for item in data_files:
        if isinstance(item, dict):
            path = item["path"]
            found.setdefault(str(item["split"]), []).extend([path] if isinstance(path, str) else path)
        else:
            found.setdefault("train", []).append(item)
    return found


def patterns_of(paths: Sequence[str], *, name: str) -> Patterns:
    """Return the patterns by split that the names of files and folders stand for: the first rule that finds any."""
    shards = [m for p in matching("data/*-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]*.*", paths)
              if (m := _SHARDED.fullmatch(p))]  # fmt: skip
    if shards:
        splits = {m["split"] for m in shards}
        odd = sorted(s for s in splits if not _SPLIT_NAME.fullmatch(s))
        if odd:
            raise _wrong("split", f"files of `{name}` name the split {odd[0]!r}, which is no name", help="`data_files`")
        ordered = [s for s in _KEYWORDS if s in splits] + sorted(splits - set(_KEYWORDS))
        return {s: [_SHARDS_OF.format(split=s)] for s in ordered}
    for forms in (_IN_FOLDERS, _IN_FILES):
        found = {}
        for split, words in _KEYWORDS.items():
            patterns = [form.format(word=word, s=_SEPARATORS) for word in words for form in forms]
            if any(matching(pattern, paths) for pattern in patterns):
                found[split] = patterns
        if found:
            return found
    if matching("**", paths):
        return {"train": ["**"]}
    raise _wrong("path", f"`{name}` holds no data files")


def matching(pattern: str, paths: Iterable[str]) -> list[str]:
    """Return the data files that a pattern matches, passing over what is hidden unless the pattern asks for it."""
    fits = re.compile(glob_translate(pattern)).match
    ignored = _NOT_DATA - {pattern.rsplit("/", 1)[-1]}
    hidden, special = _count(pattern, ".", folders=False), _count(pattern, "__", folders=True)
    return [
        p
        for p in paths
        if fits(p)
        and p.rsplit("/", 1)[-1] not in ignored
        and _count(p, ".", folders=False) == hidden
        and _count(p, "__", folders=True) == special
    ]


def _count(path: str, start: str, *, folders: bool) -> int:
    parts = path.split("/")
    return sum(part.startswith(start) for part in (parts[:-1] if folders else parts))


def _configs(there: Sequence[str], read: Callable[[str], bytes], name: str) -> dict[str, dict[str, Any]]:
    """Return the configs that the card declares, by name."""
    declared: dict[str, Any] = {}
    for path in (CARD, ".huggingface.yaml"):
        if path not in there:
            continue
        text = read(path).decode("utf-8", errors="replace")
        try:
            said = yaml.safe_load(_front_matter(text) if path == CARD else text)
        except yaml.YAMLError as error:
            raise _wrong("path", f"{path} of `{name}` is not YAML where it should be: {error}") from error
        declared |= said if isinstance(said, dict) else {}
    listed = declared.get("configs") or []
    try:
        return {str(c["config_name"]): c for c in listed}
    except (TypeError, KeyError) as error:
        message = f"the `configs` in the card of `{name}` are no list of configs with `config_name`"
        raise _wrong("path", message, help="name the files with `data_files`") from error


def _front_matter(text: str) -> str:
    lines = text.splitlines()
    if lines and lines[0] == "---" and "---" in lines[1:]:
        return "\n".join(lines[1 : lines.index("---", 1)])
    return ""


def _saved(there: Sequence[str], below: str, read: Callable[[str], bytes]) -> Chosen:
    """Return the files that a dataset's `state.json` names."""
    state = json.loads(read(f"{below}state.json"))
    files = [f"{below}{item['filename']}" for item in state.get("_data_files", [])]
    gone = [f for f in files if f not in there]
    if gone:
        raise _wrong("path", f"{below}state.json names {gone[0]}, which is not there", help="save the dataset again")
    return Chosen("default", tuple(files), saved=True)


def _wrong(key: str, message: str, *, hint: str | None = None, help: str | None = None) -> PlanError:  # noqa: A002 (as Problem names it)
    return PlanError(Problem(code=PlanError.default_code, message=message, about=key, hint=hint, help=help))
