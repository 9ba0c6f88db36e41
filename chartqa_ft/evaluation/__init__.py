"""Questions in, answers and scores out, during training or without it."""

from .answering import answer_questions
from .chat_server import ChatServer
from .served import ask_served_model

__all__ = ["ChatServer", "answer_questions", "ask_served_model"]
