"""YAML as one expects it (2e-5 is a number, no key comes twice), and checks of what it holds, key by key."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a mapping (key: value)",
    type(None): "nothing",
}


def read_yaml(path: Path) -> Any:
    """What a YAML file holds; refuses what is no YAML, or has a key twice."""
    import yaml

    try:
        return yaml.load(path.read_text(encoding="utf-8"), _loader())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}.") from None


def section(
    value: Any, where: str, kinds: Mapping[str, tuple[type, ...]], required: Collection[str] = ()
) -> dict[str, Any]:
    """A mapping, checked: its keys are known, its values of their kinds, and none that is required is missing.

    Args:
        value: What should be a mapping.
        where: What it is called in messages.
        kinds: For each key the types that its value may have.
        required: The keys that must be there.
    """
    check_kind(value, (dict,), where)
    for key, item in value.items():
        check_known(key, kinds, where)
        check_kind(item, kinds[key], key if where == "the recipe" else f"{where}.{key}")
    for key in required:
        if key not in value:
            raise ValueError(f"`{where}` needs `{key}`.")
    checked: dict[str, Any] = value
    return checked


def check_known(name: Any, known: Iterable[str], where: str) -> None:
    """Refuse a name that is not among the known ones, and suggest the nearest."""
    names = list(known)
    if name not in names:
        folded = {item.casefold(): item for item in names}
        near = get_close_matches(str(name).casefold(), folded, n=1, cutoff=0.4)
        hint = f" Did you mean `{folded[near[0]]}`?" if near else ""
        choice = f" There are: {', '.join(names)}." if len(names) <= 30 else ""
        raise ValueError(f"`{where}` knows no `{name}`.{hint}{choice}")


def check_kind(value: Any, kinds: tuple[type, ...], where: str) -> None:
    """Refuse a value whose type is none of these."""
    is_number = float in kinds and isinstance(value, int) and not isinstance(value, bool)
    # Exact types: to Python, `true` is a whole number too.
    if type(value) not in kinds and not is_number:
        may_be_text = str in kinds and not isinstance(value, str)
        hint = " Put quotes around it if it is meant as a text." if may_be_text else ""
        words = " or ".join(WORDS[kind] for kind in WORDS if kind in kinds)
        raise ValueError(f"`{where}` must be {words}, but is {value!r}.{hint}")


def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"`{key.value}` comes twice", key.start_mark
                    )
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
    )
    return Loader
