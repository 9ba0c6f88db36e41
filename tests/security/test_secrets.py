"""Secrets and the folders of this machine stay out of cards, logs, saved arguments and pushed files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from chartqa_ft.hub.card.base_licence import base_licence, safe_link
from chartqa_ft.hub.card.facts import CardFacts, CardSample
from chartqa_ft.hub.card.render import render_card
from chartqa_ft.hub.credentials import (
    TOKEN_REMOVED,
    find_token,
    is_secret,
    known_tokens,
    masked,
    redact,
    without_secrets,
)
from chartqa_ft.hub.model_files import check_files, files_of_model
from chartqa_ft.hub.public import public_arguments, public_path, public_values
from chartqa_ft.hub.secret_files import _CHUNK, find_in_bytes, find_in_file, find_named

from ..hub.folders import save

A, D = "abcdefghij" * 5, "0123456789" * 5
SHAPED = [
    "hf_" + A[:34],
    "hf_oauth_" + A[:30] + "." + D[:10],
    "api_org_" + A[:34],
    "ghp_" + A[:36],
    "gho_" + A[:36],
    "ghs_" + D[:36],
    "github_pat_" + A[:22] + "_" + D[:40],
    "glpat-" + A[:20],
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    "sk-" + A[:48],
    "sk-proj-" + A[:20] + "-" + D[:20],
    "sk-ant-api03-" + A[:40],
    "sk_live_" + A[:24],
    "xoxb-" + D[:12] + "-" + A[:20],
    "AIza" + A[:35],
    "npm_" + A[:36],
    "pypi-AgEIcHlwaS5vcmc" + A[:30],
    "SG." + A[:22] + "." + A[:40],
    "nvapi-" + A[:50],
    "gsk_" + A[:50],
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0." + A[:43],
    "-----BEGIN RSA PRIVATE KEY-----",
    "-----BEGIN OPENSSH PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----",
    "https://carol:pa55word@host/x",
    "https://carol:pa/ss/word@host/x",
    "postgresql://carol:p@host:5432/db",
    "redis://:pa55word@host",
]
INNOCENT = [
    "hf_hub_download and hf_internal_testing/tiny_random_model",
    "risk-free-rate-of-return-2019 task-specific-learning-rate-1e-4",
    "https://huggingface.co/a/b?x=1#c",
    "https://example.org:8080/a/b@2x.png",
    "https://github.com/a/b ssh://git@github.com/a/b.git",
    "mail me: carol@example.org",
    "AKIA is a prefix, ASIAPACIFICREGIONTOTAL a place",
    "sk-learn-like-names-of-some-models",
    "-----BEGIN CERTIFICATE----- -----BEGIN PUBLIC KEY-----",
    "eyJ is how JSON in base64 begins",
    "b605b6e08b57faf4359aeb2fe6a3ca595f99b6c5",
    "max_new_tokens=128 pad_token=<pad> image_key=image metric_for_best_model: eval_token_accuracy",
    "What is the key: blue? Token: 45 %. The secret of success",
    "model.layers.0.self_attn.k_proj.lora_A.default.weight",
]


@pytest.mark.parametrize("secret", SHAPED)
def test_what_has_the_format_of_a_secret_is_found_everywhere(secret, tmp_path):
    for text in (secret, f"see {secret} there", json.dumps({"note": f"x={secret}"}), f"a\n{secret}\nb"):
        assert find_token(text), text
        assert find_in_bytes(text.encode())
        hidden = secret.partition("://")[2].partition("@")[0] or secret
        assert hidden not in redact(text)
        assert not find_token(redact(text))
    path = tmp_path / "optimizer.pt"
    path.write_bytes(b"\0" * (_CHUNK - 7) + secret.encode() + b"\0" * 100)  # across the pieces that are read
    assert find_in_file(path)


@pytest.mark.parametrize("text", INNOCENT)
def test_what_only_resembles_a_secret_stays(text):
    assert not find_token(text)
    assert not find_in_bytes(text.encode())
    assert redact(text).replace(TOKEN_REMOVED + "@github", "git@github") == text


def test_numbers_and_compressed_data_hold_no_secret():
    values = np.random.default_rng(0)
    assert not find_in_bytes(values.bytes(1 << 21))
    assert not find_in_bytes(values.standard_normal(1 << 19, dtype=np.float32).tobytes())
    letters = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", "u1")
    assert not find_in_bytes(letters[values.integers(0, 64, 1 << 17)].tobytes())


NAMED = [
    "hub_token",
    "token",
    "WANDB_API_KEY",
    "wandb-api-key",
    "openaiApiKey",
    "AWS_SECRET_ACCESS_KEY",
    "aws_access_key_id",
    "client_secret",
    "password",
    "db_password",
    "SMTP_PASSWD",
    "ssh_passphrase",
    "private_key",
    "Authorization",
    "credentials",
    "comet_key",
    "refresh_token",
    "azure_connection_string",
]
HARMLESS = {"pad_token": "<pad>", "eos_token": "</s>", "max_new_tokens": 128, "metric_for_best_model": "f1", "seed": 4}
HARMLESS |= {
    "image_key": "image",
    "key": "blue",
    "sort_key": "chart_id",
    "boi_token": "<start_of_image>",
    "PWD": "/home/x",
}
HARMLESS |= {
    "keyboard": "qwerty12",
    "monkey": "abc12345",
    "tokenizer": "fast-123",
    "average_tokens_across_devices": True,
}
HARMLESS |= {"end_of_utterance_token": "<end_of_utterance>", "hub_token": None, "push_to_hub_token": ""}


@pytest.mark.parametrize("name", NAMED)
def test_values_with_a_secret_name_are_left_out_at_any_depth(name, monkeypatch):
    value = "s3cr3t-of-carol"
    nested = {"lr": 0.1, "deep": [{"deeper": {name: value, "x": 1}}, ({name: value},)]}
    assert value not in json.dumps([without_secrets(nested), public_values(nested), masked(nested)])
    assert without_secrets(nested) == {"lr": 0.1, "deep": [{"deeper": {"x": 1}}, [{}]]}
    assert value in known_tokens(arguments=nested, environment=False)
    for text in (
        f"{name}={value} train.py",
        f"train.py --{name} {value} --seed 1",
        f"train.py --{name}={value} --seed 1",
        f"--kwargs '{json.dumps(nested)}'",
        f'--kwargs "{{\\"{name}\\": \\"{value}\\"}}"',
        f"kwargs={nested}",
    ):
        assert value not in redact(text), text
    assert value not in " ".join(public_arguments(["train.py", f"--{name}", value, "--x", json.dumps(nested)]))
    monkeypatch.setenv(name.upper().replace("-", "_"), value)
    assert value in known_tokens()


def test_harmless_values_are_kept():
    assert without_secrets(HARMLESS) == {
        key: value
        for key, value in HARMLESS.items()
        if key not in ("hub_token", "push_to_hub_token", "end_of_utterance_token")
    }
    assert not [key for key, value in HARMLESS.items() if is_secret(key, value)]
    assert find_named(HARMLESS) is None
    assert masked(HARMLESS) == HARMLESS


def test_short_words_of_the_environment_are_not_looked_for(monkeypatch):
    for name, value in {"DB_PASSWORD": "password", "X_SECRET": "chart", "Y_API_KEY": "12345678"}.items():
        monkeypatch.setenv(name, value)
    assert not {"password", "chart", "12345678"} & set(known_tokens())


# ------------------------------------------------------------------ folders


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("file:///home/carol/a.csv", "a.csv"),
        ("file:/home/carol/a.csv", "a.csv"),
        ("../../home/carol/a.csv", "a.csv"),
        ("~/carol/a.csv", "a.csv"),
        ("~carol/a.csv", "a.csv"),
        ("C:\\Users\\carol\\a.csv", "a.csv"),
        ("D:/carol/a.csv", "a.csv"),
        ("\\\\server\\carol\\a.csv", "a.csv"),
        ('{"train": "/home/carol/a.csv", "n": [1]}', '{"train": "a.csv", "n": [1]}'),
        ('{"train": ["file:///home/carol/a.csv"]}', '{"train": ["a.csv"]}'),
        ("train=/home/carol/a.csv,val=../../home/carol/b.csv", "train=a.csv,val=b.csv"),
        ("data:/mnt/carol/a.csv", "data:a.csv"),
        ("see /home/carol/a.csv and file:///home/carol/b", "see a.csv and b"),
        ("https://huggingface.co/a/b/c", "https://huggingface.co/a/b/c"),
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("hf://datasets/a/b", "hf://datasets/a/b"),
        ("zip://*.parquet::hf://datasets/a/b@main/c.zip", "zip://*.parquet::hf://datasets/a/b@main/c.zip"),
        ("user/model", "user/model"),
        ("data/charts.csv", "data/charts.csv"),
        ("</s_answer> and/or 1/2", "</s_answer> and/or 1/2"),
    ],
)
def test_folders_of_this_machine_are_taken_out(text, public):
    assert public_path(text) == public
    assert not find_token(text)
    assert public_values({"a": [text], "b": {"c": text}}) == {"a": [public], "b": {"c": public}}


# ------------------------------------------------------------------ cards


def test_a_card_tells_no_secret_and_no_folder():
    secret, path = "s3cr3t-of-carol", "/home/carol/private/a.csv"
    facts = CardFacts(
        name="file:///home/carol/run-3",
        kind="full",
        base_model="../../home/carol/base",
        dataset=f"file://{path}",
        command=f"WANDB_API_KEY={secret} python train.py --x '{json.dumps({'f': path})}' --url https://c:{secret}@h",
        arguments={
            "lr_scheduler_kwargs": {"api_key": secret, "file": path, "power": 2},
            "deepspeed": {"zero": {"hub_token": secret, "nvme_path": f"file://{path}"}},
            "optim_args": f"path={path},key_file=../../home/carol/k",
            "run_note": "AKIAIOSFODNN7EXAMPLE",
        },
        secrets=["of-the-run-itself"],
        samples=[CardSample(question=f"What is {secret}? ghp_{A[:36]}", answer="of-the-run-itself", prediction="1")],
    )
    page = render_card(facts)
    for leaked in (secret, "carol", "AKIAIOSFODNN7EXAMPLE", "ghp_", "of-the-run-itself"):
        assert leaked not in page, leaked
    assert '"power": 2' in page.replace("\\", "")
    assert "a.csv" in page


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        " javascript:alert(1)",
        "java\nscript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:x",
        "file:///home/carol/x",
        "//evil.example/x",
        "/etc/passwd",
        "../../LICENSE",
        "https://user:pw@host/x",
        "https://x.org/\n- injected: true",
        'https://x.org/"><script>',
        "mailto:a@b.c",
        "https://" + "a" * 1000,
        ["https://x.org"],
        7,
    ],
    ids=repr,
)
def test_no_link_but_to_the_web_or_the_repository_is_carried_over(tmp_path, link):
    assert safe_link(link) is None
    (tmp_path / "README.md").write_text(
        f"---\nlicense: other\nlicense_name: x\nlicense_link: {json.dumps(link)}\n---\n"
    )
    found = base_licence(str(tmp_path))
    assert "licence_link" not in found
    given = link if isinstance(link, str) else None
    page = render_card(CardFacts(name="a/b", kind="full", licence="other", licence_name="x", licence_link=given))
    assert "license_link" not in page


def test_links_to_licences_are_carried_over():
    for link in (
        "https://ai.google.dev/gemma/terms",
        "http://x.org:80/a?b=c#d",
        "LICENSE",
        "./LICENSE.md",
        "docs/LICENSE",
    ):
        assert safe_link(link) == link


# ------------------------------------------------------------------ pushed files


def nested_in_json(folder):
    (folder / "training_args.json").write_text(json.dumps({"kwargs": [{"api_key": "8f3a91c2d4"}]}))


def shaped_in_json(folder):
    (folder / "generation_config.json").write_text(json.dumps({"note": "ghp_" + A[:36]}))


def of_the_environment(folder):
    (folder / "README.md").write_text("# use of-the-environment-1")


def of_the_arguments(folder):
    (folder / "chartqa_config.json").write_text(json.dumps({"prompt": "of-the-arguments-1"}))


def in_the_names_of_tensors(folder):
    save_file({"hf_" + A[:34]: np.zeros(1)}, folder / "model.safetensors")


def in_a_picture(folder):
    (folder / "assets" / "sample_1.png").write_bytes(b"\x89PNG" + b"\0" * 99 + b"AKIAIOSFODNN7EXAMPLE" + b"\0" * 9)


def in_a_licence(folder):
    (folder / "LICENSE").write_text("https://carol:pa/ss@host/licence")


LEAKS = [nested_in_json, shaped_in_json, of_the_environment, of_the_arguments, in_the_names_of_tensors, in_a_picture]
LEAKS += [in_a_licence]


@pytest.mark.parametrize("leak", LEAKS, ids=lambda one: one.__name__)
def test_no_file_with_a_secret_is_pushed(tmp_path, monkeypatch, leak):
    monkeypatch.setenv("COMET_API_KEY", "of-the-environment-1")
    arguments = {"optim_args": {"secret": "of-the-arguments-1"}}
    folder = save(tmp_path / "model")
    check_files(files_of_model(folder), arguments=arguments)
    leak(folder)
    with pytest.raises(ValueError, match="contains a secret"):
        check_files(files_of_model(folder), arguments=arguments)


def test_large_files_are_searched_to_their_end(tmp_path):
    path = tmp_path / "optimizer.pt"
    with open(path, "wb") as file:
        file.truncate(65 << 20)  # no space on disk
        file.seek(0, 2)
        file.write(b"hf_" + A[:34].encode())
    with pytest.raises(ValueError, match="optimizer"):
        check_files({"last-checkpoint/optimizer.pt": path})


def test_vocabularies_may_hold_any_word(tmp_path):
    folder = save(tmp_path / "model")
    (folder / "vocab.json").write_text(json.dumps({"password": 1, "api_key": 2, "secret": 3}))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"password": 1}}, "password": "abcdef123"}))
    (folder / "tokenizer_config.json").write_text(json.dumps(HARMLESS))
    check_files(files_of_model(folder))
