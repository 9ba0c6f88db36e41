"""What columns are called in other languages, to guess which one is meant when none has a known name."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence
from functools import cache

__all__ = ["guess_columns"]

_WORDS = {
    "question": (
        "question questions query frage fragen pregunta domanda pergunta questao vraag fraga "
        "spørgsmål spørsmål pytanie otazka kerdes intrebare soru kysymys вопрос питання 问题 問題 質問 질문 "
        "سؤال שאלה प्रश्न instruction text prompt input user human q"
    ),
    "answer": (
        "answer answers antwort antworten loesung losung ergebnis reponse reponses respuesta "
        "risposta resposta antwoord svar odpowiedz odpoved valasz raspuns cevap yanit vastaus ответ "
        "відповідь 答案 回答 答え 답변 답 جواب תשובה उत्तर label target solution gold output response result "
        "value wert assistant gpt a"
    ),
    "image": (
        "image images bild bilder bilddatei datei dateiname grafik diagramm abbildung fichier "
        "figure graphique schema imagen archivo fichero grafico immagine imagem arquivo ficheiro "
        "afbeelding bestand bestandsnaam fil kuva obraz obrazek plik obrazok kep imagine resim "
        "gorsel dosya изображение картинка файл зображення 图片 图像 画像 图表 이미지 파일 صورة תמונה चित्र "
        "chart charts plot picture photo file files filename path url png img graph"
    ),
}
"""Canonical column -> words for it, without accents: English, the languages of Europe, and the most spoken others."""
_NUMBERS = (
    "id",
    "ids",
    "no",
    "nr",
    "num",
    "number",
    "nummer",
    "numero",
    "index",
    "idx",
    "type",
    "typ",
    "len",
    "length",
)
"""Words of columns that number or sort what they name: "question id"."""


def guess_columns(missing: Sequence[str], free: Sequence[str]) -> dict[str, str]:
    """Return for each missing canonical column the column of the source that is probably meant.

    Args:
        missing: Canonical columns: `question`, `answer` or `image`.
        free: Columns of the source that have no role yet. Each is guessed at most once.

    Returns:
        The guesses; a column without a good one is left out.

    Example:
        >>> guess_columns(["question", "answer", "image"], ["Bild-Datei", "Frage", "Antwort (kurz)"])
        {'question': 'Frage', 'answer': 'Antwort (kurz)', 'image': 'Bild-Datei'}
    """
    letters = {_plain(str(name)) for name in free} >= {"q", "a"}  # one alone may mean anything
    scored = [
        (_score(role, str(name), letters), -position, role, name)
        for role in missing
        for position, name in enumerate(free)
    ]
    guesses: dict[str, str] = {}
    for score, _, role, name in sorted(scored, key=lambda entry: entry[:2], reverse=True):
        if score > 0 and role not in guesses and name not in guesses.values():
            guesses[role] = name
    left = [name for name in free if name not in guesses.values()]
    without = [role for role in missing if role not in guesses]
    if len(left) == len(without) == 1:
        guesses[without[0]] = left[0]
    return {role: guesses[role] for role in missing if role in guesses}


def _score(role: str, name: str, letters: bool) -> float:
    """Return how well a name fits a column, 0 if it does not: the name itself is best, then one that contains it."""
    plain = _plain(name)
    words = [word for word in _known(role) if letters or len(word) > 1]
    long = [word for word in words if len(word) > 3 or not word.isascii()]
    parts = [part for part in re.split(r"[\W_\d]+", plain) if part]
    numbered = 0.5 if any(part in _NUMBERS for part in parts) else 0.0
    if plain in words:
        return 4
    if any(part in words for part in parts):
        return 3 - numbered
    if any(part.startswith(word) or part.endswith(word) for part in parts for word in long):
        return 2 - numbered
    if any(word.startswith(plain) for word in long if len(plain) > 2):
        return 1
    found = difflib.get_close_matches(plain, long, 1, 0.7)
    return difflib.SequenceMatcher(None, plain, found[0]).ratio() if found else 0


@cache
def _known(role: str) -> tuple[str, ...]:
    return tuple(_plain(word) for word in _WORDS[role].split())


def _plain(name: str) -> str:
    """Return a name in lower case without accents."""
    split = unicodedata.normalize("NFKD", name.strip().casefold())
    return "".join(char for char in split if not unicodedata.combining(char))
