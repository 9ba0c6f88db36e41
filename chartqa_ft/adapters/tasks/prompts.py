"""The published prompts of tasks beside ChartQA, by `config.model_type`, and how the families write tables.

Sources were read as stored copies of the files. For families that are missing here, no prompt was found.
"""

from __future__ import annotations

# vis-nlp/UniChart, README.md, "Inference": ChartQA has `<chartqa> {question} <s_answer>`.
OPEN_QA_PROMPTS = {"vision-encoder-decoder": "<opencqa> {question} <s_answer>"}

SUMMARY_PROMPTS = {
    "vision-encoder-decoder": "<summarize_chart> <s_answer>",
    "granite4_vision": "<chart2summary>",  # its chat template knows it
}

TABLE_PROMPTS = {
    "vision-encoder-decoder": "<extract_data_table> <s_answer>",
    # The header that DePlot was trained with (google/deplot, model card).
    "pix2struct": "Generate underlying data table of the figure below:",
    # The chat templates of both know these texts.
    "granite4_vision": "<chart2csv>",
    "pp_chart2table": "Chart to table",
}

TABLE_FORMATS = {
    # Rows on one line (ahmed-masry/unichart-pretrain-data, column `label`).
    "vision-encoder-decoder": "unichart",
    # DePlot's tokenizer writes line breaks as this byte token.
    "pix2struct": "<0x0A>",
    "granite4_vision": "csv",
}
"""`config.model_type` -> format of `chartqa_ft.write_table`."""

PUBLISHED_TASKS = {
    "ahmed-masry/unichart-opencqa-960": "open_qa",
    "ahmed-masry/unichart-chart2text-statista-960": "summary",
    "ahmed-masry/unichart-chart2text-pew-960": "summary",
}
"""Name of a model on the Hub that was fine-tuned on another task than `qa` -> that task. `unichart-base-960` knows
`table` and `summary`, and is usually fine-tuned on ChartQA: records name their task."""
