"""Messages name arguments as the command line does."""

from __future__ import annotations

import logging

import pytest

from chartqa_ft.data import LayoutError, RecordError
from chartqa_ft.data.columns import find_columns
from chartqa_ft.scripts.errors import CommandLineFormatter, argument_names, one_line_errors
from chartqa_ft.scripts.hints import for_command_line


@pytest.mark.parametrize(
    ("python", "shell"),
    [
        ("pass on_error='skip'.", "pass --on_error skip."),
        ("use bf16=True", "use --bf16 True"),
        ("eval_subset=-1 is no number: see max_steps", "--eval_subset -1 is no number: see --max_steps"),
        ("set eval_strategy='no' and eval_on_start=False", "set --eval_strategy no and --eval_on_start False"),
        ("with learning_rate=5e-05, the steps", "with --learning_rate 5e-05, the steps"),
        ("prompt='Q: {question}' has", "--prompt 'Q: {question}' has"),
        ("use push_to_hub(merge=True), --push_merged", "use push_to_hub(merge=True), --push_merged"),
        ("call load_checkpoint(out, merge=True)", "call load_checkpoint(out, merge=True)"),
        ("resume with resume_from_checkpoint=True", "resume with --resume_from_checkpoint last"),
        ("out/max_steps and 'image_dir' and args.max_steps", "out/max_steps and 'image_dir' and args.max_steps"),
        ("warmup_steps=5000 does not end", "--warmup_steps 5000 does not end"),
        ("--max_steps 3 stays", "--max_steps 3 stays"),
        ("the seed and a check of the prompt", "the seed and a check of the prompt"),
        ("Shrink the image, or raise max_pixels if you trust it.", "Shrink the image."),
        ("pass image_dir=<the folder with the images>.", "pass --image_dir FOLDER."),
        (
            "lower image_size of the charts (set_image_cost; now size 960)",
            "lower --image_size of the charts (now size 960)",
        ),
        ("of a chart (set_image_cost), set bf16=True", "of a chart, set --bf16 True"),
        ("load_checkpoint(..., compat=False) disables this", "--compat False disables this"),
        ("max_bad_steps must be at least 0", "--max_bad_steps must be at least 0"),
    ],
)
def test_forms_of_python_become_forms_of_the_shell(python, shell):
    assert for_command_line(python, argument_names()) == shell


@pytest.mark.parametrize("reason", ["no answer", "no image file", "image above the pixel limit", "malformed record"])
def test_advice_about_records_holds_no_keyword(reason):
    text = for_command_line(str(RecordError("val", 3, "a.png", reason, "why")), argument_names())
    assert "=" not in text
    assert text.endswith("To leave such records out, pass --on_error skip.")


@pytest.mark.parametrize(
    ("columns", "given", "line"),
    [
        (["Bild", "Frage", "Antwort"], {}, "--column_map question=Frage answer=Antwort image=Bild"),
        (["fichier", "question", "réponse"], {}, "--column_map answer=réponse image=fichier"),
        (
            ["foto", "la pregunta", "respuesta"],
            {"image": "foto"},
            "image=foto 'question=la pregunta' answer=respuesta",
        ),
        (["image", "Q's text", "label"], {}, """--column_map 'question=Q'"'"'s text'"""),
        (["x", "y", "z"], {}, "'question=<your column>' 'answer=<your column>' 'image=<your column>'"),
    ],
)
def test_columns_that_are_missing_come_with_a_line_to_paste(columns, given, line):
    with pytest.raises(LayoutError) as caught:
        find_columns(columns, given, where="fragen.csv")
    assert for_command_line(str(caught.value), {"column_map"}).endswith(line)


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(LayoutError) as caught:
        find_columns(["Bild", "Frage"], {"question": "Frag"}, where="fragen.csv")
    text = for_command_line(str(caught.value), {"column_map"})
    assert "--column_map question=Frag names the column 'Frag', but there is no such column" in text
    assert "did you mean 'Frage'?" in text


def test_warnings_in_the_log_speak_so_and_facts_stay():
    def shown(level: int, name: str, text: str) -> str:
        record = logging.LogRecord(name, level, "", 1, text, (), None)
        return CommandLineFormatter("%(message)s").format(record)

    text = "eval_steps=2.0 is not used with eval_strategy='epoch': set eval_strategy='steps'"
    wanted = "--eval_steps 2.0 is not used with --eval_strategy epoch: set --eval_strategy steps"
    assert shown(logging.WARNING, "chartqa_ft.training.trainer", text) == wanted
    assert shown(logging.INFO, "chartqa_ft.training.trainer", text) == text
    folder = f"/home/me/.cache/huggingface/hub/models--me--my--charts/snapshots/{'0a' * 20}"
    assert shown(logging.WARNING, "chartqa_ft.models.load", f"{folder} is old") == "me/my--charts is old"
    assert shown(logging.WARNING, "chartqa_ft.models.load", f"'{folder}/a.bin'") == "'me/my--charts/a.bin'"
    assert shown(logging.WARNING, "chartqa_ft.models.load", folder[:-1]) == folder[:-1]
    assert (
        shown(logging.INFO, "chartqa_ft.adapters.processors", f"{folder}: images only") == "me/my--charts: images only"
    )
    assert shown(logging.INFO, "transformers.trainer", folder) == folder
    assert shown(logging.WARNING, "transformers.trainer", text) == text


def test_errors_of_a_script_speak_so():
    with pytest.raises(SystemExit, match="error: use --max_steps 3"), one_line_errors():
        raise ValueError("use max_steps=3")
    with pytest.raises(ValueError), one_line_errors(RuntimeError, only=True):
        raise ValueError("another error")
