"""Write the reference page of the built-in adapters, in each language, from their own settings; and
the other pages that are made: of the codes, and of the configuration.

`scripts/reference` runs this. What an adapter says of itself is in the catalogues; the words around
it are here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, get_type_hints

from certferry.config.bind import (
    choices,
    is_further,
    meanings,
    must_be_written,
    without_none,
    written_as,
)
from certferry.core.secret import Secret
from certferry.present.language import voice_in
from certferry.text import Text
from certferry.wiring.adapters import CHANNELS, DNS_PROVIDERS, TARGETS, Described, Family, installed
from tests.house import codes_page
from tests.house.tree import ROOT

PAGE = ROOT / "docs" / "reference" / "adapters.md"
Say = Callable[[Text], str]


@dataclass(frozen=True)
class Words:
    """What the page says in one language, beside what the adapters say."""

    title: str
    intro: str
    families: Mapping[Family, str]
    keys: str
    settings: str
    channel: str
    setting_columns: tuple[str, ...]
    deployments: str
    deployment_columns: tuple[str, ...]
    no_more: str
    common_name: str
    exception: str
    types: Mapping[object, str]
    required: str
    empty: str
    keep: str
    between: str
    further: str


_COMMON = ("to", "domains", "exclude", "retire", "drift", "on_failure")
*_FIRST, _LAST = (f"`{key}`" for key in _COMMON)
_ALL, _ALL_ZH = f"{', '.join(_FIRST)} and {_LAST}", "、".join([*_FIRST, _LAST])

ENGLISH = Words(
    title="# Adapters: accounts, and what a deployment can be told",
    intro="""\
[中文](adapters.zh-CN.md)

<!-- Made by ./scripts/reference from the adapters' own settings; edit those, not this page. -->

`type` is what stands in `[accounts.<label>]` or `[notify.<name>]`; without one it is the label. A
secret is a reference: `env:NAME`, `file:PATH`, `keyring:SERVICE/USER`, `command:…`. Where there is
no file, and in `certferry init`, a key is taken from the first of its variables that is set.
Packages of other people bring further types: see
[Contributing](../../CONTRIBUTING.md#adding-a-dns-provider).""",
    families={
        DNS_PROVIDERS: "## DNS providers",
        TARGETS: "## Targets",
        CHANNELS: "## Channels of notifications",
    },
    keys="Where the keys are: {where}.",
    settings="Under `[accounts.<label>]`:",
    channel="Under `[notify.<name>]`, beside `type`, `on` and `language`:",
    setting_columns=("key", "type", "default", "variable", "meaning"),
    deployments=f"Under `[[certificates.deploy]]`, beside {_ALL}:",
    deployment_columns=("key", "values", "default", "meaning"),
    no_more=f"A deployment can be told nothing beside {_ALL}.",
    common_name="A certificate without a common name is refused before it is ordered{exception}.",
    exception=", unless the account has `{key} = true`",
    types={
        Secret: "secret",
        Secret | str: "secret or string",
        str: "string",
        bool: "true or false",
        int: "whole number",
        float: "number",
        timedelta: "seconds",
        tuple[str, ...]: "list of strings",
        Path: "path",
    },
    required="required",
    empty="empty",
    keep='`"keep"`: as it is',
    between=", ",
    further="any other",
)
CHINESE = Words(
    title="# 适配器：账号与部署选项",
    intro="""\
[English](adapters.md)

<!-- ./scripts/reference 根据适配器自身的设置生成本页；请修改适配器。 -->

`type` 写在 `[accounts.<label>]` 或 `[notify.<name>]` 中；省略时取表名。
密钥写成引用：`env:NAME`、`file:PATH`、`keyring:SERVICE/USER`、`command:…`。
没有配置文件时，以及在 `certferry init` 中，会取所列变量中第一个已设置的。
其他类型可由第三方软件包提供，见 [CONTRIBUTING](../../CONTRIBUTING.md#adding-a-dns-provider)。""",
    families={DNS_PROVIDERS: "## DNS 服务商", TARGETS: "## 部署目标", CHANNELS: "## 通知渠道"},
    keys="密钥所在：{where}。",
    settings="`[accounts.<label>]` 中：",
    channel="`[notify.<name>]` 中，除 `type`、`on` 和 `language` 之外：",
    setting_columns=("键", "类型", "默认值", "变量", "含义"),
    deployments=f"`[[certificates.deploy]]` 中，除 {_ALL_ZH} 之外：",
    deployment_columns=("键", "取值", "默认值", "含义"),
    no_more=f"部署中只能写 {_ALL_ZH}。",
    common_name="没有通用名称（CN）的证书在申请之前就会被拒绝{exception}。",
    exception="，除非账号中写有 `{key} = true`",
    types={
        Secret: "密钥",
        Secret | str: "密钥或字符串",
        str: "字符串",
        bool: "true 或 false",
        int: "整数",
        float: "数字",
        timedelta: "秒数",
        tuple[str, ...]: "字符串列表",
        Path: "路径",
    },
    required="必填",
    empty="空",
    keep='`"keep"`：保持不变',
    between="、",
    further="其他任何键",
)


def pages() -> dict[Path, str]:
    return {
        PAGE: page(ENGLISH, voice_in("en").say),
        PAGE.with_suffix(".zh-CN.md"): page(CHINESE, voice_in("zh").say),
    }


def all_pages() -> dict[Path, str]:
    """Return these, and the other pages that are made."""
    return {**pages(), **codes_page.pages()}


def page(words: Words, say: Say) -> str:
    parts = [words.title, words.intro]
    for family, heading in words.families.items():
        parts.append(heading)
        found = (installed().find(family, name) for name in installed().names(family))
        parts += [
            part for one in found if one.is_ours for part in _adapter(one, family, words, say)
        ]
    return "\n\n".join(parts) + "\n"


def _adapter(one: Described, family: Family, words: Words, say: Say) -> Iterator[str]:
    yield f"### {one.adapter.SERVICE}: `{one.name}`"
    if one.where_keys_are is not None:
        yield words.keys.format(where=say(one.where_keys_are))
    yield words.channel if family is CHANNELS else words.settings
    yield _table(words.setting_columns, _settings(one, words, say))
    if family is not TARGETS:
        return
    if dataclasses.fields(one.options):
        yield words.deployments
        yield _table(words.deployment_columns, _options(one.options, words, say))
    else:
        yield words.no_more
    rule = one.needs_common_name
    if rule is not None:
        exception = words.exception.format(key=rule.unless) if rule.unless else ""
        yield words.common_name.format(exception=exception)


def _settings(one: Described, words: Words, say: Say) -> Iterator[tuple[str, ...]]:
    settings = one.adapter.Settings
    variables = {variable.key: variable for variable in one.adapter.ENVIRONMENT}
    types, said = get_type_hints(settings), meanings(settings)
    required = must_be_written(settings)
    for field in dataclasses.fields(settings):
        key = written_as(field.name)
        variable = variables.get(key)
        if is_further(types[field.name]):
            yield words.further, words.types[Secret | str], words.empty, "", say(said[key])
            continue
        yield (
            f"`{key}`",
            _type(types[field.name], words),
            words.required if key in required else _default(field.default, words),
            words.between.join(f"`{name}`" for name in (variable.names if variable else ())),
            say(variable.what if variable else said[key]),
        )


def _options(options: Any, words: Words, say: Say) -> Iterator[tuple[str, ...]]:
    types, said = get_type_hints(options), meanings(options)
    for field in dataclasses.fields(options):
        allowed = choices(types[field.name])
        yield (
            f"`{field.name}`",
            words.between.join(f"`{word}`" for word in allowed) or words.types[bool],
            words.keep if field.default is None else _default(field.default, words),
            say(said[field.name]),
        )


def _type(written: Any, words: Words) -> str:
    kind = without_none(written)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return words.between.join(f"`{member.value}`" for member in kind)
    return words.types[kind]


def _default(value: object, words: Words) -> str:
    match value:
        case None | "" | ():
            return words.empty
        case bool():
            return f"`{str(value).lower()}`"
        case float():
            return f"`{value:g}`"
        case timedelta():
            return f"`{value.total_seconds():g}`"
    return f"`{value}`"


def _table(columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    for path, text in all_pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
