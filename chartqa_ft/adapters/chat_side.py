"""The conversation of a chat family: chart, question, answer and system message in the form of its template."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from .chat_frame import frame_of, with_date
from .layout_trial import proposal
from .template_trial import check_template_ends
from .text import TextSide

PROBE = "7"
_ANSWER = "4215"
# Templates may treat short and long questions differently.
TRIALS = (("Which?", None), (PROBE, PROBE), ("How many bars are there? " * 40, "12"))


class SystemPromptError(ValueError):
    """The chat template of a model takes no system message."""


class ChatSide(TextSide):
    """The part of `Causal` that writes conversations."""

    processor: Any
    model_type: str
    chat_template: Any
    """Chat template of the processor or the tokenizer; `None` for a family with a `raw_layout`."""
    raw_answer: ClassVar[tuple[str, str]]
    system_prompt: str | None
    """System message of every conversation."""
    system_content: Any = None
    """The system message in the form that the template takes."""
    prompt_date: str | None
    """Date that the template writes into the prompt, in ISO format."""

    dateless_template: Any
    """The chat template as the processor has it."""

    def set_date(self, prompt_date: str) -> None:
        """Let the chat template write a date, in ISO format, in place of today's date."""
        self.prompt_date = prompt_date
        self.chat_template = with_date(self.dateless_template, prompt_date)

    def check_template(self, model: nn.Module, raw: type) -> None:
        """Check that there is a chat template, and that it shows a chart, a question and the system prompt.

        Args:
            model: The model.
            raw: The adapter class of families without a chat template, for the lines that fix it.

        Raises:
            ValueError: It does not; the message says what is wrong, and which lines of code fix it if some do.
        """
        wrong = "has no chat template"
        if self.chat_template is not None:
            try:
                chats = [self.conversation(question, answer=answer) for question, answer in TRIALS]
                check_template_ends(self.chat_template, chats, self.tokenizer.special_tokens_map)
                self.choose_system_content()
                text = self.chat_text("Which?")
                takes_chart = text != self.chat_text("Which?", chart=False)
                good = "Which?" in text and takes_chart and "{'type'" not in text
                wrong = "" if good else f"has a chat template that shows no chart or no question ({text!r})"
            except SystemPromptError:
                raise
            except Exception as error:  # templates may raise anything
                wrong = f"has a chat template that fails for a chart and a question ({type(error).__name__}: {error})"
        if wrong:
            raise ValueError(
                f"the processor of this {self.model_type!r} model {wrong}, so it is not known how to format an image "
                f"and a question for it. {proposal(raw, model, self.processor)}"
            )

    def choose_system_content(self) -> None:
        """Find out in which form the chat template takes the system prompt: as a list of parts, or as a text.

        Raises:
            SystemPromptError: In neither.
        """
        if self.system_prompt is None:
            return
        reason = "does not show it"
        for parts in ([{"type": "text", "text": self.system_prompt}], self.system_prompt):
            self.system_content = parts
            try:
                text = self.chat_text("Which?")
            except Exception as error:  # templates may raise anything
                reason = f"fails for it ({type(error).__name__}: {error})"
                continue
            if self.system_prompt.strip() in text and "{'type'" not in text:
                return
        raise SystemPromptError(
            f"the chat template of this {self.model_type!r} model takes no system message: it {reason}. Put the text "
            "into prompt= and leave system_prompt out"
        )

    def answer_frame(self) -> tuple[str, str, int]:
        """Find by a probe what surrounds an answer: (end of the prompt, start of the answer, EOS); see `frame_of`."""
        if self.chat_template is None:
            return "", self.raw_answer[1], self.tokenizer.eos_token_id
        prompt, full = self.chat_text(PROBE), self.chat_text(PROBE, answer=_ANSWER)
        opening, lead, eos = frame_of(prompt, full, _ANSWER, self.tokenizer, self.eos_token_ids)
        self.eos_token_ids |= {eos}
        return opening, lead, eos

    def chat_text(self, question: str, *, answer: str | None = None, chart: bool = True) -> str:
        """Return the conversation as text: up to where the answer begins, or with the answer."""
        turns = self.conversation(question, answer=answer)
        if not chart:
            turns[-1 if answer is None else -2]["content"].pop(0)
        return self.processor.apply_chat_template(
            turns,
            chat_template=self.chat_template,
            add_generation_prompt=answer is None,
        )

    def conversation(self, question: str, *, image: Any = None, answer: str | None = None) -> list[dict[str, Any]]:
        """Return the conversation for the chat template: the system prompt if there is one, the chart and the
        question, and the answer if there is one."""
        chart = {"type": "image"} if image is None else {"type": "image", "image": image}
        turns = [{"role": "user", "content": [chart, {"type": "text", "text": self.question_text(question)}]}]
        if self.system_content is not None:
            turns.insert(0, {"role": "system", "content": self.system_content})
        if answer is not None:
            turns.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        return turns
