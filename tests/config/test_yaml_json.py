import io
from pathlib import Path
from typing import Any

import pytest

from proteus.config.yaml_json import SafeYamlHandler, check_data, parse_data
from proteus.structures import ConfigError

YAML, JSON = Path("a.yaml"), Path("a.json")


@pytest.mark.parametrize(
    ("text", "file", "content"),
    [
        ("lr: 1e-3\nsize: !!python/tuple [1, 2]", YAML, {"lr": 0.001, "size": (1, 2)}),
        ('{"lr": 1e-3, "size": [1, 2]}', JSON, {"lr": 0.001, "size": [1, 2]}),
        ("name: '{{fileBasenameNoExtension}}'", YAML, {"name": "a"}),
        ("a: &x {b: 1}\nc: {<<: *x, b: 2}", YAML, {"a": {"b": 1}, "c": {"b": 2}}),
    ],
)
def test_data_is_parsed(text: str, file: Path, content: dict[str, Any]) -> None:
    assert parse_data(text, file) == content


@pytest.mark.parametrize(
    ("text", "file", "words"),
    [
        ("a: 1\na: 2", YAML, "line 2: key 'a' is written twice"),
        ('{"a": 1, "a": 2}', JSON, "key 'a' is written twice"),
        ("a: 1\nb: !!python/name:os.system", YAML, "line 2: the tag '!!python/name:os.system' names a Python object"),
        ("a: [", YAML, "line 1 is not YAML"),
        ("{\n'a': 1}", JSON, "line 2 is not JSON"),
        ("[1, 2]", YAML, "found list at the top, expected keys such as model"),
        ("a: {1: 2}", YAML, "a has the key 1; quote it, since keys are names"),
        ("a: &a [*a]", YAML, "nested too deeply, or a value contains itself"),
        ("a: '{{$HOME:x}}'", YAML, "'{{$HOME' reads the environment, which a data config may not; write the value"),
    ],
)
def test_broken_data_is_refused(text: str, file: Path, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_data(text, file)
    assert str(caught.value).startswith(f"{file}: {words}")


def test_nested_aliases_are_counted() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 7)]
    with pytest.raises(ConfigError, match=r"more than 200,000 values"):
        parse_data("\n".join(lines), YAML)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"custom_imports": {"imports": ["x"]}}, "custom_imports names code"),
        ({"model": {"type": "os.system"}}, "model.type: 'os.system' is not registered"),
        ({"hooks": [{"type": "subprocess"}]}, "hooks[0].type: 'subprocess' is not registered"),
        ({"optim_wrapper": {"constructor": "os.getcwd"}}, "optim_wrapper.constructor: 'os.getcwd' is not registered"),
        ({"model": {"_scope_": "os"}}, "model._scope_: unknown scope 'os'; choose from: "),
    ],
)
def test_names_of_code_are_refused(content: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_data(content, YAML)
    assert str(caught.value).startswith(f"a.yaml: {words}")


def test_registered_names_pass() -> None:
    check_data({"model": {"type": "proteus.ViT"}, "hook": {"type": "EMAHook"}, "default_scope": "proteus"}, YAML)


def test_the_handler_ignores_its_callers_loader() -> None:
    import yaml

    handler = SafeYamlHandler()
    assert handler.load_from_fileobj(io.StringIO("a: 1"), Loader=yaml.UnsafeLoader) == {"a": 1}
    with pytest.raises(yaml.YAMLError):
        handler.load_from_fileobj(io.StringIO("!!python/object/apply:os.getcwd []"), Loader=yaml.UnsafeLoader)
