import json

import pytest

from afdplan.errors import InvalidInputError
from afdplan.files.model_config import read_model_config


def write(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_reads_a_file_and_a_folder(tmp_path):
    path = write(tmp_path, json.dumps({"model_type": "llama"}))
    assert read_model_config(path) == {"model_type": "llama"}
    assert read_model_config(tmp_path) == {"model_type": "llama"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x93NUMPY\x01\x00\xff\xfe", "UTF-8"),
        ("{" * 10, "invalid JSON"),
        ("[1, 2]", "one JSON object"),
        ("[" * 200_000, "nested too deeply"),
        ('{"a":' * 200_000, "nested too deeply"),
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": ' + "9" * 5000 + "}", "digits"),
        ("", "is empty"),
    ],
)
def test_hostile_content_is_refused_in_one_line(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(InvalidInputError, match=message) as caught:
        read_model_config(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_and_oversized_files_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="there is no file"):
        read_model_config(tmp_path / "absent.json")
    with pytest.raises(InvalidInputError, match="at most 16 MB"):
        read_model_config(write(tmp_path, "{" + " " * 16_000_000 + "}"))


def test_numbers_that_nobody_reads_may_be_infinite(tmp_path):
    path = write(tmp_path, '{"time_step_limit": [0.0, Infinity], "hidden_size": 8}')
    assert read_model_config(path)["hidden_size"] == 8


@pytest.mark.parametrize("name", ["config.json", "org--model_config.json"])
def test_a_second_file_of_the_checkpoint_is_read(tmp_path, name):
    (tmp_path / name).write_text('{"hidden_size": 8}')
    second = name.replace("config.json", "hf_quant_config.json")
    (tmp_path / second).write_text('{"quantization": {"quant_algo": "NVFP4"}}')
    found = read_model_config(tmp_path / name)
    assert found["hf_quant_config"]["quantization"]["quant_algo"] == "NVFP4"
    (tmp_path / second).write_text("{")
    with pytest.raises(InvalidInputError, match="hf_quant_config"):
        read_model_config(tmp_path / name)
