"""Guesses of columns in other languages."""

from __future__ import annotations

import pytest

from chartqa_ft.data.column_words import guess_columns

ROLES = ["question", "answer", "image"]


@pytest.mark.parametrize(
    "columns",
    [
        ["Frage", "Antwort", "Bild"],
        ["FRAGE", "Lösung", "Datei"],
        ["Fragetext", "Musterlösung", "Bilddatei"],
        ["question", "réponse", "graphique"],
        ["la_pregunta", "la_respuesta", "archivo"],
        ["domanda", "risposta", "immagine"],
        ["pergunta", "resposta", "imagem"],
        ["vraag", "antwoord", "afbeelding"],
        ["pytanie", "odpowiedź", "obraz"],
        ["вопрос", "ответ", "изображение"],
        ["質問", "答え", "画像"],
        ["问题", "答案", "图片"],
        ["질문", "답변", "이미지"],
        ["spørgsmål", "svar", "fil"],
        ["soru", "cevap", "görsel"],
        ["q", "a", "png"],
        ["ques", "ans", "img_file"],
        ["qestion", "anwser", "pictures"],
        ["Question Text", "Expected Answer", "Chart File"],
    ],
    ids=lambda columns: columns[0],
)
def test_columns_are_guessed_in_any_order(columns):
    wanted = dict(zip(ROLES, columns, strict=True))
    for order in (columns, columns[::-1], ["id", *columns, "Quelle"]):
        assert guess_columns(ROLES, order) == wanted


def test_what_only_numbers_a_thing_is_not_taken_for_it():
    assert guess_columns(["question"], ["question_id", "question_text"]) == {"question": "question_text"}
    assert guess_columns(["answer"], ["answer type", "the answer"]) == {"answer": "the answer"}


def test_nothing_is_guessed_from_names_that_say_nothing():
    assert guess_columns(ROLES, ["a", "b", "c"]) == {}
    assert guess_columns(["answer"], ["column 7"]) == {"answer": "column 7"}
    assert guess_columns(["answer", "image"], ["x", "y"]) == {}
    assert guess_columns(ROLES, []) == {}
