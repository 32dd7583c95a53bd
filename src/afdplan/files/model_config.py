"""Can this Hugging Face `config.json` be trusted, and what does it say?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from afdplan.errors import InvalidInputError
from afdplan.files.document import is_there, read_document
from afdplan.model.kinds import check_path

__all__ = ["read_model_config"]

CONFIG = "config.json"
MODELOPT = "hf_quant_config.json"
SECONDS = {
    MODELOPT: "modelopt",
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "quantization_config.json": "auto-round",
    "quant_model_description.json": "ascend",
}
"""Files beside a config in which tools state their formats, and the tools."""


def read_model_config(path: str | Path) -> dict[str, Any]:
    """Return the JSON object of a model's `config.json`, unread keys included.

    Parameters
    ----------
    path
        The file, or the folder of a checkpoint that holds a `config.json`.

    Returns
    -------
    dict
        The object as it stands in the file; with ``hf_quant_config``, what stands in the file of
        that name beside it; what other tools wrote beside it as ``quantization_config`` if it has
        none. NaN and infinities of keys that nobody reads do no harm.

    Raises
    ------
    InvalidInputError
        If the file is missing, larger than 16 MB, not UTF-8, not one JSON object, too deeply
        nested, or holds a key twice in one object.
    """
    check_path(path)
    if str(path) != "-" and is_there(path) and Path(path).is_dir():
        path = _in_folder(Path(path))
    if Path(path).suffix == ".gguf":
        raise _without_config(str(path))
    config = read_document(path, "a model's config.json", is_json=True, is_finite=False)
    name = Path(path).name
    for second, tool in SECONDS.items():
        beside = Path(path).with_name(name.removesuffix(CONFIG) + second)
        # A name that ends in config.json may be such a file itself.
        if not name.endswith(CONFIG) or name.endswith(tuple(SECONDS)) or not is_there(beside):
            continue
        if tool != "modelopt" and config.get("quantization_config") is not None:
            continue
        what = f"a checkpoint's {second}"
        stated = read_document(beside, what, is_json=True, is_finite=False)
        if tool == "modelopt":
            config[MODELOPT.removesuffix(".json")] = stated
        else:
            config["quantization_config"] = {"quant_method": tool, **stated}
    return config


def _in_folder(folder: Path) -> Path:
    """Return the config in a folder, or say what to do without one."""
    if not is_there(folder / CONFIG) and any(folder.glob("*.gguf")):
        raise _without_config(str(folder))
    return folder / CONFIG


def _without_config(name: str) -> InvalidInputError:
    return InvalidInputError(
        f"{name}: sizes are not read from GGUF: give the config.json of the original model, and "
        "the bits per weight of the file (--weight-precision int4:4.85 for Q4_K_M)"
    )
