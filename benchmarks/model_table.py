"""What do we read from every config that aiconfigurator-core ships?

    python -m benchmarks.model_table [FOLDER] > benchmarks/models.md

needs ``pip install aiconfigurator-core==0.12.0`` or the folder of its `model_configs`. The configs
are read where the package has them; none is part of this repository.
"""

from __future__ import annotations

import sys
from pathlib import Path

from afdplan.calibration.memory import cache_kinds
from afdplan.calibration.model_facts import architecture_from_config
from afdplan.calibration.precision import Precision
from afdplan.files.model_config import read_model_config
from afdplan.report.models import model_answer

__all__ = ["PUBLISHED", "config_files"]

PUBLISHED: dict[str, tuple[float, str]] = {
    "DeepSeek-R1": (671e9, ""),
    "DeepSeek-V3.2": (671e9, ""),
    "DeepSeek-V4-Flash": (284e9, ""),
    "DeepSeek-V4-Pro": (1.6e12, "published as 1.6 T"),
    "GLM-5": (744e9, ""),
    "Kimi-K2": (1.0e12, "published as 1 T"),
    "Llama-4-Maverick": (400e9, ""),
    "Llama-4-Scout": (109e9, "published with the vision tower"),
    "Llama-3_3-Nemotron-Super-49B": (49.9e9, ""),
    "Meta-Llama-3.1-405B": (405.9e9, ""),
    "MiMo-V2-Flash": (309e9, ""),
    "MiniMax-M2.5": (230e9, ""),
    "Mixtral-8x22B": (140.6e9, ""),
    "Mixtral-8x7B": (46.7e9, ""),
    "Nemotron-3-Nano-30B": (31.6e9, ""),
    "Nemotron-3-Super-120B": (120.6e9, ""),
    "Nemotron-3-Ultra-550B": (550e9, ""),
    "Nemotron-H-56B": (56e9, ""),
    "Qwen3-235B": (235e9, ""),
    "Qwen3-30B": (30.5e9, ""),
    "Qwen3-32B": (32.8e9, ""),
    "Qwen3-Coder-480B": (480e9, ""),
    "Qwen3.5-122B": (122e9, ""),
    "Qwen3.5-35B": (35e9, ""),
    "Qwen3.5-397B": (397e9, ""),
    "Step-3.7-Flash": (196e9, ""),
    "gemma-4-26B": (25.2e9, ""),
    "gpt-oss-120b": (116.8e9, ""),
    "gpt-oss-20b": (20.9e9, ""),
}
"""Totals that publishers state on model cards and in reports, and why ours may differ by more than
1 %, by a part of the name."""


def config_files(folder: Path) -> dict[str, Path]:
    """Return the configs of a folder by the name of their model."""
    found = sorted(folder.glob("*_config.json"))
    return {
        path.name.removesuffix("_config.json").replace("--", "/"): path
        for path in found
        if not path.name.endswith("hf_quant_config.json")
    }


def _row(name: str, path: Path) -> str:
    model = architecture_from_config(read_model_config(path), name)
    kinds = cache_kinds(model, Precision(), 1)
    cache = sum(kind.bytes_per_token for kind in kinds if kind.window is None) / 1024
    window = sum(kind.bytes_per_token for kind in kinds if kind.window not in (None, 1)) / 1024
    known = next((PUBLISHED[part] for part in PUBLISHED if part in name), None)
    stated = "" if known is None else f"{known[0] / 1e9:,.1f}"
    off = "" if known is None else f"{100 * (model.total_parameters / known[0] - 1):+.1f} %"
    why = "" if known is None else known[1]
    answer = model_answer(name, model)
    parts = answer["formats"]
    formats = f"{parts['experts']}, {parts['dense']}, {parts['attention']}"
    formats += f", KV {model.cache_precision or 'unsaid'}"
    return (
        f"| {name} | {model.total_parameters / 1e9:,.2f} | {stated} | {off} | "
        f"{model.active_parameters / 1e9:,.2f} | {model.layers} | {cache:,.1f} | {window:,.0f} | "
        f"{model.state_bytes / 2**20:,.1f} | {answer['weight_bytes'] / 1e9:,.0f} | {formats} | "
        f"{why} |"
    )


def main() -> None:
    """Print the table in Markdown."""
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1])
    else:
        import aiconfigurator_core

        folder = Path(aiconfigurator_core.__file__).parent / "model_configs"
    files = config_files(folder)
    print("# What is read from public configs\n")
    print(
        f"`python -m benchmarks.model_table` over the {len(files)} configs of aiconfigurator-core "
        "0.12.0, read as they are. Parameters in 10^9 without multi-token prediction layers and "
        "vision towers; active ones with embeddings. KV: KiB per token in bf16 of layers that keep "
        "all, window: of those that keep the last tokens only; state: MiB per request of recurrent "
        "layers. GB: of the weights, by the formats of experts, dense and shared parts, attention "
        "(with bits per weight where they are not the format's own).\n"
    )
    print("| model | total | published | off | active | round trips | KV | window | state | GB "
          "| formats | why more than 1 % |")  # fmt: skip
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|---|")
    for name, path in files.items():
        print(_row(name, path))


if __name__ == "__main__":
    main()
