"""Which models does afdplan know, and what are their sizes?"""

from __future__ import annotations

import click

from afdplan.cli.report import documented, json_option, print_json, tell

__all__ = ["command"]


@click.command()
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the models whose sizes ship with afdplan, or show one.

    NAME is a short name, a Hugging Face id in any case, or the path of a config.json.
    """
    from afdplan.calibration.catalogue import find_model, shipped_models
    from afdplan.report.models import model_answer, model_told, models_told

    models = shipped_models() if name is None else {name: find_model(name)}
    if as_json:
        answer = {"models": [model_answer(short, model) for short, model in models.items()]}
        inputs = {"name": name}
        told = [note for model in models.values() for note in model.notes]
        print_json(documented(time_unit="s", inputs=inputs, warnings=told, answer=answer))
    elif name is None:
        tell(models_told(models))
    else:
        tell(model_told(models[name]))
