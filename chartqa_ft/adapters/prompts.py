"""The published ChartQA prompt of each model family, by `config.model_type`.

Only its text: the position of the image and the chat markup come from the chat template (or, for a family without one,
from its adapter). Sources were read as stored copies of the files; paths are relative to the named repository.
"""

from __future__ import annotations

CHAT_PROMPT = "{question}\nAnswer the question with a single word."
"""Prompt for chat families without a published one: the default of lmms-eval's ChartQA task
(EvolvingLMMs-Lab/lmms-eval, lmms_eval/tasks/chartqa/chartqa.yaml, `post_prompt`; the first versions of that file have
"using a single word or phrase" instead)."""

THINK_ANSWER_PROMPT = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant "
    "first thinks about the reasoning process in the mind and then provides the user with the answer. The reasoning "
    "process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, i.e., <think> "
    "reasoning process here </think> <answer> answer here </answer>."
)
"""System prompt for answers with their reasoning (DeepSeek-AI 2025, arXiv:2501.12948, Table 1), to pass as
`system_prompt`. Train on answers in this form, and score them with `metric_extract="auto"`."""

_SINGLE_WORD_OR_PHRASE = "{question}\nAnswer the question using a single word or phrase."

_QWEN2_VL = "{question}\nPlease try to answer the question with short words or phrases if possible."

_IDEFICS = "{question}\nGive a very brief answer."

PROMPTS: dict[str, str] = {
    # Pix2Struct, MatCha, DePlot: the question alone, drawn as a header above the chart (Lee et al. 2023,
    # arXiv:2210.03347, the paragraph on visual question answering; Liu et al. 2022, arXiv:2212.09662).
    "pix2struct": "{question}",
    # No ChartQA prompt was published, and the released weights were not trained to answer questions. This is the task
    # prefix of the Hugging Face blog post "Fine-tuning Florence-2", which fine-tunes it on DocVQA.
    "florence2": "<DocVQA>{question}",
    # LLaVA 1.5 was not evaluated on ChartQA by its authors. This is their format for all short-answer benchmarks
    # (haotian-liu/LLaVA, docs/Evaluation.md, "Short-answer").
    "llava": _SINGLE_WORD_OR_PHRASE,
    # Evaluated by their authors with lmms-eval (LLaVA-VL/LLaVA-NeXT says that they used it;
    # EvolvingLMMs-Lab/lmms-eval, examples/models/llava_onevision.sh, runs chartqa).
    "llava_next": CHAT_PROMPT,
    "llava_onevision": CHAT_PROMPT,
    # No ChartQA prompt was published. This is the one for open questions (open-compass/VLMEvalKit,
    # vlmeval/vlm/kosmos.py: same text and grounding tag, but with the space before "Answer:" that is missing there).
    "kosmos-2": "<grounding> Question: {question} Answer:",
    # The prompt of KOSMOS-2.5 Chat for questions (huggingface/transformers, docs/source/en/model_doc/kosmos2_5.md).
    "kosmos-2.5": (
        "<md>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: {question} ASSISTANT:"
    ),
    # No ChartQA prompt was published. This is the one for questions (Li et al. 2023, arXiv:2301.12597, section 4.1).
    "blip-2": "Question: {question} Answer:",
    # No ChartQA prompt was published. This is the one for the short answers of GQA (Dai et al. 2023,
    # arXiv:2305.06500, Appendix E).
    "instructblip": "Question: {question} Short answer:",
    # The question alone: these read charts and documents by fixed tasks, and no prompt for questions was published.
    "got_ocr2": "{question}",
    "pp_chart2table": "{question}",
    "t5gemma2": "{question}",
    # open-compass/VLMEvalKit, vlmeval/vlm/aria.py, build_prompt: that of all questions without options but DocVQA's.
    "aria": _SINGLE_WORD_OR_PHRASE,
    # open-compass/VLMEvalKit, vlmeval/vlm/qwen2_vl/prompt.py, VQA_PROMPT, used for Qwen2-VL and Qwen2.5-VL.
    "qwen2_vl": _QWEN2_VL,
    "qwen2_5_vl": _QWEN2_VL,
    # open-compass/VLMEvalKit, vlmeval/vlm/qwen3_vl/prompt.py, _build_vqa_prompt.
    "qwen3_vl": "{question}\nPlease answer concisely with short words or phrases when possible.",
    "qwen3_vl_moe": "{question}\nPlease answer concisely with short words or phrases when possible.",
    # open-compass/VLMEvalKit, vlmeval/vlm/idefics.py, `add_brief` for ChartQA_TEST: one class for Idefics2 and 3.
    "idefics2": _IDEFICS,
    "idefics3": _IDEFICS,
    # open-compass/VLMEvalKit, vlmeval/vlm/smolvlm.py, build_prompt_chartqa, with its typographic apostrophes. The
    # first SmolVLM has model_type idefics3, but was evaluated with this prompt too: pass this entry as `prompt` for
    # it.
    "smolvlm": (
        "For the question below, follow the following instructions:\n"
        "-The answer should contain as few words as possible.\n"
        "-Don\u2019t paraphrase or reformat the text you see in the image.\n"
        "-Answer a binary question with Yes or No.\n"
        "-When asked to give a numerical value, provide a number like 2 instead of Two.\n"
        "-If the final answer has two or more items, provide it in the list format like [1, 2].\n"
        "-When asked to give a ratio, give out the decimal value like 0.25 instead of 1:4.\n"
        "-When asked to give a percentage, give out the whole value like 17 instead of decimal like 0.17%.\n"
        "-Don\u2019t include any units in the answer.\n"
        "-Do not include any full stops at the end of the answer.\n"
        "-Try to include the full label from the graph when asked about an entity.\n"
        "Question: {question}"
    ),
    # The question alone (google-research/big_vision, configs/proj/paligemma/transfers/chartqa.py: `copy` of question
    # to prefix). Its DocVQA transfer has "answer en {question}", unlike the one for ChartQA.
    "paligemma": "{question}",
    # The technical report (arXiv:2503.19786) gives ChartQA scores; no prompt was found for them, so this is the
    # default.
    "gemma3": CHAT_PROMPT,
    # OpenGVLab/InternVL, internvl_chat/eval/vqa/evaluate_vqa.py: the question, a space, `base_prompt`.
    "internvl": "{question} Answer the question using a single word or phrase.",
}
"""`config.model_type` -> template with the field `{question}`. Fill it with `str.replace`: questions may contain
braces.

Omitted on purpose: `vision-encoder-decoder` (its prompt belongs to the decoder and is defined by the adapter) and
`mllama`, whose published prompt requests a chain of thought (open-compass/VLMEvalKit, vlmeval/vlm/llama_vision.py),
for which short answers are no training data."""
